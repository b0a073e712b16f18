"""Some entries of a single step's Jacobian, from the step's vjp and from finite differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gradcheck_cli.explain.maps import Map
from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.graph import Node
from gradcheck_cli.network.known import Known, Upstream
from gradcheck_cli.problem.problem import Problem
from gradcheck_cli.types import Array, Shape

ROWS = 8
"""The largest number of a step's outputs whose derivatives are checked."""

ENTRIES = 512
"""Roughly the largest number of entries of a Jacobian that are checked."""

FEW = 16
"""Roughly the largest number of entries to check in each Jacobian inside a layer of many steps."""


_Moved = Callable[[Array, Array], Array]


@dataclass(frozen=True)
class Entries:
    """Some entries of a Jacobian.

    map: the map to differentiate by finite differences; its derivatives are the entries.
    value: the entries as the step's vjp computes them.
    rounding: bounds on the rounding errors of `value`.
    """

    map: Map
    value: Array
    rounding: Array


@dataclass(frozen=True)
class StepAlone:
    """A step with the inputs of the first sample or, if the step couples samples, of all samples.

    entries: roughly how many entries of each Jacobian to check.
    """

    node: Node
    p: dict[str, Array]
    inputs: tuple[Array, ...]
    output: Array
    entries: int = ENTRIES

    @classmethod
    def of(cls, problem: Problem, i: int, entries: int = ENTRIES) -> StepAlone:
        """Return the step of node i in the problem's network."""
        node, values = problem.network.graph.nodes[i], problem.objective.values
        some = slice(None) if node.step.couples == "batch" else slice(1)
        inputs = tuple(values[k][some] for k in node.inputs)
        return cls(node, node.own(problem.parameters), inputs, values[i + 1][some], entries)

    @cached_property
    def _rows(self) -> Array:
        """The flat indices of the outputs whose derivatives are checked, spread evenly over all outputs."""
        count = min(ROWS, self.output.size, self.entries)
        return np.unique(np.linspace(0, self.output.size - 1, count).astype(int))

    @cached_property
    def _arithmetic(self) -> Arithmetic:
        return Arithmetic.of(np.dtype(np.float64), held=np.dtype(np.float64))

    @cached_property
    def _swept(self) -> list[tuple[tuple[Array, ...], dict[str, Array], tuple[Array, ...], dict[str, Array]]]:
        """The derivatives of each checked output with respect to the inputs and to the parameters.

        Each entry also holds bounds on the rounding errors of these derivatives.
        """
        exact = tuple(np.zeros_like(x) for x in self.inputs)
        known = Known(self.inputs, self.output, exact, np.zeros_like(self.output))
        found = []
        for row in self._rows:
            one = np.zeros_like(self.output)
            one.flat[row] = 1.0
            handed, own = self.node.step.vjp(self.p, self.inputs, self.output, one)
            upstream = Upstream(one, np.zeros_like(one), np.zeros_like(one))
            below, bounds = self.node.step.vjp_error(self.p, known, upstream, self._arithmetic)
            found.append((handed, own, tuple(each.error for each in below), bounds))
        return found

    def of_input(self, number: int) -> Entries:
        """Return some entries of ∂out/∂input for one of the inputs.

        number: the position of the input.
        """
        x, size = self.inputs[number], self.output.size

        def outputs(columns: Array, to: Array) -> Array:
            moved = np.repeat(x[None].astype(to.dtype), len(to), axis=0)
            moved.reshape(len(to), -1)[np.arange(len(to)), columns] = to
            inputs = (*self.inputs[:number], moved, *self.inputs[number + 1 :])
            return self.node.step.forward(self.p, *inputs).reshape(len(to), size)

        def pieces(columns: Array, to: Array) -> Array:
            moved = np.repeat(x[None].astype(to.dtype), len(to), axis=0)
            moved.reshape(len(to), -1)[np.arange(len(to)), columns] = to
            return self.node.step.pieces(moved)

        values = [(handed[number], errors[number]) for handed, _, errors, _ in self._swept]
        return self._entries(x, values, outputs, pieces if self.node.step.has_pieces else None)

    def of_parameter(self, own: str) -> Entries:
        """Return some entries of ∂out/∂parameter.

        own: the parameter's name in the step.
        """
        size = self.output.size

        def outputs(columns: Array, to: Array) -> Array:
            moved = self.node.step.with_entries(self.p, own, columns, to, self.inputs, self.output)
            return moved.reshape(len(to), size)

        values = [(of_each[own], bounds[own]) for _, of_each, _, bounds in self._swept]
        return self._entries(self.p[own], values, outputs, None)

    def _entries(
        self, x: Array, values: Sequence[tuple[Array, Array]], outputs: _Moved, pieces: _Moved | None
    ) -> Entries:
        """Return some entries of ∂out/∂x for an argument x of the step.

        values: for each checked output, its derivatives with respect to x, and bounds on their rounding
            errors.
        outputs: a function of `columns` and `to`, (B,) each. It returns the B outputs of the step, (B, …),
            that result if entry columns[b] of x is set to to[b].
        pieces: the same function for the smooth pieces of the step, if the step has any.
        """
        each = [self._columns(value) for value, _ in values]
        columns, rows = np.concatenate(each), np.repeat(self._rows, [len(of_row) for of_row in each])
        rounded = self.node.step.error_if_moved(self.p, self.inputs, self.output, self._arithmetic)
        magnitude = np.maximum(np.abs(self.output), rounded / self._arithmetic.eps).ravel()[rows]
        whole = all(len(of_row) == x.size for of_row in each)
        shape: Shape = (len(each), x.size) if whole else columns.shape

        def observe(which: Array, to: Array) -> Array:
            moved: Array = outputs(columns[which], to)[np.arange(len(which)), rows[which]]
            return moved

        to_pieces = pieces and (lambda which, to: pieces(columns[which], to))
        batch = max(1, 2**18 // (sum(each.size for each in self.inputs) + self.output.size))
        found, bounds = (
            np.concatenate([array.ravel()[at] for array, at in zip(part, each, strict=True)])
            for part in zip(*values, strict=True)
        )
        numbers = Map(shape, x.ravel()[columns], magnitude, observe, to_pieces, batch)
        return Entries(numbers, found.reshape(shape), bounds.reshape(shape))

    def _columns(self, row: Array) -> Array:
        """Return the indices of the entries to check in a Jacobian's row: the largest and some others."""
        most = max(2, self.entries // len(self._rows))
        if row.size <= most:
            return np.arange(row.size)
        largest = np.argsort(-np.abs(row).ravel(), kind="stable")[: most // 2]
        return np.union1d(largest, np.linspace(0, row.size - 1, most - most // 2).astype(int))
