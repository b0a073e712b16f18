"""Networks in which values can be shifted. The gradient of the shift of a value is ∂L/∂value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from gradcheck_cli.network.graph import INPUT, Graph, Node
from gradcheck_cli.network.network import Network
from gradcheck_cli.network.step import Arrays
from gradcheck_cli.network.steps.shift import Shift

INPUTS = "input"
"""The name of the tensor ∂L/∂x."""


@dataclass(frozen=True)
class Shifted(Network):
    """A network whose parameters include shifts of some of its values. No penalty applies to a shift.

    shifts: the names of the shifts.
    """

    shifts: frozenset[str] = frozenset()

    def penalties_on(self, name: str) -> Mapping[str, float]:
        return {} if name in self.shifts else super().penalties_on(name)


def shifted(
    network: Network, parameters: Arrays, samples: int, values: Mapping[str, int]
) -> tuple[Network, Arrays]:
    """Return a network in which some values get a shift of 0, and the parameters of this network.

    The parameters include the shifts.

    samples: the number of samples in the batch.
    values: the index of each value to shift, by the name of its shift.
    """
    if not values:
        return network, parameters
    graph, of = _with_shifts(network.graph, samples, values), network
    names = frozenset(values)
    zeros = {name: np.zeros(graph.shapes[name]) for name in values}
    return Shifted(graph, of.loss, of.coefficient, of.penalties, of.penalize_biases, names), {
        **parameters,
        **zeros,
    }


def _with_shifts(graph: Graph, samples: int, values: Mapping[str, int]) -> Graph:
    nodes: list[Node] = []
    now_at: list[int] = []  # the index in the new graph of every value of the old one

    def shift(value: int, layer: str) -> None:
        for name in (name for name, at in values.items() if at == value):
            shape = (samples, *graph.value_features[value])
            nodes.append(Node(Shift(shape), layer, (len(nodes),), {"shift": name}))
        now_at.append(len(nodes))

    shift(INPUT, INPUTS)
    for i, node in enumerate(graph.nodes):
        inputs = tuple(now_at[k] for k in node.inputs)
        nodes.append(replace(node, inputs=inputs))
        shift(i + 1, node.layer)
    return Graph(tuple(nodes), graph.features)


def values_of(network: Network) -> Mapping[str, int]:
    """Return the index of each value whose gradient has a name: x, and each chain layer's z, y and a."""
    return {INPUTS: INPUT, **dict(_of_layers(network))}


def _of_layers(network: Network) -> Iterator[tuple[str, int]]:
    for layer, at in zip(network.layers, network.places, strict=True):
        yield f"{layer.name}.dL_da", at.a
        if layer.batch_norm is not None:
            yield f"{layer.name}.dL_dy", at.y
        yield f"{layer.name}.delta", at.z
