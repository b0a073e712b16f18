"""The share of a bound on rounding errors that a few slopes show.

The bounds of `rise_rounding` assume that all rounding errors have the worst signs. After many layers, they
are larger than the slopes, although the errors are a few units in the last place. So if a bound is loose, a
few slopes are evaluated in wide floats, too, by the complex step. The bound is then scaled down to many times
the largest share of it that their errors take up.
"""

from __future__ import annotations

import numpy as np

from gradcheck_cli.moving.part_rises import PartRises
from gradcheck_cli.types import EPS, Array

_SLOPES = 8
"""The number of slopes to look at."""

_SAFETY = 64.0
"""The factor by which an error may exceed the share of its bound that is observed."""

_LOOSE = 1e-8
"""A bound is loose if it exceeds this share of the slopes."""

_TIGHT = 1e-12
"""A bound is tight if it is at most this share of the terms of the slopes, which are larger than the slopes.

Then no slope needs to be looked at, which would take longer than all of a small network's.
"""

_STEP, _IMAGINARY = 2.0**-40, 1e-30
"""The lengths of a short step, and of the complex step in wide floats. The slopes of both are exact."""


def observed_share(rises: PartRises) -> float:
    """Return the share of the bounds on the slopes' errors that bounds the errors, at most 1.

    The bounds are those of the elements of the value with index `rises.at`.
    """
    shares = rises.rounding.shares
    if rises.at not in shares:
        shares[rises.at] = _observed(rises) if rises.known else 1.0
    return shares[rises.at]


def _observed(rises: PartRises) -> float:
    objective, features = rises.objective, rises.objective.graph.value_features[rises.at]
    sensitivity = rises.rounding.of(rises.at)
    error = sensitivity.error
    if EPS * error.max(initial=0.0) <= _TIGHT * sensitivity.terms.max(initial=0.0):
        return 1.0
    rng = np.random.default_rng(0)
    samples, index = rng.integers(len(error), size=_SLOPES), rng.integers(error.shape[1], size=_SLOPES)
    bound, at = EPS * error[samples, index], tuple(np.unravel_index(index, features))
    slopes = _risen(rises, samples, at)
    wide = None if bound.max() <= _LOOSE * np.abs(slopes).max() else rises.rounding.wide
    if wide is None:
        return 1.0
    values = wide.values[rises.at][samples].astype(np.clongdouble)
    values[(np.arange(_SLOPES), *at)] += _IMAGINARY * 1j
    with np.errstate(all="ignore"):
        moved = wide.above(rises.at, values, samples, np.zeros_like(objective.output))
        off = np.abs(slopes - moved.losses.imag / np.longdouble(_IMAGINARY))
        shares = np.maximum(off, EPS * np.abs(slopes)) / bound
    telling = shares[np.isfinite(shares) & (slopes != 0.0)]
    return min(1.0, _SAFETY * float(telling.max())) if len(telling) >= _SLOPES / 2 else 1.0


def _risen(rises: PartRises, samples: Array, at: tuple[Array, ...]) -> Array:
    """Return slopes by rises, (B,); NaN where a step crosses a kink."""
    by = np.full(len(samples), _STEP)
    with np.errstate(all="ignore"):
        (up, over), (down, under) = (rises.rise(samples, at, each) for each in (by, -by))
    return np.where(over | under, np.nan, (up - down) / (2.0 * by))
