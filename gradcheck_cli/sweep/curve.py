"""Decide whether a difference scheme converges, that is, whether its error falls at the scheme's order.

The error of a scheme of order p behaves like C hᵖ + ε/h, with a constant C and the machine epsilon ε. The
first term is truncation, which falls with the step h; the second is rounding noise, which grows as h falls.
If the gradient is wrong, the error falls to the gradient's own error and stays there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property

import numpy as np

from gradcheck_cli.verdict import Verdict


class Branch(StrEnum):
    """The branches of a curve, named after the dominant source of error."""

    TRUNCATION = "truncation"
    NOISE = "noise"
    FLAT = "flat"
    KINK = "kink"


@dataclass(frozen=True)
class Point:
    """A scheme's relative error at one step.

    noise: a bound on the part of the error that is due to rounding.
    crossed: the number of entries for which the step crossed a kink.
    branch: the branch that `curve_of` assigns. It is None if the error or its noise is not finite, as when
        the step is too small to change anything.
    """

    step: float
    error: float
    noise: float
    crossed: int
    branch: Branch | None = None


NOISY = 4.0
"""An error counts as noise if it is at most this many times the noise estimated from the noise branch."""

FITTED = 5
"""The order is fitted to this many of the finest points, since the coarsest points are not yet on a line."""

FEWEST = 4
"""The smallest number of points that form a branch."""

STRAIGHT = 0.25
"""The largest distance between the points of a straight branch and the fitted line, in powers of 2."""

ORDER_WITHIN = 0.2
"""The largest amount by which a measured order may fall short of the scheme's order."""

_LEVEL = 1.5
"""Errors within this factor of each other count as equal.

A falling error does not count as equal: at order 1, the error falls by a factor of 8 over `FEWEST` points.
"""

_ABOVE = 5.0
"""The order is measured only at points whose errors are more than this many times the flat level."""


@dataclass(frozen=True)
class Curve:
    """A scheme's errors at smaller and smaller steps, and the order at which the errors fall.

    expected: the scheme's order.
    order: the measured order; None if no branch is long and straight enough.
    flat: the level at which the error stops falling; None if no such level stands out from the noise.
    allowed: the largest relative error that a correct gradient may have.
    """

    scheme: str
    expected: int
    points: tuple[Point, ...]
    order: float | None
    flat: float | None
    allowed: float

    @cached_property
    def best(self) -> Point | None:
        """The point with the smallest error; None if no point is on any branch."""
        known = [point for point in self.points if point.branch is not None]
        return min(known, key=lambda point: point.error, default=None)

    def on(self, branch: Branch) -> list[Point]:
        """Return the points on a branch."""
        return [point for point in self.points if point.branch is branch]

    @property
    def verdict(self) -> Verdict:
        """The verdict on the gradient, as far as this curve shows it.

        The verdict is `WRONG` if the error stops falling at too high a level. It is `AGREES` if the measured
        order is at least the scheme's order minus `ORDER_WITHIN`. Otherwise, it is `UNRESOLVED`.
        """
        if self.flat is not None and self.flat > self.allowed:
            return Verdict.WRONG
        if self.order is not None and self.order >= self.expected - ORDER_WITHIN:
            return Verdict.AGREES
        return Verdict.UNRESOLVED


def curve_of(scheme: str, expected: int, measured: Sequence[Point], allowed: float) -> Curve:
    """Return the curve through these points, each assigned to a branch.

    measured: the points in order of falling steps.
    """
    error, noise = (np.array([getattr(m, of) for m in measured]) for of in ("error", "noise"))
    crossed = np.array([m.crossed > 0 for m in measured])
    known = np.isfinite(error) & np.isfinite(noise)
    smooth = np.flatnonzero(known & ~crossed)
    clear = smooth[: _clear(error[smooth], noise[smooth])]
    flat = _flat(error[clear[-FEWEST:]])
    falling = clear if flat is None else clear[error[clear] > _ABOVE * flat]
    branches = np.full(len(measured), None, dtype=object)
    branches[known] = Branch.NOISE
    branches[clear] = Branch.TRUNCATION
    if flat is not None:
        branches[clear[error[clear] <= 2.0 * flat]] = Branch.FLAT
    branches[known & crossed] = Branch.KINK
    order = _order(np.array([m.step for m in measured]), error, falling, expected)
    points = (replace(m, branch=branch) for m, branch in zip(measured, branches, strict=True))
    return Curve(scheme, expected, tuple(points), order, flat, allowed)


_OWN_SIZE = 0.3
"""A relative error above this says nothing about noise, since a step that changes nothing has error 1."""


def _clear(error: np.ndarray, noise: np.ndarray) -> int:
    """Return the number of errors, in order of falling steps, before the first error that is noise.

    The bound on rounding is often far too large. On the noise branch, the error is all noise; on other
    branches, the error exceeds the noise. So the smallest ratios of error to bound give the factor by which
    to scale the bound.
    """
    told = (error < _OWN_SIZE) & (noise > 0)
    ratio = min(1.0, float(np.quantile(error[told] / noise[told], 0.2))) if told.any() else 1.0
    noisy = error <= NOISY * ratio * noise
    return int(noisy.argmax()) if noisy.any() else len(error)


def _flat(errors: np.ndarray) -> float | None:
    """Return the level of these errors if there are enough errors and they nearly agree; else None."""
    if len(errors) < FEWEST or not errors.max() <= _LEVEL * errors.min():
        return None
    return float(np.exp(np.log(errors).mean()))


def _order(steps: np.ndarray, error: np.ndarray, falling: np.ndarray, expected: int) -> float | None:
    """Return the measured order: the slope of log error against log step at the finest points on a line.

    The finest points may already be close to a flat level or to noise. If their errors fall too slowly,
    coarser points are used. Returns None if no points are on a line.
    """
    if not len(falling):
        return None
    whole = falling[np.flatnonzero(np.diff(falling, prepend=-2) > 1)[-1] :]  # the points after the last gap
    ends = range(len(whole), FEWEST - 1, -1)
    slopes = [
        _slope(np.log2(steps[at]), np.log2(error[at])) for at in (whole[:end][-FITTED:] for end in ends)
    ]
    straight = [slope for slope in slopes if slope is not None]
    return next((slope for slope in straight if slope >= expected - ORDER_WITHIN), next(iter(straight), None))


def _slope(x: np.ndarray, y: np.ndarray) -> float | None:
    slope, height = np.polyfit(x, y, 1)
    return float(slope) if np.abs(slope * x + height - y).max() <= STRAIGHT else None
