"""Guess recurrent layers, over a sequence or for one time step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations, product
from typing import ClassVar, Protocol

import numpy as np

from gradcheck_cli.code.call import Call
from gradcheck_cli.known_layers.ending import TIME_FIRST
from gradcheck_cli.known_layers.sketch import Form, Sketch, as_it_is, begun, reshaped, transposed
from gradcheck_cli.network.builder import Builder
from gradcheck_cli.network.composed.nodes import Nodes
from gradcheck_cli.network.composed.recurrent import CELLS, SUM_CELLS, Cell, Part, State, SumCell
from gradcheck_cli.network.graph import INPUT
from gradcheck_cli.network.steps.constant import Constant
from gradcheck_cli.network.steps.rearrange import Concatenate, Select, Slice, Stack
from gradcheck_cli.types import Array

_MOST_ARRAYS = 7
"""The largest number of arrays whose roles are guessed."""


def recurrent(call: Call) -> Iterator[Sketch]:
    """Yield an rnn, an lstm and a gru, with their gates in every order.

    The first axis of a sequence may hold the samples or, as in torch without batch_first, the time steps.
    """
    if not 2 <= call.outputs[0].ndim <= 3 or len(call.arrays) > _MOST_ARRAYS:
        return
    yield from _samples_first(call)
    if call.outputs[0].ndim == 3:
        yield from map(_time_first, _samples_first(_turned(call)))


def _turned(call: Call) -> Call:
    """Return the call with the first two axes of every array with three axes exchanged."""
    arrays = {name: _swapped(array) for name, array in call.arrays.items()}
    outputs, upstreams = (tuple(map(_swapped, each)) for each in (call.outputs, call.upstreams))
    return replace(call, arrays=arrays, outputs=outputs, upstreams=upstreams)


def _swapped(array: Array) -> Array:
    return np.swapaxes(array, 0, 1) if array.ndim == 3 else array


def _time_first(sketch: Sketch) -> Sketch:
    """Return a layer that was guessed from a turned call as a layer of the call itself."""

    def of_call(form: Form) -> Form:
        return lambda array: form(_swapped(array))

    forms = {name: of_call(form) for name, form in sketch.forms.items()}
    return replace(sketch, told=f"{sketch.told} (time steps first)", forms=forms, ending=TIME_FIRST)


def _samples_first(call: Call) -> Iterator[Sketch]:
    for sums in _SUMS:
        for names in permutations(call.arrays):
            for states in range(sums.cell.states + 1):
                roles = _Roles(call, sums, names, states)
                if len(call.outputs) <= sums.cell.states and roles.fit():
                    yield from roles.sketches()


class _Sums(Protocol):
    """The products with x and with h in one time step.

    weights: the number of weights.
    """

    weights: ClassVar[int]

    @property
    def biases(self) -> int:
        """The largest number of biases."""

    @property
    def kind(self) -> str: ...

    @property
    def cell(self) -> Cell: ...

    def columns(self, inputs: int, units: int) -> Sequence[int]:
        """Return the number of columns of each weight."""

    def step(self, of: _Roles, nodes: Nodes, part: Part, x: int, state: State) -> State:
        """Add the nodes of one time step, and return the next state."""


@dataclass(frozen=True)
class _Separate:
    """One weight for x and another one for h."""

    kind: str
    cell: Cell
    weights: ClassVar[int] = 2
    biases: int = 2

    def columns(self, inputs: int, units: int) -> Sequence[int]:
        return inputs, units

    def step(self, of: _Roles, nodes: Nodes, part: Part, x: int, state: State) -> State:
        (weight_x, weight_h), (bias_x, bias_h) = of.weights, (*of.biases, "", "")[:2]
        u, v = self.cell.sums
        of_x = nodes.dense(x, of.x.shape[-1], of.gates, weight_x, bias_x, u)
        of_h = nodes.dense(state[0], of.units, of.gates, weight_h, bias_h, v)
        return self.cell(nodes, part, of_x, of_h, state)


@dataclass(frozen=True)
class _Joint:
    """One weight for x, h and possibly 1, whose rows or columns are the bias.

    order: the letters x, h and 1 in the order in which these values are joined.
    """

    kind: str
    cell: SumCell
    order: str
    weights: ClassVar[int] = 1

    @property
    def biases(self) -> int:
        return int("1" not in self.order)

    def columns(self, inputs: int, units: int) -> Sequence[int]:
        return (inputs + units + self.order.count("1"),)

    def step(self, of: _Roles, nodes: Nodes, part: Part, x: int, state: State) -> State:
        values = {"x": x, "h": state[0]}
        if "1" in self.order:
            values["1"] = nodes.add(Constant(np.ones(1), 1), x)
        joined = nodes.add(Concatenate(1, 0), *(values[letter] for letter in self.order))
        (weight,), (bias,) = of.weights, (*of.biases, "")[:1]
        (columns,) = self.columns(of.x.shape[-1], of.units)
        return self.cell.of_sum(nodes, part, nodes.dense(joined, columns, of.gates, weight, bias, "z"), state)


_ORDERS = "xh", "hx", "1xh", "1hx", "xh1", "hx1"

_SUMS: tuple[_Sums, ...] = (
    *(_Separate(kind, cell) for kind, cell in CELLS.items()),
    *(_Joint(kind, cell, order) for kind, cell in SUM_CELLS.items() for order in _ORDERS),
)


@dataclass(frozen=True)
class _Roles:
    """A recurrent layer, and the arrays of a call in a certain order: x, the states, the weights, the biases.

    number: the number of initial states among the arrays.
    """

    call: Call
    sums: _Sums
    names: Sequence[str]
    number: int

    @property
    def x(self) -> Array:
        return self.call.arrays[self.names[0]]

    @property
    def states(self) -> Sequence[str]:
        return self.names[1 : 1 + self.number]

    @property
    def weights(self) -> Sequence[str]:
        return self.names[1 + self.number :][: self.sums.weights]

    @property
    def biases(self) -> Sequence[str]:
        return self.names[1 + self.number + self.sums.weights :]

    @property
    def units(self) -> int:
        return self.call.outputs[0].shape[-1]

    @property
    def gates(self) -> int:
        """The number of rows of a weight: one for each unit of each gate."""
        return self.sums.cell.parts * self.units

    def fit(self) -> bool:
        """Return whether the shapes of all arrays fit their roles."""
        arrays, out = self.call.arrays, self.call.outputs[0]
        return (
            len(self.weights) == self.sums.weights
            and len(self.biases) <= self.sums.biases
            and self.x.shape[:-1] == out.shape[:-1]
            and all(arrays[name].size == len(out) * self.units for name in self.states)
            and all(arrays[name].size == self.gates for name in self.biases)
            and all(
                sorted(arrays[name].shape) == sorted((size, self.gates))
                for name, size in zip(
                    self.weights, self.sums.columns(self.x.shape[-1], self.units), strict=True
                )
            )
        )

    def sketches(self) -> Iterator[Sketch]:
        """Yield the layer with its gates in every order, and with every layout of its weights."""
        for order in permutations(range(self.sums.cell.parts)):
            builder = begun(self.sums.kind, self.x.shape[1:])
            given = [builder.given(self._state(name), name) for name in self.states]
            self._unroll(builder, given, order)
            values = {self.names[0]: INPUT, **dict(zip(self.states, given, strict=True))}
            is_plain = list(order) == sorted(order)
            told = self.sums.kind if is_plain else f"{self.sums.kind} with its gates in another order"
            for forms in self._forms():
                yield Sketch(told, builder, self.x, forms, values)

    def _forms(self) -> Iterator[dict[str, Form]]:
        plain = {self.names[0]: as_it_is, **dict.fromkeys(self.states, reshaped(-1, self.units))}
        biases = dict.fromkeys(self.biases, reshaped(-1))
        for layout in product(*map(self._layouts, self.weights)):
            yield {**plain, **biases, **dict(zip(self.weights, layout, strict=True))}

    def _layouts(self, weight: str) -> list[Form]:
        """Return the forms that a weight may need; a square one may have either layout."""
        shape = self.call.arrays[weight].shape
        return [form for axis, form in ((1, transposed), (0, as_it_is)) if shape[axis] == self.gates]

    def _state(self, name: str) -> Array:
        return self.call.arrays[name].reshape(-1, self.units)

    def _unroll(self, builder: Builder, given: Sequence[int], order: Sequence[int]) -> None:
        """Add the nodes of all time steps.

        order: for each gate in torch's order, its place in the rows of the weights.
        """
        nodes, is_sequence = Nodes(builder.add), self.x.ndim == 3

        def part(total: int, k: int) -> int:
            start = order[k] * self.units
            return nodes.add(Slice(1, 0, start, start + self.units), total)

        zero = Constant(np.zeros(self.units), self.x.ndim - 1)
        state = (*given, *(builder.add(zero, INPUT) for _ in range(self.sums.cell.states - len(given))))
        hidden = []
        for t in range(self.x.shape[1] if is_sequence else 1):
            x = nodes.add(Select(2, 0, t), INPUT, symbol="x") if is_sequence else INPUT
            state = self.sums.step(self, nodes, part, x, state)
            hidden.append(state[0])
        if is_sequence:
            nodes.add(Stack(1, 0), *hidden)
        elif len(self.call.outputs) > 1:
            nodes.add(Concatenate(1, 0), *state)
