"""How far rounding alone can carry a right gradient from the exact one.

A running error analysis: every quantity of the forward pass and of backprop travels with a bound on its
rounding error, of first order in ε, and of second where both factors of a product may be 0. Where a
function's slope is needed, the function is evaluated at its argument moved by that argument's own error.
(N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed. 2002, §3.3, "running error analysis".)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcheck_cli.model.activations import Activation, Function
from gradcheck_cli.model.batch_norm import Normalised, normalised_rounding
from gradcheck_cli.model.losses import Loss
from gradcheck_cli.model.network import Activity, Arrays, Layer, Network, forward
from gradcheck_cli.model.penalties import PENALTIES
from gradcheck_cli.model.special import Array, softmax

FUNCTION_ULPS = 4.0
"""An elementary function's result is good to a few units in the last place."""


@dataclass(frozen=True)
class Arithmetic:
    """The floating-point arithmetic a gradient was computed in.

    eps:       its machine epsilon;  tiny: what it may lose to underflow.
    input_eps: the relative error with which it holds x and the parameters; 0 if it holds them exactly.
    """

    eps: float
    tiny: float
    input_eps: float = 0.0

    @classmethod
    def of(cls, dtype: np.dtype[Any], held: np.dtype[Any] | None = None) -> Arithmetic:
        """That of `dtype`, for numbers that `held` represents exactly (by default, `dtype` itself)."""
        info = np.finfo(dtype)
        exact = held is None or np.finfo(held).eps >= info.eps
        # Many a processor takes what is below the normal numbers for 0, though hardly in half precision.
        tiny = 4.0 * info.smallest_subnormal if info.bits == 16 else info.tiny
        return cls(float(info.eps), float(tiny), 0.0 if exact else float(info.eps))


FLOAT64 = Arithmetic.of(np.dtype(np.float64))


@dataclass(frozen=True)
class ForwardRounding:
    """Bounds on the rounding errors of an `Activity`, in its shapes."""

    inputs: tuple[Array, ...]
    normalised: tuple[Array | None, ...]
    y: tuple[Array, ...]
    output: Array


def forward_rounding(
    network: Network, parameters: Arrays, activity: Activity, arithmetic: Arithmetic
) -> ForwardRounding:
    """A bound on |computed − exact| for everything a forward pass computes."""
    eps, x_eps, tiny = arithmetic.eps, arithmetic.input_eps, arithmetic.tiny
    a_errors, y_errors = [], []
    z_hat_errors: list[Array | None] = []
    a = activity.inputs[0]
    a_error = x_eps * np.abs(a)
    for i, layer in enumerate(network.layers):
        z, y, z_hat = activity.z[i], activity.y[i], activity.normalised[i]
        w, b = np.abs(parameters[layer.weight]), np.abs(parameters[layer.bias])
        terms = np.abs(a) @ w.T + b
        z_error = a_error @ w.T + x_eps * terms + eps * _summed(terms, z, layer.inputs)
        a_errors.append(a_error)
        if z_hat is None:
            z_hat_errors.append(None)
            y_errors.append(z_error)
        else:
            z_hat_errors.append(eps * normalised_rounding(z, z_error / eps, z_hat))
            y_errors.append(eps * scaled_rounding(layer, parameters, z, z_error / eps, z_hat))
        a = layer.activation.value(y)
        a_error = _value_error(layer.activation, y, y_errors[-1]) + FUNCTION_ULPS * eps * np.abs(a) + tiny
        if layer.activation.absolute is not None:
            a_error = a_error + eps * layer.activation.absolute(y)
    return ForwardRounding(tuple(a_errors), tuple(z_hat_errors), tuple(y_errors), a_error)


@dataclass(frozen=True)
class FactorRounding:
    """Bounds on the rounding errors of one layer's `Factors`, each in the shape of its factor, and of its y.

    That of ∂a/∂y is `derivative_error` at y: for a coupled activation it is a Jacobian, built on demand.
    gradients: of every parameter of the layer, by name.
    """

    layer: Layer
    y: Array
    dL_da: Array
    delta: Array
    gradients: Mapping[str, Array]


