"""A derivative and its error for each of many numbers, from losses alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np

from gradcheck_cli.numerical.objective import Array, Movable, Moved
from gradcheck_cli.numerical.schemes import Scheme


class Progress(Protocol):
    """Whoever wants to know how far the work is, in evaluations of single moves."""

    def expect(self, evaluations: int) -> None:
        """So many more are going to be made."""

    def advance(self, evaluations: int) -> None:
        """So many have just been made."""

    def doing(self, what: str) -> None:
        """What is done from now on, in a few words."""


_PLAUSIBLE = 10.0
"""A sample of noise is rarely ten times another."""

_OWN_LADDER = tuple(2.0**-k for k in range(10))
"""The smaller steps of a number beside a kink, as factors of the largest."""

_CLOSER = 2.0**-7
"""How much smaller the steps are that are tried where the first ones meet a kink: few then meet it still."""

_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Estimate:
    """A numerical value and its error, arrays of one shape; where nothing is known, NaN ± inf."""

    value: Array
    error: Array

    def replaced(self, mask: Array, finer: Estimate) -> Estimate:
        """The same with the marked numbers replaced, except where the finer look knows nothing."""
        value, error = self.value.copy(), self.error.copy()
        known = np.isfinite(finer.error)
        value[mask] = np.where(known, finer.value, value[mask])
        error[mask] = np.where(known, finer.error, error[mask])
        return Estimate(value, error)

    def widened(self, mask: Array, other: Estimate) -> Estimate:
        """The same with the errors of the marked numbers no smaller than their distance from the other."""
        error = self.error.copy()
        with np.errstate(invalid="ignore"):
            apart = np.abs(self.value[mask] - other.value) + other.error
        error[mask] = np.maximum(error[mask], np.where(np.isnan(apart), np.inf, apart))
        return Estimate(self.value, error)

    def challenged(self, mask: Array, shortly: Estimate, hidden: Array) -> Estimate:
        """The estimate after a short step for the marked numbers, whose noise excuses part of a distance.

        hidden: what kinks may do that cancel in the slopes.
        """
        error = self.error.copy()
        with np.errstate(invalid="ignore"):
            beyond = np.abs(self.value[mask] - shortly.value) - 2.0 * shortly.error
            error[mask] = np.maximum(error[mask], np.where(np.isfinite(beyond), beyond, np.inf)) + hidden
        return Estimate(self.value, error)

    def improved(self, mask: Array, other: Estimate) -> Estimate:
        """The same with those of the marked numbers replaced of which the other knows more."""
        return self.replaced(mask, other.where(other.error < self.error[mask]))

    def where(self, mask: Array) -> Estimate:
        """The same with all but the marked numbers unknown."""
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
    """The derivative of the summed losses by each number of `movable`, or by those of index `which`.

    A number whose larger steps cross a kink gets, after the ladder, smaller steps of its own, the largest
    just below the one that crosses. So does a number that is far smaller than its unit, of its own size.
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
    """What steps of a small number's own size say, if it may be that even the shortest were too long."""
    small = _own_size(movable, which) < _SMALL
    if not small.any():
        return found
    own, _ = _evaluate(
        movable, scheme, _OWN_LADDER, step * _own_size(movable, which[small]), which[small], progress
    )
    return found.challenged(small, own, np.zeros(len(own.value))).improved(small, own)


_SMALL = 2.0**-14
"""A number that is a smaller share of its unit has a size of its own; a random one seldom is as small."""


def _own_size(movable: Movable, which: Array) -> Array:
    """The share of a step of 1 that is the number's own size, (M,); 1 for those that are 0.

    A network's numbers have no size of their own: their unit is what is natural.
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
    """The same from as few steps as suffice for a number whose gradient turns out to agree.

    Numbers of which these steps say nothing, being beside a kink, get as many smaller ones, and if these do
    not either, the whole ladder at once.
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
    """The plain slope at one step far below those of `first`, with its noise, and what kinks may hide, (M,).

    It shows a narrow feature or a kink that longer steps pass over.
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
"""How many times the jump of a slope is what several kinks may do whose jumps nearly cancel."""

_BALANCE = 128.0
"""How much worse a curvature is than noise: the latter may excuse a distance."""

_SHORT = 2.0**-3
"""How much shorter than the steps before it a step must be to tell anything new."""


def _balanced(movable: Movable, which: Array, first: Estimate) -> Array:
    """The step whose noise is about what a smooth function's curvature adds to `_hidden`, (M,).

    The curvature is taken to be such that the slope changes by its own size over a step of 1, and the noise
    to be that of the first number.
    """
    rounding = np.ravel(movable.move(which[:1], movable.position[which[:1]]).rounding)
    rise = np.abs(first.value) * movable.unit[which]
    with np.errstate(divide="ignore", invalid="ignore"):
        balanced: Array = np.sqrt(_EPS * np.linalg.norm(rounding) / rise / _BALANCE)
    return np.nan_to_num(balanced, nan=np.inf)


def _hidden(slopes: Slopes) -> Array:
    """What kinks that nobody tells of may do to the slopes, as far as their bends are no noise, (B,)."""
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
    """Value and error (P,) from the steps `ladder` · step, and how many of these cross a kink (P,).

    step: the largest, one for all numbers or one for each.
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
    """Value and error (B,) from the slopes on every rung.

    tells: whether kinks on the way are told of.
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
    """A scheme at one step and its rounding error, each (B,); and what the step met on its way.

    value: NaN where the step was too small to be taken.
    bend: (B, S), by how much the sides of every term differ.
    crossed: (B,), whether a branch changed.
    """

    value: Array
    noise: Array
    bend: Array
    crossed: Array


def _uncrossed(slopes: Slopes) -> Slopes:
    """The same with NaN where a branch changed."""
    value, noise = (np.where(slopes.crossed, np.nan, each) for each in (slopes.value, slopes.noise))
    return slopes._replace(value=value, noise=noise)


def slopes_at(
    movable: Movable,
    scheme: Scheme,
    which: Array,
    step: float | Array,
    move: Callable[[Array, Array], Moved] | None = None,
) -> Slopes:
    """The scheme at one step, kinks or not, for the numbers of index `which`, (B,).

    The stencil is applied to the losses and to the number itself, which divides by the difference actually
    taken. move: what evaluates it, if that is not the movable itself.
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
    if not scheme.cancels:  # an imaginary step crosses nothing, so look to both sides
        for beside in (x - BESIDE * movable.unit[which], x + BESIDE * movable.unit[which]):
            crossed |= move(which, beside).crossed
    rise, run = np.real(rise), np.real(run)
    if rise.ndim == 2:  # the terms' roundings are independent, so they add as squares
        rise, rounding = rise.sum(axis=1), np.sqrt((rounding * rounding).sum(axis=1))
    with np.errstate(all="ignore"):
        slope = np.where(run == 0, np.nan, rise / run).astype(np.float64)
        rounding = _EPS * rounding
        if scheme.cancels:
            rounding = rounding / np.abs(run)
        noise = (rounding + (1.0 if scheme.cancels else 8.0) * _EPS * np.abs(slope)).astype(np.float64)
        return Slopes(slope, noise, np.asarray(bend) / np.reshape(h, (-1, 1)), crossed)


