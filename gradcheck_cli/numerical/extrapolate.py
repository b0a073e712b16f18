"""Combine the slopes from a ladder of steps into one derivative per variable, with a confirmed error bar."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from gradcheck_cli.numerical.schemes import Scheme
from gradcheck_cli.numerical.slopes import Slopes
from gradcheck_cli.types import Array

_PLAUSIBLE = 10.0
"""One sample of noise is rarely larger than another by more than this factor."""

Combined = tuple[Array, Array]
"""The derivatives of B variables, (B,), and their errors, (B,).

An unknown derivative is NaN with error inf.
"""


def best_of(rows: Sequence[Slopes], tells: bool, scheme: Scheme, rungs: Array, certify: bool) -> Combined:
    """Combine the slopes from all rungs of the ladder into one estimate for each of the B variables, (B,).

    rows: the slopes from each rung.
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


def _unseen_kinks(bends: Sequence[Array], steps: Array) -> Array:
    """Return a bound on the contribution of unreported kinks to each of B slopes at each step, (steps, B).

    The bend of a smooth term is proportional to the step h. A kink inside the step adds twice as much to the
    bend as to the slope. So the bound is Σ |bend(h) − h/h' · bend(h')|, with the next rung's step h'. This is
    the part of the bend that does not shrink with h. This bound does not cover a kink at h/3, but the bound
    from the next coarser pair of rungs does. If only the total loss is known, the kinks of many samples may
    partly cancel, and the bound is doubled.

    bends: for each step, (ℓ(+h) + ℓ(−h) − 2ℓ) / h of each of the loss's S terms, (B, S).
    """
    alone = 1.0 if bends[0].shape[1] > 1 else 2.0
    apart = [
        alone * np.abs(coarse - (steps[i] / steps[i + 1]) * fine).sum(axis=1)
        for i, (coarse, fine) in enumerate(pairwise(bends))
    ]
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.maximum([*apart, apart[-1]], [apart[0], *apart]), nan=np.inf)


def _measured(slopes: Array, noise: Array, steps: Array) -> Array:
    """Return the noise, (steps, B), raised at least to the level observed on the finest rungs.

    On the finest rungs, the slopes of the B variables differ by noise alone, and noise times step is the same
    on each rung. On a coarser pair of rungs, the difference may be a truncation error instead. So each pair
    counts only up to a size that the finest pair makes plausible.
    """
    jumps = np.abs(np.diff(slopes[-4:], axis=0)) * steps[-3:, None]
    seen = np.fmax.reduce(np.fmin(jumps, _PLAUSIBLE * jumps[-1]), axis=0)
    return np.fmax(noise, seen / steps[:, None])


def _finest(slopes: Array, noise: Array, order: int) -> Combined:
    """Return the slopes at the smallest step, with errors estimated from the slopes at the larger steps."""
    truncation = np.zeros(slopes.shape[1])
    for i, change in enumerate(reversed(np.abs(np.diff(slopes, axis=0)))):
        truncation = np.maximum(truncation, change / 3.0 ** (i * order))
    return _known(slopes[-1], truncation + noise[-1])


def _settle(slopes: Array, noise: Array, told: Array, steps: Array, certify: bool) -> Combined:
    """Extrapolate the slopes of B variables at S falling steps h to h → 0, and choose the best estimate.

    Each rung contributes its best Richardson extrapolate, whose error is never below its noise. Coarse rungs
    may agree by accident. So the error of an estimate is at least its distance from the next finer estimate.
    The error is also at least the estimate's distance from every still finer estimate, minus the part that
    the finer estimate's error excuses. The estimate with the smallest error confirmed in this way is chosen
    (as in Lepski's rule for choosing a bandwidth).

    slopes, noise: (S, B).
    told: the part of the noise that can excuse a distance between two estimates, (S, B). An unreported kink
        cannot excuse a distance: if a small step crosses the kink, so does every larger step.
    """
    value, error = _extrapolate(slopes, steps)
    excuse = np.fmax(error, told)
    error = np.fmax(error, noise)
    if certify:  # no finer rung can confirm it; agreement with the gradient has to suffice
        return _known(value[-1], error[-1])
    confirmed = error.copy()
    with np.errstate(invalid="ignore"):
        gaps = np.abs(np.diff(value, axis=0))
        # The finest rung has no finer neighbour. It is confirmed if its plain slope equals the next coarser.
        last = np.fmin(gaps[-1], np.abs(slopes[-1] - slopes[-2]))
        finer, coarser = np.vstack([gaps, last]), np.vstack([gaps[:1], gaps])
        confirmed = np.fmax(confirmed, np.where(np.isnan(finer), coarser, finer))
        for i in range(len(steps) - 2):
            excess = np.abs(value[i] - value[i + 2 :]) - 2.0 * excuse[i + 2 :]
            confirmed[i] = np.fmax(confirmed[i], np.fmax.reduce(excess, axis=0))
    best = confirmed.argmin(axis=0), np.arange(slopes.shape[1])
    return _known(value[best], confirmed[best])


def _known(value: Array, error: Array) -> Combined:
    known = np.isfinite(error)
    return np.where(known, value, np.nan), np.where(known, error, np.inf)


def _extrapolate(slopes: Array, steps: Array) -> tuple[Array, Array]:
    """Return the best extrapolate for each rung, and its error (Richardson's tableau, by Neville in h²).

    As in Ridders (1982), the error of an extrapolate is its distance from the extrapolate of the next lower
    order that ends at the same rung. This is conservative, since the extrapolate of the higher order is the
    better one.
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
