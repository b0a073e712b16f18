"""Present the user's code as a function whose gradients finite differences can estimate.

Nothing is known about the function except what it returns. So its parameters are perturbed one entry at a
time or along directions, and the noise in its losses is measured (`numerical.noise`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np

from gradcheck_cli.code.function import Function
from gradcheck_cli.code.points import Change, Evaluator, InProcess, stack_of
from gradcheck_cli.code.refusals import Refusals
from gradcheck_cli.code.together import Together
from gradcheck_cli.numerical.objective import Direction, Movable, Moved, Spread
from gradcheck_cli.types import EPS, Array, Shape


@dataclass(frozen=True)
class ForeignObjective:
    """The user's function as finite differences see it: its losses, but never its gradients.

    noise: for each parameter, the noise in the S loss terms, (S,), while that parameter is perturbed.
    evaluator: the object that evaluates the function at many points; None to evaluate it in this process.
    refusals: counts the points that the function refuses, so that calls to it end if it always fails.
    """

    function: Function
    noise: Mapping[str, Array]
    evaluator: Evaluator | None = None
    refusals: Refusals = field(default_factory=Refusals, compare=False)
    tells_kinks: bool = False
    widest: None = None

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        return {name: array.shape for name, array in self.function.parameters.items()}

    @cached_property
    def losses(self) -> Array:
        """The S loss terms at the unperturbed parameters, (S,)."""
        return self.function.losses({n: array.copy() for n, array in self.function.parameters.items()})

    @cached_property
    def evaluated_by(self) -> Evaluator:
        return self.evaluator or InProcess(self.function)

    def entries(self, name: str) -> Movable:
        return _Entries(self, name)

    def span(self, name: str) -> float:
        """Return the root mean square of the entries of parameter `name`, or 1 if all entries are 0."""
        return _whole(self.function.parameters[name]) or 1.0

    def along(self, name: str, directions: Sequence[Direction], unit: Array) -> Movable:
        return _Along(self, name, tuple(directions), unit)

    def penalty(self, name: str) -> None:
        """Return None, since a penalty cannot be separated from the rest of the user's loss."""

    @property
    def conventions(self) -> tuple[ForeignObjective, ...]:
        """The objectives under other conventions at kinks. There are none, since the kinks are unknown."""
        return ()

    def moved(self, name: str, changes: Sequence[Change]) -> Moved:
        losses = self._losses_at(name, changes)
        rounding = np.maximum(self.noise[name] / EPS, np.abs(losses))
        return Moved(losses, rounding, np.zeros(len(changes), dtype=bool))

    def _losses_at(self, name: str, changes: Sequence[Change]) -> Array:
        """Return the S loss terms at K points, (K, S); NaN if the code refused many points in a row."""
        if self.refusals.give_up(name):
            return np.full((len(changes), self.function.terms), np.nan)
        losses = self.evaluated_by.losses_at(changes)
        self.refusals.add(name, losses)
        return losses


@dataclass(frozen=True)
class _Moves:
    objective: ForeignObjective
    name: str

    @property
    def batch(self) -> int:
        return self.objective.evaluated_by.batch

    @cached_property
    def tensor(self) -> Array:
        """The parameter to perturb, as a flat array."""
        return self.objective.function.parameters[self.name].ravel()

    @property
    def rest(self) -> Array:
        return self.objective.losses


@dataclass(frozen=True)
class _Entries(_Moves):
    exact: ClassVar[bool] = True

    @cached_property
    def spread(self) -> Spread:
        return _together(self.objective.function, 1)

    @property
    def position(self) -> Array:
        return self.tensor

    @cached_property
    def unit(self) -> Array:
        return length(self.tensor)

    def move(self, which: Array, to: Array) -> Moved:
        changes = [Change(self.name, np.array([i]), np.array([v])) for i, v in zip(which, to, strict=True)]
        return self.objective.moved(self.name, changes)


@dataclass(frozen=True)
class _Along(_Moves):
    directions: tuple[Direction, ...]
    unit: Array
    exact: ClassVar[bool] = False

    @cached_property
    def spread(self) -> Spread:
        return _together(self.objective.function, max(len(each.entries) for each in self.directions))

    @cached_property
    def position(self) -> Array:
        return np.zeros(len(self.directions))

    def move(self, which: Array, to: Array) -> Moved:
        span = self.objective.span(self.name)
        changes = []
        for i, t in zip(which, to, strict=True):
            entries, weights = self.directions[i]
            changes.append(Change(self.name, entries, self.tensor[entries] + (t * span) * weights))
        return self.objective.moved(self.name, changes)


def _together(function: Function, numbers: int) -> Spread:
    """Return the spread for variables that perturb this many entries each."""
    return Together(stack_of(function) if function.vectorized else 1, numbers)


def length(position: Array) -> Array:
    """Return the length of a unit step for every entry of a tensor.

    The length is the entry's absolute value or the tensor's root mean square, whichever is larger; 1 if both
    are 0.
    """
    size = np.maximum(np.abs(position), _whole(position))
    return np.where(size > np.finfo(np.float64).tiny, size, 1.0)


def _whole(tensor: Array) -> float:
    """Return the root mean square of the tensor; 0 if its largest entry is 0 or subnormal in float64."""
    largest = float(np.abs(tensor).max(initial=0.0))
    if not largest > np.finfo(np.float64).tiny:
        return 0.0
    return largest * float(np.sqrt(np.mean(np.square(tensor / largest))))
