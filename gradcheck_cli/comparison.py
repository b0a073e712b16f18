"""Compute relative errors and verdicts, entry by entry.

    agrees      |a − n| ≤ tolerance            tolerance = rtol · max(|a|, |n|) + rounding
    wrong       |a − n| > tolerance + 3u
    unresolved  between the two: the reference cannot tell; or both values are lost in rounding

Here a is the analytic and n the numerical value, u is the error of n, and rounding is what first-order
error analysis allows a correct gradient in the arithmetic that it was computed in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np

from gradcheck_cli.numerical.estimate import Estimate
from gradcheck_cli.numerical.kinks import Alternatives
from gradcheck_cli.types import Array

ERROR_BARS = 3.0
"""The distance, in units of the reference's own error, beyond which a gradient may be called wrong."""

ROUNDING_SAFETY = 3.0
"""The safety factor on the first-order rounding bound."""


BY_FAR = 10.0
"""Multiple of the error bars beyond which an entry is so clearly wrong that no closer look is needed."""

SHOWN = 1e-8
"""Displayed numerical values with a larger relative error than this deserve a closer look."""

MEANINGFUL = 10.0
"""A value must exceed its rounding by this factor for agreement within rounding to count."""


TRIFLE = 1e-9
"""The share of an entry's summands, or of a tensor's largest entry, that counts as zero."""

EXCUSABLE = 1e-5
"""An undecided entry that may be off by more than this share of the largest leaves its tensor unresolved."""


EXCUSED_BY_ROUNDING = 1e-3
"""Share of the largest entry up to which rounding can excuse an undecided entry.

Larger rounding bounds are capped at this share.
"""


_EPS = float(np.finfo(np.float64).eps)


class Verdict(StrEnum):
    """The verdict on an entry, a tensor or a whole check: agrees, wrong or unresolved."""

    AGREES = "agrees"
    WRONG = "wrong"
    UNRESOLVED = "unresolved"


