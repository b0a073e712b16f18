"""How a composed layer adds its nodes to a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.step import Step
from gradcheck_cli.network.steps.dense import Dense
from gradcheck_cli.network.steps.pointwise import Pointwise


class AddNode(Protocol):
    """Adds a step to a graph."""

    def __call__(self, step: Step, *inputs: int, names: Mapping[str, str]) -> int:
        """Add a step that takes these values, by index; return the index of its output.

        names: the parameters' names in the network, by their names in the step.
        """


@dataclass(frozen=True)
class Nodes:
    """A layer's way to add nodes: its parameters' names begin with `prefix`, such as "lstm."."""

    add_node: AddNode
    prefix: str = ""

    def add(self, step: Step, *inputs: int) -> int:
        """Add a step without parameters."""
        return self.add_node(step, *inputs, names={})

    def dense(self, value: int, inputs: int, units: int, weight: str, bias: str = "") -> int:
        """Add z = a wᵀ + b with these names of w and b; without a name there is no b."""
        names = {"weight": weight} | ({"bias": bias} if bias else {})
        full = {own: self.prefix + name for own, name in names.items()}
        return self.add_node(Dense(inputs, units, bool(bias)), value, names=full)

    def activation(self, name: str, value: int) -> int:
        """Add an activation with its default options."""
        return self.add(Pointwise(ACTIVATIONS[name].with_options()), value)
