"""Evaluate all points that a batch of variables needs in one go, so that many workers can share them out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcheck_cli.numerical.objective import ALONE, Movable, Move, Moved, Points
from gradcheck_cli.types import Array

_MOST_NUMBERS = 2**24
"""The most perturbed numbers to evaluate in one go: 128 MiB in float64."""


@dataclass(frozen=True)
class Together:
    """A `Spread` for the user's code, whose points do not depend on each other.

    stack: the number of points that the code takes in one call, or 1. Only variables that fill a whole number
        of stacks are evaluated together, so that each stack has the same points as if they were not.
    numbers: the number of perturbed entries at one point.
    """

    stack: int
    numbers: int

    def empty(self, size: int, dtype: Any = float) -> Array:
        return ALONE.empty(size, dtype)

    def __call__(self, batch: Callable[[int], int], starts: Sequence[int]) -> Iterable[int]:
        return ALONE(batch, starts)

    def mover(self, movable: Movable, which: Array, points: Points) -> Move:
        to = np.array(points())
        if self.numbers * to.size > _MOST_NUMBERS:
            return movable.move
        stacks = np.split(np.arange(to.size).reshape(to.shape), self._ends(which), axis=1)
        order = np.concatenate([stack.ravel() for stack in stacks])
        moved = movable.move(np.tile(which, len(to))[order], to.ravel()[order])
        back = np.argsort(order)
        pieces = zip(*(np.split(part[back], len(to)) for part in moved), strict=True)
        return lambda *_: Moved(*next(pieces))

    def _ends(self, which: Array) -> list[int]:
        """Return where to cut the variables, so that every group but the last one fills one stack."""
        return list(range(self.stack, len(which), self.stack)) if self.stack > 1 else []
