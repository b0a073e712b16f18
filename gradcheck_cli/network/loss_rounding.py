"""How exact a loss is whose outputs are moved, and how exact its gradient is that backprop starts with."""

from __future__ import annotations

import numpy as np

from gradcheck_cli.model.losses import Loss
from gradcheck_cli.model.row_rounding import FUNCTION_ULPS
from gradcheck_cli.network.arithmetic import NUDGED, Arithmetic
from gradcheck_cli.network.step import Upstream
from gradcheck_cli.types import Array

_SAFETY = 3.0


def loss_and_rounding(loss: Loss, a: Array, target: Array, a_rounding: Array) -> tuple[Array, Array]:
    """Return ℓ(a) and how exact it is, in units of ε, each (…), for a exact to a_rounding, both (…, C).

    From values alone: what a nudge of every output changes.
    """
    nudge = NUDGED.eps * (a_rounding + FUNCTION_ULPS * np.abs(a))
    value, carried, size = loss.rounding.value(loss, a, nudge, target)
    return value, carried / NUDGED.eps + size


def loss_upstream(
    loss: Loss, coefficient: float, a: Array, a_error: Array, target: Array, arithmetic: Arithmetic
) -> Upstream:
    """Return ∂L/∂a of outputs a (N, C) that are off by a_error, with what rounding may do to it."""
    dL_da, size = coefficient * loss.gradient(a, target), abs(coefficient)
    error = size * loss.rounding.gradient(loss, a, a_error, target, arithmetic.eps)
    error = error + 2 * arithmetic.eps * np.abs(dL_da) + arithmetic.tiny
    return Upstream(dL_da, error, size * _largest(loss, a, a_error, target) - np.abs(dL_da))


def _largest(loss: Loss, a: Array, a_error: Array, target: Array) -> Array:
    """How large |∂ℓ/∂a| can be on either side of a kink that rounding may put a on."""
    slopes = [np.abs(loss.gradient(a, target))]
    if loss.pieces is not None and loss.per_output:
        reach = _SAFETY * a_error + np.finfo(np.float64).tiny
        slopes += [np.abs(loss.gradient(a + side, target)) for side in (-reach, reach)]
    largest: Array = np.maximum.reduce(slopes)
    return largest
