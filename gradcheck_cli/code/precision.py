"""Measure the noise and the rounding in the user's losses and gradients, using only what the code returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcheck_cli.code.function import Function
from gradcheck_cli.code.objective import length
from gradcheck_cli.code.refusals import is_refusal
from gradcheck_cli.gradients.analytic import Analytic
from gradcheck_cli.numerical.estimate import SMALL
from gradcheck_cli.numerical.noise import (
    POINTS,
    changes,
    grain,
    largest_jump,
    noise_level,
    noise_of_types,
    resolution,
)
from gradcheck_cli.types import EPS, Array, precision_of

Observe = Callable[[Mapping[str, Array]], Array]


_DISTANCES = tuple(2.0**-k for k in (36, 28, 20, 12))
"""Distances between neighbouring points on a line, from short to long.

All of them are far longer than the machine epsilon of float64, yet too short to show curvature. The longer
distances are for results that stay constant over shorter ones, because the code rounds to float32 or adds a
small number to 1.
"""

_LONG = 2.0**-7
"""A distance close to the relative spacing of half-precision numbers, which may not resolve shorter steps."""

_FAR = 2.0**-6
"""A distance long enough to show jumps in a loss that is a small difference of large numbers."""

_STAIRS = {
    True: ((2.0**-38, 2.0**-20, 1), (2.0**-18, 2.0**-5, 3)),
    False: ((2.0**-18, 2.0**-5, 2), (2.0**-14, 2.0**-5, 2)),
}
"""The settings of the search for stairs, which are jumps due to rounding.

The key says whether the loss is nearly exact. Each row searches for the stairs of one floating-point type. It
holds a distance shorter than these stairs, a longer distance, and the number of lines to try, since jumps may
cancel on a single line. The relative spacing of half-precision numbers is 2⁻⁸ or 2⁻¹¹, and that of float32
numbers is 2⁻²⁴. Even a function that is known to compute in float64 may hide half precision in a kernel.
"""

_EXACT = 2.0**-40
"""The relative noise below which the losses must have been computed in float64."""

_ENDS = np.array([1.0, 3.0, 8.0])
"""The ends of the intervals in which to search for stairs, in units of the longer distance in `_STAIRS`.

Short intervals show stairs that are close together; long intervals show stairs that are far apart.
"""

_UNEVEN = 0.3
"""The ratio of a second, closer spacing of the points to the first.

The second spacing is needed because points exactly one stair apart would hide the stairs.
"""

_CLOSER = 14
"""The number of points for a second test, which follows if the first points suggest stairs."""

_BEYOND = 2.0
"""There are stairs if an average slope is farther than this from the median of the local slopes.

The unit is the range of the local slopes.
"""

_SHARES = (1.0, 2.0**-8, 2.0**-16)
"""The factors by which to shorten a line if the code cannot be evaluated on a longer one."""

_SIGMAS = 4.0
"""The bound on the noise, in standard deviations. Of many thousand samples, hardly any lies beyond it."""

_UNDERFLOWS = 8.0
"""The most that a gradient may lose to underflow, in units of its dtype's smallest positive number."""


