"""Guess recurrent layers, over a sequence or for one time step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

from gradcheck_cli.code.call import Call
from gradcheck_cli.known_layers.sketch import Form, Sketch, as_it_is, begun, reshaped
from gradcheck_cli.network.builder import Builder
from gradcheck_cli.network.composed.nodes import Nodes
from gradcheck_cli.network.composed.recurrent import CELLS, Cell, State
from gradcheck_cli.network.graph import INPUT
from gradcheck_cli.network.steps.constant import Constant
from gradcheck_cli.network.steps.rearrange import Concatenate, Select, Slice, Stack
from gradcheck_cli.types import Array

_ORDER = "gates in another order"
"""The kind of mistake whose words name the gates in torch's order."""


def recurrent(call: Call) -> Iterator[Sketch]:
    """Yield an rnn, an lstm and a gru, with their gates in every order."""
    if not 2 <= call.outputs[0].ndim <= 3:
        return
    for kind, cell in CELLS.items():
        for names in permutations(call.arrays):
            for states in range(cell.states + 1):
                roles = _Roles(call, kind, cell, names, states)
                if len(call.outputs) <= cell.states and roles.fit():
                    yield from roles.sketches()


@dataclass(frozen=True)
class _Roles:
    """A cell, and the arrays of a call in a certain order: x, the states, two weights and the biases.

    number: the number of initial states among the arrays.
    """

    call: Call
    kind: str
    cell: Cell
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
        return self.names[1 + self.number : 3 + self.number]

    @property
    def biases(self) -> Sequence[str]:
        return self.names[3 + self.number :]

    @property
    def units(self) -> int:
        return self.call.outputs[0].shape[-1]

    @property
    def gates(self) -> int:
        """The number of rows of a weight: one for each unit of each gate."""
        return self.cell.parts * self.units

    def fit(self) -> bool:
        """Return whether the shapes of all arrays fit their roles."""
        arrays, out = self.call.arrays, self.call.outputs[0]
        inputs = (self.x.shape[-1:], (self.units,))
        return (
            len(self.weights) == 2
            and len(self.biases) <= 2
            and self.x.shape[:-1] == out.shape[:-1]
            and all(arrays[name].size == len(out) * self.units for name in self.states)
            and all(arrays[name].size == self.gates for name in self.biases)
            and all(
                sorted(arrays[name].shape) == sorted((*size, self.gates))
                for name, size in zip(self.weights, inputs, strict=True)
            )
        )

    def sketches(self) -> Iterator[Sketch]:
        """Yield the layer with its gates in every order, and with every layout of its weights."""
        builder = begun(self.kind, self.x.shape[1:])
        given = [builder.given(self._state(name), name) for name in self.states]
        self._unroll(builder, given)
        values = {self.names[0]: INPUT, **dict(zip(self.states, given, strict=True))}
        for order in permutations(range(self.cell.parts)):
            told = self.kind if len(order) == 1 else f"{self.kind} with its gates in another order"
            is_plain = list(order) == sorted(order)
            without = frozenset() if is_plain else frozenset({_ORDER})
            for forms in self._forms(order):
                yield Sketch(self.kind if is_plain else told, builder, self.x, forms, values, without=without)

    def _forms(self, order: Sequence[int]) -> Iterator[dict[str, Form]]:
        rows = np.concatenate([np.arange(k * self.units, (k + 1) * self.units) for k in order])
        plain = {self.names[0]: as_it_is, **dict.fromkeys(self.states, reshaped(-1, self.units))}
        biases = dict.fromkeys(self.biases, _taken(rows, (self.gates,)))
        for turned in product(*(self._layouts(name) for name in self.weights)):
            yield {
                **plain,
                **biases,
                **dict(zip(self.weights, (_rows(rows, t) for t in turned), strict=True)),
            }

    def _layouts(self, weight: str) -> list[bool]:
        """Return whether a weight has to be transposed; a square one may be either way."""
        shape = self.call.arrays[weight].shape
        return [turn for turn in (True, False) if shape[turn] == self.gates]

    def _state(self, name: str) -> Array:
        return self.call.arrays[name].reshape(-1, self.units)

    def _unroll(self, builder: Builder, given: Sequence[int]) -> None:
        nodes, is_sequence = Nodes(builder.add), self.x.ndim == 3
        zero = Constant(np.zeros(self.units), self.x.ndim - 1)
        state = (*given, *(builder.add(zero, INPUT) for _ in range(self.cell.states - len(given))))
        hidden = []
        for t in range(self.x.shape[1] if is_sequence else 1):
            x = nodes.add(Select(2, 0, t), INPUT, symbol="x") if is_sequence else INPUT
            state = self._step(nodes, x, state)
            hidden.append(state[0])
        if is_sequence:
            nodes.add(Stack(1, 0), *hidden)
        elif len(self.call.outputs) > 1:
            nodes.add(Concatenate(1, 0), *state)

    def _step(self, nodes: Nodes, x: int, state: State) -> State:
        """Add the nodes of one time step, and return the next state."""

        def part(total: int, k: int) -> int:
            return nodes.add(Slice(1, 0, k * self.units, (k + 1) * self.units), total)

        of_x, of_h = self.weights
        bias_x, bias_h = (*self.biases, "", "")[:2]
        u, v = self.cell.sums
        total_x = nodes.dense(x, self.x.shape[-1], self.gates, of_x, bias_x, u)
        total_h = nodes.dense(state[0], self.units, self.gates, of_h, bias_h, v)
        return self.cell(nodes, part, total_x, total_h, state)


def _taken(rows: Array, shape: tuple[int, ...]) -> Form:
    return lambda array: array.reshape(shape)[rows]


def _rows(rows: Array, turned: bool) -> Form:
    return lambda array: (array.T if turned else array)[rows]
