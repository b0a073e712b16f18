"""Differentiate an array that is computed from another array row by row, by central differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np

from gradcheck_cli.numerical.estimate import Estimate
from gradcheck_cli.types import EPS, Array

_STEPS = tuple(2.0**-k for k in range(2, 7))
"""The steps, relative to the unit step of an entry. Their slopes are extrapolated to a step of 0."""

_ROUNDINGS = 8.0
"""The assumed rounding error of the array, in units of machine epsilon of its largest entry in the row."""

_BENT = 1e-3
"""The smallest bend, relative to the largest slope in the row, that counts as a kink."""

EVALUATIONS = 2 * len(_STEPS)
"""The number of evaluations for each column."""


def jacobian(function: Callable[[Array], Array], at: Array, unit: Array) -> Estimate:
    """Return the derivatives ∂w_um / ∂p_uk, (K, U, M), with their errors, if w = function(p).

    Row u of w may depend only on row u of p, so a column of p is perturbed in all rows at once.

    at: p, (U, K). The function takes such an array, and returns one of shape (U, M).
    unit: the length of a step of 1 for each entry of p, (U, K).
    """
    rest = function(at)
    values = np.empty((at.shape[1], *rest.shape))
    errors = np.empty(values.shape, dtype=np.float32)  # an error needs few digits
    for k in range(at.shape[1]):
        values[k], errors[k] = _column(function, at, rest, k, unit[:, k])
    return Estimate(values, errors)


def _column(
    function: Callable[[Array], Array], at: Array, rest: Array, k: int, unit: Array
) -> tuple[Array, Array]:
    """Return the derivatives with respect to column k of p, (U, M), and their errors."""
    slopes, runs, bends = [], [], []
    for step in _STEPS:
        above, below = at.copy(), at.copy()
        above[:, k] += step * unit
        below[:, k] -= step * unit
        run = (above[:, k] - below[:, k])[:, None]
        up, down = function(above), function(below)
        slopes.append((up - down) / run)
        bends.append((up + down - 2.0 * rest) / run)
        runs.append(run)
    noise = _noise(rest, at, slopes[-1])
    noises = [2.0 * noise / run for run in runs]
    value, error = np.full(rest.shape, np.nan), np.full(rest.shape, np.inf)
    for candidate, its_error in _extrapolated(slopes, noises):
        better = its_error < error
        np.copyto(value, candidate, where=better)
        np.copyto(error, its_error, where=better)
    error = np.fmax(error, np.abs(value - candidate))  # neighbours may agree by accident; the last uses all
    return value, error + _kink(bends, slopes[-1])


def _noise(rest: Array, at: Array, slope: Array) -> Array:
    """Return the noise in each row of the array, (U, 1), which comes from its own entries and from p."""
    largest, steepest, furthest = (np.abs(each).max(axis=1, initial=0.0) for each in (rest, slope, at))
    return (_ROUNDINGS * EPS * (largest + steepest * furthest))[:, None]


def _kink(bends: Sequence[Array], slope: Array) -> Array:
    """Return a bound on the effect of a kink on the slopes, 0 if there seems to be none.

    The bend of a smooth function shrinks with the step.
    """
    excess = np.abs(2.0 * bends[-1] - bends[-2])
    largest = np.maximum(np.abs(slope).max(axis=1, keepdims=True), np.abs(bends[-1]))
    return np.where(excess > _BENT * largest, 2.0 * excess, 0.0)


def _extrapolated(slopes: list[Array], noises: list[Array]) -> Iterator[tuple[Array, Array]]:
    """Yield the extrapolates of Richardson's tableau with their errors.

    The error is the distance from both neighbours in the tableau, plus the noise.
    """
    column = slopes
    for order in range(1, len(slopes)):
        finer = [b + (b - a) / (4.0**order - 1.0) for a, b in pairwise(column)]
        for i, (value, (a, b)) in enumerate(zip(finer, pairwise(column), strict=True)):
            distance = np.abs(value - a)
            yield value, np.maximum(distance, np.abs(value - b), out=distance) + 2.0 * noises[i + order]
        column = finer
