"""Bound how far rounding alone can carry a right gradient from the exact one.

A running error analysis: every quantity of the forward pass and of backprop carries a bound on its
rounding error, to first order in ε, and to second where both factors of a product may be 0. Where the
slope of a function is needed, the function is evaluated at its argument shifted by that argument's error.
(N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed. 2002, §3.3, "running error analysis".)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from gradcheck_cli.model.activations import Activation
from gradcheck_cli.model.batch_norm import Normalised, normalised_rounding
from gradcheck_cli.model.losses import Loss
from gradcheck_cli.model.network import Activity, Arrays, Layer, Network, forward
from gradcheck_cli.model.penalties import PENALTIES
from gradcheck_cli.model.row_rounding import FUNCTION_ULPS
from gradcheck_cli.model.special import Array


@dataclass(frozen=True)
class Arithmetic:
    """The floating-point arithmetic in which a gradient was computed.

    eps:       its machine epsilon.
    tiny:      the most that it may lose to underflow.
    input_eps: the relative error with which it holds x and the parameters; 0 if it holds them exactly.
    """

    eps: float
    tiny: float
    input_eps: float = 0.0

    @classmethod
    def of(cls, dtype: np.dtype[Any], held: np.dtype[Any] | None = None) -> Arithmetic:
        """Return the arithmetic of `dtype`, for numbers that `held` (default: `dtype`) represents exactly."""
        info = np.finfo(dtype)
        exact = held is None or np.finfo(held).eps >= info.eps
        # Many processors flush subnormal numbers to 0, but rarely in half precision.
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
    """Return bounds on |computed − exact| for everything a forward pass computes."""
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
        exact = layer.activation.rounding
        a_error = exact.value(layer.activation, y, y_errors[-1]) + tiny
        a_error = a_error + eps * exact.own_value(layer.activation, y)
        if layer.activation.absolute is not None:
            a_error = a_error + eps * layer.activation.absolute(y)
    return ForwardRounding(tuple(a_errors), tuple(z_hat_errors), tuple(y_errors), a_error)


@dataclass(frozen=True)
class FactorRounding:
    """Bounds on the rounding errors of one layer's `Factors`, each in the shape of its factor.

    y: the bound on y, from which `ActivationRounding.derivative` gives the bound on ∂a/∂y on demand, because
        that is a Jacobian for a coupled activation.
    dL_dy: the bound on ∂L/∂y, which is δ without batch normalisation.
    gradients: the bounds on the gradient of every parameter of the layer, by name.
    """

    layer: Layer
    y: Array
    dL_da: Array
    dL_dy: Array
    delta: Array
    gradients: Mapping[str, Array]


def gradient_rounding(
    network: Network, parameters: Arrays, x: Array, target: Array, arithmetic: Arithmetic
) -> dict[str, Array]:
    """Return first-order bounds on |computed − exact| for each entry of each right gradient.

    A bound that overflows is infinite: nothing is known there.
    """
    bounds: dict[str, Array] = {}
    eps, x_eps = arithmetic.eps, arithmetic.input_eps
    for rounding in factor_rounding(network, parameters, x, target, arithmetic):
        bounds |= rounding.gradients
    for name in bounds:
        for penalty, strength in network.penalties_on(name).items():
            term = PENALTIES[penalty].derivative(parameters[name], strength)
            bounds[name] = bounds[name] + 2 * (eps + x_eps) * np.abs(term)
    return {name: _sound(bound) for name, bound in bounds.items()}


def _sound(bound: Array) -> Array:
    """Return the bound, infinite where it overflowed; a negative one would condemn a right gradient."""
    known: Array = np.where(np.isnan(bound), np.inf, bound)
    assert (known >= 0).all(), "a rounding bound is negative"
    return known


def factor_rounding(
    network: Network, parameters: Arrays, x: Array, target: Array, arithmetic: Arithmetic
) -> Iterator[FactorRounding]:
    """Yield rounding bounds for the factors of every layer, from the output down, without the penalties.

    A number on a kink counts as on its current side: the other side is a matter of convention.
    """
    eps, x_eps, tiny = arithmetic.eps, arithmetic.input_eps, arithmetic.tiny
    activity = forward(network, parameters, x)
    errors = forward_rounding(network, parameters, activity, arithmetic)
    a_errors, z_hat_errors, y_errors = errors.inputs, errors.normalised, errors.y
    a, a_error = activity.output, errors.output
    dL_da = network.coefficient * network.loss.gradient(a, target)
    beside = abs(network.coefficient) * _beside_kinks(network.loss, a, a_error, target) - np.abs(dL_da)
    dL_da_error = abs(network.coefficient) * network.loss.rounding.gradient(
        network.loss, a, a_error, target, eps
    )
    dL_da_error = dL_da_error + 2 * eps * np.abs(dL_da) + tiny
    for i in reversed(range(len(network.layers))):
        layer, y, a_h = network.layers[i], activity.y[i], np.abs(activity.inputs[i])
        delta = layer.activation.vjp(y, dL_da)
        # Terms that a kink switches off may count on its other side, with their own rounding.
        at_most = partial(_at_most_beside, layer.activation, y, y_errors[i])
        beside = at_most(np.abs(dL_da) + beside) - np.abs(delta)
        error = layer.activation.rounding.delta(layer.activation, y, y_errors[i], dL_da, dL_da_error, eps)
        error = np.maximum(error + tiny, at_most(dL_da_error))
        dL_dy_error, bounds, z_hat, z_hat_error = error, {}, activity.normalised[i], z_hat_errors[i]
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
        yield FactorRounding(layer, y_errors[i], dL_da_error, dL_dy_error, error, bounds)
        w = parameters[layer.weight]
        dL_da = delta @ w
        terms = size @ np.abs(w)
        dL_da_error = error @ np.abs(w) + x_eps * terms + eps * _summed(terms, dL_da, layer.units)
        beside = beside @ np.abs(w)


def _at_most_beside(activation: Activation, y: Array, y_error: Array, sizes: Array) -> Array:
    """Return the largest δ (N, units) for ∂L/∂a of these sizes, on any side that rounding may choose."""
    reach = 3.0 * y_error if activation.pieces else None
    sides = [y] if reach is None else [y, y - reach, y + reach]
    largest: Array = np.maximum.reduce([activation.rounding.at_most(activation, z, sizes) for z in sides])
    return largest


def _beside_kinks(loss: Loss, a: Array, a_error: Array, target: Array) -> Array:
    """Return the largest |∂ℓ/∂a|, on any side of a kink that rounding may choose."""
    slopes = [np.abs(loss.gradient(a, target))]
    if loss.pieces is not None and loss.per_output:
        reach = 3.0 * a_error + np.finfo(np.float64).tiny
        slopes += [np.abs(loss.gradient(a + side, target)) for side in (-reach, reach)]
    largest: Array = np.maximum.reduce(slopes)
    return largest


def _sum_error(
    delta: Array, error: Array, factor: Array | None, factor_error: Array | None, eps: float
) -> Array:
    """Return the error of Σₙ δₙ fₙ (units,), for δ (N, units) known to ± error and f to ± factor_error.

    Without a factor, f is 1.
    """
    if factor is None or factor_error is None:
        factor, factor_error = np.ones_like(delta), np.zeros_like(delta)
    terms = delta * factor
    carried = (error * np.abs(factor) + (np.abs(delta) + error) * factor_error).sum(axis=0)
    total: Array = carried + eps * _summed(np.abs(terms).sum(axis=0), terms.sum(axis=0), len(terms))
    return total


def _norm_vjp_error(z_hat: Normalised, z_hat_error: Array, g: Array, g_error: Array, eps: float) -> Array:
    """Return the error of (g − mean g − ẑ mean(g ẑ)) / deviation, for g and ẑ known to ± their errors."""
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
    """Return the rounding error of y = γ ẑ + β (N, units), in units of ε.

    z_rounding: the error of z, also in units of ε.
    """
    gamma, beta = np.abs(parameters[layer.gamma]), np.abs(parameters[layer.beta])
    return gamma * (normalised_rounding(z, z_rounding, at) + 2.0 * np.abs(at.value)) + beta


def _summed(terms: Array, total: Array, count: int) -> Array:
    """Return the rounding error, in units of ε, of a sum of `count` terms whose sizes add up to `terms`.

    Terms of mixed sign round according to their sizes. Terms of one sign, in any order, add an ε of every
    partial sum, √count of the total if these are independent (N. J. Higham and T. Mary, SIAM J. Sci. Comput.
    41, 2019). In a plain loop over many equal terms they are not independent: count / 16 covers that.
    """
    return terms + max(np.sqrt(count), count / 16.0) * np.abs(total)


_NUDGE = 2.0**-40
"""Relative nudge: far above ε, so its effect shows in all digits, yet too small for curvature to matter."""


def value_rounding(activation: Activation, z: Array, z_rounding: Array) -> Array:
    """Return the rounding error of a = φ(z), in units of ε, from values only.

    z_rounding: the error of z, also in units of ε.
    """
    carried = activation.rounding.value(activation, z, _NUDGE * z_rounding)
    return carried / _NUDGE + activation.rounding.own_value(activation, z)


def loss_and_rounding(loss: Loss, a: Array, target: Array, a_rounding: Array) -> tuple[Array, Array]:
    """Return ℓ(a) and its rounding error in units of ε, each (…), from values only.

    The error shows when every output is nudged.
    a_rounding: the error of the outputs a, both (…, C).
    """
    nudge = _NUDGE * (a_rounding + FUNCTION_ULPS * np.abs(a))
    value, carried, size = loss.rounding.value(loss, a, nudge, target)
    return value, carried / _NUDGE + size
