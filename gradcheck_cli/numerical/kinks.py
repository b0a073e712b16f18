"""What a gradient may be where the function has a kink: the slopes of its two sides, and what lies between.

A network of ours knows its own kinks: whatever sits on one is kept on either side of it by turns, which gives
a value for every usual convention (`Objective.conventions`). Of a foreign function nothing is known but its
losses: there the two one-sided differences tell, if they stay apart however small the step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcheck_cli.numerical.objective import Array, Movable
from gradcheck_cli.numerical.reference import Estimates, LiteralDifferences, Reference

_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Alternatives:
    """What entries of one tensor may be, all arrays of its shape.

    at: the entries that are a matter of convention.
    values, errors: (K, …) under each of K conventions;  low, high: what lies between all of them.
    """

    at: Array
    values: Array
    errors: Array
    low: Array
    high: Array


def alternatives(
    reference: Reference, estimates: Estimates, undecided: Mapping[str, Array]
) -> dict[str, Alternatives]:
    """Of the tensors with entries that `undecided` marks, where a kink leaves these open."""
    if reference.objective.conventions and undecided:
        return _by_convention(reference, estimates, undecided)
    if isinstance(reference, LiteralDifferences) and not reference.objective.tells_kinks:
        found = {name: _one_sided(reference, name, mask) for name, mask in undecided.items()}
        return {name: of for name, of in found.items() if of.at.any()}
    return {}


def _by_convention(
    reference: Reference, estimates: Estimates, undecided: Mapping[str, Array]
) -> dict[str, Alternatives]:
    """Where the conventions differ, or nothing else is known; what differences say anyway is one more."""
    under = []
    for convention in reference.objective.conventions:
        each = reference.under(convention)
        under.append(each.refine(each.estimate(list(undecided)), undecided))
    result = {}
    for name, mask in undecided.items():
        found = [*(each[name] for each in under), estimates[name]]
        values, errors = np.stack([of.value for of in found]), np.stack([of.error for of in found])
        unsure = ~np.isfinite(estimates[name].error)
        spread = np.nanmax(values, axis=0, initial=-np.inf) - np.nanmin(values, axis=0, initial=np.inf)
        at = mask & (unsure | (spread > 3.0 * errors.max(axis=0)))
        if at.any():
            result[name] = Alternatives(at, values, errors, *reference.between(name, mask))
    return result


_STEPS = 2.0 ** -np.arange(2.0, 30.0, 3.0)
_STEADY = 0.5
"""A smooth function's sides come together by the ratio of the steps, 8; at a kink they do not at all."""


def _one_sided(reference: LiteralDifferences, name: str, mask: Array) -> Alternatives:
    """The one-sided slopes of marked entries, where these stay apart on the finest steps that still tell."""
    movable, which = reference.objective.entries(name), np.flatnonzero(mask)
    left, right, noise = _slopes(movable, which)
    gap = np.abs(right - left)
    tells = np.zeros(gap.shape, dtype=bool)
    tells[1:] = 4.0 * noise[1:] < gap[:-1]
    steps, entries = np.arange(len(gap))[:, None], np.arange(len(which))
    finest = np.where(tells, steps, 0).max(axis=0)
    before = np.maximum(finest - 1, 0)
    kinked = (finest > 0) & (gap[finest, entries] > _STEADY * gap[before, entries])
    kinked &= gap[finest, entries] > 4.0 * noise[finest, entries]
    (down, down_error), (up, up_error) = (_limit(slopes, noise) for slopes in (left, right))
    # By one entry several kinks may be crossed, whose slopes cancel in one side's total but not in a
    # convention's: relu'(0) = 0 for all of them is as far from the sides as these are from 0.
    margin = np.abs(down) + np.abs(up)
    at = np.zeros(mask.shape, dtype=bool)
    at.flat[which] = kinked

    def spread(numbers: Array) -> Array:
        full = np.full(mask.shape, np.nan)
        full.flat[which] = numbers
        return full

    return Alternatives(
        at,
        np.stack([spread(down), spread(0.5 * (down + up)), spread(up)]),
        np.stack([spread(each) for each in (down_error, np.maximum(down_error, up_error), up_error)]),
        spread(np.minimum(down, up) - margin),
        spread(np.maximum(down, up) + margin),
    )


def _limit(slopes: Array, noise: Array) -> tuple[Array, Array]:
    """One side's slope at the kink itself, and its error, of slopes and noise (steps, entries).

    Every pair of steps is extrapolated, and confirmed by the next finer one; the best confirmed wins.
    """
    extrapolated = slopes[1:] + np.diff(slopes, axis=0) / 7.0
    errors = np.abs(np.diff(extrapolated, axis=0)) + 2.0 * (noise[1:-1] + noise[2:])
    best = errors.argmin(axis=0), np.arange(slopes.shape[1])
    return extrapolated[best], errors[best]


def _slopes(movable: Movable, which: Array) -> tuple[Array, Array, Array]:
    """To the left, to the right, and how exact both are, each (steps, entries)."""
    here, unit = movable.position[which], movable.unit[which]
    left: list[Array] = []
    right: list[Array] = []
    noise: list[Array] = []
    for step in _STEPS:
        rows: list[Any] = []
        for start in range(0, len(which), movable.batch):
            part = slice(start, start + movable.batch)
            rest = movable.move(which[part], here[part])
            slopes = []
            for side in (-1.0, 1.0):
                to = here[part] + side * step * unit[part]
                moved = movable.move(which[part], to)
                rise = (moved.losses - rest.losses).reshape(len(to), -1).sum(axis=1)
                slopes.append(rise / (to - here[part]))
            rounding = np.sqrt(np.square(rest.rounding).reshape(len(to), -1).sum(axis=1))
            rows.append((*slopes, 2.0 * _EPS * rounding / (step * unit[part])))
        for found, column in zip((left, right, noise), zip(*rows, strict=True), strict=True):
            found.append(np.concatenate(column))
    return np.stack(left), np.stack(right), np.stack(noise)
