"""The interface through which a composed layer adds its nodes to a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.step import Step
from gradcheck_cli.network.steps.dense import Dense
from gradcheck_cli.network.steps.pointwise import Pointwise


class AddNode(Protocol):
    """A function that adds a step to a graph."""

    def __call__(self, step: Step, *inputs: int, names: Mapping[str, str]) -> int:
        """Add a step and return the index of its output.

        inputs: the indices of the values that the step takes.
        names: maps each parameter's name in the step to its name in the network.
        """


@dataclass(frozen=True)
class Nodes:
    """Adds the nodes of one layer to a graph.

    prefix: the beginning of the names of the layer's parameters, such as "lstm.".
    """

    add_node: AddNode
    prefix: str = ""

    def add(self, step: Step, *inputs: int) -> int:
        """Add a step without parameters and return the index of its output."""
        return self.add_node(step, *inputs, names={})

    def dense(self, value: int, inputs: int, units: int, weight: str, bias: str = "") -> int:
        """Add a dense step z = a wᵀ + b and return the index of z.

        value: the index of a.
        weight, bias: the names of w and b in the layer; an empty name of b means that there is no b.
        """
        names = {"weight": weight} | ({"bias": bias} if bias else {})
        full = {own: self.prefix + name for own, name in names.items()}
        return self.add_node(Dense(inputs, units, bool(bias)), value, names=full)

    def activation(self, name: str, value: int) -> int:
        """Add an activation with its default options and return the index of its output."""
        return self.add(Pointwise(ACTIVATIONS[name].with_options()), value)
