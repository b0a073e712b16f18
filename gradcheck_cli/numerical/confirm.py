"""Confirm estimates by slopes at a step far shorter than those of the estimates."""

from __future__ import annotations

import numpy as np

from gradcheck_cli.numerical.estimate import Estimate, Progress, all_or, own_size
from gradcheck_cli.numerical.objective import Movable
from gradcheck_cli.numerical.schemes import Scheme
from gradcheck_cli.numerical.slopes import Slopes, slopes_at_steps, uncrossed
from gradcheck_cli.types import EPS, Array


def confirm(
    movable: Movable,
    scheme: Scheme,
    first: Estimate,
    step: float | None = None,
    which: Array | None = None,
    progress: Progress | None = None,
) -> tuple[Estimate, Array]:
    """Return slopes at a step far shorter than those of `first`, with bounds on the effect of hidden kinks.

    The short step exposes narrow features and kinks that longer steps jump over. For M variables, slopes and
    bounds have the shape (M,). The error of each slope is its noise.
    """
    which, largest = all_or(which, movable), step or scheme.step
    fine = scheme.ladder[scheme.certify[-1]]
    steps = largest * np.clip(_balanced(movable, which, first) / largest, scheme.ladder[-1], _SHORT * fine)
    steps = np.minimum(steps, largest * fine * own_size(movable, which))
    if progress:
        progress.expect(len(scheme.offsets) * len(which))
    value, noise, hidden = (movable.spread.empty(len(which)) for _ in range(3))

    size = movable.batch  # the number of workers may change while they work

    def batch(start: int) -> int:
        part = slice(start, start + size)
        (slopes,) = map(uncrossed, slopes_at_steps(movable, scheme, which[part], [steps[part]]))
        value[part], noise[part], hidden[part] = slopes.value, slopes.noise, _hidden(slopes)
        return len(slopes.value)

    for done in movable.spread(batch, range(0, len(which), size)):
        if progress:
            progress.advance(len(scheme.offsets) * done)
    return Estimate(value, noise), hidden


HIDDEN = 32.0
"""A bound on the sizes of jumps that nearly cancel.

The jumps of several kinks may partly cancel. The sum of their sizes is assumed to be at most this multiple of
the net jump.
"""

_BALANCE = 128.0
"""The weight of curvature relative to noise.

Curvature weighs more, because only noise can excuse a disagreement.
"""

_SHORT = 2.0**-3
"""A confirming step must be at most this multiple of the earlier steps to reveal anything new."""


_FIRST = np.array([0])
"""The index of a movable's first variable."""


def _balanced(movable: Movable, which: Array, first: Estimate) -> Array:
    """Return, for each of the M variables `which`, the step at which noise balances curvature, (M,).

    Curvature matters because it adds to the bound that `_hidden` returns, even for a smooth function.
    Curvature is assumed to change the slope by the slope's own size over a step of 1. The noise of the
    movable's first variable is used for every variable, so that a step does not depend on the other
    variables.
    """
    rounding = np.ravel(movable.move(_FIRST, movable.position[_FIRST]).rounding)
    rise = np.abs(first.value) * movable.unit[which]
    with np.errstate(divide="ignore", invalid="ignore"):
        balanced: Array = np.sqrt(EPS * np.linalg.norm(rounding) / rise / _BALANCE)
    return np.nan_to_num(balanced, nan=np.inf)


def _hidden(slopes: Slopes) -> Array:
    """Return bounds on the changes that unreported kinks may cause in B slopes, (B,).

    A kink shows as a bend, the difference between the two one-sided slopes, that is larger than the noise.
    """
    bend = np.abs(slopes.bend)
    beyond_noise = bend.sum(axis=1) - 4.0 * np.sqrt(bend.shape[1]) * slopes.noise
    return HIDDEN * np.maximum(0.0, np.nan_to_num(beyond_noise, nan=np.inf))
