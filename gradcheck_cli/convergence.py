"""The convergence of a difference scheme: whether its error falls with the step at the scheme's order.

The error of a scheme of order p is C hᵖ + ε/h: truncation, which falls with the step h, and rounding noise,
which rises. If the gradient is wrong, the error falls to the error of the gradient and stays there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np

from gradcheck_cli.compare import Verdict


class Branch(StrEnum):
    """The branches of a curve, by what dominates the error."""

    TRUNCATION = "truncation"
    NOISE = "noise"
    FLAT = "flat"
    KINK = "kink"


@dataclass(frozen=True)
class Measured:
    """A scheme's relative error at one step.

    noise: a bound on the share of rounding.  crossed: the number of entries that crossed a kink.
    """

    step: float
    error: float
    noise: float
    crossed: int


@dataclass(frozen=True)
class Point:
    """A `Measured` point with its branch; None if the step was too small to change anything."""

    step: float
    error: float
    noise: float
    crossed: int
    branch: Branch | None


NOISY = 4.0
"""An error is noise up to this factor times the noise estimated from the noise branch."""

FITTED = 5
"""The order is the slope of this number of the finest points: the coarsest are not yet on a line."""

FEWEST = 4
"""The smallest number of points of a branch."""

STRAIGHT = 0.25
"""How far, in powers of 2, the points of a straight branch may be off the line."""

ORDER_WITHIN = 0.2
"""How far a measured order may be from the expected one."""

_LEVEL = 1.5
"""Errors within this factor count as equal; over `FEWEST` steps, order 1 falls by 8."""

_ABOVE = 5.0
"""A branch is straight down to this factor above the level where it ends."""


@dataclass(frozen=True)
class Curve:
    """A scheme's errors at falling steps, and the order at which they fall.

    expected: the scheme's order.  order: the measured one, None if no branch is long and straight enough.
    flat: the error that remains at every small step, None if there is none above the noise.
    allowed: the error that a right gradient may have.
    """

    scheme: str
    expected: int
    points: tuple[Point, ...]
    order: float | None
    flat: float | None
    allowed: float

    @cached_property
    def best(self) -> Point | None:
        """The point of the smallest error; None if there are no points."""
        known = [point for point in self.points if point.branch is not None]
        return min(known, key=lambda point: point.error, default=None)

    def on(self, branch: Branch) -> list[Point]:
        """Return the points of a branch."""
        return [point for point in self.points if point.branch is branch]

    @property
    def verdict(self) -> Verdict:
        """Wrong if an error larger than allowed remains; agrees if it falls at the order, or faster."""
        if self.flat is not None and self.flat > self.allowed:
            return Verdict.WRONG
        if self.order is not None and self.order >= self.expected - ORDER_WITHIN:
            return Verdict.AGREES
        return Verdict.UNRESOLVED


def curve_of(scheme: str, expected: int, measured: Sequence[Measured], allowed: float) -> Curve:
    """Return the curve of these points in order of falling steps, each assigned to a branch."""
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
    points = (
        Point(m.step, m.error, m.noise, m.crossed, branch)
        for m, branch in zip(measured, branches, strict=True)
    )
    return Curve(scheme, expected, tuple(points), order, flat, allowed)


_OWN_SIZE = 0.3
"""Errors as large as the gradient are not noise: a step that changes nothing has one, too."""


def _clear(error: np.ndarray, noise: np.ndarray) -> int:
    """Return how many errors, in order of falling steps, come before the first that is noise.

    The bound on rounding is often far too large. The noise itself never exceeds the error, and is all of it
    on the noise branch; so the smallest ratios of error and bound estimate it.
    """
    told = (error < _OWN_SIZE) & (noise > 0)
    ratio = min(1.0, float(np.quantile(error[told] / noise[told], 0.2))) if told.any() else 1.0
    noisy = error <= NOISY * ratio * noise
    return int(noisy.argmax()) if noisy.any() else len(error)


def _flat(errors: np.ndarray) -> float | None:
    """Return the level of these errors, if there are enough of them and they are about equal."""
    if len(errors) < FEWEST or not errors.max() <= _LEVEL * errors.min():
        return None
    return float(np.exp(np.log(errors).mean()))


def _order(steps: np.ndarray, error: np.ndarray, falling: np.ndarray, expected: int) -> float | None:
    """Return the slope, in logarithms, of the finest points of a branch that are on a line.

    The finest may already be close to a level or to noise; if they fall too slowly, coarser points are used.
    """
    if not len(falling):
        return None
    whole = falling[np.flatnonzero(np.diff(falling, prepend=-2) > 1)[-1] :]  # since the last gap
    ends = range(len(whole), FEWEST - 1, -1)
    slopes = [
        _slope(np.log2(steps[at]), np.log2(error[at])) for at in (whole[:end][-FITTED:] for end in ends)
    ]
    straight = [slope for slope in slopes if slope is not None]
    return next((slope for slope in straight if slope >= expected - ORDER_WITHIN), next(iter(straight), None))


def _slope(x: np.ndarray, y: np.ndarray) -> float | None:
    slope, height = np.polyfit(x, y, 1)
    return float(slope) if np.abs(slope * x + height - y).max() <= STRAIGHT else None
