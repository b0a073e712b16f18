"""How exact the values of a function are, measured on the function itself.

The noise of a computed function is what is left of its values on a fine line of equidistant points when
everything smooth has been differenced away: the k-th differences of independent errors of size σ have the
mean square σ² (2k)! / (k!)². (J. J. Moré and S. M. Wild, "Estimating computational noise", SIAM J. Sci.
Comput. 33, 2011: ECNoise.)

Theirs compares several orders to find one that is smooth enough; here it is the second or the fourth,
whichever leaves less. A jump or a kink between two points spoils only some of the differences: a quantile
passes over them, where a mean would take the jump for noise.
"""

from __future__ import annotations

import numpy as np

from gradcheck_cli.numerical.objective import Array

POINTS = 9
"""How many values to take; more than six are enough (Moré and Wild)."""

_QUANTILE = 2 / 3
_OF_NORMAL = 0.967
"""Two of three normal numbers of standard deviation 1 are smaller than this."""

_SQUARES = {2: 6.0, 4: 70.0}
"""(2k)! / (k!)² of the orders k."""

_FEW_DIGITS = 8
"""Decimal digits of a number that somebody has rounded; what is computed in a narrow type needs more."""


def noise_level(values: Array) -> Array:
    """σ of every component, (…), of values (POINTS, …) at equidistant points along a line."""
    levels = [
        np.quantile(np.abs(np.diff(np.asarray(values, dtype=np.float64), n=order, axis=0)), _QUANTILE, axis=0)
        / (_OF_NORMAL * np.sqrt(square))
        for order, square in _SQUARES.items()
    ]
    level: Array = np.minimum(*levels)
    return level


def noise_of_types(values: Array) -> Array:
    """The same, but none for what its author rounds to a few decimals: that is no type's rounding."""
    level: Array = np.where(_are_short_decimals(values), 0.0, noise_level(values))
    return level


def _are_short_decimals(values: Array) -> Array:
    """Whether all of a component's values, (…), have few decimal digits, and some have many binary ones."""
    flat = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    with np.errstate(over="ignore"):
        binary = (flat.astype(np.float32) == flat).all(axis=0)
    short = ~binary
    for i in np.flatnonzero(short):
        short[i] = all(float(f"{value:.{_FEW_DIGITS}g}") == value for value in flat[:, i])
    return short.reshape(values.shape[1:])


def largest_jump(values: Array) -> Array:
    """The largest sample of σ that the fourth differences give, (…): that of a staircase with few stairs.

    Of these most differences are 0, and `noise_level` would pass over the others. A single stair of height s
    counts as 0.7 s.
    """
    jumps: Array = np.abs(np.diff(values, n=4, axis=0)).max(axis=0) / np.sqrt(_SQUARES[4])
    return jumps


def changes(values: Array) -> Array:
    """Which components (…) change from most points to the next."""
    return np.asarray(np.mean(np.diff(values, axis=0) != 0, axis=0) > 0.5)


def grain(values: Array) -> Array:
    """What components (…) that mostly stand still jump by, being small differences of large numbers.

    Such a jump is a few units in the last place of those, a number of few binary digits. What moves because a
    kink was passed has all of them.
    """
    jumps = np.abs(np.diff(values, axis=0))
    digits, _ = np.frexp(jumps)
    round_numbers = (digits * 2.0**8 % 1.0 == 0).all(axis=0)
    return np.where(round_numbers & ~changes(values), jumps.max(axis=0), 0.0)


def resolution(values: Array) -> float:
    """ε of the narrowest type that holds all the values that change: what they are computed in.

    Where none changes, it may be that float32 loses a small loss beside a large one, and no noise shows.
    """
    changing = values[:, np.ptp(values, axis=0) > 0]
    types, told = ((np.float16, np.float32), changing) if changing.size else ((np.float32,), values)
    for dtype in types:
        with np.errstate(over="ignore"):
            if np.array_equal(told.astype(dtype), told):
                return float(np.finfo(dtype).eps)
    return float(np.finfo(np.float64).eps)
