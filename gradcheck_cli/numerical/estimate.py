"""Estimate derivatives and their errors from loss values alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np

from gradcheck_cli.numerical.objective import Movable, Moved
from gradcheck_cli.numerical.schemes import Scheme
from gradcheck_cli.types import EPS, Array


class Progress(Protocol):
    """Receives progress reports, counted in evaluations of single perturbations."""

    def expect(self, evaluations: int) -> None:
        """Announce this many further evaluations."""

    def advance(self, evaluations: int) -> None:
        """Report that this many evaluations have finished."""

    def doing(self, what: str) -> None:
        """Describe the work that starts now, in a few words."""


ERROR_BARS = 3.0
"""The distance, in units of a value's own error, beyond which it contradicts another."""

_PLAUSIBLE = 10.0
"""One sample of noise is rarely more than this many times another."""

_OWN_LADDER = tuple(2.0**-k for k in range(10))
"""Factors of the largest step for a number that gets its own ladder, such as one next to a kink."""

_CLOSER = 2.0**-7
"""Factor by which the steps shrink when the first ones cross a kink; few still cross it then."""


@dataclass(frozen=True)
class Estimate:
    """Numerical values and their errors, two arrays of one shape; NaN ± inf means unknown."""

    value: Array
    error: Array

    def replaced(self, mask: Array, finer: Estimate) -> Estimate:
        """Return a copy that takes the marked numbers from `finer`, except where `finer` is unknown."""
        value, error = self.value.copy(), self.error.copy()
        known = np.isfinite(finer.error)
        value[mask] = np.where(known, finer.value, value[mask])
        error[mask] = np.where(known, finer.error, error[mask])
        return Estimate(value, error)

    def widened(self, mask: Array, other: Estimate) -> Estimate:
        """Return a copy whose marked errors cover both the distance to `other` and its error."""
        error = self.error.copy()
        with np.errstate(invalid="ignore"):
            apart = np.abs(self.value[mask] - other.value) + other.error
        error[mask] = np.maximum(error[mask], np.where(np.isnan(apart), np.inf, apart))
        return Estimate(self.value, error)

    def challenged(self, mask: Array, shortly: Estimate, hidden: Array) -> Estimate:
        """Return a copy whose marked errors cover the disagreement with the slopes at a short step.

        shortly: the slopes at the short step, whose noise excuses part of the disagreement.
        hidden: the most that undetected kinks with cancelling slopes could add.
        """
        error = self.error.copy()
        with np.errstate(invalid="ignore"):
            beyond = np.abs(self.value[mask] - shortly.value) - 2.0 * shortly.error
            error[mask] = np.maximum(error[mask], np.where(np.isfinite(beyond), beyond, np.inf)) + hidden
        return Estimate(self.value, error)

    def improved(self, mask: Array, other: Estimate) -> Estimate:
        """Return a copy that takes each marked number from `other` if its error is smaller there."""
        return self.replaced(mask, other.where(other.error < self.error[mask]))

    def where(self, mask: Array) -> Estimate:
        """Return a copy with every unmarked number set to unknown."""
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
    """Differentiate the summed losses with respect to each number of `movable`, or those in `which`.

    A number whose larger steps cross a kink gets further, smaller steps after the ladder; the largest of
    these is just below the one that crosses. A number far smaller than its unit gets steps scaled to its own
    size.
    """
    which, largest = _all_or(which, movable), step or scheme.step
    estimate, crossing = _evaluate(movable, scheme, scheme.ladder, largest, which, progress)
    if scheme.extrapolate:
        estimate = _of_own_size(movable, scheme, estimate, largest, which, progress)
    short = crossing > 0
    if not (scheme.extrapolate and short.any()):
        return estimate
    below = 0.5 * largest * np.array(scheme.ladder)[crossing[short] - 1]
    own, _ = _evaluate(movable, scheme, _OWN_LADDER, below, which[short], progress)
    return estimate.improved(short, own)


def _of_own_size(
    movable: Movable, scheme: Scheme, found: Estimate, step: float, which: Array, progress: Progress | None
) -> Estimate:
    """Improve the estimates of very small numbers, for which even the shortest step may be too long.

    Their steps are scaled to the size of the number.
    """
    small = _own_size(movable, which) < _SMALL
    if not small.any():
        return found
    own, _ = _evaluate(
        movable, scheme, _OWN_LADDER, step * _own_size(movable, which[small]), which[small], progress
    )
    return found.challenged(small, own, np.zeros(len(own.value))).improved(small, own)


_SMALL = 2.0**-14
"""Below this share of its unit, a number sets its own step length; random numbers are rarely so small."""