def measured_noise(function: Function, analytic: Analytic) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return the noise in the losses and rounding bounds for the gradients, each by parameter name.

    The noise of a parameter, (S,), is the noise in the S loss terms while that parameter is perturbed. The
    bounds have the shape of the gradient. Noise and bounds are measured along short lines that start near the
    current parameters. The lines leave out the current parameters, where the loss may have a kink, or may be
    exact by coincidence. If rounding makes the losses jump, the lines are longer.
    """
    here = function.parameters
    everywhere, losses = _noise_everywhere(function, function.losses)
    noise, longest = dict.fromkeys(here, everywhere), 0.0
    for name in here:
        stair = _stair(function, name, everywhere, losses)
        longest = max(longest, stair)
        if stair:
            lines = [_along(function.losses, here, _equidistant(d), name) for d in (stair, _UNEVEN * stair)]
            noise[name] = np.maximum(everywhere, _SIGMAS * np.maximum(*map(largest_jump, lines)))
    for kernel in function.kernels:
        return noise, kernel.bounds(analytic)
    return noise, _gradient_bounds(function, analytic, longest)


def noise_of_terms(
    function: Function, losses: Observe, noise: Mapping[str, Array]
) -> dict[str, Array] | None:
    """Return the noise in a different set of loss terms of a function, by parameter name.

    Returns None if the function's losses have stairs, which are jumps due to rounding.

    losses: a function that returns the K terms at a point. The terms add up to the same loss as the
        function's own terms.
    noise: the noise in the function's own terms.
    """
    if in_jumps(function, noise):
        return None
    of_terms, _ = _noise_everywhere(function, losses)
    return dict.fromkeys(noise, of_terms)


def in_jumps(function: Function, noise: Mapping[str, Array]) -> tuple[str, ...]:
    """Return the names of the parameters along which the losses have stairs, which are jumps.

    noise: the noise in the losses that `measured_noise` returned.
    """
    own, _ = _noise_everywhere(function, function.losses)
    return tuple(name for name in noise if (noise[name] > own).any())


def _noise_everywhere(function: Function, losses: Observe) -> tuple[Array, Array]:
    """Return the noise in K loss terms apart from stairs, and the terms along one line, (POINTS, K)."""
    here = function.parameters
    level, values = _noise(losses, here, function.is_wide)
    level = np.maximum(level, grain(_along(losses, here, _equidistant(_FAR))))
    digits = EPS if function.is_wide else resolution(values)
    return np.maximum(_SIGMAS * level, digits * np.abs(values).max(axis=0)), values


def _stair(function: Function, name: str, noise: Array, losses: Array) -> float:
    """Return a distance longer than the stairs of the losses along one parameter; 0 if there are none.

    Stairs are jumps due to rounding.

    name: the name of that parameter.
    noise: the noise in the S loss terms, (S,).
    losses: the S loss terms at points along a line.
    """
    bar = 2.0 * float(np.linalg.norm(noise))
    exact = bar <= _EXACT * float(np.linalg.norm(losses))
    of_types = _STAIRS[exact][:1] if exact and function.is_wide else _STAIRS[exact]
    most = function.parameters[name].size  # with a single number, all lines are the same
    searched = [
        (stair, _Line(function, name, seed, flat))
        for flat, stair, lines in of_types
        for seed in range(min(lines, most))
    ]
    return max((stair for stair, line in searched if _has_stairs(line, stair, bar)), default=0.0)


@dataclass(frozen=True)
class _Line:
    """A random line along which only one parameter changes.

    name: the name of that parameter.
    seed: the seed of the random direction.
    flat: the distance, shorter than a stair, between the two points that give a local slope.
    """

    function: Function
    name: str
    seed: int
    flat: float

    def __call__(self, points: Array) -> tuple[Array, Array]:
        """Return the total loss and its local slope at each of these points on the line."""
        both = np.array([points, points + self.flat]).T.ravel()
        values = _along(self.function.losses, self.function.parameters, both, self.name, self.seed)
        at, beyond = values.sum(axis=1).reshape(-1, 2).T
        return at, (beyond - at) / self.flat


def _has_stairs(line: _Line, stair: float, bar: float) -> bool:
    """Return whether the total loss changes in jumps along a line, as if it were rounded to half precision.

    By the mean value theorem, the average slope of a smooth function between two points equals its slope at
    some point between them. A staircase does not obey this theorem: between its jumps it is flat, or has only
    the slope of the parts that are computed exactly.

    stair: a distance longer than the stairs to look for.
    bar: a bound on the noise of the total loss.
    """
    ends, noise = stair * _ENDS, bar / line.flat + bar / stair
    at, local = line(ends)
    between = np.diff(at) / np.diff(ends)

    def beyond(slopes: Array) -> bool:
        return bool((np.abs(between - np.median(slopes)) > _BEYOND * np.ptp(slopes) + noise).any())

    if not beyond(local):
        return False
    _, closer = line(np.linspace(ends[0], ends[-1], _CLOSER))  # kinks may lie between the ends
    return beyond(np.sort([*local, *closer])[1:-1])  # one of the points may lie on a jump


def _gradient_bounds(function: Function, analytic: Analytic, stair: float) -> dict[str, Array]:
    """Return bounds on the rounding errors of all gradients, by parameter name.

    A few points show the noise of a single entry only roughly, so no entry counts as less noisy than the
    entries of its tensor that are about as noisy overall. If the code can also compute in a wider type, the
    bound of an entry is at least four times the change that the wider type makes to it. If everything is then
    known to be wide, this change is all of the rounding, so no long line is needed to show half precision
    inside float32. A long line would also cross kinks and jumps, such as those of a table that is looked up
    at a computed index.

    stair: a distance longer than the jumps in the losses due to rounding; 0 if there are none.
    """

    def gradients(at: Mapping[str, Array]) -> Array:
        return _flat(function.gradients(at), analytic)

    wide = function.wide_gradients()
    may_hide_half = not (wide and wide.throughout) or any(map(_is_half, analytic.dtypes.values()))
    levels, _ = _noise(gradients, function.parameters, level_of=noise_of_types, may_hide_half=may_hide_half)
    if stair:
        levels = np.fmax(levels, noise_of_types(_along(gradients, function.parameters, _equidistant(stair))))
    bounds, start = {}, 0
    for name, value in analytic.values.items():
        level = levels[start : start + value.size]
        bound = _SIGMAS * _at_least_alike(level, _largest(value)).reshape(value.shape)
        if wide is not None:
            bound = np.fmax(bound, _SIGMAS * np.abs(wide.gradients[name] - value.astype(np.float64)))
        least = precision_of(analytic.dtypes[name]).smallest
        bounds[name] = bound + _UNDERFLOWS * least
        start += value.size
    return bounds


_UNLIKE = 1e4
"""The noise of an entry is underestimated by far less than this factor."""


_ERRATIC = 1e-7
"""Noise above this share of the tensor's largest gradient is more than the rounding of float64."""


