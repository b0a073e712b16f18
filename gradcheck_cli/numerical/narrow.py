"""Notice a feature of a function that is narrower than the steps.

Examples are a normalisation near 0 with a tiny eps, or the length of a vector that is nearly 0. A step h that
is longer than the feature sees nothing but a jump J, so its slope is J / h. Like noise, such slopes differ
from step to step. But all these slopes have the same sign, and J is the same for all steps.
"""

from __future__ import annotations

import numpy as np

from gradcheck_cli.numerical.objective import Movable
from gradcheck_cli.numerical.schemes import Scheme
from gradcheck_cli.numerical.slopes import slopes_at_steps
from gradcheck_cli.types import Array

CHANGES = 1e-3
"""A slope counts as changed if it changes by more than this share, and as settled if its error is smaller."""

CHANGES_A_LITTLE = 1e-8
"""The same share for the user's code. The noise of its losses is measured, so smaller changes are visible."""

_FAR_BEYOND = 30.0
"""No rounding error reaches this multiple of its bound."""

_ALIKE = 0.75
"""Two jumps are alike if the smaller one is at least this share of the larger.

Jumps in noise are rarely alike.
"""

_FIRST = 5
"""The number of steps that show whether slopes always rise or always fall."""


def is_narrow(slopes: Array, noise: Array, steps: Array) -> Array:
    """Return, for each of B variables, whether a feature seems to be narrower than the shortest steps, (B,).

    slopes, noise: the slopes at S falling steps, and their noise, (S, B).
    steps: the steps, (S,).
    """
    jumps = np.diff(slopes[-4:], axis=0) / np.diff(1.0 / steps[-4:])[:, None]
    is_same_jump = _alike(jumps[0], jumps[1]) & (jumps[1] * jumps[2] > 0.0)
    return np.asarray(still_change(slopes, noise) & is_same_jump)


def still_change(slopes: Array, noise: Array, share: float = CHANGES) -> Array:
    """Return, for each of B variables, whether its slopes still change at the two shortest steps, (B,).

    slopes, noise: the slopes at S falling steps, and their noise, (S, B). A change that noise can explain
        does not count.
    share: the smallest share of a slope that counts as a change.
    """
    size = np.maximum(np.abs(slopes[-1]), np.abs(slopes[-2]))
    rounding = _FAR_BEYOND * (noise[-1] + noise[-2])
    return np.asarray(np.abs(slopes[-1] - slopes[-2]) > np.maximum(share * size, rounding))


def _alike(one: Array, other: Array) -> Array:
    sizes = np.abs(one), np.abs(other)
    return np.asarray((one * other > 0.0) & (np.minimum(*sizes) >= _ALIKE * np.maximum(*sizes)))


def keep_rising(slopes: Array) -> Array:
    """Return, for each of B variables, whether its slopes always rise or always fall over the first steps.

    slopes: the slopes at S falling steps, (S, B).
    """
    signs = np.sign(np.diff(slopes[:_FIRST], axis=0))
    return np.asarray((signs == signs[0]).all(axis=0) & (signs[0] != 0))


_SHRINK = 2.0**-10
"""The factor from one step to the next in the search for a step that is shorter than a narrow feature."""

_SHRINKS = 14
"""The number of steps in that search. The last is 2⁻¹⁴⁰ times the first."""


def step_within(movable: Movable, scheme: Scheme, which: Array, step: Array) -> tuple[Array, Array]:
    """Return, for each of the M variables `which`, a step at which its slope no longer grows, (M,).

    The second result is a mask, (M,), of the variables that have such a step. A jump has none.

    step: a step that is longer than the feature, (M,).
    """
    before, grows = np.full(len(which), np.nan), np.ones(len(which), dtype=bool)
    for _ in range(_SHRINKS):
        step = np.where(grows, _SHRINK * step, step)
        (slopes,) = slopes_at_steps(movable, scheme, which, [step])
        grows &= ~(np.abs(slopes.value) <= 2.0 * np.abs(before))
        before = slopes.value
        if not grows.any():
            break
    return step, ~grows