def _own_size(movable: Movable, which: Array) -> Array:
    """Return the factor, (M,), that scales a unit step to each number's own size; 1 for numbers that are 0.

    It is 1 for the numbers of a network described by a spec, whose unit is already the natural length.
    """
    size = np.abs(movable.position[which]) / movable.unit[which]
    return np.where((size > 0) & (movable.rest is not None), size, 1.0)


def certify(
    movable: Movable,
    scheme: Scheme,
    step: float | None = None,
    which: Array | None = None,
    progress: Progress | None = None,
) -> Estimate:
    """Estimate derivatives with only as many steps as are needed to confirm a gradient that agrees.

    Numbers for which these steps give nothing, because a kink is near, get the same number of smaller steps.
    If those fail too, they get the whole ladder.
    """
    which = _all_or(which, movable)
    if not scheme.escalates:
        return differentiate(movable, scheme, step, which, progress)
    rungs, largest = [scheme.ladder[i] for i in scheme.certify], step or scheme.step
    first, _ = _evaluate(movable, scheme, rungs, largest, which, progress, certify=True)

    def closer(some: Array) -> Estimate:
        return _evaluate(movable, scheme, rungs, _CLOSER * largest, some, progress, certify=True)[0]

    def whole(some: Array) -> Estimate:
        return differentiate(movable, scheme, step, some, progress)

    for look in (closer, whole):
        unknown = ~np.isfinite(first.error)
        if unknown.any():
            first = first.replaced(unknown, look(which[unknown]))
    return first


def confirm(
    movable: Movable,
    scheme: Scheme,
    first: Estimate,
    step: float | None = None,
    which: Array | None = None,
    progress: Progress | None = None,
) -> tuple[Estimate, Array]:
    """Estimate slopes at one step far below those of `first`, with noise, and a bound on hidden kinks, (M,).

    The short step exposes narrow features and kinks that longer steps jump over.
    """
    which, largest = _all_or(which, movable), step or scheme.step
    fine = scheme.ladder[scheme.certify[-1]]
    steps = largest * np.clip(_balanced(movable, which, first) / largest, scheme.ladder[-1], _SHORT * fine)
    steps = np.minimum(steps, largest * fine * _own_size(movable, which))
    if progress:
        progress.expect(len(scheme.offsets) * len(which))
    value, noise, hidden = (movable.spread.empty(len(which)) for _ in range(3))

    def batch(start: int) -> int:
        part = slice(start, start + movable.batch)
        slopes = _uncrossed(slopes_at(movable, scheme, which[part], steps[part]))
        value[part], noise[part], hidden[part] = slopes.value, slopes.noise, _hidden(slopes)
        return len(slopes.value)

    for done in movable.spread(batch, range(0, len(which), movable.batch)):
        if progress:
            progress.advance(len(scheme.offsets) * done)
    return Estimate(value, noise), hidden


HIDDEN = 32.0
"""Bound on what several kinks with nearly cancelling jumps may add, as a multiple of their net jump."""

_BALANCE = 128.0
"""Weight of curvature against noise; curvature weighs more, because only noise can excuse a disagreement."""

_SHORT = 2.0**-3
"""A confirming step must be shorter than the earlier steps by this factor to reveal anything new."""


def _balanced(movable: Movable, which: Array, first: Estimate) -> Array:
    """Return the step, (M,), at which noise balances what a smooth function's curvature adds to `_hidden`.

    It assumes a curvature that changes the slope by its own size over a step of 1, and for all numbers the
    noise of the first.
    """
    rounding = np.ravel(movable.move(which[:1], movable.position[which[:1]]).rounding)
    rise = np.abs(first.value) * movable.unit[which]
    with np.errstate(divide="ignore", invalid="ignore"):
        balanced: Array = np.sqrt(EPS * np.linalg.norm(rounding) / rise / _BALANCE)
    return np.nan_to_num(balanced, nan=np.inf)


def _hidden(slopes: Slopes) -> Array:
    """Bound how far unreported kinks may change the slopes, (B,), from bends that exceed the noise."""
    bend = np.abs(slopes.bend)
    beyond_noise = bend.sum(axis=1) - 4.0 * np.sqrt(bend.shape[1]) * slopes.noise
    return HIDDEN * np.maximum(0.0, np.nan_to_num(beyond_noise, nan=np.inf))


def _all_or(which: Array | None, movable: Movable) -> Array:
    return np.arange(len(movable.position)) if which is None else which


