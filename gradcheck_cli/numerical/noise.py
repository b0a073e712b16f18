"""Measure the noise of a function from its own values.

The noise is what remains of values at equidistant points on a short line once differencing has removed
everything smooth: the k-th differences of independent errors of size σ have the mean square
σ² (2k)! / (k!)². (J. J. Moré and S. M. Wild, "Estimating computational noise", SIAM J. Sci. Comput. 33,
2011: ECNoise.)

ECNoise compares several orders k to find one that removes everything smooth. Here only the second and the
fourth order are tried, and the one that leaves less is used. A jump or a kink between two points spoils only
some of the differences. A quantile ignores these, whereas a mean would count the jump as noise.
"""

from __future__ import annotations

import numpy as np

from gradcheck_cli.types import EPS, Array

POINTS = 9
"""The number of values to take. Moré and Wild recommend more than six."""

_QUANTILE = 2 / 3
_OF_NORMAL = 0.967
"""Two thirds of all standard normal samples are smaller than this in absolute value."""

_SQUARES = {2: 6.0, 4: 70.0}
"""The factor (2k)! / (k!)² for each order k."""

_FEW_DIGITS = 8
"""A number with at most this many decimal digits was rounded by its author. Computed numbers need more."""


def noise_level(values: Array) -> Array:
    """Return the noise σ of every component, (…), from values (POINTS, …) at equidistant points of a line."""
    levels = [
        np.quantile(np.abs(np.diff(np.asarray(values, dtype=np.float64), n=order, axis=0)), _QUANTILE, axis=0)
        / (_OF_NORMAL * np.sqrt(square))
        for order, square in _SQUARES.items()
    ]
    level: Array = np.minimum(*levels)
    return level


def noise_of_types(values: Array) -> Array:
    """Return `noise_level`, or 0 for components that the author rounds to a few decimals.

    Such rounding is not floating-point noise.
    """
    level: Array = np.where(_are_short_decimals(values), 0.0, noise_level(values))
    return level


def _are_short_decimals(values: Array) -> Array:
    """Return a mask, (…), of components whose values have few decimal digits but need many binary ones."""
    flat = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    with np.errstate(over="ignore"):
        binary = (flat.astype(np.float32) == flat).all(axis=0)
    short = ~binary
    for i in np.flatnonzero(short):
        short[i] = all(float(f"{value:.{_FEW_DIGITS}g}") == value for value in flat[:, i])
    return short.reshape(values.shape[1:])


def largest_jump(values: Array) -> Array:
    """Return the largest estimate of σ from single fourth differences, (…), for values that form a staircase.

    With few stairs most differences are 0, and `noise_level` would ignore the rest. A single stair of height
    s counts as 0.7 s.
    """
    jumps: Array = np.abs(np.diff(values, n=4, axis=0)).max(axis=0) / np.sqrt(_SQUARES[4])
    return jumps


def changes(values: Array) -> Array:
    """Return a mask, (…), of the components that change between most neighbouring points."""
    return np.asarray(np.mean(np.diff(values, axis=0) != 0, axis=0) > 0.5)


def grain(values: Array) -> Array:
    """Return the largest jump of components (…) that are mostly constant and jump only because of rounding.

    The result is 0 for all other components. Those that are mostly constant are small differences of large
    numbers. Their jumps are a few units in the last place of those numbers, so the jumps have few binary
    digits. A jump from crossing a kink has all of them.
    """
    jumps = np.abs(np.diff(values, axis=0))
    digits, _ = np.frexp(jumps)
    round_numbers = (digits * 2.0**8 % 1.0 == 0).all(axis=0)
    return np.where(round_numbers & ~changes(values), jumps.max(axis=0), 0.0)


def resolution(values: Array) -> float:
    """Return ε of the narrowest type that can hold all changing values, presumably the computation's type.

    If no value changes, only float32 is considered: in it, a small loss may vanish next to a large one and
    leave no noise to measure.
    """
    changing = values[:, np.ptp(values, axis=0) > 0]
    types, told = ((np.float16, np.float32), changing) if changing.size else ((np.float32,), values)
    for dtype in types:
        with np.errstate(over="ignore"):
            if np.array_equal(told.astype(dtype), told):
                return float(np.finfo(dtype).eps)
    return EPS
