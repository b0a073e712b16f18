"""Decide which entries of a gradient agree, which are wrong, and which cannot be decided.

    agrees      |a − n| ≤ tolerance            tolerance = rtol · max(|a|, |n|) + atol + rounding
    wrong       |a − n| > tolerance + 3u
    unresolved  between the two: the reference cannot tell; or both values are lost in rounding; or only a
                large rounding bound allows the difference

Here a is the analytic and n the numerical value, u is the error of n, and rounding is a first-order bound on
the rounding error of a correct gradient, in the arithmetic it was computed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np

from gradcheck_cli.numerical.estimate import ERROR_BARS
from gradcheck_cli.projected import Projected
from gradcheck_cli.types import EPS, Array, precision_of

BY_FAR = 10.0
"""A wrong entry needs no closer look if it is this many error bars beyond its tolerance."""

MEANINGFUL = 10.0
"""Agreement within rounding counts only for values larger than their rounding bound by this factor."""

PLAUSIBLE = 1e-5
"""A rounding bound cannot excuse an entry whose two values differ by more than this share of their size.

Bounds are for the worst case, and may be far too large. Rounding errors that were observed in right gradients
are no mistakes, whatever their share.
"""

PLAUSIBLE_EPS = 1000.0
"""The same limit in units of ε. It applies to types so narrow that it is larger than `PLAUSIBLE`."""

LOST = 2e-12
"""A zero that rounding has changed is at most this share of the largest entry in any tensor.

In types so narrow that `PLAUSIBLE_EPS` · ε is larger, that is the limit. If rounding that was observed in the
entry is even larger, it is the limit.
"""

TRIFLE = 1e-9
"""An entry counts as zero if it is below this share of its terms, or of the tensor's largest entry.

An entry is a sum of terms that may cancel.
"""

FAR_BELOW = 1e-6
"""A numerical value below this share of the rounding bound is indistinguishable from 0."""

KNOWN_TO_BE_A_TRIFLE = 1e-3
"""A zero is checked in wider arithmetic if its error exceeds this share of the threshold for zeros."""

VANISHING = 1e-13
"""An entry below this share of the largest entry in any tensor counts as zero if it is lost in rounding."""

SAYS_NOTHING = 0.1
"""A zero means nothing if its rounding bound exceeds this share of the largest entry in any tensor."""

STANDS_OUT = 0.02
"""A numerical value of at least this share of its error bar may be more than noise.

If so, it is checked in wider arithmetic. In random networks, the numerical values of most true zeros are
below 2 % of their error bars.
"""

RARELY_NEEDED = 1.0 / 3.0
"""In types narrower than float64, agreement within rounding counts only up to this share of the bound.

The bound is for the worst case. In random networks, right gradients need less than a tenth of it. A larger
difference may be a small mistake, so the entry is unresolved. In float64, the error of the differences may be
as large as the bound, so a difference of this size says nothing about the gradient.
"""

EXCUSABLE = 1e-5
"""A tensor is unresolved if an undecided entry's error may exceed this share of the largest entry."""

EXCUSED_BY_ROUNDING = 1e-4
"""Rounding in a type narrower than float64 can excuse an error up to this share of the largest entry."""

EXCUSED_EPS = 2.0
"""The same share in units of ε, for types so narrow that this is more."""


class Verdict(StrEnum):
    """The verdict on an entry, a tensor or a whole check: agrees, wrong or unresolved."""

    AGREES = "agrees"
    WRONG = "wrong"
    UNRESOLVED = "unresolved"