def overall(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the overall verdict: wrong if any is wrong, agrees if all agree, otherwise unresolved.

    It is unresolved if there are no verdicts.
    """
    if Verdict.WRONG in verdicts:
        return Verdict.WRONG
    return Verdict.UNRESOLVED if Verdict.UNRESOLVED in verdicts or not verdicts else Verdict.AGREES


@dataclass(frozen=True)
class Entry:
    """One entry of a tensor, with everything that its verdict depends on."""

    index: tuple[int, ...]
    analytic: float
    numerical: float
    error: float
    relative_error: float
    verdict: Verdict


@dataclass(frozen=True)
class Projection:
    """The gradient along one random direction d, Σ d g: analytic, and numerical with its error."""

    analytic: float
    numerical: float
    error: float

    @property
    def relative_error(self) -> float:
        scale = max(abs(self.analytic), abs(self.numerical))
        return abs(self.analytic - self.numerical) / scale if scale else 0.0


@dataclass(frozen=True)
class Projected:
    """What random directions show about the entries of one tensor that were not checked individually.

    covered: the entries that agree as a group.
    suspect: entries of rows, columns or a tensor of which every sampled entry is wrong.
    least: the smallest error in a single covered entry that would show.
    directions: the last directions checked.
    disagrees: whether the remaining entries still disagree along them.
    """

    covered: Array = field(repr=False)
    suspect: Array = field(repr=False)
    least: float
    directions: tuple[Projection, ...] = ()
    disagrees: bool = False


@dataclass(frozen=True)
class Comparison:
    """The analytic and numerical gradient of one tensor, with verdicts; every array has its shape.

    rounding: a bound on the rounding error of a correct analytic value.
    eps: the machine epsilon of the arithmetic that computed the analytic value.
    elsewhere: the size of the entries of other tensors; a trifle compared with these counts as 0.
    projected: what is known of the entries not checked individually; None if all were.
    """

    name: str
    analytic: Array = field(repr=False)
    numerical: Array = field(repr=False)
    error: Array = field(repr=False)
    rounding: Array = field(repr=False)
    rtol: float
    eps: float = _EPS
    elsewhere: float = 0.0
    projected: Projected | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.analytic.shape

    @property
    def entries(self) -> int:
        return int(self.analytic.size)

    @cached_property
    def scale(self) -> Array:
        """The larger magnitude of each pair of values, max(|a|, |n|)."""
        return np.fmax(np.abs(self.analytic), np.abs(self.numerical))

    @cached_property
    def difference(self) -> Array:
        """The difference |a − n|; infinite where a is not finite, NaN where only n is unknown."""
        with np.errstate(invalid="ignore"):
            difference = np.abs(self.analytic - self.numerical)
        return np.where(np.isfinite(self.analytic), difference, np.inf)

    @cached_property
    def relative_error(self) -> Array:
        """The relative error |a − n| / max(|a|, |n|), with 0/0 = 0.

        It is infinite where a is not finite, and NaN where only n is unknown.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = self.difference / self.scale
        ratio = np.where(self.difference == 0, 0.0, ratio)
        return np.where(np.isfinite(self.analytic), ratio, np.inf)

    @cached_property
    def tolerance(self) -> Array:
        with np.errstate(invalid="ignore"):
            return self.rtol * self.scale + self.rounding

    @cached_property
    def known(self) -> Array:
        """The entries whose numerical value is informative.

        Its error bar is within its size, or within what rounding can do anyway.
        """
        bar = ERROR_BARS * self.error
        small = (bar <= self.scale) | (bar <= MEANINGFUL * self.rounding)
        return small & np.isfinite(self.numerical) & np.isfinite(self.error)

    @cached_property
    def agrees(self) -> Array:
        """The entries that agree: within tolerance, where that is evidence of a correct gradient.

        If rounding may be a tenth of the value, agreement within rounding says nothing: a correct gradient
        may be far from n, and so may a wrong one. Two zeros agree.
        """
        within = ~(self.difference > self.tolerance) & np.isfinite(self.analytic)
        without_rounding = self.difference <= self.rtol * self.scale
        telling = without_rounding | (self.scale > MEANINGFUL * self.rounding)
        return (within & self.known & telling) | self.zero | (self.covered & ~self.wrong)

    @property
    def covered(self) -> Array:
        """The entries that agree as a group, along random directions."""
        return np.zeros(self.shape, dtype=bool) if self.projected is None else self.projected.covered

    @property
    def suspect(self) -> Array:
        """The undecided entries that are presumably wrong, because all sampled entries around them are."""
        return np.zeros(self.shape, dtype=bool) if self.projected is None else self.projected.suspect

    @property
    def measured(self) -> Array:
        """The entries that were checked individually, or can be judged without that."""
        return np.isfinite(self.error) | ~np.isfinite(self.analytic) if self.projected else ~self.covered

    @cached_property
    def wrong(self) -> Array:
        """The wrong entries; a gradient that is not finite is always one."""
        beyond = self.difference > self.tolerance + ERROR_BARS * self.error
        return beyond | ~np.isfinite(self.analytic)

    @cached_property
    def unresolved(self) -> Array:
        return ~(self.agrees | self.wrong)

    @cached_property
    def zero(self) -> Array:
        """The entries that are zero on both sides: they agree, but there was nothing to get wrong.

        There are two cases. Either a is 0 to within rounding and n to within its error, which must be
        negligible, as for the bias below a batch normalisation, whose gradient is a sum that cancels. Or a is
        exactly 0 and n is far below anything that the arithmetic of a can distinguish from 0, as for φ' = 1 −
        tanh² far in its tail.
        """
        bar, size = ERROR_BARS * self.error, np.abs(self.numerical)
        both = (np.abs(self.analytic) <= self.rounding) & (size <= bar) & (bar <= self._trifle)
        nothing = (self.analytic == 0) & (size + bar <= TRIFLE * self.rounding)
        in_a_group = self.covered & (np.abs(self.analytic) <= self.rounding)
        return ((both | nothing) & np.isfinite(self.rounding)) | in_a_group

    @property
    def untested(self) -> bool:
        """Whether every entry is zero on both sides, so that no mistake in it could show."""
        return bool(self.zero.all())

    @cached_property
    def _trifle(self) -> Array:
        summed_from = self.rounding / self.eps
        largest = float(np.nanmax(self.scale, initial=0.0))
        compared_with = np.where(self.analytic == 0, max(self.elsewhere, largest), largest)
        return TRIFLE * np.nan_to_num(np.maximum(summed_from, compared_with), nan=0.0, posinf=0.0)

    @property
    def open(self) -> Array:
        """The entries that a closer look may decide: unresolved ones, and zeros known only roughly."""
        return self.unresolved | (self.zero & (ERROR_BARS * self.error > self.rounding))

    @property
    def still_open(self) -> Array:
        """The entries that justify wider arithmetic."""
        return self.unresolved | (self.zero & (self.error > 1e-3 * self._trifle))

    @cached_property
    def lost(self) -> Array:
        """The entries within tolerance that stay unresolved, because rounding is too large a part of them."""
        return self.unresolved & (self.difference <= self.tolerance)

    @property
    def doubtful(self) -> Array:
        """The entries that are wrong, but not by far."""
        by_far = self.difference > self.tolerance + BY_FAR * ERROR_BARS * self.error
        return self.wrong & ~by_far & np.isfinite(self.analytic)

    @property
    def worst_wrong(self) -> Array:
        """Marks the entry to display, if it is wrong and its numerical value is still imprecise."""
        mask = np.zeros(self.shape, dtype=bool)
        if self.wrong.any():
            mask[self.worst(1)[0].index] = True
        return mask & ~(self.error <= SHOWN * np.abs(self.numerical))

    @property
    def verdict(self) -> Verdict:
        """The tensor's verdict: wrong if any entry is, unresolved if too much is unknown, otherwise agrees.

        Too much is unknown if more than half of the entries are unresolved, or if the error of one may be
        more than a small share of the tensor's largest entry, like one on a kink, where it could have any
        value. Entries that are zero on both sides do not count.
        """
        if self.wrong.any():
            return Verdict.WRONG
        at_most = self.difference + ERROR_BARS * self.error
        largest = np.nanmax(self.scale, initial=0.0)
        excused = np.minimum(self.rounding, EXCUSED_BY_ROUNDING * largest)
        excused = np.where(np.isfinite(self.rounding), excused, 0.0)  # a bound that overflows excuses nothing
        little = np.maximum(EXCUSABLE * largest, excused)
        beyond_knowing = self.unresolved & ~(at_most <= little)
        if beyond_knowing.any() or 2 * np.count_nonzero(self.unresolved) > np.count_nonzero(~self.zero):
            return Verdict.UNRESOLVED
        return Verdict.AGREES

    @cached_property
    def telling(self) -> Array:
        """The entries whose relative error is meaningful.

        A value within rounding and error bar of 0 has only noise for a relative error, unless it is wrong all
        the same.
        """
        distinct = self.scale > self.rounding + ERROR_BARS * self.error
        return (distinct | self.wrong) & ~np.isnan(self.relative_error)

    @property
    def max_relative_error(self) -> float:
        """The largest relative error over entries distinguishable from zero; NaN if there are none.

        If no entry was checked individually, it is the largest over the random directions.
        """
        if self.directions:
            return max(direction.relative_error for direction in self.directions)
        return float(self.relative_error[self.telling].max()) if self.telling.any() else math.nan

    @property
    def median_relative_error(self) -> float:
        return median(self.relative_error[self.telling]) if self.telling.any() else math.nan

    @cached_property
    def resolution(self) -> Array:
        """The relative error above which an entry would have been called wrong; inf if none would."""
        with np.errstate(all="ignore"):
            needed = (self.tolerance + ERROR_BARS * self.error) / self.scale
        if self.projected is not None:
            with np.errstate(all="ignore"):
                shows = np.maximum(self.rtol, self.projected.least / np.abs(self.analytic))
            needed = np.where(self.covered, shows, needed)
        return np.where(np.isfinite(needed), needed, np.inf)

    @property
    def directions(self) -> tuple[Projection, ...]:
        """The random directions, if no entry was checked individually; empty otherwise."""
        return () if self.projected is None or self.measured.any() else self.projected.directions

    @cached_property
    def place(self) -> str:
        """The wrong rows, columns or `everything`, as in `rows 3 and 7`; empty if no such whole is wrong."""
        wrong = self.wrong | self.suspect
        whole = wrong | self.zero
        if not wrong.any() or self.projected is None:
            return ""
        if whole.all():
            return "everything"
        for axis, kind in enumerate(("row", "column") if wrong.ndim > 1 else ()):
            others = tuple(i for i in range(wrong.ndim) if i != axis)
            lines = whole.all(axis=others) & wrong.any(axis=others)
            if not (wrong & ~np.expand_dims(lines, others)).any():
                return _lines(kind, np.flatnonzero(lines))
        return ""

    @cached_property
    def ratio(self) -> float | None:
        """The ratio a / n if it is the same in all meaningful entries and not 1; else None.

        If only some entries were checked individually, it is None unless everything is wrong.
        """
        if self.projected is not None and self.place != "everything":
            return None
        bar = ERROR_BARS * self.error
        told = np.isfinite(self.relative_error) & np.isfinite(bar)
        told &= (np.abs(self.numerical) > MEANINGFUL * bar) & (self.scale > MEANINGFUL * self.rounding)
        a, n = self.analytic[told], self.numerical[told]
        if not self.wrong[told].any():
            return None
        ratio = median(a / n)
        if 0.0 < abs(ratio) <= _NOTHING:  # such a ratio is only rounding
            return None
        allowed = self.rtol * np.abs(a) + abs(ratio) * bar[told] + (1.0 + abs(ratio)) * self.rounding[told]
        return ratio if (np.abs(a - ratio * n) <= allowed).all() else None

    @property
    def ranked(self) -> Array:
        """The flat indices of all entries, worst first: wrong, then unresolved, then the others.

        Numbers that are not finite come first, in the order of their indices. Entries that were not checked
        individually come last.
        """
        finite = np.isfinite(self.analytic)
        rank = np.where(self.wrong, 3, np.where(self.unresolved, 2, self.telling)).ravel()
        relative_error = np.nan_to_num(self.relative_error.ravel(), nan=-1.0, posinf=np.inf)
        alike = three_digits(relative_error)  # of equally bad entries, the largest comes first
        scale = np.where(finite, self.scale, np.inf).ravel()
        return np.lexsort((-scale, -alike, -rank, ~self.measured.ravel()))

    def worst(self, count: int = 1) -> list[Entry]:
        """Return the entries with the largest relative errors, among those checked individually."""
        count = min(count, int(np.count_nonzero(self.measured)))
        indices = (np.unravel_index(flat, self.shape) for flat in self.ranked[:count])
        return [self.entry(tuple(map(int, index))) for index in indices]

    def entry(self, index: tuple[int, ...]) -> Entry:
        verdict = (
            Verdict.WRONG if self.wrong[index]
            else Verdict.UNRESOLVED if self.unresolved[index]
            else Verdict.AGREES
        )  # fmt: skip
        return Entry(
            index,
            float(self.analytic[index]),
            float(self.numerical[index]),
            float(self.error[index]),
            float(self.relative_error[index]),
            verdict,
        )


_NOTHING = 1e-11
"""A ratio this small comes from rounding, not from a factor."""

_MOST_LINES = 8


def _lines(kind: str, lines: Array) -> str:
    """Format row or column numbers, such as ``rows 3, 7 and 9``."""
    if len(lines) > _MOST_LINES:
        return f"{len(lines)} {kind}s"
    *most, last = map(str, lines)
    return f"{kind}s {', '.join(most)} and {last}" if most else f"{kind} {last}"


def compare(
    name: str,
    analytic: Array,
    numerical: Estimate,
    rounding: Array,
    rtol: float,
    eps: float = _EPS,
    elsewhere: float = 0.0,
    projected: Projected | None = None,
) -> Comparison:
    """Compare one tensor's analytic gradient with its numerical estimate, all of one shape.

    rounding: a first-order bound on the rounding of a correct gradient computed with machine epsilon eps.
    elsewhere: the size of the entries of other tensors.
    """
    wide = analytic.astype(np.float64, copy=False)
    allowed = ROUNDING_SAFETY * rounding
    return Comparison(name, wide, numerical.value, numerical.error, allowed, rtol, eps, elsewhere, projected)


def three_digits(numbers: Any) -> Any:
    """Round the numbers to about three significant digits."""
    digits, exponent = np.frexp(numbers)
    return np.ldexp(np.round(digits * 1024.0) / 1024.0, exponent)


def default_rtol(dtype: np.dtype[Any]) -> float:
    """Return 1e-6, or 16 ε of the gradient's type if that is larger."""
    return max(1e-6, 16 * float(np.finfo(dtype).eps))


def by_convention(
    analytic: Array, numerical: Estimate, kinks: Alternatives, rounding: Array, rtol: float
) -> Estimate:
    """Return the estimate, with each entry on a kink set to the conventional value that fits it best.

    An entry between the sides that no convention explains could be intended or wrong: it is unknown. An entry
    outside of them is wrong under every convention.
    """
    with np.errstate(invalid="ignore"):
        apart = np.abs(analytic - kinks.values) - ERROR_BARS * kinks.errors
        allowed = rtol * np.maximum(np.abs(analytic), np.abs(kinks.values)) + ROUNDING_SAFETY * rounding
        excess = np.nan_to_num(apart - allowed, nan=np.inf)
        # Prefer the most precise value that explains the entry; else take the nearest.
        known_best = np.where(excess <= 0, kinks.errors, np.inf).argmin(axis=0)
        nearest = np.where((excess <= 0).any(axis=0), known_best, excess.argmin(axis=0))[None]
        value, error, excess = (
            np.take_along_axis(each, nearest, axis=0)[0] for each in (kinks.values, kinks.errors, excess)
        )
        slack = np.take_along_axis(allowed + ERROR_BARS * kinks.errors, nearest, axis=0)[0]
        beyond = (analytic < kinks.low - slack) | (analytic > kinks.high + slack)
    unexplained = ~(excess <= 0) & ~beyond
    return Estimate(
        np.where(kinks.at, np.where(unexplained, np.nan, value), numerical.value),
        np.where(kinks.at, np.where(unexplained, np.inf, error), numerical.error),
    )


def median(values: Array) -> float:
    """Return the median; np.median would load numpy.ma to look for NaN, which cannot occur here."""
    ordered = np.sort(values, axis=None)
    return float(0.5 * ordered[(ordered.size - 1) // 2] + 0.5 * ordered[ordered.size // 2])
