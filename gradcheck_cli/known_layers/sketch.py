"""A known layer that may compute what the user's forward function computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations

import numpy as np

from gradcheck_cli.code.call import Call
from gradcheck_cli.known_layers.ending import DOT, Ending
from gradcheck_cli.network.builder import Builder
from gradcheck_cli.network.composed.nodes import Nodes
from gradcheck_cli.network.graph import Graph, run
from gradcheck_cli.network.network import Network
from gradcheck_cli.network.step import Step
from gradcheck_cli.problem.problem import Problem
from gradcheck_cli.types import Array, Shape

Form = Callable[[Array], Array]
"""A function that puts the entries of a user's array in the order and shape in which our layer has them."""


def as_it_is(array: Array) -> Array:
    """Return the array."""
    return array


def transposed(array: Array) -> Array:
    """Return the transposed array."""
    return array.T


def reshaped(*shape: int) -> Form:
    """Return a form that reshapes an array."""
    return lambda array: array.reshape(shape)


@dataclass(frozen=True)
class Sketch:
    """A known layer, whose parameters have the names of the user's arrays.

    told: the layer in words.
    builder: holds the nodes of the layer.
    x: the layer's input, (N, *features), for N samples.
    forms: the form of each of the user's arrays, by name.
    values: the index of each value of the graph that is one of the user's arrays, by name.
    ending: how the loss L = Σ c · out follows from the layer's output.
    """

    told: str
    builder: Builder
    x: Array
    forms: Mapping[str, Form]
    values: Mapping[str, int]
    ending: Ending = DOT

    @cached_property
    def graph(self) -> Graph:
        return self.builder.graph()

    def computes(self, call: Call) -> bool:
        """Return whether the layer computes the outputs of the call from the same arguments."""
        parameters = self._parameters(call)
        if any(parameters[name].shape != shape for name, shape in self.graph.shapes.items()):
            return False
        return self.ending.fits(call, run(self.graph, parameters, self.x)[-1])

    def problem(self, call: Call) -> Problem:
        """Return the layer as a network with the loss L = Σ c · out."""
        parameters, end = self._parameters(call), self.ending.of(call, self.graph.value_features[-1])
        problem = Problem(
            Network(self.graph, end.loss, end.coefficient, {}),
            parameters,
            self.x,
            end.target,
            end.target,
            np.dtype(np.float64),
            tuple(parameters),
            end.target,
            reduction=end.reduction,
        )
        return problem.with_shifts(self.values)

    def _parameters(self, call: Call) -> dict[str, Array]:
        return {name: self.forms[name](call.arrays[name]) for name in self.graph.shapes}


def in_roles(call: Call, *counts: int) -> Iterator[tuple[str, ...]]:
    """Yield the names of the arrays in every order, if their number is one of `counts`."""
    return permutations(call.arrays) if len(call.arrays) in counts else iter(())


def named(builder: Builder, of_user: Mapping[str, str]) -> Nodes:
    """Return the interface through which a composed layer adds its nodes to a builder.

    of_user: maps the layer's own name of each parameter to the name of the user's array.
    """

    def add(step: Step, *inputs: int, names: Mapping[str, str], symbol: str = "") -> int:
        by_step = {own: of_user[name] for own, name in names.items()}
        return builder.add(step, *inputs, names=by_step, symbol=symbol)

    return Nodes(add)


def begun(kind: str, features: Shape) -> Builder:
    """Return a builder of a layer of this kind, for samples with these features."""
    return Builder(features, {(): kind}, kind=kind)
