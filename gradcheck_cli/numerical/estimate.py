"""Estimate derivatives and their errors from loss values alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeGuard

import numpy as np

from gradcheck_cli.numerical.extrapolate import best_of
from gradcheck_cli.numerical.narrow import (
    CHANGES,
    CHANGES_A_LITTLE,
    is_narrow,
    keep_rising,
    step_within,
    still_change,
)
from gradcheck_cli.numerical.objective import Movable, RisingMovable, can_rise
from gradcheck_cli.numerical.schemes import Scheme
from gradcheck_cli.numerical.slopes import slopes_at_steps, slopes_by_rises, uncrossed
from gradcheck_cli.types import Array


class Progress(Protocol):
    """Receives progress reports. The unit of work is the evaluation of one perturbation."""

    def expect(self, evaluations: int) -> None:
        """Announce that `evaluations` more evaluations will follow."""

    def advance(self, evaluations: int) -> None:
        """Report that `evaluations` more evaluations have finished."""

    def doing(self, what: str) -> None:
        """Describe the work that starts now, in a few words."""

    def spread_over(self, workers: int) -> None:
        """Report how many worker processes have done part of the work so far."""


ERROR_BARS = 3.0
"""The length of an error bar, as a multiple of the estimated error.

Two values contradict each other if their distance exceeds the sum of their error bars.
"""

_OWN_LADDER = tuple(2.0**-k for k in range(10))
"""The ladder for a variable that needs its own steps, such as a variable next to a kink.

