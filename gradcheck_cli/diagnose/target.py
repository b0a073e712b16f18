"""A gradient that was found, and whether a candidate equals it to rounding."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from gradcheck_cli.types import Array

RTOL = 1e-8
"""The relative tolerance for a candidate in float64; by chance hardly an entry comes this near."""

_CANCELLED = 1e-9
"""A smaller share of the terms that an entry is summed from counts as 0."""

_TRIFLE = 1e-11
"""A smaller share of a tensor's largest entry counts as 0."""


@dataclass(frozen=True)
class Target:
    """One tensor's gradient as found and as it should be, both in float64 with penalties.

    bound: the rounding that a right gradient may have in the arithmetic it was computed in.
    rtol, eps: the relative tolerance and the machine epsilon of that arithmetic.
    silent: the units whose weights and bias were all found to be exactly 0, (units,).
    """

    name: str
    found: Array
    right: Array
    bound: Array
    rtol: float
    silent: Array | None = None
    eps: float = float(np.finfo(np.float64).eps)

    @cached_property
    def finite(self) -> Array:
        return np.isfinite(self.found)

    @cached_property
    def is_known(self) -> Array:
        """Where the right value is known and the one found is finite."""
        return self.finite & np.isfinite(self.bound)

    @cached_property
    def is_right(self) -> bool:
        return self.matches(self.right)

    @cached_property
    def is_nothing(self) -> bool:
        """Whether the gradient found is 0 up to rounding."""
        rounding = float(self.bound.max(initial=0.0)) if self.eps < 1.0 else 0.0
        nothing = max(rounding, _TRIFLE * float(np.abs(self.right).max(initial=0.0)))
        return bool(np.isfinite(nothing) and (np.abs(self.found) <= nothing).all())

    def can_stand_for(self, other: Target) -> bool:
        """Whether the other may hold its right gradient; one of 0 counts only if both are swapped."""
        if self.name == other.name or self.right.shape != other.right.shape:
            return False
        return not other.is_nothing or self.matches(other.right)

    @property
    def is_off_throughout(self) -> bool:
        return not self.same(self.found, self.right)[self.is_known].any()

    def without(self, penalty: Array) -> Target:
        """Return the data's part, if the penalty was added last."""
        found = self.found - penalty
        found[np.abs(found) <= 4.0 * self.eps * np.abs(penalty)] = 0.0
        return replace(self, found=found, right=self.right - penalty)

    @cached_property
    def size(self) -> float:
        """The size of the numbers that the right gradient is summed from, which may cancel."""
        summed_from = self.bound / self.eps
        return float(np.maximum(np.abs(self.right), summed_from).max(initial=0.0))

    def tolerance(self, candidate: Array) -> Array:
        """Return how far rounding may carry the candidate; further if it is larger than the right one."""
        size = np.abs(candidate)
        largest = float(size.max(initial=0.0))
        amplified = max(1.0, largest / self.size) if self.size > 0 else 1.0
        return self.rtol * size + amplified * self.bound + _TRIFLE * largest

    def same(self, found: Array, candidate: Array) -> Array:
        """Return a mask of where both are the same; entries that are not finite count as the same."""
        with np.errstate(invalid="ignore"):
            return (np.abs(found - candidate) <= self.tolerance(candidate)) | ~self.finite

    def matches(self, candidate: Array) -> bool:
        return bool(np.isfinite(candidate).all() and self.same(self.found, candidate).all())

    def apart(self, candidate: Array) -> float:
        """Return the largest distance as a share of the candidate's largest entry, or of its terms."""
        off = np.abs(self.found - candidate)[self.finite].max(initial=0.0)
        largest = np.abs(candidate).max(initial=_CANCELLED * self.size)
        return float(off / largest) if largest > 0 else float(off > 0)

    def informs(self, candidate: Array) -> int:
        """Return how many entries distinguish the candidate from the right gradient."""
        told = np.abs(candidate - self.right) > 2.0 * (self.tolerance(candidate) + self.bound)
        return int(np.count_nonzero(told & self.finite))
