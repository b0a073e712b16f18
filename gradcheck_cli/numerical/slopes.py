"""Compute the slopes of the losses by one scheme at one step, with rounding errors and evidence of kinks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from gradcheck_cli.numerical.objective import Movable, Moved, RisingMovable
from gradcheck_cli.numerical.schemes import Scheme
from gradcheck_cli.types import EPS, Array


class Slopes(NamedTuple):
    """The slopes of B variables from one scheme at one step, with rounding errors and evidence of kinks.

    value: the slopes, (B,); NaN if the step was too small to change the variable.
    noise: the rounding errors of the slopes, (B,).
    bend: the difference between the two one-sided slopes of each of the loss's S terms, (B, S).
    crossed: whether the step crossed a kink, (B,).
    """

    value: Array
    noise: Array
    bend: Array
    crossed: Array


def uncrossed(slopes: Slopes) -> Slopes:
    """Return a copy in which slope and noise are NaN for every variable whose step crossed a kink."""
    value, noise = (np.where(slopes.crossed, np.nan, each) for each in (slopes.value, slopes.noise))
    return slopes._replace(value=value, noise=noise)


def slopes_at(
    movable: Movable,
    scheme: Scheme,
    which: Array,
    step: float | Array,
    move: Callable[[Array, Array], Moved] | None = None,
) -> Slopes:
    """Apply the scheme at one step to the B variables `which`, (B,), whether or not the step crosses a kink.

    The stencil is applied to the losses and also to the variable itself. So the difference between losses is
    divided by the step that floating point actually produced.

    move: the function that evaluates the perturbed losses; `movable.move` by default.
    """
    move = move or movable.move
    h = step * movable.unit[which]
    points = points_at(movable, scheme, which, step)
    rise: Any = 0.0
    run: Any = 0.0
    rounding: Any = 0.0
    bend: Any = 0.0
    crossed = np.zeros(len(which), dtype=bool)
    for weight, point in zip(scheme.weights, points, strict=False):
        moved = move(which, point)
        rise = rise + weight * moved.losses
        if movable.rest is not None:
            bend = bend + (np.real(moved.losses) - movable.rest).reshape(len(which), -1)
        run = run + weight * point
        rounding = rounding + abs(weight) * moved.rounding
        crossed |= moved.crossed
    for nearby in points[len(scheme.offsets) :]:
        crossed |= move(which, nearby).crossed
    rise, run = np.real(rise), np.real(run)
    if rise.ndim == 2:  # rounding errors of the terms are independent and add in quadrature
        rise, rounding = rise.sum(axis=1), in_quadrature(rounding)
    with np.errstate(all="ignore"):
        slope = np.where(run == 0, np.nan, rise / run).astype(np.float64)
        rounding = EPS * rounding
        if scheme.cancels:
            rounding = rounding / np.abs(run)
        noise = (rounding + (1.0 if scheme.cancels else 8.0) * EPS * np.abs(slope)).astype(np.float64)
        return Slopes(slope, noise, np.asarray(bend) / np.reshape(h, (-1, 1)), crossed)


def in_quadrature(terms: Array) -> Array:
    """Return √(Σ t²) over the S terms of each of B rows, (B,), even where a square leaves the float range.

    terms: the terms, (B, S). None is negative.
    """
    with np.errstate(all="ignore"):
        squares = (terms * terms).sum(axis=1)
        if squares.size and not (squares.min() > _SMALLEST_SQUARE and squares.max() < np.inf):
            largest = terms.max(axis=1, initial=0.0)
            shares = terms / np.where(largest > 0.0, largest, 1.0)[:, None]
            return np.asarray(largest * np.sqrt((shares * shares).sum(axis=1)))
        return np.asarray(np.sqrt(squares))


_SMALLEST_SQUARE = 1e-290
"""A sum of squares below this size may have lost terms to underflow."""


def points_at(movable: Movable, scheme: Scheme, which: Array, step: float | Array) -> list[Array]:
    """Return the values of the B variables `which` at each offset of the scheme, (B,).

    If the offsets are imaginary, and so cross no kink, two more points show whether one is near.
    """
    x, unit = movable.position[which], movable.unit[which]
    h = step * unit
    points = [x + offset * h for offset in scheme.offsets]
    if scheme.cancels or not scheme.to_the_sides:
        return points
    return [*points, x - NEARBY * unit, x + NEARBY * unit]


def slopes_at_steps(
    movable: Movable, scheme: Scheme, which: Array, steps: Sequence[float | Array]
) -> list[Slopes]:
    """Return the slopes of the B variables `which`, (B,), at several steps.

    All steps together may be evaluated in one go, if the movable's `spread` says so.
    """

    def points() -> list[Array]:
        return [point for step in steps for point in points_at(movable, scheme, which, step)]

    move = movable.spread.mover(movable, which, points)
    return [slopes_at(movable, scheme, which, step, move) for step in steps]


NEARBY = 2.0**-30
"""The distance at which to look for kinks on both sides of a variable, if the scheme's steps cross none."""


RISE = 2.0**-40
"""The step for rises, as a multiple of the variable's `unit`.

At this step, even a strongly curved loss has nearly equal one-sided slopes, and few steps cross a kink. A
change of a number near 1 by this step is still well above the number's last place.
"""


def slopes_by_rises(movable: RisingMovable, which: Array) -> Slopes:
    """Return the slopes of the B variables `which`, (B,), from the rises after one step up and one step down.

    The slope is the mean of the two one-sided slopes. Half of their distance is added to the noise. As in
    extrapolation, the error of an estimate is its distance from the estimate of the next lower order.
    """
    by = RISE * movable.unit[which]
    up, down = movable.rise(which, by), movable.rise(which, -by)
    with np.errstate(all="ignore"):
        slope, apart = (up.losses - down.losses) / (2.0 * by), (up.losses + down.losses) / by
        rounding = np.maximum(up.rounding, down.rounding) / by + np.abs(slope)
    noise = EPS * rounding + 0.5 * np.abs(apart)
    return Slopes(slope, noise, np.zeros((len(which), 1)), up.crossed | down.crossed)
