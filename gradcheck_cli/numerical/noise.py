"""Measure the noise of a function from its own values.

The function is evaluated at equidistant points on a short line. Differencing removes everything smooth from
its values and leaves the noise: the k-th differences of independent errors of size σ have the mean square
σ² (2k)! / (k!)². (J. J. Moré and S. M. Wild, "Estimating computational noise", SIAM J. Sci. Comput. 33,
2011: ECNoise.)

ECNoise compares several orders k to find one that removes everything smooth. Here, only the second and the
fourth order are tried, and the order that leaves less noise is used. A jump or a kink between two points
spoils only some of the differences. A quantile ignores these, whereas a mean would count the jump as noise.
"""

from __future__ import annotations

import numpy as np

from gradcheck_cli.types import EPS, Array

POINTS = 9
"""The number of points at which to evaluate the function. Moré and Wild recommend more than six."""

_QUANTILE = 2 / 3
_OF_NORMAL = 0.967
"""Two thirds of all standard normal samples are smaller than this in absolute value."""

_SQUARES = {2: 6.0, 4: 70.0}
"""The factor (2k)! / (k!)² in the mean square of the k-th differences, by k."""

_FEW_DIGITS = 8
"""A number with at most this many decimal digits was rounded on purpose; computed numbers have more."""


def noise_level(values: Array) -> Array:
    """Return the noise σ of every component of a function, (…).

    values: the function at equidistant points on a line, (POINTS, …).
    """
    levels = [
        np.quantile(np.abs(np.diff(np.asarray(values, dtype=np.float64), n=order, axis=0)), _QUANTILE, axis=0)
        / (_OF_NORMAL * np.sqrt(square))
        for order, square in _SQUARES.items()
    ]
    level: Array = np.minimum(*levels)
    return level


def noise_of_types(values: Array) -> Array:
    """Return `noise_level`, but 0 for components that the user's code rounds to a few decimals.

    Such rounding is not floating-point noise.
    """
    level: Array = np.where(_are_short_decimals(values), 0.0, noise_level(values))
    return level


def _are_short_decimals(values: Array) -> Array:
    """Return a mask, (…), of the components whose values have few decimal digits but many binary digits."""
    flat = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    with np.errstate(over="ignore"):
        binary = (flat.astype(np.float32) == flat).all(axis=0)
    short = ~binary
    for i in np.flatnonzero(short):
        short[i] = all(float(f"{value:.{_FEW_DIGITS}g}") == value for value in flat[:, i])
    return short.reshape(values.shape[1:])


def largest_jump(values: Array) -> Array:
    """Estimate the noise σ from each fourth difference, and return the largest estimate, (…).

    This is for values that form a staircase. With few stairs, most differences are 0, and `noise_level` would
    ignore the others. A single stair of height s counts as 0.7 s.
    """
    jumps: Array = np.abs(np.diff(values, n=4, axis=0)).max(axis=0) / np.sqrt(_SQUARES[4])
    return jumps


def changes(values: Array) -> Array:
    """Return a mask of the components that change between most pairs of neighbouring points, (…)."""
    return np.asarray(np.mean(np.diff(values, axis=0) != 0, axis=0) > 0.5)


def grain(values: Array) -> Array:
    """Return the largest jump of each component that is constant except for jumps from rounding.

    The result has the shape (…) of the components, and is 0 for all other components. A component that is
    mostly constant is a small difference between large numbers. Its jumps are a few units in the last place
    of these numbers, so they have few binary digits. A jump from crossing a kink has all binary digits.
    """
    jumps = np.abs(np.diff(values, axis=0))
    digits, _ = np.frexp(jumps)
    round_numbers = (digits * 2.0**8 % 1.0 == 0).all(axis=0)
    return np.where(round_numbers & ~changes(values), jumps.max(axis=0), 0.0)


def resolution(values: Array) -> float:
    """Return the machine epsilon of the narrowest floating-point type that can hold all changing values.

    The user's code presumably computes in this type. If no value changes, only float32 is tried, because in
    float32 a small loss may vanish next to a large one and leave no noise to measure.
    """
    changing = values[:, np.ptp(values, axis=0) > 0]
    types, told = ((np.float16, np.float32), changing) if changing.size else ((np.float32,), values)
    for dtype in types:
        with np.errstate(over="ignore"):
            if np.array_equal(told.astype(dtype), told):
                return float(np.finfo(dtype).eps)
    return EPS
