"""Recurrent layers unrolled over the time steps: rnn, lstm and gru, as in torch with batch_first.

Each time step has its own nodes, and all steps share the parameters. A parameter's gradient is the sum over
the steps.

    rnn:     h = φ(w_ih x + b_ih + w_hh h + b_hh)
    lstm:    i, f, o = σ(…), g = tanh(…), each of a sum as in rnn
             c = f ⊙ c + i ⊙ g        h = o ⊙ tanh(c)
    gru:     r, z = σ(…), each of a sum as in rnn;  n = tanh(w_in x + b_in + r ⊙ (w_hn h + b_hn))
             h = (1 − z) ⊙ n + z ⊙ h

The rows of the weights are in the order i, f, g, o for an LSTM and r, z, n for a GRU.

(S. Hochreiter and J. Schmidhuber, "Long short-term memory", 1997. K. Cho et al. introduced the GRU in 2014;
the reset gate here follows torch.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from gradcheck_cli.network.composed.nodes import Nodes
from gradcheck_cli.network.steps.add import Add
from gradcheck_cli.network.steps.constant import Constant
from gradcheck_cli.network.steps.gates import Complement, Multiply
from gradcheck_cli.network.steps.given import Given
from gradcheck_cli.network.steps.learned_state import LearnedState
from gradcheck_cli.network.steps.rearrange import Concatenate, Select, Slice, Stack
from gradcheck_cli.types import Array, Shape

State = tuple[int, ...]
"""The indices of the values that one time step passes to the next; the first value is h."""

Part = Callable[[int, int], int]
"""A function that extracts gate k from a value that holds all gates.

The function takes the index of that value, and k, and returns the index of the gate.
"""


class Cell(Protocol):
    """One time step of a recurrent layer."""

    @property
    def parts(self) -> int:
        """The number of gates in the rows of a weight. Each gate has as many rows as the layer has units."""

    @property
    def states(self) -> int:
        """The number of values in the state: 1 for h alone, 2 for h and c."""

    @property
    def sums(self) -> tuple[str, str]:
        """The symbols of w_ih x + b_ih and w_hh h + b_hh; empty if only the sum of both needs a symbol."""

    def __call__(self, nodes: Nodes, part: Part, of_x: int, of_h: int, state: State) -> State:
        """Add the nodes of one time step and return the next state.

        of_x, of_h: the indices of w_ih x + b_ih and w_hh h + b_hh.
        """


class SumCell(Cell, Protocol):
    """A cell that needs only the sum of w_ih x + b_ih and w_hh h + b_hh."""

    def of_sum(self, nodes: Nodes, part: Part, total: int, state: State) -> State:
        """Add the nodes of one time step after the sum, and return the next state.

        total: the index of the sum.
        """


@dataclass(frozen=True)
class RnnCell:
    """The cell of a plain recurrent layer, with tanh or relu."""

    activation: str = "tanh"
    parts: int = 1
    states: int = 1
    sums: tuple[str, str] = ("", "")

    def __call__(self, nodes: Nodes, part: Part, of_x: int, of_h: int, state: State) -> State:
        return self.of_sum(nodes, part, nodes.add(Add(), of_x, of_h, symbol="z"), state)

    def of_sum(self, nodes: Nodes, part: Part, total: int, state: State) -> State:
        return (nodes.activation(self.activation, total, "h"),)


@dataclass(frozen=True)
class LstmCell:
    """The cell of an LSTM, with the gates in torch's order: i, f, g, o."""

    parts: int = 4
    states: int = 2
    sums: tuple[str, str] = ("", "")

    def __call__(self, nodes: Nodes, part: Part, of_x: int, of_h: int, state: State) -> State:
        return self.of_sum(nodes, part, nodes.add(Add(), of_x, of_h, symbol="z"), state)

    def of_sum(self, nodes: Nodes, part: Part, total: int, state: State) -> State:
        gates = (("i", 0), ("f", 1), ("o", 3))
        i, f, o = (nodes.activation("sigmoid", part(total, k), name) for name, k in gates)
        g = nodes.activation("tanh", part(total, 2), "g")
        kept, new = nodes.add(Multiply(), f, state[1]), nodes.add(Multiply(), i, g)
        c = nodes.add(Add(), kept, new, symbol="c")
        return nodes.add(Multiply(), o, nodes.activation("tanh", c), symbol="h"), c


@dataclass(frozen=True)
class GruCell:
    """The cell of a GRU, with the gates in torch's order: r, z, n."""

    parts: int = 3
    states: int = 1
    sums: tuple[str, str] = ("u", "v")

    def __call__(self, nodes: Nodes, part: Part, of_x: int, of_h: int, state: State) -> State:
        r, z = (
            nodes.activation("sigmoid", nodes.add(Add(), part(of_x, k), part(of_h, k)), name)
            for k, name in enumerate("rz")
        )
        reset = nodes.add(Multiply(), r, part(of_h, 2))
        n = nodes.activation("tanh", nodes.add(Add(), part(of_x, 2), reset), "n")
        new = nodes.add(Multiply(), nodes.add(Complement(), z), n)
        return (nodes.add(Add(), new, nodes.add(Multiply(), z, state[0]), symbol="h"),)


