"""Looks at the numbers of an objective: taken as they are asked for, or remembered for whoever asks again.

What a look finds of a number rests on that number alone, and on no gradient. So many gradients of one
objective, as planted mistakes are, can be held against the same looks, each taken once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Protocol

import numpy as np

from gradcheck_cli.numerical.estimate import Estimate, Progress
from gradcheck_cli.numerical.objective import Array, Movable, Objective
from gradcheck_cli.numerical.schemes import Scheme

Look = Callable[[Movable, Scheme, float | None, Array | None, Progress | None], Estimate]
"""A way to take derivatives: as many steps as suffice for one purpose or another."""


class Looks(Protocol):
    """Whoever takes looks."""

    def __call__(
        self,
        look: Look,
        of: tuple[Objective, Hashable],
        movable: Movable,
        scheme: Scheme,
        step: float | None,
        which: Array,
        progress: Progress | None,
    ) -> Estimate:
        """What `look` finds of the numbers `which`; of: the objective, and which of its movables it is."""


def taken(
    look: Look,
    of: tuple[Objective, Hashable],
    movable: Movable,
    scheme: Scheme,
    step: float | None,
    which: Array,
    progress: Progress | None,
) -> Estimate:
    """Every look is taken, whether or not it was before."""
    return look(movable, scheme, step, which, progress)


class Remembered:
    """Every look is taken once at each number."""

    def __init__(self) -> None:
        self._found: dict[Hashable, tuple[Array, Estimate]] = {}

    def __call__(
        self,
        look: Look,
        of: tuple[Objective, Hashable],
        movable: Movable,
        scheme: Scheme,
        step: float | None,
        which: Array,
        progress: Progress | None,
    ) -> Estimate:
        key, size = (look, of, scheme, step), len(movable.position)
        if key not in self._found:
            self._found[key] = np.zeros(size, dtype=bool), Estimate(np.zeros(size), np.zeros(size))
        known, found = self._found[key]
        missing = which[~known[which]]
        if len(missing):
            more = look(movable, scheme, step, missing, progress)
            found.value[missing], found.error[missing] = more.value, more.error
            known[missing] = True
        return Estimate(found.value[which], found.error[which])
