"""Evaluate the user's function at many points near its parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from gradcheck_cli.code.function import Function
from gradcheck_cli.code.refusals import is_refusal
from gradcheck_cli.types import Array


class Change(NamedTuple):
    """A point that differs from the parameters only in some entries of one tensor.

    name: the name of the tensor.
    entries: flat indices of the entries.
    values: the new values of the entries.
    """

    name: str
    entries: Array
    values: Array

    def at(self, parameters: Mapping[str, Array]) -> dict[str, Array]:
        """Return a copy of the parameters with this change."""
        point = {name: array.copy() for name, array in parameters.items()}
        point[self.name].flat[self.entries] = self.values
        return point


def no_change(function: Function) -> Change:
    """Return the point that is the parameters themselves."""
    return Change(next(iter(function.parameters)), np.array([], dtype=np.intp), np.array([]))


class Evaluator(Protocol):
    """An object that evaluates a function at many points, in this process or in several others."""

    @property
    def batch(self) -> int:
        """The number of points to pass to one call of `losses_at`."""

    def losses_at(self, changes: Sequence[Change]) -> Array:
        """Return the S loss terms at each of K points, (K, S). Each change describes one point."""

    def losses_at_rest(self) -> Iterable[tuple[str, Array]]:
        """Yield the S loss terms that the function now returns at the unperturbed parameters, (S,).

        Each comes with words for the machine, such as `` on node7``; empty for this machine. At least one
        call is made in each process that has evaluated the function, if it still exists. The loss terms of a
        call that the function refuses are NaN.
        """

    @property
    def tolerated(self) -> float:
        """The difference between the losses of two processes that has been tolerated so far."""


@dataclass(frozen=True)
class InProcess:
    """An evaluator that calls the function in this process, one stack of points at a time."""

    function: Function
    tolerated: float = 0.0

    @property
    def batch(self) -> int:
        return stack_of(self.function)

    def losses_at(self, changes: Sequence[Change]) -> Array:
        return evaluate_stacks(self.function, self.function.parameters, changes)

    def losses_at_rest(self) -> Iterable[tuple[str, Array]]:
        yield "", self.losses_at([no_change(self.function)])[0]


STACK = 16
"""The largest number of points in one stack, which is passed to one call of the function."""
_STACKED_NUMBERS = 2**24
"""The largest number of parameter entries in one stack: 128 MiB in float64."""


def stack_of(function: Function) -> int:
    """Return the number of points in a full stack, which depends only on the function.

    Rounding can depend on the size of a stack, so results are reproducible only if that size is fixed.
    """
    numbers = sum(array.size for array in function.parameters.values())
    return max(1, min(STACK, _STACKED_NUMBERS // max(1, numbers)))


def evaluate_stacks(function: Function, parameters: Mapping[str, Array], changes: Sequence[Change]) -> Array:
    """Return the S loss terms at each of K points, (K, S), evaluated one stack of points at a time."""
    size = stack_of(function)
    starts = range(0, len(changes), size)
    return np.concatenate([evaluate(function, parameters, changes[start : start + size]) for start in starts])


def evaluate(function: Function, parameters: Mapping[str, Array], changes: Sequence[Change]) -> Array:
    """Return the S loss terms at each of K points near `parameters`, (K, S).

    Every point is a copy, so the function may change it. The losses are NaN at a point that the function
    refuses, such as one outside its domain.
    """
    points = [change.at(parameters) for change in changes]
    if function.vectorized:  # compilers compile for every size, so use few sizes
        points += points[-1:] * (2 ** (len(points) - 1).bit_length() - len(points))
    try:
        return function.losses_at(points)[: len(changes)]
    except Exception as error:
        if not is_refusal(error):
            raise
    if len(changes) == 1:
        return np.full((1, function.terms), np.nan)
    return np.concatenate([evaluate(function, parameters, [change]) for change in changes])
