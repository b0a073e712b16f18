"""A derivative and its error for each of many numbers, from losses alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from gradcheck_cli.numerical.objective import Array, Movable
from gradcheck_cli.numerical.schemes import Scheme


class Progress(Protocol):
    """Whoever wants to know how far the work is, in evaluations of single moves."""

    def expect(self, evaluations: int) -> None:
        """So many more are going to be made."""

    def advance(self, evaluations: int) -> None:
        """So many have just been made."""


_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Estimate:
    """A numerical value and its error, arrays of one shape; where nothing is known, NaN ± inf."""

    value: Array
    error: Array


def differentiate(
    movable: Movable,
    scheme: Scheme,
    step: float | None = None,
    *,
    which: Array | None = None,
    certify: bool = False,
    progress: Progress | None = None,
) -> Estimate:
    """The derivative of the summed losses by each number of `movable`, or by those of index `which`.

    certify: take only the rungs that suffice for a number whose gradient agrees at once.
    """
    which = np.arange(len(movable.position)) if which is None else which
    rungs = [scheme.ladder[i] for i in scheme.certify] if certify else scheme.ladder
    steps = np.array([(step or scheme.step) * rung for rung in rungs])
    evaluations = len(steps) * len(scheme.offsets)
    if progress:
        progress.expect(evaluations * len(which))
    value, error = np.empty(len(which)), np.empty(len(which))
    for start in range(0, len(which), movable.batch):
        part = slice(start, start + movable.batch)
        slopes = np.stack([_slopes(movable, scheme, which[part], h) for h in steps])
        noise = _noise(movable, scheme, which[part], slopes, steps)
        best = settle(slopes, noise, steps) if scheme.extrapolate else _finest(slopes, noise)
        value[part], error[part] = best.value, best.error
        if progress:
            progress.advance(evaluations * len(best.value))
    return Estimate(value, error)


def _slopes(movable: Movable, scheme: Scheme, which: Array, step: float) -> Array:
    """The scheme at one step, (B,); NaN where a branch changed or the step was too small to be taken.

    The stencil is applied to the losses and to the number itself, which divides by the difference
    actually taken.
    """
    x = movable.position[which]
    h = step * movable.unit[which]
    rise: Any = 0.0
    run: Any = 0.0
    crossed = np.zeros(len(which), dtype=bool)
    for offset, weight in zip(scheme.offsets, scheme.weights, strict=True):
        point = x + offset * h
        moved = movable.move(which, point)
        rise = rise + weight * moved.losses
        run = run + weight * point
        crossed |= moved.crossed
    rise, run = np.real(rise), np.real(run)
    if rise.ndim == 2:
        rise = rise.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where(crossed | (run == 0), np.nan, rise / run)


def _noise(movable: Movable, scheme: Scheme, which: Array, slopes: Array, steps: Array) -> Array:
    """The rounding error of each slope, (steps, B).

    A difference over h of losses of size m carries about ε m / h. Where the forward pass rounds worse
    than its result shows, the finest rungs tell: there the slopes differ by nothing but noise.
    """
    if not scheme.cancels:
        return 8 * _EPS * np.abs(slopes)
    rounding = _EPS * movable.magnitude[which]
    if len(slopes) > 3:
        jumps = np.abs(np.diff(slopes[-3:], axis=0)) * steps[-2:, None] * movable.unit[which]
        rounding = np.fmax(rounding, np.fmax.reduce(jumps, axis=0))
    return rounding / (steps[:, None] * movable.unit[which])


def _finest(slopes: Array, noise: Array) -> Estimate:
    """The value at the smallest step; its error is its noise and what the next larger step says."""
    value = slopes[-1]
    error = np.abs(value - slopes[-2]) + noise[-1]
    return Estimate(value, np.where(np.isfinite(error), error, np.inf))


def settle(slopes: Array, noise: Array, steps: Array) -> Estimate:
    """Extrapolate slopes (S, B) at falling steps to h → 0, and take the estimate that is best confirmed.

    Every rung gets its best Richardson extrapolate and Ridders' error of it, never below its noise.
    Two coarse rungs may agree by accident, so an estimate's error is at least its distance from every
    finer one, less what that one's own error excuses; the least error so confirmed wins (the idea of
    Lepski's rule for choosing a bandwidth).
    """
    value, error = _extrapolate(slopes, steps)
    error = np.fmax(error, noise)
    confirmed = error.copy()
    for i in range(len(steps)):
        for finer in range(i + 1, len(steps)):
            with np.errstate(invalid="ignore"):
                excess = np.abs(value[i] - value[finer]) - 2.0 * error[finer]
            confirmed[i] = np.fmax(confirmed[i], excess)
    best = confirmed.argmin(axis=0), np.arange(slopes.shape[1])
    known = np.isfinite(confirmed[best])
    return Estimate(np.where(known, value[best], np.nan), np.where(known, confirmed[best], np.inf))


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
