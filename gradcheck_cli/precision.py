"""How exact the losses and gradients of the user's code are, measured on its own values."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from gradcheck_cli.model.special import Array
from gradcheck_cli.numerical.noise import POINTS, changes, grain, noise_level, resolution
from gradcheck_cli.sources.analytic import Analytic
from gradcheck_cli.sources.foreign import Function, length

Observe = Callable[[Mapping[str, Array]], Array]

_DISTANCES = tuple(2.0**-k for k in (36, 28, 20, 12))
"""Of neighbouring points on a line: for a function in float64 far above ε, and next to nothing curves. The
longer ones are for what does not change on shorter ones, being rounded: to float32, or beside a 1."""

_FAR = 2.0**-6
"""Far enough to see a loss jump that is a small difference of large numbers."""

_SIGMAS = 4.0
"""A bound on what noise of standard deviation 1 does: the largest of many thousand samples."""

_UNDERFLOWS = 8.0
"""What a gradient may lose to underflow, in units of the smallest number of its type."""


def measured_noise(function: Function, analytic: Analytic) -> tuple[Array, Mapping[str, Array]]:
    """How exact each loss is, (S,), and a bound on the rounding of each gradient, in the gradient's shape.

    Both are taken from values along short lines that start beside the parameters: at these themselves a kink
    may sit, and numbers that are exact only there. A single entry's noise is known only roughly from so few
    points, so none counts as less than the tensor's on the whole. Where the code can also compute in wider
    floats, what these change counts, too.
    """
    here = function.parameters
    loss_level, losses = _noise(function.losses, here)
    loss_level = np.maximum(loss_level, grain(_along(function.losses, here, _FAR)))
    levels, _ = _noise(lambda at: _flat(function.gradients(at), analytic), here)
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
    floor = resolution(losses) * np.abs(losses).max(axis=0)
    return np.maximum(_SIGMAS * loss_level, floor), bounds


def _flat(gradients: Mapping[str, Array], analytic: Analytic) -> Array:
    return np.concatenate([np.asarray(gradients[name], np.float64).ravel() for name in analytic.values])


def _noise(observe: Observe, parameters: Mapping[str, Array]) -> tuple[Array, Array]:
    """σ of everything that is observed, (K,), and the values (POINTS, K) of the last line.

    Every number is judged on the shortest line on which it changes from one point to the next.
    """
    level, unchanged = None, None
    for distance in _DISTANCES:
        values = _along(observe, parameters, distance)
        if level is None or unchanged is None:
            level, unchanged = np.zeros(values.shape[1]), values.any(axis=0)
        if distance < 8.0 * resolution(values):
            continue
        told = unchanged & changes(values)
        level[told] = noise_level(values[:, told])
        unchanged &= ~told
        if not unchanged.any():
            break
    assert level is not None
    level[unchanged] = noise_level(values[:, unchanged])
    return level, values


def _along(observe: Observe, parameters: Mapping[str, Array], distance: float) -> Array:
    """What is observed at POINTS points on a line, (POINTS, K)."""
    rng = np.random.default_rng(0)
    lines = {  # of no round length, which even a narrow type would hold exactly
        name: length(array) * rng.uniform(0.5, 1.0, array.shape) * rng.choice([-1.0, 1.0], array.shape)
        for name, array in parameters.items()
    }
    points = [
        {name: array + k * distance * lines[name] for name, array in parameters.items()}
        for k in range(1, POINTS + 1)
    ]
    return np.stack([observe(point) for point in points])
