"""Find the values that a gradient may take at a kink: both one-sided slopes and everything between them.

A network described by a spec knows its own kinks. Each element on a kink is held on one side after the other.
The result is the gradient under every usual convention (`Objective.conventions`). The user's own code offers
only its losses. In such code, a kink shows if the two one-sided differences stay apart, however small the
step is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from gradcheck_cli.numerical.estimate import ERROR_BARS, Estimate
from gradcheck_cli.numerical.mixtures import Mixtures
from gradcheck_cli.numerical.objective import Movable
from gradcheck_cli.numerical.reference import Estimates, LiteralDifferences, Reference
from gradcheck_cli.numerical.slopes import in_quadrature
from gradcheck_cli.types import EPS, Array


@dataclass(frozen=True)
class Alternatives:
    """The gradients that entries of one tensor may correctly have at a kink.

    at: a mask, in the tensor's shape, of the entries whose gradient is a matter of convention.
    values, errors: the gradients under each of K conventions, and their errors, (K, *shape).
    bounds: a function that returns the lower and upper bounds, in the tensor's shape, on the gradients under
        any mixture of conventions. This may take many evaluations.
    mixtures: a function that returns the gradients of the entries at `at` under every mixture, or None if
        they are unknown.
    """

    at: Array
    values: Array
    errors: Array
    bounds: Callable[[], tuple[Array, Array]]
    mixtures: Callable[[], Mixtures | None] = lambda: None


def alternatives(
    reference: Reference,
    estimates: Estimates,
    undecided: Mapping[str, Array],
    estimated: Callable[[Reference], Estimates],
) -> dict[str, Alternatives]:
    """Return, by tensor, the gradients that are possible for the `undecided` entries on a kink.

    estimated: a function that returns estimates of these entries by another reference, with as many steps as
        needed.
    """
    if reference.objective.conventions and undecided:
        under = [estimated(reference.under(convention)) for convention in reference.objective.conventions]
        return _by_convention(reference, under, estimates, undecided)
    if isinstance(reference, LiteralDifferences) and not reference.objective.tells_kinks:
        found = {name: _one_sided(reference, name, mask) for name, mask in undecided.items()}
        return {name: of for name, of in found.items() if of.at.any()}
    return {}


def _by_convention(
    reference: Reference,
    under: Sequence[Estimates],
    estimates: Estimates,
    undecided: Mapping[str, Array],
) -> dict[str, Alternatives]:
    """Return alternatives for entries on which the conventions differ or whose estimate is unknown.

    The estimate without any convention counts as the result of one more convention. If the estimate under any
    of them is unknown, nothing is known about the largest difference between conventions.

    under: the estimates under each convention.
    """
    result = {}
    for name, mask in undecided.items():
        found = [*(each[name] for each in under), estimates[name]]
        values, errors = np.stack([of.value for of in found]), np.stack([of.error for of in found])
        unsure = ~np.isfinite(errors).all(axis=0)
        spread = np.nanmax(values, axis=0, initial=-np.inf) - np.nanmin(values, axis=0, initial=np.inf)
        at = mask & (unsure | (spread > ERROR_BARS * errors.max(axis=0)))
        if at.any():
            bounds, mixtures = partial(reference.between, name, at), partial(reference.mixtures, name, at)
            result[name] = Alternatives(at, values, errors, bounds, mixtures)
    return result


def with_sides_that_agree(
    reference: Reference, estimates: Estimates, undecided: Mapping[str, Array]
) -> Estimates:
    """Return the estimates, improved where the slopes to the left and to the right have the same limit.

    An example is a loss whose curvature jumps, such as huber where |a − y| is delta. Central differences
    converge slowly there, but one-sided slopes can be extrapolated.
    """
    if not isinstance(reference, LiteralDifferences) or reference.objective.tells_kinks:
        return estimates
    improved = dict(estimates)
    for name, mask in undecided.items():
        movable = reference.objective.entries(name)
        mask = mask & (estimates[name].error > _WORTHWHILE * _least_noise(movable).reshape(mask.shape))
        if mask.any():
            improved[name] = _from_both_sides(movable, estimates[name], mask)
    return improved


def _least_noise(movable: Movable) -> Array:
    """Return the noise of each variable's one-sided slope at the longest step that counts, (P,)."""
    first = np.array([0])
    rounding = in_quadrature(movable.move(first, movable.position[first]).rounding.reshape(1, -1))
    return np.asarray(2.0 * EPS * rounding / (_STEPS[_SHORT] * movable.unit))


def _from_both_sides(movable: Movable, estimate: Estimate, mask: Array) -> Estimate:
    left, right, noise = (each[_SHORT:] for each in _slopes(movable, np.flatnonzero(mask)))
    (down, down_error), (up, up_error) = (_limit(slopes, noise) for slopes in (left, right))
    with np.errstate(invalid="ignore"):
        found = Estimate(0.5 * (down + up), np.maximum(down_error, up_error) + np.abs(up - down))
        apart = np.abs(found.value - estimate.value[mask])
        fits = apart <= ERROR_BARS * (found.error + estimate.error[mask])
    return estimate.improved(mask, found.where(fits))


_SHORT = 2
"""The number of long steps to leave out if limits count as estimates. Long steps may agree by accident."""

_WORTHWHILE = 30.0
"""An estimate is improved only if its error exceeds this multiple of the noise, which limits any estimate."""

_STEPS = 2.0 ** -np.arange(2.0, 30.0, 3.0)
_STEADY = 0.5
"""The slopes on the two sides stay apart if each gap is more than this multiple of the gap one step before.

Each step is an eighth of the step before. The gap shrinks as fast on a smooth function, but not at a kink.
"""

