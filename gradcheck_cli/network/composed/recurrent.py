"""Recurrent layers, unrolled over the time steps: rnn, lstm and gru, as torch's with batch_first.

Every time step has nodes of its own, which share the parameters; a gradient is the sum over the steps.

    rnn:     h = φ(w_ih x + b_ih + w_hh h + b_hh)
    lstm:    i, f, o = σ(…), g = tanh(…) of the same sum, in four parts in the order i f g o
             c = f ⊙ c + i ⊙ g        h = o ⊙ tanh(c)
    gru:     r, z = σ(…), n = tanh(w_in x + b_in + r ⊙ (w_hn h + b_hn))
             h = (1 − z) ⊙ n + z ⊙ h        parts in the order r z n

(S. Hochreiter and J. Schmidhuber, "Long short-term memory", 1997; K. Cho et al., 2014, for the GRU, whose
reset gate is torch's.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from gradcheck_cli.network.composed.nodes import Nodes
from gradcheck_cli.network.steps.add import Add
from gradcheck_cli.network.steps.constant import Constant
from gradcheck_cli.network.steps.gates import Complement, Multiply
from gradcheck_cli.network.steps.rearrange import Concatenate, Select, Slice, Stack
from gradcheck_cli.types import Array

State = tuple[int, ...]
"""The values that one time step hands to the next; the first is h."""

Part = Callable[[int, int], int]
"""Takes part number k of a value that holds the sums of all gates."""


class Cell(Protocol):
    """One time step of a recurrent layer."""

    @property
    def parts(self) -> int:
        """The number of gates, each of `hidden` numbers, in the rows of the weights."""

    @property
    def states(self) -> int:
        """The number of values in the state."""

    def __call__(self, nodes: Nodes, part: Part, of_x: int, of_h: int, state: State) -> State:
        """Add the nodes of a time step, given w_ih x + b_ih and w_hh h + b_hh; return the next state."""


@dataclass(frozen=True)
class RnnCell:
    """The cell of a plain recurrent layer, with tanh or relu."""

    activation: str = "tanh"
    parts: int = 1
    states: int = 1

    def __call__(self, nodes: Nodes, part: Part, of_x: int, of_h: int, state: State) -> State:
        return (nodes.activation(self.activation, nodes.add(Add(), of_x, of_h)),)


@dataclass(frozen=True)
class LstmCell:
    """The cell of an LSTM, with gates in torch's order i f g o."""

    parts: int = 4
    states: int = 2

    def __call__(self, nodes: Nodes, part: Part, of_x: int, of_h: int, state: State) -> State:
        total = nodes.add(Add(), of_x, of_h)
        i, f, o = (nodes.activation("sigmoid", part(total, k)) for k in (0, 1, 3))
        g = nodes.activation("tanh", part(total, 2))
        kept, new = nodes.add(Multiply(), f, state[1]), nodes.add(Multiply(), i, g)
        c = nodes.add(Add(), kept, new)
        return nodes.add(Multiply(), o, nodes.activation("tanh", c)), c


@dataclass(frozen=True)
class GruCell:
    """The cell of a GRU, with gates in torch's order r z n."""

    parts: int = 3
    states: int = 1

    def __call__(self, nodes: Nodes, part: Part, of_x: int, of_h: int, state: State) -> State:
        r, z = (nodes.activation("sigmoid", nodes.add(Add(), part(of_x, k), part(of_h, k))) for k in (0, 1))
        reset = nodes.add(Multiply(), r, part(of_h, 2))
        n = nodes.activation("tanh", nodes.add(Add(), part(of_x, 2), reset))
        new = nodes.add(Multiply(), nodes.add(Complement(), z), n)
        return (nodes.add(Add(), new, nodes.add(Multiply(), z, state[0])),)


CELLS: Mapping[str, Cell] = {"rnn": RnnCell(), "lstm": LstmCell(), "gru": GruCell()}
"""The cell of each kind of recurrent layer."""


@dataclass(frozen=True)
class Recurrent:
    """A recurrent layer of one or several levels over samples (steps, inputs).

    initial: the state before the first step, for each level and direction in torch's order, or empty for 0.
    """

    cell: Cell
    steps: int
    inputs: int
    hidden: int
    levels: int = 1
    bidirectional: bool = False
    initial: Sequence[tuple[Array, ...]] = ()

    def build(self, nodes: Nodes, x: int) -> int:
        """Add all nodes, given x (steps, inputs); return the outputs h (steps, hidden · directions)."""
        value, inputs, directions = x, self.inputs, (False, True)[: 1 + self.bidirectional]
        for level in range(self.levels):
            states = [self._initial(nodes, x, level * len(directions) + k) for k in range(len(directions))]
            both = [
                self._direction(nodes, value, inputs, state, f"_l{level}" + "_reverse" * reverse, reverse)
                for state, reverse in zip(states, directions, strict=True)
            ]
            value = nodes.add(Concatenate(2, 1), *both) if self.bidirectional else both[0]
            inputs = self.hidden * len(directions)
        return value

    def _initial(self, nodes: Nodes, x: int, place: int) -> State:
        zeros = (np.zeros(self.hidden),) * self.cell.states
        given = self.initial[place] if self.initial else zeros
        return tuple(nodes.add(Constant(each, 2), x) for each in given)

    def _direction(
        self, nodes: Nodes, value: int, inputs: int, state: State, suffix: str, reverse: bool
    ) -> int:
        """Add the nodes of one level in one direction; return its outputs (steps, hidden)."""
        units, outputs = self.cell.parts * self.hidden, {}
        for t in range(self.steps)[:: -1 if reverse else 1]:
            # Each step multiplies its own input, so that a moved number affects no earlier step.
            x = nodes.add(Select(2, 0, t), value)
            of_x = nodes.dense(x, inputs, units, f"weight_ih{suffix}", f"bias_ih{suffix}")
            of_h = nodes.dense(state[0], self.hidden, units, f"weight_hh{suffix}", f"bias_hh{suffix}")
            state = self.cell(nodes, self._part(nodes), of_x, of_h, state)
            outputs[t] = state[0]
        return nodes.add(Stack(1, 0), *(outputs[t] for t in range(self.steps)))

    def _part(self, nodes: Nodes) -> Part:
        def part(value: int, k: int) -> int:
            return nodes.add(Slice(1, 0, k * self.hidden, (k + 1) * self.hidden), value)

        return part
