"""What a scheme's errors at falling steps say: where they fall as the step's power, and where they do not.

The error of a scheme of order p is C hᵖ + ε/h: truncation, which falls with the step h, and rounding noise,
which rises. Of a wrong gradient the error falls to what that is off by, and no further.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np

from gradcheck_cli.compare import Verdict


class Branch(StrEnum):
    """Why a point of a curve is where it is."""

    TRUNCATION = "truncation"
    NOISE = "noise"
    FLAT = "flat"
    KINK = "kink"


@dataclass(frozen=True)
class Measured:
    """A scheme's relative error at one step.

    noise: what rounding may have to do with it, at the most.  crossed: how many entries crossed a kink.
    """

    step: float
    error: float
    noise: float
    crossed: int


@dataclass(frozen=True)
class Point:
    """The same with its branch; None where there is no error, as the step was too small to be taken."""

    step: float
    error: float
    noise: float
    crossed: int
    branch: Branch | None


NOISY = 4.0
"""An error is noise if it is no larger than so many times the noise that shows where nothing else does."""

FITTED = 5
"""The order is the slope of so many points, the finest: the coarsest are not yet on a line."""

FEWEST = 4
"""Fewer points are no branch."""

STRAIGHT = 0.25
"""How far, in powers of 2, a point of a straight branch may be off the line."""

ORDER_WITHIN = 0.2
"""How far an order that is found may be from the one that it should be."""

_LEVEL = 1.5
"""Errors that differ by no larger a factor are as large; in `FEWEST` steps order 1 falls by 8."""

_ABOVE = 5.0
"""How far above the level where it ends a branch is still straight."""


@dataclass(frozen=True)
class Curve:
    """A scheme's errors at falling steps, and the order that they fall with.

    expected: the scheme's own order.  order: the one found, None where no branch is long and straight enough.
    flat: the error that remains however small the step, None if there is none above the noise.
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
        """The point of the smallest error; None where there is none at all."""
        known = [point for point in self.points if point.branch is not None]
        return min(known, key=lambda point: point.error, default=None)

    def on(self, branch: Branch) -> list[Point]:
        return [point for point in self.points if point.branch is branch]

    @property
    def verdict(self) -> Verdict:
        """Wrong if a larger error remains than is allowed; agrees if it falls by the order, or faster."""
        if self.flat is not None and self.flat > self.allowed:
            return Verdict.WRONG
        if self.order is not None and self.order >= self.expected - ORDER_WITHIN:
            return Verdict.AGREES
        return Verdict.UNRESOLVED


def curve_of(scheme: str, expected: int, measured: Sequence[Measured], allowed: float) -> Curve:
    """Tell the branches of these points, whose steps fall, from each other."""
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
"""An error of the gradient's own size says nothing of noise: it remains where a step changes nothing, too."""


def _clear(error: np.ndarray, noise: np.ndarray) -> int:
    """How many errors of falling steps come before the first that is noise.

    What rounding may do is often far more than what it does. That is never more than an error, and on the
    noise branch it is all of it; so the smallest ratios of error and bound say how much it is.
    """
    told = (error < _OWN_SIZE) & (noise > 0)
    ratio = min(1.0, float(np.quantile(error[told] / noise[told], 0.2))) if told.any() else 1.0
    noisy = error <= NOISY * ratio * noise
    return int(noisy.argmax()) if noisy.any() else len(error)


def _flat(errors: np.ndarray) -> float | None:
    """The level of these errors, if they are all as large and as many as it takes."""
    if len(errors) < FEWEST or not errors.max() <= _LEVEL * errors.min():
        return None
    return float(np.exp(np.log(errors).mean()))


def _order(steps: np.ndarray, error: np.ndarray, falling: np.ndarray, expected: int) -> float | None:
    """The slope in the logarithms of the finest points of a branch that are on a line.

    Coarser ones are asked if the finest, which may be on their way to a level or to noise, fall too slowly.
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
