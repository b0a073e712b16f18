"""The gradient that was found, and whether a candidate is the same to rounding."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from gradcheck_cli.model.special import Array

RTOL = 1e-8
"""How nearly a candidate must reproduce a gradient in float64: chance would rarely meet even one entry so."""

_CANCELLED = 1e-9
"""Beside the terms that it is summed from, less is as good as 0."""

_TRIFLE = 1e-11
"""The share of a tensor's largest entry that is as good as nothing."""


@dataclass(frozen=True)
class Target:
    """One tensor's gradient as it was found, and as it should be, both in float64 and penalties included.

    bound: what rounding may do to a right one, in the arithmetic that it was computed in.
    rtol: the relative tolerance of that arithmetic.
    eps: the machine epsilon of that arithmetic.
    silent: of which units all was found to be exactly 0, weights and bias, (units,).
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
        """Where the right one is known, and what was found is a number."""
        return self.finite & np.isfinite(self.bound)

    @cached_property
    def is_right(self) -> bool:
        return self.matches(self.right)

    @cached_property
    def is_nothing(self) -> bool:
        """Whether what was found is 0 up to rounding, where something else should be."""
        rounding = float(self.bound.max(initial=0.0)) if self.eps < 1.0 else 0.0
        nothing = max(rounding, _TRIFLE * float(np.abs(self.right).max(initial=0.0)))
        return bool(np.isfinite(nothing) and (np.abs(self.found) <= nothing).all())

    def can_stand_for(self, other: Target) -> bool:
        """Whether its right gradient may be found in the other's place; a 0 only if both are swapped."""
        if self.name == other.name or self.right.shape != other.right.shape:
            return False
        return not other.is_nothing or self.matches(other.right)

    @property
    def is_off_throughout(self) -> bool:
        return not self.same(self.found, self.right)[self.is_known].any()

    def without(self, penalty: Array) -> Target:
        """The data's part alone, if the penalty was added to it last."""
        found = self.found - penalty
        found[np.abs(found) <= 4.0 * self.eps * np.abs(penalty)] = 0.0
        return replace(self, found=found, right=self.right - penalty)

    @cached_property
    def size(self) -> float:
        """How large the numbers are that the right one is summed from; it may be a sum that cancels."""
        summed_from = self.bound / self.eps
        return float(np.maximum(np.abs(self.right), summed_from).max(initial=0.0))

    def tolerance(self, candidate: Array) -> Array:
        """How far rounding may carry the candidate: one of larger numbers than the right one's further."""
        size = np.abs(candidate)
        largest = float(size.max(initial=0.0))
        amplified = max(1.0, largest / self.size) if self.size > 0 else 1.0
        return self.rtol * size + amplified * self.bound + _TRIFLE * largest

    def same(self, found: Array, candidate: Array) -> Array:
        """Where both are the same, as a mask; what was found and is not finite says nothing."""
        with np.errstate(invalid="ignore"):
            return (np.abs(found - candidate) <= self.tolerance(candidate)) | ~self.finite

    def matches(self, candidate: Array) -> bool:
        return bool(np.isfinite(candidate).all() and self.same(self.found, candidate).all())

    def apart(self, candidate: Array) -> float:
        """The largest distance, as a share of the candidate's largest entry, or of its terms."""
        off = np.abs(self.found - candidate)[self.finite].max(initial=0.0)
        largest = np.abs(candidate).max(initial=_CANCELLED * self.size)
        return float(off / largest) if largest > 0 else float(off > 0)

    def informs(self, candidate: Array) -> int:
        """How many entries tell the candidate from the right gradient."""
        told = np.abs(candidate - self.right) > 2.0 * (self.tolerance(candidate) + self.bound)
        return int(np.count_nonzero(told & self.finite))