_JUMPS = 4.0
"""The loss jumps if the gap grows to more than this multiple from one step to the next.

At a jump, the gap grows eightfold, and there is no slope on one of the sides.
"""


def _one_sided(reference: LiteralDifferences, name: str, mask: Array) -> Alternatives:
    """Return alternatives for the marked entries whose one-sided slopes stay apart until noise hides them."""
    movable, which = reference.objective.entries(name), np.flatnonzero(mask)
    left, right, noise = _slopes(movable, which)
    kinked = _stay_apart(np.abs(right - left), noise)
    (down, down_error), (up, up_error) = (_limit(slopes, noise) for slopes in (left, right))
    # One entry may cross several kinks whose slopes cancel in a one-sided total but not under a convention:
    # a gradient with relu'(0) = 0 at all of them is as far from each side as that side is from 0.
    margin = np.abs(down) + np.abs(up)
    low, high = np.minimum(down, up) - margin, np.maximum(down, up) + margin
    # At the end of its domain, a function has only one side.
    ends = np.isfinite(down_error) != np.isfinite(up_error)
    only, only_error = np.fmax(down, up), np.minimum(down_error, up_error)
    down, up, low, high = (np.where(ends, only, each) for each in (down, up, low, high))
    error = np.where(ends, only_error, np.maximum(down_error, up_error))
    at = np.zeros(mask.shape, dtype=bool)
    at.flat[which] = kinked | ends

    def spread(numbers: Array) -> Array:
        full = np.full(mask.shape, np.nan)
        full.flat[which] = numbers
        return full

    values = np.stack([spread(down + share * (up - down)) for share in SHARES])
    errors = np.broadcast_to(spread(error), values.shape)
    return Alternatives(at, values, errors, lambda: (spread(low), spread(high)))


def _shares() -> tuple[float, ...]:
    """Return the shares of a jump that a maximum may assign to one of k equal values, in ascending order."""
    shares = {0.0, 1.0} | {j / k for k in range(2, 7) for j in range(1, k)}
    return tuple(sorted(shares | {1.0 / k for k in range(7, 17)} | {1.0 - 1.0 / k for k in range(7, 17)}))


SHARES = _shares()
"""The shares that a maximum may assign to one of k equal values.

They are 1/k and 1 − 1/k for k up to 16, and every j/k for k up to 6.
"""


def _stay_apart(gap: Array, noise: Array) -> Array:
    """Return a mask of the entries whose one-sided slopes stay apart at the finest visible steps.

    gap, noise: the distance between the two slopes, and the noise of this distance, both (steps, entries).
    """
    tells = np.zeros(gap.shape, dtype=bool)
    tells[1:] = 4.0 * noise[1:] < gap[:-1]
    steps, entries = np.arange(len(gap))[:, None], np.arange(gap.shape[1])
    finest = np.where(tells, steps, 0).max(axis=0)
    before = np.maximum(finest - 1, 0)
    growth = gap[finest, entries] / np.maximum(gap[before, entries], np.finfo(np.float64).tiny)
    apart: Array = (finest > 0) & (growth > _STEADY) & (growth < _JUMPS)
    return apart & (gap[finest, entries] > 4.0 * noise[finest, entries])


def _limit(slopes: Array, noise: Array) -> tuple[Array, Array]:
    """Return the limit of the slope on one side of the kink, and the error of the limit.

    The slopes at each pair of neighbouring steps are extrapolated, and the result is compared with the result
    of the next finer pair. The pair with the closest agreement is chosen.

    slopes, noise: (steps, entries).
    """
    extrapolated = slopes[1:] + np.diff(slopes, axis=0) / 7.0
    errors = np.abs(np.diff(extrapolated, axis=0)) + 2.0 * (noise[1:-1] + noise[2:])
    errors = np.nan_to_num(errors, nan=np.inf)  # where the function is undefined
    best = errors.argmin(axis=0), np.arange(slopes.shape[1])
    return extrapolated[best], errors[best]


def _slopes(movable: Movable, which: Array) -> tuple[Array, Array, Array]:
    """Return the slopes to the left, the slopes to the right, and their noise, each (steps, entries)."""
    rows = [_slopes_at(movable, which, step) for step in _STEPS]
    left, right, noise = (np.stack(each) for each in zip(*rows, strict=True))
    return left, right, noise


def _slopes_at(movable: Movable, which: Array, step: float) -> tuple[Array, Array, Array]:
    parts: list[tuple[Array, Array, Array]] = []
    size = movable.batch  # the number of workers may change meanwhile
    for start in range(0, len(which), size):
        part = which[start : start + size]
        here, length = movable.position[part], step * movable.unit[part]
        left, below = _side(movable, part, here - length)
        right, above = _side(movable, part, here + length)
        parts.append((left, right, 2.0 * EPS * np.fmax(below, above) / length))
    left, right, noise = (np.concatenate(each) for each in zip(*parts, strict=True))
    return left, right, noise


def _side(movable: Movable, part: Array, to: Array) -> tuple[Array, Array]:
    """Return the mean slopes between the current values and `to`, and the rounding error of the losses.

    Both results have the shape (B,), for B perturbed variables.
    """
    moved = movable.move(part, to)
    rise = (moved.losses - movable.rest).reshape(len(to), -1).sum(axis=1)
    rounding = in_quadrature(moved.rounding.reshape(len(to), -1))
    return rise / (to - movable.position[part]), rounding