def _evaluate(
    movable: Movable,
    scheme: Scheme,
    ladder: Sequence[float],
    step: float | Array,
    which: Array,
    progress: Progress | None,
    certify: bool = False,
) -> tuple[Estimate, Array]:
    """Return the estimate (P,) from the steps `ladder` · step, and how many steps cross a kink (P,).

    step: the largest step, either one for all numbers or one for each.
    """
    rungs, largest = np.array(ladder), np.broadcast_to(step, len(which))
    evaluations = len(rungs) * len(scheme.offsets)
    if progress:
        progress.expect(evaluations * len(which))
    value, error = (movable.spread.empty(len(which)) for _ in range(2))
    crossing = movable.spread.empty(len(which), np.intp)

    def batch(start: int) -> int:
        part = slice(start, start + movable.batch)
        rows = [_uncrossed(slopes_at(movable, scheme, which[part], rung * largest[part])) for rung in rungs]
        best = _best_of(rows, movable.rest is None, scheme, rungs, certify)
        value[part], error[part] = best.value, best.error
        crossing[part] = np.isnan([row.value for row in rows]).cumprod(axis=0).sum(axis=0)
        return len(best.value)

    for done in movable.spread(batch, range(0, len(which), movable.batch)):
        if progress:
            progress.advance(evaluations * done)
    return Estimate(value, error), crossing


def _best_of(rows: Sequence[Slopes], tells: bool, scheme: Scheme, rungs: Array, certify: bool) -> Estimate:
    """Combine the slopes of every rung into one estimate, (B,).

    tells: whether the movable reports the kinks that it crosses.
    """
    slopes, noise = np.stack([row.value for row in rows]), np.stack([row.noise for row in rows])
    if not scheme.extrapolate:
        return _finest(slopes, noise, scheme.order)
    told = noise
    if not certify:
        noise = _measured(slopes, noise, rungs)
    if tells:
        return _settle(slopes, noise, noise, rungs, certify)
    return _settle(slopes, noise + _unseen_kinks([row.bend for row in rows], rungs), told, rungs, certify)


class Slopes(NamedTuple):
    """The slopes of a scheme at one step with their rounding errors, each (B,), and what the step crossed.

    value: NaN where the step was too small to change the number.
    bend: (B, S), the difference between the two one-sided slopes of every term.
    crossed: (B,), whether a branch changed.
    """

    value: Array
    noise: Array
    bend: Array
    crossed: Array


def _uncrossed(slopes: Slopes) -> Slopes:
    """Return a copy with NaN where a branch changed."""
    value, noise = (np.where(slopes.crossed, np.nan, each) for each in (slopes.value, slopes.noise))
    return slopes._replace(value=value, noise=noise)


def slopes_at(
    movable: Movable,
    scheme: Scheme,
    which: Array,
    step: float | Array,
    move: Callable[[Array, Array], Moved] | None = None,
) -> Slopes:
    """Apply the scheme at one step to the numbers `which`, (B,), whether or not the step crosses a kink.

    The stencil is applied to the losses and to the number itself, so that the slope is divided by the
    difference actually taken in floating point.
    move: evaluates the perturbed losses; `movable.move` by default.
    """
    move = move or movable.move
    x = movable.position[which]
    h = step * movable.unit[which]
    rise: Any = 0.0
    run: Any = 0.0
    rounding: Any = 0.0
    bend: Any = 0.0
    crossed = np.zeros(len(which), dtype=bool)
    for offset, weight in zip(scheme.offsets, scheme.weights, strict=True):
        point = x + offset * h
        moved = move(which, point)
        rise = rise + weight * moved.losses
        if movable.rest is not None:
            bend = bend + (np.real(moved.losses) - movable.rest).reshape(len(which), -1)
        run = run + weight * point
        rounding = rounding + abs(weight) * moved.rounding
        crossed |= moved.crossed
    if not scheme.cancels:  # an imaginary step crosses no kink, so look to both sides
        for nearby in (x - NEARBY * movable.unit[which], x + NEARBY * movable.unit[which]):
            crossed |= move(which, nearby).crossed
    rise, run = np.real(rise), np.real(run)
    if rise.ndim == 2:  # rounding errors of the terms are independent and add in quadrature
        rise, rounding = rise.sum(axis=1), np.sqrt((rounding * rounding).sum(axis=1))
    with np.errstate(all="ignore"):
        slope = np.where(run == 0, np.nan, rise / run).astype(np.float64)
        rounding = EPS * rounding
        if scheme.cancels:
            rounding = rounding / np.abs(run)
        noise = (rounding + (1.0 if scheme.cancels else 8.0) * EPS * np.abs(slope)).astype(np.float64)
        return Slopes(slope, noise, np.asarray(bend) / np.reshape(h, (-1, 1)), crossed)


NEARBY = 2.0**-30
"""Distance to each side at which to look for kinks if the scheme's own steps cross none."""