def gradient_rounding(
    network: Network, parameters: Arrays, x: Array, target: Array, arithmetic: Arithmetic
) -> dict[str, Array]:
    """A bound, to first order, on |computed − exact| for each entry of each right gradient."""
    bounds: dict[str, Array] = {}
    eps, x_eps = arithmetic.eps, arithmetic.input_eps
    for rounding in factor_rounding(network, parameters, x, target, arithmetic):
        bounds |= rounding.gradients
    for name in bounds:
        for penalty, strength in network.penalties_on(name).items():
            term = PENALTIES[penalty].derivative(parameters[name], strength)
            bounds[name] = bounds[name] + 2 * (eps + x_eps) * np.abs(term)
    return bounds


def factor_rounding(
    network: Network, parameters: Arrays, x: Array, target: Array, arithmetic: Arithmetic
) -> Iterator[FactorRounding]:
    """The same for every factor of every layer, from the output down; without the penalties.

    What sits on a kink counts as on the side where it is: the other side is a matter of convention.
    """
    eps, x_eps, tiny = arithmetic.eps, arithmetic.input_eps, arithmetic.tiny
    activity = forward(network, parameters, x)
    errors = forward_rounding(network, parameters, activity, arithmetic)
    a_errors, z_hat_errors, y_errors = errors.inputs, errors.normalised, errors.y
    a, a_error = activity.output, errors.output
    dL_da = network.coefficient * network.loss.gradient(a, target)
    beside = abs(network.coefficient) * _beside_kinks(network.loss, a, a_error, target) - np.abs(dL_da)
    dL_da_error = abs(network.coefficient) * _loss_gradient_error(network.loss, a, a_error, target, eps)
    dL_da_error = dL_da_error + 2 * eps * np.abs(dL_da) + tiny
    for i in reversed(range(len(network.layers))):
        layer, y, a_h = network.layers[i], activity.y[i], np.abs(activity.inputs[i])
        delta = layer.activation.vjp(y, dL_da)
        # What a kink keeps from counting may count on its other side, with its own rounding.
        slope = _slope_beside(layer.activation, y, y_errors[i])
        beside = slope * (np.abs(dL_da) + beside) - np.abs(delta)
        error = _delta_error(layer.activation, y, y_errors[i], dL_da, dL_da_error, eps) + tiny
        error = np.maximum(error, slope * dL_da_error)
        bounds, z_hat, z_hat_error = {}, activity.normalised[i], z_hat_errors[i]
        if z_hat is not None and z_hat_error is not None:
            carried = (np.maximum(beside, 0.0) * z_hat_error).sum(axis=0)
            bounds[layer.gamma] = _sum_error(delta, error, z_hat.value, z_hat_error, eps) + carried + tiny
            bounds[layer.beta] = _sum_error(delta, error, None, None, eps) + tiny
            gamma = parameters[layer.gamma]
            g_error = np.abs(gamma) * error + eps * np.abs(gamma * delta)
            error = _norm_vjp_error(z_hat, z_hat_error, gamma * delta, g_error, eps) + tiny
            beside = np.abs(gamma) * (beside + beside.mean(axis=0)) / z_hat.deviation
            delta = z_hat.vjp(gamma * delta)
        beside = np.maximum(beside, 0.0)
        size = np.abs(delta) + beside
        bounds[layer.weight] = (
            error.T @ a_h
            + (size + error).T @ a_errors[i]
            + eps * _summed(size.T @ a_h, delta.T @ activity.inputs[i], len(x))
            + tiny
        )
        bounds[layer.bias] = _sum_error(delta, error, None, None, eps) + tiny
        yield FactorRounding(layer, y_errors[i], dL_da_error, error, bounds)
        w = parameters[layer.weight]
        dL_da = delta @ w
        terms = size @ np.abs(w)
        dL_da_error = error @ np.abs(w) + x_eps * terms + eps * _summed(terms, dL_da, layer.units)
        beside = beside @ np.abs(w)


def _slope_beside(activation: Activation, y: Array, y_error: Array) -> Array:
    """The larger slope (N, units) of the two sides, where rounding may put y on either side of a kink."""
    if activation.coupled:
        return np.ones_like(y)
    slope = np.abs(activation.derivative(y))
    if activation.pieces is None:
        return slope
    reach = 3.0 * y_error
    return np.maximum.reduce([slope, *(np.abs(activation.derivative(y + s)) for s in (-reach, reach))])


