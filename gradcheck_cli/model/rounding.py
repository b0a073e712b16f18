"""How far rounding alone can carry a right gradient from the exact one.

A running error analysis, first order in ε: every quantity of the forward pass and of backprop travels
with a bound on its rounding error. Where a function's slope is needed, the function is evaluated at its
argument moved by that argument's own error, which also sees the jump of a kink that rounding could cross.
(N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed. 2002, §3.3, "running error analysis".)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcheck_cli.model.activations import Activation, Function
from gradcheck_cli.model.losses import Loss
from gradcheck_cli.model.network import Arrays, Layer, Network, forward
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
        return cls(float(info.eps), float(info.tiny), 0.0 if exact else float(info.eps))


@dataclass(frozen=True)
class FactorRounding:
    """Bounds on the rounding errors of one layer's `Factors`, each in the shape of its factor, and of its z.

    That of ∂a/∂z is `derivative_error` at z: for a coupled activation it is a Jacobian, built on demand.
    """

    layer: Layer
    z: Array
    dL_da: Array
    delta: Array
    dL_dw: Array
    dL_db: Array


def gradient_rounding(
    network: Network, parameters: Arrays, x: Array, target: Array, arithmetic: Arithmetic
) -> dict[str, Array]:
    """A bound, to first order, on |computed − exact| for each entry of each right gradient."""
    bounds: dict[str, Array] = {}
    eps, x_eps = arithmetic.eps, arithmetic.input_eps
    for rounding in factor_rounding(network, parameters, x, target, arithmetic):
        bounds[rounding.layer.weight] = rounding.dL_dw
        bounds[rounding.layer.bias] = rounding.dL_db
    for name in bounds:
        for penalty, strength in network.penalties_on(name).items():
            term = PENALTIES[penalty].derivative(parameters[name], strength)
            bounds[name] = bounds[name] + 2 * (eps + x_eps) * np.abs(term)
    return bounds


def factor_rounding(
    network: Network, parameters: Arrays, x: Array, target: Array, arithmetic: Arithmetic
) -> Iterator[FactorRounding]:
    """The same for every factor of every layer, from the output down; without the penalties."""
    eps, x_eps, tiny = arithmetic.eps, arithmetic.input_eps, arithmetic.tiny
    activity = forward(network, parameters, x)
    a_errors, z_errors = [], []
    a, a_error = x, x_eps * np.abs(x)
    for layer, z in zip(network.layers, activity.z, strict=True):
        w, b = np.abs(parameters[layer.weight]), np.abs(parameters[layer.bias])
        terms = np.abs(a) @ w.T + b
        z_error = a_error @ w.T + x_eps * terms + eps * _summed(terms, z, layer.inputs)
        a_errors.append(a_error)
        z_errors.append(z_error)
        a = layer.activation.value(z)
        a_error = _value_error(layer.activation, z, z_error) + FUNCTION_ULPS * eps * np.abs(a) + tiny

    dL_da = network.coefficient * network.loss.gradient(a, target)
    dL_da_error = abs(network.coefficient) * _loss_gradient_error(network.loss, a, a_error, target, eps)
    dL_da_error = dL_da_error + 2 * eps * np.abs(dL_da) + tiny
    for i in reversed(range(len(network.layers))):
        layer, z, a_h = network.layers[i], activity.z[i], np.abs(activity.inputs[i])
        delta = layer.activation.vjp(z, dL_da)
        size = np.abs(delta)
        error = _delta_error(layer.activation, z, z_errors[i], dL_da, dL_da_error, eps) + tiny
        yield FactorRounding(
            layer,
            z_errors[i],
            dL_da_error,
            error,
            error.T @ a_h
            + size.T @ a_errors[i]
            + eps * _summed(size.T @ a_h, delta.T @ activity.inputs[i], len(x))
            + tiny,
            error.sum(axis=0) + eps * _summed(size.sum(axis=0), delta.sum(axis=0), len(x)) + tiny,
        )
        w = parameters[layer.weight]
        dL_da = delta @ w
        terms = size @ np.abs(w)
        dL_da_error = error @ np.abs(w) + x_eps * terms + eps * _summed(terms, dL_da, layer.units)


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
    error = _spread(activation.derivative, z, z_error) + FUNCTION_ULPS * eps * np.abs(
        activation.derivative(z)
    )
    # a(1 − a) and the like are exact only to the rounding of 1.
    return error + eps if activation.bounded else error


def _softmax_with_error(z: Array, z_error: Array, eps: float) -> tuple[Array, Array]:
    a = softmax(z)
    return a, a * (2.0 * z_error.max(axis=-1, keepdims=True) + FUNCTION_ULPS * eps)


def _loss_gradient_error(loss: Loss, a: Array, a_error: Array, target: Array, eps: float) -> Array:
    """The error of ∂ℓ/∂a for an output known to ± a_error."""
    if loss.per_output:
        rounding = eps * (np.abs(loss.gradient(a, target)) + np.abs(a) + np.abs(target))
        return _spread(lambda moved: loss.gradient(moved, target), a, a_error) + rounding
    # Coupled through a row of logits: a softmax, or margins against the labelled output.
    most = a_error.max(axis=-1, keepdims=True)
    if loss.pieces is None:
        total = target.sum(axis=-1, keepdims=True)
        p = softmax(a) * total
        return p * (2.0 * most + FUNCTION_ULPS * eps) + 2 * eps * (p + np.abs(target) + eps * total)
    least_margin = eps * np.abs(a).max(axis=-1, keepdims=True) + most
    lower = loss.gradient(a - least_margin * (1 - 2 * target), target)
    upper = loss.gradient(a + least_margin * (1 - 2 * target), target)
    return np.abs(upper - lower)


def _spread(function: Function, at: Array, by: Array) -> Array:
    """How much `function` changes if its argument is off by ± `by`."""
    here = function(at)
    spread: Array = np.maximum(np.abs(function(at + by) - here), np.abs(function(at - by) - here))
    return spread
