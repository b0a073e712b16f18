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

    def __call__(self, step: Step, *inputs: int, names: Mapping[str, str], symbol: str = "") -> int:
        """Add a step and return the index of its output.

        inputs: the indices of the values that the step takes.
        names: maps each parameter's name in the step to its name in the network.
        symbol: the symbol of the output in a derivation; empty if it has no symbol.
        """


@dataclass(frozen=True)
class Nodes:
    """Adds the nodes of one layer to a graph.

    prefix: the beginning of the names of the layer's parameters, such as "lstm.".
    mark: the end of the symbols of the layer's values, such as "←".
    """

    add_node: AddNode
    prefix: str = ""
    mark: str = ""

    def add(self, step: Step, *inputs: int, symbol: str = "") -> int:
        """Add a step without parameters and return the index of its output."""
        return self.add_node(step, *inputs, names={}, symbol=self._marked(symbol))

    def dense(
        self, value: int, inputs: int, units: int, weight: str, bias: str = "", symbol: str = ""
    ) -> int:
        """Add a dense step z = a wᵀ + b and return the index of z.

        value: the index of the input a.
        weight, bias: the names of w and b in the layer; if the name of b is empty, there is no b.
        symbol: the symbol of z in a derivation.
        """
        names = {"weight": weight} | ({"bias": bias} if bias else {})
        full = {own: self.prefix + name for own, name in names.items()}
        step = Dense(inputs, units, bool(bias))
        return self.add_node(step, value, names=full, symbol=self._marked(symbol))

    def activation(self, name: str, value: int, symbol: str = "") -> int:
        """Add an activation with its default options and return the index of its output."""
        return self.add(Pointwise(ACTIVATIONS[name].with_options()), value, symbol=symbol)

    def _marked(self, symbol: str) -> str:
        return symbol and symbol + self.mark