_RAISED = str.maketrans({"_": "", "l": "", **dict(zip("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹", strict=True))})
"""Maps the suffix of a level's parameters to the suffix of its symbols: `_l1` to ¹, as in h¹."""

SUM_CELLS: Mapping[str, SumCell] = {"rnn": RnnCell(), "lstm": LstmCell()}
"""Maps each kind of recurrent layer whose cell needs only a sum to this cell."""

CELLS: Mapping[str, Cell] = {**SUM_CELLS, "gru": GruCell()}
"""Maps each kind of recurrent layer to its cell."""


class Initial(Protocol):
    """The source of a state's initial value, for all levels and directions in torch's order."""

    def __call__(self, nodes: Nodes, x: int) -> int | None:
        """Add the nodes of the state, and return its index; None if the state is 0.

        The state has the shape (levels · directions, hidden).
        """


@dataclass(frozen=True)
class Zero:
    """An initial state of 0."""

    def __call__(self, nodes: Nodes, x: int) -> None:
        return None


@dataclass(frozen=True)
class Learned:
    """An initial state that is a parameter, the same for every sample.

    shape: (levels · directions, hidden).
    """

    name: str
    shape: Shape

    def __call__(self, nodes: Nodes, x: int) -> int:
        zero = nodes.add(Constant(np.zeros(self.shape), 2), x)
        return nodes.add_node(LearnedState(self.shape), zero, names={"weight": nodes.prefix + self.name})


@dataclass(frozen=True, eq=False)
class Known:
    """An initial state that the spec sets to the same value for every sample.

    value: the state, (levels · directions, hidden).
    """

    value: Array

    def __call__(self, nodes: Nodes, x: int) -> int:
        return nodes.add(Constant(self.value, 2), x)


@dataclass(frozen=True, eq=False)
class KnownBySample:
    """An initial state that the spec sets for each sample.

    value: the states of N samples, (N, levels · directions, hidden).
    key: the spec's key for the states.
    """

    value: Array
    key: str

    def __call__(self, nodes: Nodes, x: int) -> int:
        return nodes.add(Given(self.value, self.key))


@dataclass(frozen=True)
class Recurrent:
    """A recurrent layer over samples (steps, inputs), with one or more levels stacked on top of each other.

    initial: the sources of the states before the first step: h and, in an LSTM, c. A state that is left out
        starts at 0.
    """

    cell: Cell
    steps: int
    inputs: int
    hidden: int
    levels: int = 1
    bidirectional: bool = False
    initial: Sequence[Initial] = ()

    def build(self, nodes: Nodes, x: int) -> int:
        """Add the layer's nodes and return the index of its output h, (steps, hidden · directions).

        x: the index of the input, (steps, inputs).
        """
        value, inputs, directions = x, self.inputs, (False, True)[: 1 + self.bidirectional]
        initial = [given(nodes, x) for given in self.initial]
        for level in range(self.levels):
            states = [
                self._initial(nodes, x, initial, level * len(directions) + k) for k in range(len(directions))
            ]
            both = [
                self._direction(nodes, value, inputs, state, f"_l{level}" + "_reverse" * reverse, reverse)
                for state, reverse in zip(states, directions, strict=True)
            ]
            value = nodes.add(Concatenate(2, 1), *both) if self.bidirectional else both[0]
            inputs = self.hidden * len(directions)
        return value

    def _initial(self, nodes: Nodes, x: int, initial: Sequence[int | None], place: int) -> State:
        """Return the state before the first step, for one level in one direction.

        place: the index of this level and direction, in torch's order.
        """
        zero = Constant(np.zeros(self.hidden), 2)
        values = [*initial, *(None,) * (self.cell.states - len(initial))]
        return tuple(
            nodes.add(zero, x) if value is None else nodes.add(Select(2, 0, place), value) for value in values
        )

    def _direction(
        self, nodes: Nodes, value: int, inputs: int, state: State, suffix: str, reverse: bool
    ) -> int:
        """Add the nodes of one level in one direction, and return the index of its outputs h.

        The outputs have the shape (steps, hidden).
        """
        units, outputs = self.cell.parts * self.hidden, {}
        if self.levels > 1 or self.bidirectional:
            nodes = replace(nodes, mark=suffix.translate(_RAISED).replace("reverse", "←"))
        for t in range(self.steps)[:: -1 if reverse else 1]:
            # Each step multiplies its own input, so that a perturbed entry affects no earlier step.
            x = nodes.add(Select(2, 0, t), value, symbol="x")
            u, v = self.cell.sums
            of_x = nodes.dense(x, inputs, units, f"weight_ih{suffix}", f"bias_ih{suffix}", u)
            of_h = nodes.dense(state[0], self.hidden, units, f"weight_hh{suffix}", f"bias_hh{suffix}", v)
            state = self.cell(nodes, self._part(nodes), of_x, of_h, state)
            outputs[t] = state[0]
        return nodes.add(Stack(1, 0), *(outputs[t] for t in range(self.steps)))

    def _part(self, nodes: Nodes) -> Part:
        def part(value: int, k: int) -> int:
            return nodes.add(Slice(1, 0, k * self.hidden, (k + 1) * self.hidden), value)

        return part