def _unseen_kinks(bends: Sequence[Array], steps: Array) -> Array:
    """Bound what unreported kinks may add to each slope, (steps, B).

    bends: (ℓ(+h) + ℓ(−h) − 2ℓ) / h of every term, (B, S). The bend of a smooth term is proportional to h.
    A kink inside the step adds twice as much to the bend as to the slope. So the bound is
    Σ |bend(h) − h/h' · bend(h')|, the part that does not shrink with h from one rung to the next. A kink at
    h/3 escapes this, but not the next coarser pair of rungs. If only the total loss is known, the kinks of
    many samples may partly cancel, and the bound is doubled.
    """
    alone = 1.0 if bends[0].shape[1] > 1 else 2.0
    apart = [
        alone * np.abs(coarse - (steps[i] / steps[i + 1]) * fine).sum(axis=1)
        for i, (coarse, fine) in enumerate(pairwise(bends))
    ]
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.maximum([*apart, apart[-1]], [apart[0], *apart]), nan=np.inf)


def _measured(slopes: Array, noise: Array, steps: Array) -> Array:
    """Raise the noise, (steps, B), to at least the level that the finest rungs show.

    On these rungs the slopes differ by noise alone, and noise times step is the same on each. A truncation
    error would be far larger on a coarser pair of rungs, so each pair counts only as far as the finest pair
    makes plausible.
    """
    jumps = np.abs(np.diff(slopes[-4:], axis=0)) * steps[-3:, None]
    seen = np.fmax.reduce(np.fmin(jumps, _PLAUSIBLE * jumps[-1]), axis=0)
    return np.fmax(noise, seen / steps[:, None])


def _finest(slopes: Array, noise: Array, order: int) -> Estimate:
    """Return the slopes at the smallest step; the two larger steps bound the truncation error."""
    truncation = np.zeros(slopes.shape[1])
    for i, change in enumerate(reversed(np.abs(np.diff(slopes, axis=0)))):
        truncation = np.maximum(truncation, change / 3.0 ** (i * order))
    return _known(slopes[-1], truncation + noise[-1])


def _settle(slopes: Array, noise: Array, told: Array, steps: Array, certify: bool) -> Estimate:
    """Extrapolate slopes (S, B) at falling steps to h → 0 and choose the best confirmed estimate.

    Each rung contributes its best Richardson extrapolate, whose error is never below its noise. Coarse
    rungs may agree by accident. So the error of an estimate is at least its distance from the next finer
    one, and at least its distance from each finer one beyond that, less what the error of that one excuses.
    The smallest error confirmed in this way wins (as in Lepski's rule for choosing a bandwidth).

    told: the part of the noise (S, B) that can excuse a distance. An unreported kink cannot: if a small step
    crosses it, so does every larger one.
    """
    value, error = _extrapolate(slopes, steps)
    excuse = np.fmax(error, told)
    error = np.fmax(error, noise)
    if certify:  # no finer rung can confirm it; agreement with the gradient has to suffice
        return _known(value[-1], error[-1])
    confirmed = error.copy()
    with np.errstate(invalid="ignore"):
        gaps = np.abs(np.diff(value, axis=0))
        # The finest rung has no finer neighbour; a plain slope equal to the next coarser one confirms it.
        last = np.fmin(gaps[-1], np.abs(slopes[-1] - slopes[-2]))
        finer, coarser = np.vstack([gaps, last]), np.vstack([gaps[:1], gaps])
        confirmed = np.fmax(confirmed, np.where(np.isnan(finer), coarser, finer))
        for i in range(len(steps) - 2):
            excess = np.abs(value[i] - value[i + 2 :]) - 2.0 * excuse[i + 2 :]
            confirmed[i] = np.fmax(confirmed[i], np.fmax.reduce(excess, axis=0))
    best = confirmed.argmin(axis=0), np.arange(slopes.shape[1])
    return _known(value[best], confirmed[best])


def _known(value: Array, error: Array) -> Estimate:
    known = np.isfinite(error)
    return Estimate(np.where(known, value, np.nan), np.where(known, error, np.inf))


def _extrapolate(slopes: Array, steps: Array) -> tuple[Array, Array]:
    """Return the best value and error for every rung of the Richardson tableau (Neville's scheme in h²).

    As in Ridders (1982), the error of an extrapolate is its distance from the next lower order on the same
    rungs; this is conservative, as the extrapolate is already the better of the two.
    """
    value, error = slopes.copy(), np.full_like(slopes, np.inf)
    column = slopes
    with np.errstate(invalid="ignore", over="ignore"):
        for level in range(1, len(steps)):
            ratio = (steps[:-level] / steps[level:])[:, None]
            fine, coarse = column[1:], column[:-1]
            column = fine + (fine - coarse) / (ratio * ratio - 1.0)
            spread = np.abs(column - fine)
            better = spread < error[level:]
            value[level:] = np.where(better, column, value[level:])
            error[level:] = np.where(better, spread, error[level:])
    return value, error