A ladder is a sequence of falling steps, as multiples of the largest one.
"""

_CLOSER = 2.0**-7
"""The factor by which to shorten the first steps if they cross a kink, so that few of them still cross it."""


@dataclass(frozen=True)
class Estimate:
    """Numerical derivatives and their errors, as two arrays of the same shape.

    An unknown derivative has the value NaN and the error inf.
    """

    value: Array
    error: Array

    def replaced(self, mask: Array, finer: Estimate) -> Estimate:
        """Return a copy with the estimates at `mask` taken from `finer`, except where `finer` is unknown.

        finer: one estimate for each of the M marked derivatives, (M,).
        """
        value, error = self.value.copy(), self.error.copy()
        known = np.isfinite(finer.error)
        value[mask] = np.where(known, finer.value, value[mask])
        error[mask] = np.where(known, finer.error, error[mask])
        return Estimate(value, error)

    def overruled(self, mask: Array, finer: Estimate) -> Estimate:
        """Return a copy with the estimates at `mask` taken from `finer`, even where `finer` is unknown.

        finer: one estimate for each of the M marked derivatives, (M,), from more steps than this estimate's.
        """
        value, error = self.value.copy(), self.error.copy()
        value[mask], error[mask] = finer.value, finer.error
        return Estimate(value, error)

    def widened(self, mask: Array, other: Estimate) -> Estimate:
        """Return a copy in which each error at `mask` is at least the distance to `other` plus its error.

        other: one estimate for each of the M marked derivatives, (M,).
        """
        error = self.error.copy()
        with np.errstate(invalid="ignore"):
            apart = np.abs(self.value[mask] - other.value) + other.error
        error[mask] = np.maximum(error[mask], np.where(np.isnan(apart), np.inf, apart))
        return Estimate(self.value, error)

    def challenged(self, mask: Array, shortly: Estimate, hidden: Array) -> Estimate:
        """Return a copy whose errors at `mask` allow for any disagreement with the slopes at a short step.

        shortly: the slopes at the short step. Their noise excuses part of the disagreement.
        hidden: a bound on what undetected kinks with nearly cancelling slopes could add to each slope.
        """
        error = self.error.copy()
        with np.errstate(invalid="ignore"):
            beyond = np.abs(self.value[mask] - shortly.value) - 2.0 * shortly.error
            error[mask] = np.maximum(error[mask], np.where(np.isfinite(beyond), beyond, np.inf)) + hidden
        return Estimate(self.value, error)

    def improved(self, mask: Array, other: Estimate) -> Estimate:
        """Return a copy that takes each estimate at `mask` from `other` if `other` has the smaller error.

        other: one estimate for each of the M marked derivatives, (M,).
        """
        return self.replaced(mask, other.where(other.error < self.error[mask]))

    def where(self, mask: Array) -> Estimate:
        """Return a copy in which every derivative outside `mask` is unknown."""
        return Estimate(np.where(mask, self.value, np.nan), np.where(mask, self.error, np.inf))

    def reshape(self, *shape: int) -> Estimate:
        return Estimate(self.value.reshape(shape), self.error.reshape(shape))


def differentiate(
    movable: Movable,
    scheme: Scheme,
    step: float | None = None,
    which: Array | None = None,
    progress: Progress | None = None,
) -> Estimate:
    """Differentiate the summed losses with respect to the variables of `movable`, by all steps of the ladder.

    If the larger steps of a variable cross a kink, the variable gets further steps after the ladder; the
    longest of these is half as long as the shortest step that crosses. A variable far smaller than its unit
    gets steps scaled to its own size. A variable next to a feature that is narrower than all steps gets
    shorter steps.

    If the rises of the losses are known, they give the estimate, and its error allows for any disagreement
    with the losses themselves.

    which: the indices of the variables; all variables by default.
    """
    which = all_or(which, movable)
    by_losses = _by_losses(movable, scheme, step, which, progress)
    if not _can_rise(movable, scheme, step):
        return by_losses
    everywhere = np.full(len(which), True)
    by_rises = _by_rises(movable, which, progress)
    return by_rises.challenged(everywhere, by_losses, np.zeros(len(which))).improved(everywhere, by_losses)


def _by_losses(
    movable: Movable, scheme: Scheme, step: float | None, which: Array, progress: Progress | None
) -> Estimate:
    """Differentiate by all steps of the ladder, from the losses themselves."""
    largest = step or scheme.step
    estimate, crossing = _until_settled(movable, scheme, scheme.ladder, largest, which, progress)
    if scheme.extrapolate:
        estimate = _of_own_size(movable, scheme, estimate, largest, which, progress)
    short = crossing > 0
    if not (scheme.extrapolate and short.any()):
        return estimate
    below = 0.5 * largest * np.array(scheme.ladder)[crossing[short] - 1]
    own, _ = _until_settled(movable, scheme, _OWN_LADDER, below, which[short], progress)
    return estimate.improved(short, own)


def _until_settled(
    movable: Movable,
    scheme: Scheme,
    ladder: Sequence[float],
    step: float | Array,
    which: Array,
    progress: Progress | None,
) -> tuple[Estimate, Array]:
    """Return estimates from the ladder, and from shorter steps for variables whose slopes still change.

    The second result is `_Evaluated.crossing`, (M,) for M variables.

    step: the largest step, either one for all variables or one for each variable.
    """
    found = _evaluate(movable, scheme, ladder, step, which, progress)
    if not found.changing.any():
        return found.estimate, found.crossing
    shorter = ladder[-1] * np.broadcast_to(step, len(which))[found.changing]
    finer = _evaluate(movable, scheme, _OWN_LADDER, shorter, which[found.changing], progress)
    estimate = _closer_to(found, finer)
    still = np.zeros(len(which), dtype=bool)
    still[found.changing] = finer.changing & (movable.position[which[found.changing]] == 0.0)
    if still.any():
        finest = _OWN_LADDER[-1] * shorter[still[found.changing]]
        estimate = _next_to_zero(movable, scheme, estimate, finest, still, which, progress)
    return estimate, found.crossing


def _next_to_zero(
    movable: Movable,
    scheme: Scheme,
    found: Estimate,
    step: Array,
    still: Array,
    which: Array,
    progress: Progress | None,
) -> Estimate:
    """Return `found`, corrected for variables at 0 whose slopes still change at the shortest steps so far.

    A vector of zeros that is divided by its length is an example: the length turns within the eps that guards
    the division, often 1e-12. Next to 0, floats are fine enough for steps within it.

    step: the shortest steps so far, (M,), for the M variables that the mask `still` marks.
    """
    some = which[still]
    step, within = step_within(movable, scheme, some, step)
    finer = _evaluate(movable, scheme, _OWN_LADDER, step, some, progress)
    settled = finer.estimate.error <= CHANGES * np.abs(finer.estimate.value)
    return found.improved(still, finer.estimate.where(settled & within))


def _closer_to(found: _Evaluated, finer: _Evaluated) -> Estimate:
    """Return the estimates of `found`, corrected for variables whose slopes still change.

    If the slopes at the shorter steps settle, they give the estimate. If not, its error allows for any
    disagreement with them. If they confirm a narrow feature instead, the estimate is unknown.

    finer: the estimates of the variables whose slopes still change, from shorter steps.
    """
    settled = finer.estimate.error <= CHANGES * np.abs(finer.estimate.value)
    unknown = found.changing.copy()
    unknown[found.changing] = (found.narrow[found.changing] | finer.narrow) & (settled | finer.rising)
    challenged = found.estimate.challenged(found.changing, finer.estimate, np.zeros(len(settled)))
    return challenged.where(~unknown).improved(found.changing, finer.estimate.where(settled))


def _of_own_size(
    movable: Movable, scheme: Scheme, found: Estimate, step: float, which: Array, progress: Progress | None
) -> Estimate:
    """Return `found` with better estimates for tiny variables, from steps scaled to each variable's size.

    For a tiny variable, even the shortest step of the ladder may be too long.
    """
    small = own_size(movable, which) < SMALL
    if not small.any():
        return found
    own_steps = step * own_size(movable, which[small])
    own = _evaluate(movable, scheme, _OWN_LADDER, own_steps, which[small], progress).estimate
    return found.challenged(small, own, np.zeros(len(own.value))).improved(small, own)


SMALL = 2.0**-14
"""A variable below this share of its unit gets steps scaled to its own size.