BESIDE = 2.0**-30
"""How far to the sides a scheme looks for kinks whose own steps cross nothing."""


def _unseen_kinks(bends: Sequence[Array], steps: Array) -> Array:
    """What kinks that nobody tells of may do to each slope, (steps, B).

    bends: (ℓ(+h) + ℓ(−h) − 2ℓ) / h of every term, (B, S). Of a smooth term that falls with h; a kink on the
    way adds to it twice what it adds to the slope. So Σ |bend(h) − h/h' · bend(h')| is what does not fall
    from one rung to the next. A kink at a third of h escapes it, but not the next coarser pair of rungs; and
    of a single term, the total, the kinks of many samples may cancel in part.
    """
    alone = 1.0 if bends[0].shape[1] > 1 else 2.0
    apart = [
        alone * np.abs(coarse - (steps[i] / steps[i + 1]) * fine).sum(axis=1)
        for i, (coarse, fine) in enumerate(pairwise(bends))
    ]
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.maximum([*apart, apart[-1]], [apart[0], *apart]), nan=np.inf)


def _measured(slopes: Array, noise: Array, steps: Array) -> Array:
    """The noise, (steps, B), no smaller than the finest rungs show it.

    There the slopes differ by nothing but noise, which times the step is the same on each. A truncation
    error would be far larger on a coarser pair of rungs, so a pair counts only up to what the finest makes
    plausible.
    """
    jumps = np.abs(np.diff(slopes[-4:], axis=0)) * steps[-3:, None]
    seen = np.fmax.reduce(np.fmin(jumps, _PLAUSIBLE * jumps[-1]), axis=0)
    return np.fmax(noise, seen / steps[:, None])


def _finest(slopes: Array, noise: Array, order: int) -> Estimate:
    """The value at the smallest step; its error is what the two larger ones say, if any, and its noise."""
    truncation = np.zeros(slopes.shape[1])
    for i, change in enumerate(reversed(np.abs(np.diff(slopes, axis=0)))):
        truncation = np.maximum(truncation, change / 3.0 ** (i * order))
    return _known(slopes[-1], truncation + noise[-1])


def _settle(slopes: Array, noise: Array, told: Array, steps: Array, certify: bool) -> Estimate:
    """Extrapolate slopes (S, B) at falling steps to h → 0, and take the estimate that is best confirmed.

    Every rung gets its best Richardson extrapolate and an error of it, never below its noise. But coarse
    rungs may agree by accident; so an estimate's error is at least its distance from the next finer one,
    and from every other finer one what that one's own error does not excuse. The least error so confirmed
    wins (the idea of Lepski's rule for choosing a bandwidth).

    told: the part of the noise (S, B) that can excuse a distance. A kink nobody tells of cannot: what crosses
    it by a small step crosses it by every larger one too.
    """
    value, error = _extrapolate(slopes, steps)
    excuse = np.fmax(error, told)
    error = np.fmax(error, noise)
    if certify:  # nothing finer to confirm it; that it meets the gradient will have to do
        return _known(value[-1], error[-1])
    confirmed = error.copy()
    with np.errstate(invalid="ignore"):
        gaps = np.abs(np.diff(value, axis=0))
        # The finest has nothing finer; but if its plain slope is that of the next, so is its value.
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
    """For every rung its best value and error in the Richardson tableau (Neville's scheme in h²).

    An extrapolate's error is its distance from the next lower order on the same rungs, as in Ridders
    (1982), which it has already improved on.
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