def _beside_kinks(loss: Loss, a: Array, a_error: Array, target: Array) -> Array:
    """The same of |∂ℓ/∂a|."""
    slopes = [np.abs(loss.gradient(a, target))]
    if loss.pieces is not None and loss.per_output:
        reach = 3.0 * a_error + np.finfo(np.float64).tiny
        slopes += [np.abs(loss.gradient(a + side, target)) for side in (-reach, reach)]
    largest: Array = np.maximum.reduce(slopes)
    return largest


def _sum_error(
    delta: Array, error: Array, factor: Array | None, factor_error: Array | None, eps: float
) -> Array:
    """The error of Σₙ δₙ fₙ (units,), for δ (N, units) known to ± error and f, or 1, to ± factor_error."""
    if factor is None or factor_error is None:
        factor, factor_error = np.ones_like(delta), np.zeros_like(delta)
    terms = delta * factor
    carried = (error * np.abs(factor) + (np.abs(delta) + error) * factor_error).sum(axis=0)
    total: Array = carried + eps * _summed(np.abs(terms).sum(axis=0), terms.sum(axis=0), len(terms))
    return total


def _norm_vjp_error(z_hat: Normalised, z_hat_error: Array, g: Array, g_error: Array, eps: float) -> Array:
    """The error of (g − mean g − ẑ mean(g ẑ)) / deviation, of g and ẑ known to ± their errors."""
    count = len(g)
    size, z_size = np.abs(g), np.abs(z_hat.value)
    along = (size * z_size).mean(axis=0)
    along_error = (g_error * z_size + (size + g_error) * z_hat_error).mean(axis=0) + eps * max(
        1.0, count / 16.0
    ) * along
    error = g_error + g_error.mean(axis=0) + z_hat_error * (along + along_error) + z_size * along_error
    error = error + eps * (size + max(1.0, count / 16.0) * size.mean(axis=0) + 2.0 * z_size * along)
    of_deviation = (z_size * z_hat_error).mean(axis=0) + 4.0 * eps
    return (error + np.abs(z_hat.vjp(g)) * z_hat.deviation * of_deviation) / z_hat.deviation


def scaled_rounding(layer: Layer, parameters: Arrays, z: Array, z_rounding: Array, at: Normalised) -> Array:
    """How exact y = γ ẑ + β (N, units) is, in units of ε, for a z exact to z_rounding (same units)."""
    gamma, beta = np.abs(parameters[layer.gamma]), np.abs(parameters[layer.beta])
    return gamma * (normalised_rounding(z, z_rounding, at) + 2.0 * np.abs(at.value)) + beta


def _summed(terms: Array, total: Array, count: int) -> Array:
    """The rounding error, in units of ε, of a sum of `count` terms whose sizes add up to `terms`.

    Terms of mixed sign round as their sizes; terms of one sign in whatever order add an ε of every
    partial sum, √count of the total if these are independent (N. J. Higham and T. Mary, SIAM J. Sci.
    Comput. 41, 2019). In a plain loop over many terms that are all alike they are not: count / 16 covers it.
    """
    return terms + max(np.sqrt(count), count / 16.0) * np.abs(total)


_NUDGE = 2.0**-40
"""A relative change far above ε, whose effect still shows in all digits, and far below what bends a curve."""


def value_rounding(activation: Activation, z: Array, z_rounding: Array) -> Array:
    """How exact a = φ(z) is, in units of ε, for a z exact to z_rounding (same units); from values alone."""
    return _value_error(activation, z, _NUDGE * z_rounding) / _NUDGE + FUNCTION_ULPS * np.abs(
        activation.value(z)
    )


def loss_and_rounding(loss: Loss, a: Array, target: Array, a_rounding: Array) -> tuple[Array, Array]:
    """ℓ(a) and how exact it is, in units of ε, each (…), for outputs a exact to a_rounding, both (…, C).

    From values alone: what a nudge of every output changes.
    """
    nudge = _NUDGE * (a_rounding + FUNCTION_ULPS * np.abs(a))
    if loss.per_output:  # every output's own term, whose changes cannot cancel
        column = np.broadcast_to(target, a.shape).reshape(-1, 1)
        terms = loss.value(a.reshape(-1, 1), column).reshape(a.shape)
        nudged = loss.value((a + nudge).reshape(-1, 1), column).reshape(a.shape)
        change = np.abs(np.real(nudged - terms)) / _NUDGE + np.abs(np.real(terms))
        return terms.sum(axis=-1), change.sum(axis=-1)
    against = np.where(target >= target.max(axis=-1, keepdims=True), -nudge, nudge)
    value = loss.value(a, target)
    change = np.abs(np.real(loss.value(a + against, target) - value)) / _NUDGE
    return value, change + np.abs(np.real(value))