def _largest(value: Array) -> float:
    return float(np.abs(np.nan_to_num(value.astype(np.float64), posinf=0.0, neginf=0.0)).max(initial=0.0))


def _at_least_alike(level: Array, largest: float) -> Array:
    """Return the noise levels of a tensor's entries, (K,), each raised to the mean of the levels like it.

    In ascending order, a new group of levels begins where an erratic level is `_UNLIKE` times the one before.
    So a few entries whose gradient changes erratically, such as those of a vector of zeros that is divided by
    its length, do not make all others seem as noisy. A level of 0 belongs to the group of the lowest levels.

    largest: the size of the tensor's largest gradient.
    """
    told = np.sort(level[np.isfinite(level) & (level > 0.0)])
    if not told.size:
        return np.fmax(level, 0.0)
    apart = told[1:] > np.maximum(_UNLIKE * told[:-1], _ERRATIC * largest)
    begins = [0, *(np.flatnonzero(apart) + 1)]
    means = np.array([_root_mean_square(group) for group in np.split(told, begins[1:])])
    with np.errstate(invalid="ignore"):
        group = np.searchsorted(told[begins], level, side="right") - 1
    return np.fmax(level, means[np.clip(group, 0, None)])


def _root_mean_square(numbers: Array) -> float:
    largest = float(numbers.max())
    return largest * float(np.sqrt(np.mean(np.square(numbers / largest))))


def _is_half(dtype: np.dtype[Any]) -> bool:
    return bool(precision_of(dtype).eps > np.finfo(np.float32).eps)


def _flat(gradients: Mapping[str, Array], analytic: Analytic) -> Array:
    return np.concatenate([np.asarray(gradients[name], np.float64).ravel() for name in analytic.values])


