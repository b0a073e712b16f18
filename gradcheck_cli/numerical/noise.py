"""How exact the values of a function are, measured on the function itself.

The noise of a computed function is what is left of its values on a fine line of equidistant points when
everything smooth has been differenced away: the k-th differences of independent errors of size σ have the
mean square σ² (2k)! / (k!)². (J. J. Moré and S. M. Wild, "Estimating computational noise", SIAM J. Sci.
Comput. 33, 2011: ECNoise.)
"""

from __future__ import annotations

from math import comb

import numpy as np

from gradcheck_cli.numerical.objective import Array

POINTS = 9
"""How many values to take; more than six are enough (Moré and Wild)."""

_WINDOW = 3
"""Noise shows in as many orders of differences alike; what is smooth, or a jump, does not."""


def noise_level(values: Array) -> Array:
    """σ of every component, (…), of values (POINTS, …) at equidistant points along a line."""
    differences, levels = np.asarray(values, dtype=np.float64), []
    for order in range(1, len(values) - 1):
        differences = np.diff(differences, axis=0)
        levels.append(np.sqrt(np.mean(np.square(differences), axis=0) / comb(2 * order, order)))
    level = np.stack(levels)
    starts = range(len(level) - _WINDOW + 1)
    largest = np.stack([level[i : i + _WINDOW].max(axis=0) for i in starts])
    smallest = np.stack([level[i : i + _WINDOW].min(axis=0) for i in starts])
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.where(largest > 0, largest / smallest, 1.0)
    steadiest = spread.argmin(axis=0)
    return np.take_along_axis(largest, steadiest[None], axis=0)[0]


def too_close(values: Array) -> bool:
    """Whether the points were so close together that most values did not change at all."""
    return bool(np.mean(np.diff(values, axis=0) == 0) > 0.5)
