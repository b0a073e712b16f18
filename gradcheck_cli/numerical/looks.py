"""Take looks at the variables of an objective, that is, estimate derivatives. The estimates may be cached.

A look depends only on the variables themselves, not on the gradient that is checked. So one look at each
variable is enough to check many gradients of one objective, such as gradients with planted mistakes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from gradcheck_cli.numerical.confirm import confirm
from gradcheck_cli.numerical.estimate import Estimate, Progress
from gradcheck_cli.numerical.objective import Movable, Objective
from gradcheck_cli.numerical.schemes import Scheme
from gradcheck_cli.types import Array

Look = Callable[[Movable, Scheme, float | None, Array | None, Progress | None], Estimate]
"""A function that estimates derivatives with as many steps as its purpose needs, such as `certify`."""


@dataclass(frozen=True)
class Wanted:
    """The variables whose derivatives are wanted, and how to take differences.

    objective, key: the objective of the movable, and a key that identifies the movable within it.
    which: the indices of the variables, (M,).
    """

    objective: Objective
    key: Hashable
    movable: Movable
    scheme: Scheme
    step: float | None
    which: Array
    progress: Progress | None

    def by(self, look: Look) -> Estimate:
        """Return the estimates that `look` makes, (M,)."""
        return look(self.movable, self.scheme, self.step, self.which, self.progress)

    def confirmed(self, first: Estimate) -> tuple[Estimate, Array]:
        """Return the result of the function `confirm`. `first` holds the first estimates, (M,)."""
        return confirm(self.movable, self.scheme, first, self.step, self.which, self.progress)

    def only(self, mask: Array) -> Wanted:
        """Return a copy with the variables of the mask alone, (M,)."""
        return replace(self, which=self.which[mask])


class Looks(Protocol):
    """Estimates derivatives with a `Look`, or returns the estimates from a cache."""

    def __call__(self, look: Look, wanted: Wanted) -> Estimate:
        """Return the estimates that `look` makes, (M,)."""

    def confirm(self, first: Estimate, wanted: Wanted) -> tuple[Estimate, Array]:
        """Return the result of the function `confirm`. `first` holds the first estimates, (M,)."""


class Taken:
    """Estimates derivatives whenever asked, without a cache."""

    def __call__(self, look: Look, wanted: Wanted) -> Estimate:
        return wanted.by(look)

    def confirm(self, first: Estimate, wanted: Wanted) -> tuple[Estimate, Array]:
        return wanted.confirmed(first)


taken = Taken()
"""Estimates derivatives whenever asked, without a cache."""


class Remembered:
    """Makes each estimate for each variable only once, and caches it.

    A confirmation is cached too, since the first estimates of a variable are always the same.
    """

    def __init__(self) -> None:
        self._found: dict[Hashable, tuple[Array, Estimate]] = {}
        self._hidden: dict[Hashable, Array] = {}

    def __call__(self, look: Look, wanted: Wanted) -> Estimate:
        known, found = self._cached(look, wanted)
        is_missing = ~known[wanted.which]
        if is_missing.any():
            missing = wanted.only(is_missing)
            more = missing.by(look)
            found.value[missing.which], found.error[missing.which] = more.value, more.error
            known[missing.which] = True
        return Estimate(found.value[wanted.which], found.error[wanted.which])

    def confirm(self, first: Estimate, wanted: Wanted) -> tuple[Estimate, Array]:
        known, found = self._cached(confirm, wanted)
        key, which = _key(confirm, wanted), wanted.which
        hidden = self._hidden.setdefault(key, np.zeros(len(known)))
        is_missing = ~known[which]
        if is_missing.any():
            missing, begun = which[is_missing], Estimate(first.value[is_missing], first.error[is_missing])
            more, bounds = wanted.only(is_missing).confirmed(begun)
            found.value[missing], found.error[missing], hidden[missing] = more.value, more.error, bounds
            known[missing] = True
        return Estimate(found.value[which], found.error[which]), hidden[which]

    def _cached(self, how: Callable[..., Any], wanted: Wanted) -> tuple[Array, Estimate]:
        """Return a mask of the movable's variables with a cached estimate, and the cached estimates."""
        key, size = _key(how, wanted), len(wanted.movable.position)
        if key not in self._found:
            self._found[key] = np.zeros(size, dtype=bool), Estimate(np.zeros(size), np.zeros(size))
        return self._found[key]


def _key(how: Callable[..., Any], wanted: Wanted) -> Hashable:
    return how, wanted.objective, wanted.key, wanted.scheme, wanted.step
