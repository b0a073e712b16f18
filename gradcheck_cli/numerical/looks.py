"""Take looks (estimates of derivatives) at the numbers of an objective, and optionally cache them.

A look depends only on the numbers themselves, not on any gradient. Many gradients of one objective, such
as planted mistakes, can be compared with the same looks, each taken once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Protocol

import numpy as np

from gradcheck_cli.numerical.estimate import Estimate, Progress
from gradcheck_cli.numerical.objective import Movable, Objective
from gradcheck_cli.numerical.schemes import Scheme
from gradcheck_cli.types import Array

Look = Callable[[Movable, Scheme, float | None, Array | None, Progress | None], Estimate]
"""A function that estimates derivatives, such as `certify`, with as many steps as its purpose needs."""


class Looks(Protocol):
    """A function that takes a look at numbers of an objective, or returns it from a cache."""

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
        """Return what `look` finds for the numbers `which`.

        of: the objective, and a key that identifies the movable within it.
        """


def taken(
    look: Look,
    of: tuple[Objective, Hashable],
    movable: Movable,
    scheme: Scheme,
    step: float | None,
    which: Array,
    progress: Progress | None,
) -> Estimate:
    """Return the result of `look`, without using a cache."""
    return look(movable, scheme, step, which, progress)


class Remembered:
    """Takes each look at each number only once, and caches the result."""

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