def _value_error(activation: Activation, z: Array, z_error: Array) -> Array:
    """The error of φ(z) for a z known to ± z_error."""
    if activation.coupled:  # softmax: relative errors are differences of logit errors
        return activation.value(z) * 2.0 * z_error.max(axis=-1, keepdims=True)
    return _spread(activation.value, z, z_error)


def _delta_error(
    activation: Activation, z: Array, z_error: Array, dL_da: Array, dL_da_error: Array, eps: float
) -> Array:
    """The error of δ = ∂L/∂a · ∂a/∂z."""
    size = np.abs(dL_da)
    if activation.coupled:  # without the Jacobian, as the vjp is
        a, a_error = _softmax_with_error(z, z_error, eps)
        inner = (size * a).sum(axis=-1, keepdims=True)
        carried = (dL_da_error * a + size * a_error).sum(axis=-1, keepdims=True)
        return a * (dL_da_error + carried + 2 * eps * (size + inner)) + a_error * (size + inner)
    slope = np.abs(activation.derivative(z))
    return dL_da_error * slope + size * (derivative_error(activation, z, z_error, eps) + eps * slope)


def derivative_error(activation: Activation, z: Array, z_error: Array, eps: float) -> Array:
    """The error of ∂a/∂z, in its shape."""
    if activation.coupled:
        a, a_error = _softmax_with_error(z, z_error, eps)
        return (np.eye(a.shape[-1]) + a[..., None, :]) * a_error[..., :, None] + a[..., :, None] * (
            a_error[..., None, :] + eps
        )
    pieces = activation.pieces
    changes = _changes(activation.derivative, z, z_error, pieces)
    error = np.maximum(*changes) + FUNCTION_ULPS * eps * np.abs(activation.derivative(z))
    # a(1 − a) and the like are exact only to the rounding of 1.
    error = error + eps if activation.bounded else error
    return error if activation.absolute is None else error + eps * activation.absolute(z)


def _softmax_with_error(z: Array, z_error: Array, eps: float) -> tuple[Array, Array]:
    a = softmax(z)
    return a, a * (2.0 * z_error.max(axis=-1, keepdims=True) + FUNCTION_ULPS * eps)


def _loss_gradient_error(loss: Loss, a: Array, a_error: Array, target: Array, eps: float) -> Array:
    """The error of ∂ℓ/∂a for an output known to ± a_error."""
    if loss.per_output:
        rounding = eps * (np.abs(loss.gradient(a, target)) + np.abs(a) + np.abs(target))
        pieces = loss.pieces if len(loss.sides) > 1 else None
        own_side = pieces and (lambda moved: pieces(moved, target))
        changes = _changes(lambda moved: loss.gradient(moved, target), a, a_error, own_side)
        return np.maximum(*changes) + rounding
    # Coupled through a row of logits: a softmax, or margins against the labelled output.
    most = a_error.max(axis=-1, keepdims=True)
    if loss.pieces is None:
        total = target.sum(axis=-1, keepdims=True)
        p = softmax(a) * total
        return p * (2.0 * most + FUNCTION_ULPS * eps) + 2 * eps * (p + np.abs(target) + eps * total)
    return np.zeros_like(a)  # whole numbers


def _spread(function: Function, at: Array, by: Array) -> Array:
    """How much `function` changes if its argument is off by ± `by`."""
    spread: Array = np.maximum(*_changes(function, at, by))
    return spread


def _changes(function: Function, at: Array, by: Array, pieces: Function | None = None) -> tuple[Array, Array]:
    """How much `function` changes to either side; not at all where that side is another piece."""
    here = function(at)
    changes = [np.abs(function(moved) - here) for moved in (at - by, at + by)]
    if pieces is not None:
        own = pieces(at)
        changes = [
            np.where(pieces(moved) == own, change, 0.0)
            for moved, change in zip((at - by, at + by), changes, strict=True)
        ]
    return changes[0], changes[1]