def _noise(
    observe: Observe,
    parameters: Mapping[str, Array],
    wide: bool = False,
    level_of: Callable[[Array], Array] = noise_level,
    may_hide_half: bool = True,
) -> tuple[Array, Array]:
    """Return the noise level σ of K observed quantities, (K,), and their values along one line, (POINTS, K).

    The line is the longest one that was needed; `_DISTANCES` lists the possible distances between its points.
    Each quantity is judged on the shortest line on which it changes from point to point. If no quantity
    changes on the shortest line and `wide` is False, the quantities were not computed in float64. If they
    may also hide half precision, a longer line shows its noise.

    observe: a function that returns the K quantities at a point.
    wide: whether the quantities are known to be computed in float64.
    level_of: a function that estimates σ from the values along a line.
    may_hide_half: whether a part of the quantities may have been computed in half precision.
    """
    level, unchanged, exact = None, None, False
    for distance in _DISTANCES:
        values = _along(observe, parameters, _equidistant(distance))
        if level is None or unchanged is None:
            level, unchanged = np.zeros(values.shape[1]), values.any(axis=0)
            exact = bool(changes(values).any())
        if not wide and distance < 8.0 * resolution(values):
            continue
        told = unchanged & changes(values)
        level[told] = level_of(values[:, told])
        unchanged &= ~told
        if not unchanged.any():
            break
    assert level is not None
    level[unchanged] = level_of(values[:, unchanged])
    if not exact and not wide and may_hide_half:
        level = np.fmax(level, level_of(_along(observe, parameters, _equidistant(_LONG))))
    return level, values


def _equidistant(distance: float) -> Array:
    return distance * np.arange(1, POINTS + 1)


def _along(
    observe: Observe,
    parameters: Mapping[str, Array],
    distances: Array,
    name: str | None = None,
    seed: int = 0,
) -> Array:
    """Return K observed quantities at these distances along a random line, (len(distances), K).

    If the code refuses a point or returns inf or NaN, the line is reversed or shortened. If the code refuses
    every line, its first exception is raised.

    observe: a function that returns the K quantities at a point.
    name: the name of the only parameter to perturb; None to perturb all of them.
    """
    values, refusal = None, None
    for line in _lines(parameters, list(parameters) if name is None else [name], seed):
        points = [{**parameters, **{n: parameters[n] + t * line[n] for n in line}} for t in distances]
        try:
            values = np.stack([observe(point) for point in points])
        except Exception as error:
            if not is_refusal(error):
                raise
            refusal = refusal or error
        else:
            if np.isfinite(values).all():
                break
    if values is None:
        assert refusal is not None
        raise refusal
    return values


def _lines(parameters: Mapping[str, Array], names: list[str], seed: int) -> Iterator[dict[str, Array]]:
    """Yield the direction of a random line and its reverse, and then shorter versions of both.

    Each direction is a dict by parameter name. The lines move an entry that is far smaller than its tensor in
    proportion to its own absolute value, and the shorter versions do so with every entry.

    names: the names of the parameters to move.
    """
    rng = np.random.default_rng(seed)
    signs = {  # no round lengths, which even a narrow type would hold exactly
        name: rng.uniform(0.5, 1.0, parameters[name].shape) * rng.choice([-1.0, 1.0], parameters[name].shape)
        for name in names
    }
    sizes: list[tuple[Callable[[Array], Array], float]] = [(_reach, 1.0), *((np.abs, s) for s in _SHARES)]
    for size, share in sizes:
        for side in (share, -share):
            yield {name: side * size(parameters[name]) * signs[name] for name in names}


def _reach(tensor: Array) -> Array:
    """Return how far a line moves each entry of a tensor: as far as a step of one unit in `estimate`.

    A longer move of a tiny entry could pass many waves of the loss, which would look like noise.
    """
    size, unit = np.abs(tensor), length(tensor)
    own = np.where(size > 0.0, size, np.where(unit * SMALL > 1.0, 1.0, unit))
    return np.where(own < SMALL * unit, own, unit)
