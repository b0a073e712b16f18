"""Measure how exact the losses and gradients of the user's code are, from its own values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from gradcheck_cli.code.objective import Function, is_refusal, length
from gradcheck_cli.gradients.analytic import Analytic
from gradcheck_cli.numerical.noise import (
    POINTS,
    changes,
    grain,
    largest_jump,
    noise_level,
    noise_of_types,
    resolution,
)
from gradcheck_cli.types import EPS, Array

Observe = Callable[[Mapping[str, Array]], Array]


_DISTANCES = tuple(2.0**-k for k in (36, 28, 20, 12))
"""Distances of neighbouring points on a line: far above ε of float64, yet too short to show curvature.

The longer ones are for values that do not change on shorter ones, because they are rounded to float32 or
added to a 1.
"""

_LONG = 2.0**-7
"""About the spacing of half-precision numbers: shorter steps leave most of them unchanged."""

_FAR = 2.0**-6
"""Distance long enough to see jumps in a loss that is a small difference of large numbers."""

_STAIRS = {
    True: ((2.0**-38, 2.0**-20, 1), (2.0**-18, 2.0**-5, 3)),
    False: ((2.0**-18, 2.0**-5, 2), (2.0**-14, 2.0**-5, 2)),
}
"""How to search for stairs: for losses that are exact apart from narrow parts (True), and for others.

Each row has a distance shorter than the stairs of a type, a longer one, and the number of lines to try, since
jumps may cancel on one. Half-precision numbers are 2⁻⁸ or 2⁻¹¹ of their size apart, float32 numbers 2⁻²⁴.
Even a function known to be wide may hide half precision in a kernel.
"""

_EXACT = 2.0**-40
"""Losses whose relative noise is smaller than this were computed in float64."""

_ENDS = np.array([1.0, 3.0, 8.0])
"""Ends of the intervals to search for stairs: short ones for many stairs, long ones for few."""

_UNEVEN = 0.3
"""Points spaced exactly one stair apart hide the stairs; this fraction of the spacing does not."""

_CLOSER = 14
"""Number of points of the closer look, which is taken if a few points suggest stairs."""

_BEYOND = 2.0
"""A slope must exceed the range of the local slopes by this multiple of their spread to indicate stairs."""

_SHARES = (1.0, 2.0**-8, 2.0**-16)
"""Factors that shorten the lines if the code cannot be evaluated on longer ones."""

_SIGMAS = 4.0
"""Bound on noise of standard deviation 1: the largest of many thousand samples."""

_UNDERFLOWS = 8.0
"""The most that a gradient may lose to underflow, in units of the smallest number of its type."""


def measured_noise(function: Function, analytic: Analytic) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return the noise of the losses as each parameter moves, (S,), and a rounding bound for each gradient.

    Both come from values along short lines that start near the parameters, because there may be a kink at the
    parameters themselves, or numbers that are exact only there. If the losses have stairs, the lines are
    longer.
    """
    here = function.parameters
    level, losses = _noise(function.losses, here, function.is_wide)
    level = np.maximum(level, grain(_along(function.losses, here, _equidistant(_FAR))))
    digits = EPS if function.is_wide else resolution(losses)
    floor = digits * np.abs(losses).max(axis=0)
    everywhere = np.maximum(_SIGMAS * level, floor)
    noise, longest = dict.fromkeys(here, everywhere), 0.0
    for name in here:
        stair = _stair(function, name, everywhere, losses)
        longest = max(longest, stair)
        if stair:
            lines = [_along(function.losses, here, _equidistant(d), name) for d in (stair, _UNEVEN * stair)]
            noise[name] = np.maximum(everywhere, _SIGMAS * np.maximum(*map(largest_jump, lines)))
    return noise, _gradient_bounds(function, analytic, longest)


def _stair(function: Function, name: str, noise: Array, losses: Array) -> float:
    """Return a distance longer than the stairs of the losses along a parameter; 0 if there are none."""
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
    """A random line on which only one parameter moves.

    flat: the distance of two points for a local slope.
    """

    function: Function
    name: str
    seed: int
    flat: float

    def __call__(self, points: Array) -> tuple[Array, Array]:
        """Return the losses' sum and the local slope at these points."""
        both = np.array([points, points + self.flat]).T.ravel()
        values = _along(self.function.losses, self.function.parameters, both, self.name, self.seed)
        at, beyond = values.sum(axis=1).reshape(-1, 2).T
        return at, (beyond - at) / self.flat


def _has_stairs(line: _Line, stair: float, bar: float) -> bool:
    """Return whether the losses rise in jumps along a line, as in half precision.

    By the mean value theorem, the slope between two points equals some slope between them. A staircase
    violates that: between its jumps it is flat, or rises only by the parts that are computed exactly.
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
    """Return a rounding bound for every gradient, in its shape.

    So few points show the noise of a single entry only roughly, so no entry counts as less noisy than its
    tensor overall. If the code can also compute in wider floats, the change that they make counts as well.
    stair: a distance longer than the stairs of the losses; 0 if there are none.
    """

    def gradients(at: Mapping[str, Array]) -> Array:
        return _flat(function.gradients(at), analytic)

    levels, _ = _noise(gradients, function.parameters, level_of=noise_of_types)
    if stair:
        levels = np.fmax(levels, noise_of_types(_along(gradients, function.parameters, _equidistant(stair))))
    wide = function.wide_gradients()
    bounds, start = {}, 0
    for name, value in analytic.values.items():
        level = levels[start : start + value.size]
        finite = level[np.isfinite(level)]
        whole = np.sqrt(np.mean(np.square(finite))) if finite.size else 0.0
        bound = _SIGMAS * np.fmax(level, whole).reshape(value.shape)
        if wide is not None:
            bound = np.fmax(bound, _SIGMAS * np.abs(wide[name] - value.astype(np.float64)))
        least = float(np.finfo(analytic.dtypes[name]).smallest_subnormal)
        bounds[name] = bound + _UNDERFLOWS * least
        start += value.size
    return bounds


def _flat(gradients: Mapping[str, Array], analytic: Analytic) -> Array:
    return np.concatenate([np.asarray(gradients[name], np.float64).ravel() for name in analytic.values])


def _noise(
    observe: Observe,
    parameters: Mapping[str, Array],
    wide: bool = False,
    level_of: Callable[[Array], Array] = noise_level,
) -> tuple[Array, Array]:
    """Return σ of every observed number, (K,), and the values (POINTS, K) on the last line needed.

    Each number is judged on the shortest line on which it changes from point to point. If none changes
    on the shortest line, the values are not float64 (unless `wide` says so), and a long line reveals half
    precision.
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
    if not exact and not wide:
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
    """Return the values observed at these distances along a random line, (len(distances), K).

    name: the only parameter to move; by default all of them.

    If the code refuses a point or returns a number that is not finite, the line is reversed or shortened.
    Raises the code's exception if it refuses every line.
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
    """Yield a random line through these parameters both ways, then shorter ones for small entries."""
    rng = np.random.default_rng(seed)
    signs = {  # no round lengths, which even a narrow type would hold exactly
        name: rng.uniform(0.5, 1.0, parameters[name].shape) * rng.choice([-1.0, 1.0], parameters[name].shape)
        for name in names
    }
    sizes: list[tuple[Callable[[Array], Array], float]] = [(length, 1.0), *((np.abs, s) for s in _SHARES)]
    for size, share in sizes:
        for side in (share, -share):
            yield {name: side * size(parameters[name]) * signs[name] for name in names}
