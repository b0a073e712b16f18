"""Bound the rounding errors of the loss at perturbed outputs, and of ∂L/∂a, from which backprop starts."""

from __future__ import annotations

import numpy as np

from gradcheck_cli.network.arithmetic import NUDGED, Arithmetic
from gradcheck_cli.network.loss import Loss
from gradcheck_cli.network.loss_functions.rounding import RoundingOfPositions
from gradcheck_cli.network.row_rounding import FUNCTION_ULPS
from gradcheck_cli.network.step import Upstream
from gradcheck_cli.types import Array

_SAFETY = 3.0


def loss_and_rounding(loss: Loss, a: Array, target: Array, a_rounding: Array) -> tuple[Array, Array]:
    """Return the loss ℓ(a) and a bound on its rounding error, each of shape (…).

    The bound and `a_rounding` are in units of machine epsilon. The gradient of ℓ is not used: each output is
    nudged, and the change of ℓ is observed.

    a: the network's C outputs, (…, C).
    a_rounding: a bound on the rounding error of each output, (…, C).
    """
    nudge = NUDGED.eps * (a_rounding + FUNCTION_ULPS * np.abs(a))
    value, carried, size = loss.rounding.value(loss, a, nudge, target)
    return value, carried / NUDGED.eps + size


def loss_of_position(loss: Loss) -> Loss | None:
    """Return the loss of one position, or None if the loss is not a sum over positions."""
    rounding = loss.rounding
    return rounding.row if isinstance(rounding, RoundingOfPositions) else None


def loss_upstream(
    loss: Loss, coefficient: float, a: Array, a_error: Array, target: Array, arithmetic: Arithmetic
) -> Upstream:
    """Return ∂L/∂a with a bound on its rounding error.

    a: the network's C outputs for N samples, (N, C).
    a_error: a bound on the error of each output, (N, C).
    """
    dL_da, size = coefficient * loss.gradient(a, target), abs(coefficient)
    error = size * loss.rounding.gradient(loss, a, a_error, target, arithmetic.eps)
    error = error + 2 * arithmetic.eps * np.abs(dL_da) + arithmetic.tiny
    return Upstream(dL_da, error, size * _largest(loss, a, a_error, target) - np.abs(dL_da))


def _largest(loss: Loss, a: Array, a_error: Array, target: Array) -> Array:
    """Return the largest |∂ℓ/∂a| on all sides of a kink to which rounding may move the outputs."""
    slopes = [np.abs(loss.gradient(a, target))]
    if loss.pieces is not None and loss.per_output:
        reach = _SAFETY * a_error + np.finfo(np.float64).tiny
        slopes += [np.abs(loss.gradient(a + side, target)) for side in (-reach, reach)]
    largest: Array = np.maximum.reduce(slopes)
    return largest