def overall(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the overall verdict: wrong if any is wrong, agrees if all agree, otherwise unresolved.

    Without any verdicts, the overall verdict is unresolved.
    """
    if Verdict.WRONG in verdicts:
        return Verdict.WRONG
    return Verdict.UNRESOLVED if Verdict.UNRESOLVED in verdicts or not verdicts else Verdict.AGREES


def default_rtol(dtype: np.dtype[Any]) -> float:
    """Return the default relative tolerance: 1e-6, or 16 ε of the gradient's type if that is larger.

    Types that are less precise than float16 get 2 ε, or the tolerance of float16 if that is larger.
    """
    eps, of_float16 = precision_of(dtype).eps, 16 * float(np.finfo(np.float16).eps)
    return max(1e-6, min(16 * eps, max(2 * eps, of_float16)))


@dataclass(frozen=True)
class Judged:
    """The analytic and numerical gradient of one tensor, with verdicts. Every array has the tensor's shape.

    rounding: a bound on the rounding error of a correct analytic value.
    eps: the machine epsilon of the arithmetic that computed the analytic value.
    elsewhere: the size of the largest entry in any tensor; an entry of 0 whose error is negligible next to it
        counts as 0. The size is 0 for entries that must not be compared with other tensors.
    largest: the size of the largest entry in any tensor that exceeds its own rounding bound. No entry is a
        sum of terms that are much larger. The size is infinite if it is unknown.
    projected: what is known about the entries that were not checked individually; None if all entries were.
    atol: the absolute tolerance.
    observed: the largest rounding error of each entry that was observed in right gradients of this network,
        in the arithmetic of the analytic value; 0 if none was.
    """

    name: str
    analytic: Array = field(repr=False)
    numerical: Array = field(repr=False)
    error: Array = field(repr=False)
    rounding: Array = field(repr=False)
    rtol: float
    eps: float = EPS
    elsewhere: Array | float = 0.0
    projected: Projected | None = None
    atol: float = 0.0
    largest: float = np.inf
    observed: Array | float = 0.0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.analytic.shape

    # --- how far apart the two values are ------------------------------------------------------------------

    @cached_property
    def scale(self) -> Array:
        """The larger magnitude of each entry's analytic value a and numerical value n, max(|a|, |n|)."""
        return np.fmax(np.abs(self.analytic), np.abs(self.numerical))

    @cached_property
    def difference(self) -> Array:
        """The difference |a − n| between the analytic value a and the numerical value n of each entry.

        The difference is infinite if a is not finite, and NaN if only n is unknown.
        """
        with np.errstate(invalid="ignore"):
            difference = np.abs(self.analytic - self.numerical)
        return np.where(np.isfinite(self.analytic), difference, np.inf)

    @cached_property
    def relative_error(self) -> Array:
        """The relative error |a − n| / max(|a|, |n|) of each entry, with 0/0 = 0.

        The error is infinite if a is not finite, and NaN if only n is unknown.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = self.difference / self.scale
        ratio = np.where(self.difference == 0, 0.0, ratio)
        return np.where(np.isfinite(self.analytic), ratio, np.inf)

    @cached_property
    def tolerance(self) -> Array:
        """The largest difference allowed for a correct gradient: rtol · max(|a|, |n|) + atol + rounding."""
        with np.errstate(invalid="ignore"):
            return self._own_tolerance + self.rounding

    @cached_property
    def _own_tolerance(self) -> Array:
        """The part of the tolerance that the user sets: rtol · max(|a|, |n|) + atol."""
        return self.rtol * self.scale + self.atol

    @cached_property
    def bar(self) -> Array:
        """The error bar of each numerical value: three times its estimated error."""
        return ERROR_BARS * self.error

    # --- the verdict on each entry -------------------------------------------------------------------------

    @cached_property
    def wrong(self) -> Array:
        """A mask of the wrong entries. An analytic value that is not finite is always wrong."""
        beyond = self.difference > self.tolerance + self.bar
        return beyond | ~np.isfinite(self.analytic)

    @cached_property
    def agrees(self) -> Array:
        """A mask of the entries that agree: within tolerance, zero on both sides, or right as a group."""
        return self._evident | self.zero | (self.covered & ~self.wrong)

    @cached_property
    def _evident(self) -> Array:
        """A mask of the entries whose difference is within tolerance, which is evidence.

        If the rounding bound is a tenth of the value or more, agreement within rounding is no evidence: a
        wrong gradient may be as close to the numerical value as a correct one. A difference that only a large
        rounding bound allows is no evidence, either.
        """
        plausible = np.minimum(self._excusing, np.maximum(self._plausible * self.scale, self.observed))
        within = ~(self.difference > self._own_tolerance + plausible) & np.isfinite(self.analytic)
        without_rounding = (self.difference <= self._own_tolerance) & (self.scale + self.atol > 0)
        return within & self.known & (without_rounding | (self.scale > MEANINGFUL * self.rounding))

    @property
    def _excusing(self) -> Array:
        """The part of each rounding bound that may excuse a difference."""
        return self.rounding if self.eps <= EPS else RARELY_NEEDED * self.rounding

    @property
    def _plausible(self) -> float:
        """The largest share of a value that a bound on its rounding error can excuse."""
        return max(PLAUSIBLE, PLAUSIBLE_EPS * self.eps)

    @cached_property
    def by_atol(self) -> Array:
        """A mask of the entries that agree only because of the absolute tolerance."""
        if not self.atol:
            return np.zeros(self.shape, dtype=bool)
        as_a_group = self.covered & (self.projected is not None and self.projected.by_atol)
        return self.agrees & (~replace(self, atol=0.0).agrees | as_a_group)

    @cached_property
    def unresolved(self) -> Array:
        """A mask of the entries that neither agree nor are wrong."""
        return ~(self.agrees | self.wrong)

    @cached_property
    def zero(self) -> Array:
        """A mask of the entries that are zero on both sides. They agree, but cannot show a mistake.

        In two cases, the analytic value is 0 to within rounding. In the first case, the numerical value is 0
        to within its error, which must be negligible. An example is the bias below a batch normalisation,
        whose gradient is a sum that cancels. In the second case, the numerical value is far below anything
        that the arithmetic of the analytic value can distinguish from 0. An example is φ' = 1 − tanh² far in
        its tail. In these two cases, the analytic value and its rounding must be small next to the largest
        entry anywhere. In the third case, both values vanish next to it, and there is no evidence.
        """
        within_rounding = np.abs(self.analytic) <= self.rounding
        if not within_rounding.any():
            return self.faint
        bar, size = self.bar, np.abs(self.numerical)
        both = (size <= bar) & (bar <= TRIFLE * np.minimum(self._compared_with, self.largest))
        nothing = size + bar <= FAR_BELOW * self.rounding
        limited = np.isfinite(self.rounding) & (self.rounding <= SAYS_NOTHING * self.largest)
        lost = np.maximum(max(LOST, PLAUSIBLE_EPS * self.eps) * self.largest, self.observed)
        limited &= np.abs(self.analytic) <= lost
        vanish = self._below(self._vanishing) & ~self.wrong
        return self.faint | (within_rounding & (((both | nothing) & limited) | vanish | self.covered))

    @cached_property
    def faint(self) -> Array:
        """A mask of the entries that are 0 only because they vanish. Wider arithmetic may show more."""
        below = self._below(self._vanishing) & (np.abs(self.analytic) > self.rounding)
        return below & ~(self._evident | self.wrong) if below.any() else below

    def _below(self, size: float) -> Array:
        """Return a mask of the entries whose two values are below a size, error bar included."""
        return np.asarray(np.maximum(np.abs(self.analytic), np.abs(self.numerical) + self.bar) <= size)

    @property
    def _vanishing(self) -> float:
        """The size below which entries vanish next to the largest entry anywhere, or 0 if it is unknown."""
        return VANISHING * self.largest if np.isfinite(self.largest) else 0.0

    @property
    def _compared_with(self) -> Array:
        """The size that makes each entry negligible: its terms, or the largest entry of the tensor."""
        largest = float(np.fmax.reduce(self.scale, axis=None, initial=0.0))
        entries = np.where(self.analytic == 0, np.maximum(self.elsewhere, largest), largest)
        return np.nan_to_num(np.maximum(self._terms, entries), nan=0.0, posinf=0.0)

    @property
    def _terms(self) -> Array:
        """A bound on the size of the terms that each entry is the sum of."""
        return self.rounding / self.eps

    @cached_property
    def known(self) -> Array:
        """A mask of the entries whose numerical value is precise enough to be informative.

        The error bar of such a value is at most the entry itself, the absolute tolerance, or ten times the
        entry's rounding bound.
        """
        bar = self.bar
        small = (bar <= np.maximum(self.scale, self.atol)) | (bar <= MEANINGFUL * self.rounding)
        return small & np.isfinite(self.numerical) & np.isfinite(self.error)

    @property
    def covered(self) -> Array:
        """A mask of the entries that agree as a group, along random directions."""
        return np.zeros(self.shape, dtype=bool) if self.projected is None else self.projected.covered

    @property
    def suspect(self) -> Array:
        """A mask of undecided entries that are presumably wrong.

        Every sampled entry in the same row, column or tensor is wrong.
        """
        return np.zeros(self.shape, dtype=bool) if self.projected is None else self.projected.suspect

    @property
    def measured(self) -> Array:
        """A mask of the entries that were checked individually, or that need no such check."""
        return np.isfinite(self.error) | ~np.isfinite(self.analytic) if self.projected else ~self.covered

    # --- what a closer look may change ---------------------------------------------------------------------

    @property
    def open(self) -> Array:
        """A mask of the entries that a closer look may decide: unresolved, or zero but known only roughly."""
        if not self.zero.any():
            return self.unresolved
        return self.unresolved | self.faint | (self.zero & (self.bar > self.rounding))

    @property
    def still_open(self) -> Array:
        """A mask of the entries that justify wider arithmetic.

        Such entries are the unresolved ones, the zeros whose error is too large, and the zeros that may be
        more than noise.
        """
        if not self.zero.any():
            return self.unresolved
        is_rough = self.error > KNOWN_TO_BE_A_TRIFLE * TRIFLE * self._compared_with
        is_visible = np.minimum(self.bar, self._terms) > self._vanishing
        stands_out = is_visible & (np.abs(self.numerical) > STANDS_OUT * self.bar)
        return self.unresolved | self.faint | (self.zero & (is_rough | stands_out))

    @property
    def doubtful(self) -> Array:
        """A mask of the wrong entries whose margin is small or whose numerical value is hardly known."""
        if not self.wrong.any():
            return self.wrong
        by_far = self.difference > self.tolerance + BY_FAR * self.bar
        unknown = self.bar > np.fmax(np.abs(self.numerical), MEANINGFUL * self._own_tolerance)
        return self.wrong & (unknown | ~by_far) & np.isfinite(self.analytic)

    @cached_property
    def lost(self) -> Array:
        """A mask of entries that are within tolerance but unresolved, since rounding may dominate them."""
        return self.unresolved & (self.difference <= self.tolerance)

    # --- the verdict on the tensor -------------------------------------------------------------------------

    @property
    def verdict(self) -> Verdict:
        """The tensor's verdict: wrong if any entry is, unresolved if too much is unknown, otherwise agrees.

        Too much is unknown if more than half of the entries are unresolved. Entries that are zero on both
        sides or a trifle next to the tensor's largest entry do not count. Too much is also unknown if the
        error of a single unresolved entry may exceed a small share of the largest entry. An example is an
        entry on a kink, whose error may be large.
        """
        if self.wrong.any():
            return Verdict.WRONG
        beyond_knowing = self.unresolved & ~(self.difference + self.bar <= self._excused)
        trifling = self.unresolved & self._below(TRIFLE * np.nanmax(self.scale, initial=0.0))
        unknown = np.count_nonzero(self.unresolved & ~trifling)
        if beyond_knowing.any() or 2 * unknown > np.count_nonzero(~(self.zero | trifling)):
            return Verdict.UNRESOLVED
        return Verdict.AGREES

    @property
    def _excused(self) -> Array:
        """The largest error that an undecided entry may have without making the tensor unresolved."""
        largest = np.nanmax(self.scale, initial=0.0)
        share = EXCUSABLE if self.eps <= EPS else max(EXCUSED_BY_ROUNDING, EXCUSED_EPS * self.eps)
        by_rounding = np.minimum(self._excusing, share * largest)
        by_rounding = np.where(np.isfinite(self.rounding), by_rounding, 0.0)  # an overflow excuses nothing
        return np.maximum(EXCUSABLE * largest, by_rounding)

    @property
    def untested(self) -> bool:
        """Whether every entry is zero on both sides, so that the tensor could not have shown a mistake."""
        return bool(self.zero.all())
