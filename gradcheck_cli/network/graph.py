"""A network as a graph of steps, and its forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gradcheck_cli.network.step import Arrays, Step
from gradcheck_cli.types import Array, Shape

INPUT = 0
"""The index of x among the values of a network. The output of node i has index i + 1."""


Statement = tuple[str, str]
"""The layer and the kind of step that a node belongs to.

A recurrent layer applies one activation function at every time step, with one convention at its kink.
"""


@dataclass(frozen=True)
class Node:
    """A step at its position in a graph.

    layer: the name of the spec's layer that the step belongs to.
    inputs: the indices of the values that the step takes.
    names: maps each parameter's name in the step to its name in the network. Nodes may share parameters.
    place: the path to the layer in the spec's list of layers, followed by the spec's key for its kind.
    symbol: the symbol of the output in a derivation, such as c in an LSTM, if the layer has many steps.
    """

    step: Step
    layer: str
    inputs: tuple[int, ...]
    names: Mapping[str, str]
    place: tuple[str | int, ...] = ()
    symbol: str = ""

    @property
    def statement(self) -> Statement:
        return self.layer, self.step.name or self.step.label

    def own(self, parameters: Arrays) -> dict[str, Array]:
        """Return the step's parameters by their names in the step."""
        return {own: parameters[name] for own, name in self.names.items()}


@dataclass(frozen=True)
class Graph:
    """The nodes of a network in order of evaluation. The last node is the output.

    features: the shape of one sample of x.
    """

    nodes: tuple[Node, ...]
    features: Shape

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """The shape of every parameter, by name, in order from the input to the output."""
        return {name: node.step.shapes[own] for node in self.nodes for own, name in node.names.items()}

    @cached_property
    def value_features(self) -> tuple[Shape, ...]:
        """The shape of one sample of each value: x first, then the output of each node."""
        shapes = [self.features]
        for node in self.nodes:
            shapes.append(node.step.out(*(shapes[i] for i in node.inputs)))
        return tuple(shapes)

    @cached_property
    def uses(self) -> Mapping[str, tuple[tuple[int, str], ...]]:
        """For each parameter, the nodes that use it.

        Each node is given by its index and the parameter's name in the node's step.
        """
        found: dict[str, list[tuple[int, str]]] = {}
        for i, node in enumerate(self.nodes):
            for own, name in node.names.items():
                found.setdefault(name, []).append((i, own))
        return {name: tuple(places) for name, places in found.items()}

    def reads_only_input(self, i: int) -> bool:
        """Return whether node i takes nothing but x, whose gradient is rarely needed."""
        return all(k == INPUT for k in self.nodes[i].inputs)

    @cached_property
    def readers(self) -> tuple[tuple[int, ...], ...]:
        """For each value, the indices of the nodes that take it as an input."""
        found: list[list[int]] = [[] for _ in range(len(self.nodes) + 1)]
        for i, node in enumerate(self.nodes):
            for value in dict.fromkeys(node.inputs):
                found[value].append(i)
        return tuple(map(tuple, found))

    def above(self, *values: int) -> tuple[int, ...]:
        """Return the indices of the nodes that depend on any of the values, in order of evaluation.

        A recurrent layer has thousands of nodes, so only what is asked for is computed.
        """
        if values not in self._above:
            self._above[values] = tuple(self._dependent(values))
        return self._above[values]

    @cached_property
    def _above(self) -> dict[tuple[int, ...], tuple[int, ...]]:
        return {}

    def _dependent(self, values: tuple[int, ...]) -> Iterator[int]:
        reached = set(values)
        for i in range(min(values, default=0), len(self.nodes)):  # a node reads only values before its own
            if not reached.isdisjoint(self.nodes[i].inputs):
                reached.add(i + 1)
                yield i

    def gates(self, value: int) -> frozenset[int]:
        """Return the indices of the nodes that lie on every path from the value to the output."""
        if value not in self._gates:
            self._gates[value] = frozenset(self._on_every_path(value))
        return self._gates[value]

    @cached_property
    def _gates(self) -> dict[int, frozenset[int]]:
        return {}

    def _on_every_path(self, value: int) -> Iterator[int]:
        last = max(self.readers[value], default=-1)
        for i in self.above(value):
            if last <= i:
                yield i
            last = max(last, *self.readers[i + 1], -1)

    def couples_above(self, value: int) -> bool:
        """Return whether any step that depends on the value couples the samples of the batch."""
        return not self._coupling.isdisjoint(self.above(value))

    @cached_property
    def _coupling(self) -> frozenset[int]:
        """The indices of the nodes that couple the samples of the batch."""
        return frozenset(i for i, node in enumerate(self.nodes) if node.step.couples == "batch")


def run(graph: Graph, parameters: Arrays, x: Array) -> tuple[Array, ...]:
    """Evaluate the graph, and return its values: x, then the output of every node.

    x: the input, (N, *features), for N samples.
    """
    values = [x]
    for node in graph.nodes:
        value = node.step.forward(node.own(parameters), *(values[i] for i in node.inputs))
        # A step without inputs returns data, which are as precise as x.
        values.append(value if node.inputs else value.astype(x.real.dtype, copy=False))
    return tuple(values)


def heard(graph: Graph, parameters: Arrays) -> tuple[Array, ...]:
    """Return, for each value, a mask of the features that can affect the network's output.

    A mask has the shape of one sample of its value.
    """
    features = graph.value_features
    noticed = [np.zeros(shape, dtype=bool) for shape in features]
    noticed[-1] = np.ones(features[-1], dtype=bool)
    for i in reversed(range(len(graph.nodes))):
        node = graph.nodes[i]
        below = node.step.heard(node.own(parameters), tuple(features[k] for k in node.inputs), noticed[i + 1])
        for k, mask in zip(node.inputs, below, strict=True):
            noticed[k] = noticed[k] | mask
    return tuple(noticed)
