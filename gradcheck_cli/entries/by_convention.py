"""Set the entries on kinks to the conventional values that explain the analytic gradient best."""

from __future__ import annotations

import numpy as np

from gradcheck_cli.network.arithmetic import ROUNDING_SAFETY
from gradcheck_cli.numerical.estimate import ERROR_BARS, Estimate
from gradcheck_cli.numerical.kinks import Alternatives
from gradcheck_cli.types import Array


def by_convention(
    analytic: Array,
    numerical: Estimate,
    kinks: Alternatives,
    rounding: Array,
    rtol: float,
    atol: float = 0.0,
) -> Estimate:
    """Return the estimate, with each entry on a kink set to the conventional value that explains it best.

    An analytic value that lies between the slopes of the two sides but fits no convention may be intended or
    wrong, so the estimate of that entry becomes unknown. A value outside that range is wrong under every
    convention. The values of several entries are wrong, too, if no mixture of conventions gives all of them.
    Values are right if some choice at each kink gives them, since rounding may decide such a choice.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        bars = ERROR_BARS * kinks.errors
        apart = np.abs(analytic - kinks.values) - bars
        close = rtol * np.maximum(np.abs(analytic), np.abs(kinks.values)) + atol
        rounded = ROUNDING_SAFETY * rounding
        allowed = close + rounded
        excess = np.nan_to_num(apart - allowed, nan=np.inf)
        nearest = excess.argmin(axis=0)
        # Prefer the most precise value that explains the entry, if possible without its rounding bound.
        for explains in (excess <= 0, apart + 2.0 * bars <= close):
            precise = np.where(explains, kinks.errors, np.inf).argmin(axis=0)
            nearest = np.where(explains.any(axis=0), precise, nearest)
        nearest = nearest[None]
        value, error, excess, slack = (
            np.take_along_axis(each, nearest, axis=0)[0]
            for each in (kinks.values, kinks.errors, excess, allowed)
        )
        slack = slack + np.maximum(ERROR_BARS * error, _mixed(analytic, kinks.values, bars))
        beyond = np.zeros(analytic.shape, dtype=bool)
        if (kinks.at & ~(excess <= 0)).any():
            low, high = kinks.bounds()
            beyond = (analytic < low - slack) | (analytic > high + slack)
        fits = (apart <= allowed) | ~kinks.at
    unexplained = ~(excess <= 0) & ~beyond
    by_one = fits.all(axis=tuple(range(1, fits.ndim))).any()
    own = rtol * np.abs(analytic) + atol + rounded + ERROR_BARS * error
    if not by_one and (right := _together(analytic, kinks, own, slack)) is not None:
        value, unexplained = right, np.zeros_like(unexplained)
    return Estimate(
        np.where(kinks.at, np.where(unexplained, np.nan, value), numerical.value),
        np.where(kinks.at, np.where(unexplained, np.inf, error), numerical.error),
    )


def _mixed(analytic: Array, values: Array, bars: Array) -> Array:
    """Return the error bar of a mixture of the two extreme values, for the mixture that gives each entry.

    One extreme may be known exactly, and the other one only roughly.

    values, bars: the gradients under each of K conventions, and their error bars, (K, *shape).
    """
    known = np.isfinite(values) & np.isfinite(bars)
    ends = np.where(known, values, np.inf).argmin(axis=0), np.where(known, values, -np.inf).argmax(axis=0)
    (low, low_bar), (high, high_bar) = (
        tuple(np.take_along_axis(each, end[None], axis=0)[0] for each in (values, bars)) for end in ends
    )
    share = np.where(high > low, np.clip((analytic - low) / (high - low), 0.0, 1.0), 0.0)
    mixed: Array = (1.0 - share) * low_bar + share * high_bar
    return mixed


def _together(analytic: Array, kinks: Alternatives, own: Array, slack: Array) -> Array | None:
    """Return a correct gradient in which all entries on kinks are decided together.

    If a choice of one piece at each kink explains the analytic gradient, the result is the gradient under
    that choice. If no mixture of pieces explains the analytic gradient, the result is a correct gradient near
    it. Otherwise the entries stay undecided, and the result is None.

    own: the distance from each entry within which the verdict would be that the entry is not wrong. The scale
        of another value, which might be larger, does not count.
    slack: the largest error that each entry may have for other reasons.
    """
    here = analytic[kinks.at]
    mixtures = kinks.mixtures() if np.isfinite(here).all() else None
    if mixtures is None:
        return None
    near = mixtures.corner_near(here, own[kinks.at])
    near = mixtures.nearest_if_outside(here, slack[kinks.at]) if near is None else near
    if near is None:
        return None
    right = analytic.copy()
    right[kinks.at] = near
    return right
