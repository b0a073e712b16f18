"""How exact the values of a function are, measured on the function itself.

The noise of a computed function is what is left of its values on a fine line of equidistant points when
everything smooth has been differenced away: the k-th differences of independent errors of size σ have the
mean square σ² (2k)! / (k!)². (J. J. Moré and S. M. Wild, "Estimating computational noise", SIAM J. Sci.
Comput. 33, 2011: ECNoise.)

Theirs compares several orders to find one that is smooth enough. The points here are so close together that
the second differences leave nothing of a smooth function, while a jump or a kink between two points spoils
only two of these: a quantile below passes over them, where a mean would take the jump for noise.
"""

from __future__ import annotations

import numpy as np

from gradcheck_cli.numerical.objective import Array

POINTS = 9
"""How many values to take; more than six are enough (Moré and Wild)."""

_QUANTILE = 2 / 3
_OF_NORMAL = 0.967
"""Two of three normal numbers of standard deviation 1 are smaller than this."""


def noise_level(values: Array) -> Array:
    """σ of every component, (…), of values (POINTS, …) at equidistant points along a line."""
    second = np.abs(np.diff(np.asarray(values, dtype=np.float64), n=2, axis=0))
    level: Array = np.quantile(second, _QUANTILE, axis=0) / (_OF_NORMAL * np.sqrt(6.0))
    return level


def too_close(values: Array) -> bool:
    """Whether the points were so close together that most values did not change at all."""
    return bool(np.mean(np.diff(values, axis=0) == 0) > 0.5)


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
