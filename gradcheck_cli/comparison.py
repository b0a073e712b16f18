"""Prepare one tensor's comparison for display: worst entries, wrong part, constant ratio and statistics."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from gradcheck_cli.network.arithmetic import ROUNDING_SAFETY
from gradcheck_cli.numerical.estimate import Estimate
from gradcheck_cli.projected import Projected, Projection
from gradcheck_cli.types import EPS, Array
from gradcheck_cli.verdict import MEANINGFUL, Judged, Verdict

SHOWN = 1e-8
"""A numerical value that is displayed needs a closer look if its relative error is above this bound."""

_NOTHING = 1e-11
"""A ratio analytic / numerical this close to 0 is the result of rounding, not of a wrong factor."""

_MOST_LINES = 8
"""If more rows or columns than this are wrong, a message gives their number, not a list."""


@dataclass(frozen=True)
class Entry:
    """One entry of a tensor, with everything that the entry's verdict depends on."""

    index: tuple[int, ...]
    analytic: float
    numerical: float
    error: float
    relative_error: float
    verdict: Verdict


@dataclass(frozen=True)
class Comparison(Judged):
    """The analytic and the numerical gradient of one tensor, with verdicts.

    Every array has the shape of the tensor.

    rounding: a bound on the rounding error of a correct analytic value.
    eps: the machine epsilon of the arithmetic that computed the analytic value.
    elsewhere: the size that an entry of 0 is compared with, such as the largest entry in any tensor.
    projected: what is known about the entries that were not checked individually; None if all entries were.
    """

    @property
    def entries(self) -> int:
        return int(self.analytic.size)

    # --- single entries ------------------------------------------------------------------------------------

    def worst(self, count: int = 1) -> list[Entry]:
        """Return the `count` entries with the largest relative errors, among those checked individually."""
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

    @property
    def ranked(self) -> Array:
        """The flat indices of all entries from worst to best: wrong, then unresolved, then the others.

        Analytic values that are not finite come first, in the order of their indices. Entries that were not
        checked individually come last.
        """
        finite = np.isfinite(self.analytic)
        rank = np.where(self.wrong, 3, np.where(self.unresolved, 2, self.telling)).ravel()
        relative_error = np.nan_to_num(self.relative_error.ravel(), nan=-1.0, posinf=np.inf)
        alike = three_digits(relative_error)  # of equally bad entries, the largest comes first
        scale = np.where(finite, self.scale, np.inf).ravel()
        return np.lexsort((-scale, -alike, -rank, ~self.measured.ravel()))

    @property
    def worst_wrong(self) -> Array:
        """A mask of the worst entry if it is wrong and its numerical value is too rough to display."""
        mask = np.zeros(self.shape, dtype=bool)
        if not self.wrong.any():
            return mask
        mask[self.worst(1)[0].index] = True
        return mask & ~(self.error <= SHOWN * np.abs(self.numerical))

    # --- the tensor as a whole -----------------------------------------------------------------------------

    @cached_property
    def telling(self) -> Array:
        """A mask of the entries whose relative error is meaningful.

        If an entry is 0 to within its rounding bound and its error bar, its relative error is only noise. A
        wrong entry always counts as meaningful.
        """
        distinct = self.scale > self.rounding + self.bar
        return (distinct | self.wrong) & ~np.isnan(self.relative_error)

    @property
    def max_relative_error(self) -> float:
        """The largest relative error of entries that are distinguishable from zero; NaN if there are none.

        If no entry was checked individually, this is the largest error over the random directions.
        """
        if self.directions:
            return max(direction.relative_error for direction in self.directions)
        return float(self.relative_error[self.telling].max()) if self.telling.any() else math.nan

    @property
    def median_relative_error(self) -> float:
        return median(self.relative_error[self.telling]) if self.telling.any() else math.nan

    @cached_property
    def resolution(self) -> Array:
        """The relative error above which each entry would have been called wrong.

        The result is inf if no error, however large, would have been called wrong.
        """
        with np.errstate(all="ignore"):
            needed = (self.tolerance + self.bar) / self.scale
        if self.projected is not None:
            with np.errstate(all="ignore"):
                least = np.maximum(self.rtol * np.abs(self.analytic) + self.atol, self.projected.least)
                shows = least / np.abs(self.analytic)
            needed = np.where(self.covered, shows, needed)
        return np.where(np.isfinite(needed), needed, np.inf)

    @property
    def directions(self) -> tuple[Projection, ...]:
        """The random directions, if no entry was checked individually; empty otherwise."""
        return () if self.projected is None or self.measured.any() else self.projected.directions

    @cached_property
    def place(self) -> str:
        """The wrong part of the tensor in words: `everything`, or rows or columns, as in `rows 3 and 7`.

        The text is empty if the wrong entries do not form such a part, or if every entry was checked
        individually.
        """
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
        """The ratio analytic / numerical if it is the same in all meaningful entries, but not 1; else None.

        If only some entries were checked individually, the ratio is None unless everything is wrong.
        """
        if self.projected is not None and self.place != "everything":
            return None
        bar = self.bar
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
    eps: float = EPS,
    elsewhere: Array | float = 0.0,
    projected: Projected | None = None,
    atol: float = 0.0,
    largest: float = np.inf,
    observed: Array | float = 0.0,
) -> Comparison:
    """Compare one tensor's analytic gradient with its numerical estimate. All arrays have the same shape.

    rounding: a first-order bound on the rounding error of a correct gradient.
    eps: the machine epsilon of the arithmetic that computed the analytic gradient.
    elsewhere: the size that an entry of 0 is compared with, such as the largest entry in any tensor.
    largest: the size of the largest entry in any tensor, as in `Judged`.
    observed: the largest rounding error that was observed in each entry; 0 if none was.
    """
    wide = analytic.astype(np.float64, copy=False)
    allowed = ROUNDING_SAFETY * rounding
    about = allowed, rtol, eps, elsewhere, projected, atol, largest, observed
    return Comparison(name, wide, numerical.value, numerical.error, *about)


def three_digits(numbers: Any) -> Any:
    """Round the numbers to about three significant digits."""
    digits, exponent = np.frexp(numbers)
    return np.ldexp(np.round(digits * 1024.0) / 1024.0, exponent)


def median(values: Array) -> float:
    """Return the median of values, none of which is NaN.

    `np.median` is slower to start, because it loads `numpy.ma` to look for NaN.
    """
    ordered = np.sort(values, axis=None)
    return float(0.5 * ordered[(ordered.size - 1) // 2] + 0.5 * ordered[ordered.size // 2])
