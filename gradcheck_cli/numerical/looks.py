"""Take looks at the variables of an objective, that is, estimate derivatives. The estimates may be cached.

A look depends only on the variables themselves, not on the gradient that is checked. So one look at each
variable is enough to check many gradients of one objective, such as gradients with planted mistakes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Protocol

import numpy as np

from gradcheck_cli.numerical.confirm import confirm
from gradcheck_cli.numerical.estimate import Estimate, Progress
from gradcheck_cli.numerical.objective import Movable, Objective
from gradcheck_cli.numerical.schemes import Scheme
from gradcheck_cli.types import Array

Look = Callable[[Movable, Scheme, float | None, Array | None, Progress | None], Estimate]
"""A function that estimates derivatives with as many steps as its purpose needs, such as `certify`."""


class Looks(Protocol):
    """A function that estimates derivatives with a `Look`, or returns the estimates from a cache."""

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
        """Return the estimates that `look` makes for the variables `which`.

        of: the objective, and a key that identifies the movable within it.
        """

    def confirm(
        self,
        first: Estimate,
        of: tuple[Objective, Hashable],
        movable: Movable,
        scheme: Scheme,
        step: float | None,
        which: Array,
        progress: Progress | None,
    ) -> tuple[Estimate, Array]:
        """Return the result of the function `confirm` for the variables `which`.

        first: the first estimates of these variables.
        """


class Taken:
    """Estimates derivatives whenever asked, without a cache."""

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
        return look(movable, scheme, step, which, progress)

    def confirm(
        self,
        first: Estimate,
        of: tuple[Objective, Hashable],
        movable: Movable,
        scheme: Scheme,
        step: float | None,
        which: Array,
        progress: Progress | None,
    ) -> tuple[Estimate, Array]:
        return confirm(movable, scheme, first, step, which, progress)


taken = Taken()
"""Estimates derivatives whenever asked, without a cache."""


class Remembered:
    """Makes each estimate for each variable only once, and caches it.

    A confirmation is cached too, since the first estimates of a variable are always the same.
    """

    def __init__(self) -> None:
        self._found: dict[Hashable, tuple[Array, Estimate]] = {}
        self._hidden: dict[Hashable, Array] = {}

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
        known, found = self._cached((look, of, scheme, step), len(movable.position))
        missing = which[~known[which]]
        if len(missing):
            more = look(movable, scheme, step, missing, progress)
            found.value[missing], found.error[missing] = more.value, more.error
            known[missing] = True
        return Estimate(found.value[which], found.error[which])

    def confirm(
        self,
        first: Estimate,
        of: tuple[Objective, Hashable],
        movable: Movable,
        scheme: Scheme,
        step: float | None,
        which: Array,
        progress: Progress | None,
    ) -> tuple[Estimate, Array]:
        key, size = (confirm, of, scheme, step), len(movable.position)
        known, found = self._cached(key, size)
        hidden = self._hidden.setdefault(key, np.zeros(size))
        is_missing = ~known[which]
        if is_missing.any():
            missing, begun = which[is_missing], Estimate(first.value[is_missing], first.error[is_missing])
            more, bounds = confirm(movable, scheme, begun, step, missing, progress)
            found.value[missing], found.error[missing], hidden[missing] = more.value, more.error, bounds
            known[missing] = True
        return Estimate(found.value[which], found.error[which]), hidden[which]

    def _cached(self, key: Hashable, size: int) -> tuple[Array, Estimate]:
        """Return a mask of the variables with a cached estimate, and the cached estimates."""
        if key not in self._found:
            self._found[key] = np.zeros(size, dtype=bool), Estimate(np.zeros(size), np.zeros(size))
        return self._found[key]
