"""Notice a feature of a function that is narrower than the steps.

An example is a normalisation near 0 whose eps is tiny, or the length of a vector that is nearly 0. A step
that is longer than the feature sees nothing but a jump J, so its slope is J / h. Such slopes differ from step
to step in the way that noise does, but they all have one sign, and J is the same for all of them.
"""

from __future__ import annotations

import numpy as np

from gradcheck_cli.types import Array

CHANGES = 1e-3
"""A slope changes if it does so by this share of its size, and is settled if it is known more precisely."""

_FAR_BEYOND = 30.0
"""A multiple of the bounds on rounding errors that no rounding reaches."""

_ALIKE = 0.75
"""Two jumps are alike if the smaller one is at least this share of the larger one; noise rarely is."""

_FIRST = 5
"""How many steps show whether slopes rise all the time."""


def is_narrow(slopes: Array, noise: Array, steps: Array) -> Array:
    """Return whether a feature seems to be narrower than the shortest steps, (B,).

    slopes, noise: (S, B), at falling steps.  steps: (S,).
    """
    change = np.diff(slopes[-4:], axis=0)
    jumps = change / np.diff(1.0 / steps[-4:])[:, None]
    size = np.maximum(np.abs(slopes[-1]), np.abs(slopes[-2]))
    rounding = _FAR_BEYOND * (noise[-1] + noise[-2])
    changes = np.abs(change[-1]) > np.maximum(CHANGES * size, rounding)
    return np.asarray(changes & _alike(jumps[0], jumps[1]) & (jumps[1] * jumps[2] > 0.0))


def _alike(one: Array, other: Array) -> Array:
    sizes = np.abs(one), np.abs(other)
    return np.asarray((one * other > 0.0) & (np.minimum(*sizes) >= _ALIKE * np.maximum(*sizes)))


def keep_rising(slopes: Array) -> Array:
    """Return whether the slopes (S, B) rise, or fall, from each of the first steps to the next, (B,)."""
    signs = np.sign(np.diff(slopes[:_FIRST], axis=0))
    return np.asarray((signs == signs[0]).all(axis=0) & (signs[0] != 0))