Random numbers are rarely this small.
"""


def own_size(movable: Movable, which: Array) -> Array:
    """Return the factors that scale a step of one unit to the size of each of the M variables `which`, (M,).

    A variable whose value is 0 has no size. Its factor is 1, or if its unit is very large, its step is 1. The
    factor is 1 for every variable in a network that a spec describes, since the unit of such a variable is
    already its natural length.
    """
    unit = movable.unit[which]
    size = np.abs(movable.position[which]) / unit
    at_zero = np.where(unit * SMALL > 1.0, 1.0 / unit, 1.0)
    return np.where(movable.rest is None, 1.0, np.where(size > 0, size, at_zero))


def certify(
    movable: Movable,
    scheme: Scheme,
    step: float | None = None,
    which: Array | None = None,
    progress: Progress | None = None,
) -> Estimate:
    """Estimate derivatives with just enough steps to confirm a correct gradient.

    If the rises of the losses are known, one short step suffices.

    If these steps yield no estimate for a variable because a kink is near, the variable gets the same number
    of shorter steps. If the shorter steps yield no estimate, either, the variable gets the whole ladder.
    """
    which = all_or(which, movable)
    if not scheme.escalates:
        return differentiate(movable, scheme, step, which, progress)
    rungs, largest = [scheme.ladder[i] for i in scheme.certify], step or scheme.step
    if _can_rise(movable, scheme, step):
        first = _by_rises(movable, which, progress)
    else:
        first = _evaluate(movable, scheme, rungs, largest, which, progress, certify=True).estimate

    def closer(some: Array) -> Estimate:
        return _evaluate(movable, scheme, rungs, _CLOSER * largest, some, progress, certify=True).estimate

    def whole(some: Array) -> Estimate:
        return differentiate(movable, scheme, step, some, progress)

    for look in (closer, whole):
        unknown = ~np.isfinite(first.error)
        if unknown.any():
            first = first.replaced(unknown, look(which[unknown]))
    return first


def _can_rise(movable: Movable, scheme: Scheme, step: float | None) -> TypeGuard[RisingMovable]:
    """Return whether rises can replace a ladder of steps. Plain schemes and given steps are as they are."""
    return step is None and scheme.extrapolate and can_rise(movable)


def _by_rises(movable: RisingMovable, which: Array, progress: Progress | None) -> Estimate:
    """Return the slopes of the M variables `which`, (M,), from the rises of the losses."""
    if progress:
        progress.expect(2 * len(which))
    value, error = (movable.spread.empty(len(which)) for _ in range(2))

    size = movable.batch  # the number of workers may change while they work

    def batch(start: int) -> int:
        part = slice(start, start + size)
        slopes = uncrossed(slopes_by_rises(movable, which[part]))
        known = np.isfinite(slopes.noise)
        value[part] = np.where(known, slopes.value, np.nan)
        error[part] = np.where(known, slopes.noise, np.inf)
        return len(slopes.value)

    for done in movable.spread(batch, range(0, len(which), size)):
        if progress:
            progress.advance(2 * done)
    return Estimate(value, error)


def all_or(which: Array | None, movable: Movable) -> Array:
    """Return `which`, or the indices of all variables if it is None."""
    return np.arange(len(movable.position)) if which is None else which


class _Evaluated(NamedTuple):
    """The estimates of M variables from a ladder of steps.

    crossing: the number of steps, counted from the longest, before the first step that crosses no kink, (M,).
    narrow: whether a feature seems to be narrower than the shortest steps, (M,).
    rising: whether the slopes always rise or always fall over the first steps, (M,).
    changing: whether the slopes still change at the shortest steps, (M,).
    """

    estimate: Estimate
    crossing: Array
    narrow: Array
    rising: Array
    changing: Array


def _evaluate(
    movable: Movable,
    scheme: Scheme,
    ladder: Sequence[float],
    step: float | Array,
    which: Array,
    progress: Progress | None,
    certify: bool = False,
) -> _Evaluated:
    """Return the estimates from the steps `ladder` · `step`.

    step: the largest step, either one for all variables or one for each variable.
    """
    rungs, largest = np.array(ladder), np.broadcast_to(step, len(which))
    evaluations = len(rungs) * len(scheme.offsets)
    if progress:
        progress.expect(evaluations * len(which))
    value, error = (movable.spread.empty(len(which)) for _ in range(2))
    crossing = movable.spread.empty(len(which), np.intp)
    narrow, rising, changing = (movable.spread.empty(len(which), np.bool_) for _ in range(3))
    told = scheme.extrapolate and movable.exact and not certify
    share = CHANGES if movable.rest is None else CHANGES_A_LITTLE

    size = movable.batch  # the number of workers may change while they work

    def batch(start: int) -> int:
        part = slice(start, start + size)
        steps = [rung * largest[part] for rung in rungs]
        rows = list(map(uncrossed, slopes_at_steps(movable, scheme, which[part], steps)))
        value[part], error[part] = best_of(rows, movable.rest is None, scheme, rungs, certify)
        slopes, noise = np.stack([row.value for row in rows]), np.stack([row.noise for row in rows])
        crossing[part] = np.isnan(slopes).cumprod(axis=0).sum(axis=0)
        narrow[part] = told and is_narrow(slopes, noise, rungs)
        rising[part] = told and keep_rising(slopes)
        changing[part] = told and still_change(slopes, noise, share)
        return len(rows[0].value)

    for done in movable.spread(batch, range(0, len(which), size)):
        if progress:
            progress.advance(evaluations * done)
    return _Evaluated(Estimate(value, error), crossing, narrow, rising, changing)
