"""A gradient to explain, and the test of whether a candidate equals the gradient up to rounding."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite

import numpy as np

from gradcheck_cli.types import EPS, Array

RTOL = 1e-8
"""The relative tolerance for a candidate in float64. A wrong entry hardly ever meets it by chance."""

_CANCELLED = 1e-9
"""A sum counts as 0 if it is smaller than this fraction of the size of its terms."""

_TRIFLE = 1e-11
"""An entry counts as 0 if it is smaller than this fraction of the tensor's largest entry."""


@dataclass(frozen=True)
class Target:
    """One tensor's gradient to explain, together with the correct one.

    found, right: the author's gradient and the correct one, both in float64 and including penalties.
    bound: a bound on the rounding error of a correct gradient in the author's arithmetic.
    rtol, eps: the relative tolerance and the machine epsilon of that arithmetic.
    silent: for each unit, whether the gradients of its weights and its bias are all exactly 0.
    """

    name: str
    found: Array
    right: Array
    bound: Array
    rtol: float
    silent: Array | None = None
    eps: float = EPS

    @cached_property
    def finite(self) -> Array:
        return np.isfinite(self.found)

    @cached_property
    def is_known(self) -> Array:
        """A mask of the entries with a known correct value and a finite value in the author's gradient."""
        return self.finite & np.isfinite(self.bound)

    @cached_property
    def is_right(self) -> bool:
        return self.matches(self.right)

    @cached_property
    def is_nothing(self) -> bool:
        """Whether the author's gradient is 0 up to rounding."""
        rounding = float(self.bound.max(initial=0.0)) if self.eps < 1.0 else 0.0
        nothing = max(rounding, _TRIFLE * float(np.abs(self.right).max(initial=0.0)))
        return bool(np.isfinite(nothing) and (np.abs(self.found) <= nothing).all())

    def can_stand_for(self, other: Target) -> bool:
        """Return whether the author may have returned this tensor's correct gradient for `other` by mistake.

        If the author's gradient of `other` is 0, the two gradients must be swapped: this tensor must have
        received the correct gradient of `other`.
        """
        if self.name == other.name or self.right.shape != other.right.shape:
            return False
        return not other.is_nothing or self.matches(other.right)

    @property
    def is_off_throughout(self) -> bool:
        return not self.same(self.found, self.right)[self.is_known].any()

    def without(self, penalty: Array) -> Target:
        """Return the target with a penalty subtracted from both gradients.

        If the author's code added the penalty last, what remains of the author's gradient is the part from
        the data.
        """
        found = self.found - penalty
        found[np.abs(found) <= 4.0 * self.eps * np.abs(penalty)] = 0.0
        return replace(self, found=found, right=self.right - penalty)

    @cached_property
    def size(self) -> float:
        """The size of the terms that add up to the correct gradient; their sum may be smaller."""
        summed_from = self.bound / self.eps
        return float(np.maximum(np.abs(self.right), summed_from).max(initial=0.0))

    def tolerance(self, candidate: Array) -> Array:
        """Return the rounding error allowed for each entry of a candidate. Larger candidates may err more."""
        size = np.abs(candidate)
        largest = float(size.max(initial=0.0))
        return self.rtol * size + self._amplified(largest) * self.bound + _TRIFLE * largest

    def _amplified(self, largest: float) -> float:
        """Return the factor by which a candidate's rounding error may exceed that of a correct gradient."""
        return max(1.0, largest / self.size) if self.size > 0 else 1.0

    def same(self, found: Array, candidate: Array) -> Array:
        """Return a mask of the entries that agree up to rounding. Entries that are not finite agree, too."""
        with np.errstate(invalid="ignore"):
            return (np.abs(found - candidate) <= self.tolerance(candidate)) | ~self.finite

    def matches(self, candidate: Array) -> bool:
        largest = float(np.abs(candidate).max(initial=0.0))
        if not isfinite(largest) or self._is_off_at_probe(candidate, largest):
            return False
        return bool(self.same(self.found, candidate).all())

    def _is_off_at_probe(self, candidate: Array, largest: float) -> bool:
        """Return whether the candidate is wrong at one entry. This cheap test rejects most candidates."""
        if self._probe is None:
            return False
        k, found, bound = self._probe
        there = candidate.item(k)
        tolerance = self.rtol * abs(there) + self._amplified(largest) * bound + _TRIFLE * largest
        return bool(abs(found - there) > tolerance)

    @cached_property
    def _probe(self) -> tuple[int, float, float] | None:
        """The index, value and error bound of the largest known entry; None if no entry is known."""
        if not self.is_known.any():
            return None
        k = int(np.argmax(np.where(self.is_known, np.abs(self.found), -1.0)))
        return k, self.found.item(k), self.bound.item(k)

    def apart(self, candidate: Array) -> float:
        """Return the largest distance between the candidate and the author's gradient.

        The distance is relative to the candidate's largest entry or, if the terms of the candidate cancel to
        almost 0, to the size of these terms.
        """
        off = np.abs(self.found - candidate)[self.finite].max(initial=0.0)
        largest = np.abs(candidate).max(initial=_CANCELLED * self.size)
        return float(off / largest) if largest > 0 else float(off > 0)

    def informs(self, candidate: Array) -> int:
        """Return the number of entries that clearly distinguish the candidate from the correct gradient."""
        told = np.abs(candidate - self.right) > 2.0 * (self.tolerance(candidate) + self.bound)
        return int(np.count_nonzero(told & self.finite))
