"""Backprop in symbols: the symbol of each value in a layer, and the formula of the value's gradient.

A formula is put together from `Step.formulas` just as a gradient is computed from the steps' vjps: ∂L/∂v is
the sum of one product for each step that reads v. A value without a symbol of its own is written out as a
formula.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from gradcheck_cli.network.formulas import Argument
from gradcheck_cli.network.graph import INPUT, Graph

_LATER = {0: "ₜ", 1: "ₜ₊₁", -1: "ₜ₋₁"}
"""Maps a number of time steps to the subscript of a value that many steps later."""


@dataclass(frozen=True)
class Writer:
    """Writes the symbols and formulas of one layer.

    loss: the formula of ∂L/∂output.
    """

    graph: Graph
    layer: str
    loss: str

    def of(self, layer: str) -> Writer:
        """Return a `Writer` for another layer of the network."""
        return replace(self, layer=layer)

    # --- the layer's nodes ---------------------------------------------------------------------------------

    @cached_property
    def nodes(self) -> tuple[int, ...]:
        """The indices of the layer's nodes that have inputs, in the order of evaluation."""
        nodes = enumerate(self.graph.nodes)
        return tuple(i for i, node in nodes if node.layer == self.layer and node.inputs)

    @property
    def last(self) -> int:
        """The index of the node whose output is the layer's output."""
        return self.nodes[-1]

    @cached_property
    def is_composed(self) -> bool:
        """Whether the layer has many steps, so that values inside it have symbols of their own."""
        return any(self.graph.nodes[i].symbol for i in self.nodes)

    @cached_property
    def inputs(self) -> tuple[int, ...]:
        """The indices of the values that the layer reads from other layers."""
        read = (k for i in self.nodes for k in self.graph.nodes[i].inputs)
        return tuple(k for k in dict.fromkeys(read) if not self.owns(k))

    @property
    def above(self) -> list[str]:
        """The names of the layers that read this layer's output."""
        return self._others(self.last + 1)

    def readers(self, value: int) -> list[int]:
        """Return the layer's nodes that read a value and pass a gradient to it.

        If a step repeats at every time step, only one of its nodes is returned.
        """
        readers = [i for i in dict.fromkeys(self.graph.readers[value]) if self._hands_down(i, value)]
        return [i for i in readers if self._is_now(i) or len(set(readers).intersection(self.group(i))) == 1]

    def _hands_down(self, i: int, value: int) -> bool:
        node = self.graph.nodes[i]
        arguments = (node.step.formulas.input(j) for j, k in enumerate(node.inputs) if k == value)
        return node.layer == self.layer and any(argument.product != "0" for argument in arguments)

    def owns(self, value: int) -> bool:
        return value != INPUT and self.graph.nodes[value - 1].layer == self.layer

    def group(self, i: int) -> tuple[int, ...]:
        """Return the counterparts of node i at all time steps, or node i alone if it has none."""
        symbol = self.graph.nodes[i].symbol
        return self._groups[symbol] if symbol else (i,)

    @cached_property
    def _groups(self) -> dict[str, tuple[int, ...]]:
        found: dict[str, list[int]] = {}
        for i in self.nodes:
            found.setdefault(self.graph.nodes[i].symbol, []).append(i)
        return {symbol: tuple(members) for symbol, members in found.items()}

    @cached_property
    def _now(self) -> int:
        """The index of the time step that formulas call t: 1 if there are at least three steps, else 0."""
        return int(any(len(members) > 2 for symbol, members in self._groups.items() if symbol))

    def _is_now(self, i: int) -> bool:
        group = self.group(i)
        return i == group[min(self._now, len(group) - 1)]

    def shown(self) -> Iterator[int]:
        """Yield each node of time step t whose output has a symbol."""
        return (i for i in self.nodes if self.is_shown(i))

    def is_shown(self, i: int) -> bool:
        """Return whether node i's output has a symbol and belongs to time step t."""
        return bool(self.base(i)) and self._is_now(i)

    # --- values --------------------------------------------------------------------------------------------

    def base(self, i: int) -> str:
        """Return the symbol of node i's output, without a subscript; empty if the output has no symbol."""
        node = self.graph.nodes[i]
        if not self.is_composed:
            return node.step.formulas.symbol
        return node.symbol or ("out" if i == self.last else "")

    def value(self, value: int) -> str:
        """Return the symbol of a value that the layer computes or reads; without a symbol, its formula."""
        if not self.owns(value):
            return self._external(value)
        i = value - 1
        return f"{self.base(i)}{self._subscript(i)}" if self.base(i) else self._written_out(i)

    def _external(self, value: int) -> str:
        reader = next(i for i in self.graph.readers[value] if self.graph.nodes[i].layer == self.layer)
        node = self.graph.nodes[reader]
        return node.step.formulas.input(node.inputs.index(value)).symbol

    def _subscript(self, i: int) -> str:
        group = self.group(i)
        if len(group) == 1:
            return ""
        at = group.index(i)
        return _LATER.get(at - self._now, f"[{at}]")

    def _written_out(self, i: int) -> str:
        node = self.graph.nodes[i]
        return self.value(node.inputs[0]) if node.step.formulas.moves else self.forward(i)

    def forward(self, i: int) -> str:
        """Return a formula for the output of node i in terms of its inputs."""
        formulas = self.graph.nodes[i].step.formulas
        return self._filled(i, formulas.out, formulas.symbol)

    def parameter(self, i: int, own: str) -> str:
        """Return the symbol of a parameter of node i.

        own: the parameter's name in the step.
        """
        node = self.graph.nodes[i]
        if not self.is_composed:
            return node.step.formulas.parameters[own].symbol
        name = node.names[own].removeprefix(f"{self.layer}.")
        return name.removesuffix(self._level).replace("weight", "w").replace("bias", "b")

    @cached_property
    def _level(self) -> str:
        """The ending that all parameter names share in a recurrent layer of one level and one direction."""
        names = [name for i in self.nodes for name in self.graph.nodes[i].names.values()]
        return "_l0" if all(name.endswith("_l0") for name in names) else ""

    def _filled(self, i: int, template: str, out: str, **more: str) -> str:
        node, formulas = self.graph.nodes[i], self.graph.nodes[i].step.formulas
        inputs = [self.value(k) for k in self._each(node.inputs)]
        symbols = {own: self.parameter(i, own) for own in node.names}
        factors = dict(zip("xy", map(_enclosed, inputs), strict=False))
        text = formulas.filled(template, out, inputs, **symbols, **factors, **more)
        return text.replace(formulas.index, "[t]") if formulas.index and len(self.group(i)) > 1 else text

    def _each(self, inputs: tuple[int, ...]) -> tuple[int, ...]:
        """Return a node's inputs.

        If the inputs are one value at all time steps, return only the input at step t.
        """
        if not inputs:
            return ()
        alike = self.owns(inputs[0]) and {k - 1 for k in inputs} == set(self.group(inputs[0] - 1))
        return tuple(k for k in inputs if self._is_now(k - 1)) if alike else inputs

    # --- gradients -----------------------------------------------------------------------------------------

    def gradient(self, value: int) -> str:
        """Return the symbol of ∂L/∂value, or its formula if the value has no symbol."""
        if self.owns(value) and not self.base(value - 1):
            return self.formula(value)
        symbol, node = self.value(value), self.graph.nodes[value - 1]
        if self.owns(value) and symbol.startswith("z") and not node.step.is_activation:
            return f"δ{symbol[1:]}"
        return f"∂L/∂{symbol}"

    def formula(self, value: int) -> str:
        """Return ∂L/∂value as a sum over the steps that read the value. This layer's steps come first."""
        here = self._products(value)
        above = [term for layer in self._others(value) for term in self._from(layer, value)]
        return " + ".join([*here, *above]) or self._unread(value)

    def _unread(self, value: int) -> str:
        return self.loss if value == len(self.graph.nodes) else "0"

    def _others(self, value: int) -> list[str]:
        layers = dict.fromkeys(self.graph.nodes[i].layer for i in self.graph.readers[value])
        return [layer for layer in layers if layer != self.layer]

    def _from(self, layer: str, value: int) -> Iterator[str]:
        """Yield the terms that another layer adds to ∂L/∂value."""
        other = self.of(layer)
        for i in other.nodes:
            node = self.graph.nodes[i]
            if value in node.inputs and node.step.formulas.moves and not other.is_composed:
                yield other.formula(i + 1)  # the step only moves the entries
                return
        terms = " + ".join(other._products(value))
        yield from [f"{_enclosed(terms)} of {layer}"] if terms else []

    def _products(self, value: int) -> list[str]:
        """Return the terms that this layer's steps add to ∂L/∂value.

        A step that is repeated at every time step adds only one term.
        """
        return [
            self.of_input(i, number)
            for i in self.readers(value)
            for number, k in enumerate(self.graph.nodes[i].inputs)
            if k == value
        ]

    def of_input(self, i: int, number: int) -> str:
        """Return the product ∂L/∂out · ∂out/∂input of node i."""
        formulas = self.graph.nodes[i].step.formulas
        if formulas.moves and self.is_composed:
            return self.gradient(i + 1)
        return self._product(i, formulas.input(number), self.value(self.graph.nodes[i].inputs[number]))

    def of_parameter(self, i: int, own: str) -> str:
        """Return the product ∂L/∂out · ∂out/∂parameter of node i."""
        return self._product(i, self.graph.nodes[i].step.formulas.parameters[own], self.parameter(i, own))

    def local(self, i: int, argument: Argument) -> str:
        """Return ∂out/∂argument of node i as a formula."""
        return self._filled(i, argument.local, _enclosed(self.value(i + 1)))

    def _product(self, i: int, argument: Argument, symbol: str) -> str:
        local = f"∂{self.value(i + 1)}/∂{symbol}"
        if self.is_composed:
            local = _enclosed(self.local(i, argument))
        g, out = _enclosed(self.gradient(i + 1)), _enclosed(self.value(i + 1))
        return self._filled(i, argument.product, out, g=g, local=local)

    # --- parameters ----------------------------------------------------------------------------------------

    def of_every_use(self, name: str) -> str:
        """Return a parameter's gradient as a sum over all steps that use the parameter, in all layers."""
        here, elsewhere = self._uses(name), self._uses_elsewhere(name)
        return " + ".join([_enclosed(here) if elsewhere else here, *elsewhere])

    def use(self, name: str) -> tuple[int, str]:
        """Return the node in this layer that uses a parameter at step t, and the parameter's name there."""
        uses = self._nodes_with(name)
        return uses[min(self._now, len(uses) - 1)]

    def _nodes_with(self, name: str) -> list[tuple[int, str]]:
        return [(i, own) for i, own in self.graph.uses[name] if self.graph.nodes[i].layer == self.layer]

    def is_shared(self, name: str) -> bool:
        """Return whether the layer uses a parameter at several time steps."""
        return len(self._nodes_with(name)) > 1

    def _uses(self, name: str) -> str:
        term = self.of_parameter(*self.use(name))
        return f"Σₜ {_enclosed(term)}" if self.is_shared(name) else term

    def _uses_elsewhere(self, name: str) -> list[str]:
        layers = dict.fromkeys(self.graph.nodes[i].layer for i, _ in self.graph.uses[name])
        others = [self.of(layer) for layer in layers if layer != self.layer]
        return [f"{_enclosed(other._uses(name))} of {other.layer}" for other in others]

    def through(self, i: int, symbol: str) -> tuple[str, ...]:
        """Return the factors of the chain rule from ∂L/∂output down to an argument of node i.

        In a layer of many steps, the factors begin at the first value above the argument that has a symbol.
        """
        if self.is_composed:
            value = self.value(self._with_symbol(i) + 1)
            return self.gradient(self._with_symbol(i) + 1), f"∂{value}/∂{symbol}"
        path = [self.value(k + 1) for k in reversed(self.nodes) if k >= i]
        steps = zip(path, [*path[1:], symbol], strict=True)
        return f"∂L/∂{path[0]}", *(f"∂{out}/∂{below}" for out, below in steps)

    def gradient_above(self, i: int) -> str:
        """Return the symbol of ∂L/∂out for node i.

        If the output of node i has no symbol, return the symbol of ∂L/∂out for the first node above whose
        output has a symbol.
        """
        return self.gradient(self._with_symbol(i) + 1)

    def _with_symbol(self, i: int) -> int:
        """Return the first node, from node i up, whose output has a symbol."""
        while not self.base(i):
            i = self.graph.readers[i + 1][0]
        return i


_SPELT = (("⁽ʰ⁾", "_h"), ("ẑ", "z_hat"), ("x̂", "x_hat"), ("γ", "gamma"), ("β", "beta"), ("f(x)", "f_x"))


def spelt(symbol: str) -> str:
    """Return the spelling of a symbol in the names of arrays, such as z_hat for ẑ."""
    for glyph, name in _SPELT:
        symbol = symbol.replace(glyph, name)
    return symbol.replace("←", "_reverse").translate(_LEVELS)


_LEVELS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")


_LOOSE = (" + ", " − ", ", ", " over ")
"""Parts of a formula that bind less tightly than a product."""


def _enclosed(text: str) -> str:
    """Return a formula in parentheses if it is a sum or has a remark, so that it can be a factor."""
    depth = 0
    for at, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth and text.startswith(_LOOSE, at):
            return f"({text})"
    return text
