"""Rises of activations: the exact change of φ(z) after a change d of z, as explained in `network.rise`.

Arrays at rest have the shape of z, and d broadcasts to (…, *z.shape).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from gradcheck_cli.network.functions import (
    GELU_CUBE,
    GELU_SCALE,
    in_sigmoid_of_gelu,
    normal_cdf,
    normal_pdf,
    sigmoid,
    sigmoid_slope,
)
from gradcheck_cli.network.rise import (
    EXPM1,
    LOG1P,
    LONGEST,
    SHORT,
    TANH,
    AtRest,
    Rise,
    length,
    without_division,
)
from gradcheck_cli.types import Array


def _slopes_at_rest(z: Array, negative_slope: float) -> AtRest:
    return (np.where(z > 0, 1.0, negative_slope),)


def _linear_rise(at_rest: AtRest, d: Array) -> Array:
    (slope,) = at_rest
    return np.multiply(slope, d, out=d)


LINEAR = Rise(_slopes_at_rest, _linear_rise, lambda at_rest: np.abs(at_rest[0]), linear=True)
"""The rise on a linear piece: the slope of the piece times d. The slope is 1 to the right of 0."""


def _tanh_at_rest(z: Array) -> AtRest:
    """Return t = tanh z, and q = 1 − t² = 4 σ(2z) σ(−2z), which keeps its digits where t is near ±1."""
    t, q = np.tanh(z), 4.0 * sigmoid_slope(2.0 * z)
    return t, q, t * q


def _tanh_rise(at_rest: AtRest, d: Array) -> Array:
    """Return tanh(z + d) − tanh(z) = τ q / (1 + t τ), with τ = tanh d."""
    t, q, product = at_rest
    if length(d) <= SHORT:
        return without_division(q, product, d)
    tau = TANH(d)
    divisor = t * tau
    divisor += 1.0
    np.multiply(tau, q, out=tau)
    return np.divide(tau, divisor, out=tau)


def _sigmoid_at_rest(z: Array) -> AtRest:
    s, slope = sigmoid(z), sigmoid_slope(z)
    return s, slope, (s - 0.5) * slope


def _sigmoid_rise(at_rest: AtRest, d: Array) -> Array:
    """Return σ(z + d) − σ(z) = σ (1 − σ) e / (1 + σ e), with e = exp(d) − 1."""
    s, slope, product = at_rest
    if length(d) <= SHORT:  # e is d + ½ d²
        return without_division(slope, product, d)
    e = EXPM1(d)
    divisor = s * e
    divisor += 1.0
    e *= slope
    e /= divisor
    return e


def _silu_at_rest(z: Array) -> AtRest:
    return z, *_sigmoid_at_rest(z)


def _silu_rise(at_rest: AtRest, d: Array) -> Array:
    z, s, *others = at_rest
    return _times_argument(z, s, partial(_sigmoid_rise, (s, *others)), d)


def _times_argument(z: Array, share: Array, rise: Callable[[Array], Array], d: Array) -> Array:
    """Return the rise of z F(z), (z + d) (F(z + d) − F(z)) + d F(z).

    share: F(z).
    rise: a function that returns F(z + d) − F(z), and may overwrite d.
    """
    risen = d * share
    moved = z + d
    moved *= rise(d)
    risen += moved
    return risen


def _softplus_rise(at_rest: AtRest, d: Array) -> Array:
    """Return log(1 + e^(z+d)) − log(1 + e^z) = log(1 + σ (exp(d) − 1))."""
    e = EXPM1(d)
    e *= at_rest[0]
    return LOG1P(e)


def _elu_at_rest(z: Array, alpha: float) -> AtRest:
    return z > 0, alpha * np.exp(np.minimum(z, 0.0))


def _elu_rise(at_rest: AtRest, d: Array) -> Array:
    """Return d to the right of 0, and alpha e^z (exp(d) − 1) to the left."""
    right, scale = at_rest
    risen = scale * EXPM1(d.copy())
    np.copyto(risen, d, where=right)
    return risen


# --- gelu -----------------------------------------------------------------------------------------------


def _gelu_at_rest(z: Array) -> AtRest:
    """Return z, or 0 where its density φ(z) is 0, Φ(z), φ(z) and ½ z φ(z)."""
    density = normal_pdf(z)
    near = np.where(density > 0, z, 0.0)
    return near, normal_cdf(z), density, 0.5 * near * density


def _gelu_rise(at_rest: AtRest, d: Array) -> Array:
    z, share, *others = at_rest
    return _times_argument(z, share, partial(_normal_rise, (z, *others)), d)


def _normal_rise(at_rest: AtRest, d: Array) -> Array:
    """Return Φ(z + d) − Φ(z) = φ(z) ∫₀ᵈ e^(−z t − t²/2) dt. The result is NaN if |z d| exceeds `LONGEST`."""
    z, density, half = at_rest
    if length(d) * max(1.0, length(z)) <= SHORT:
        return without_division(density, half, d)
    product = z * d
    if not max(length(product), length(d)) <= LONGEST:
        long = ~(np.maximum(np.abs(product), np.abs(d)) <= LONGEST)
        product[long], d[long] = 0.0, 0.0
        risen = _normal_series(product, d) * density
        risen[long] = np.nan
        return risen
    return _normal_series(product, d) * density


def _normal_series(product: Array, d: Array) -> Array:
    """Return ∫₀ᵈ e^(−z t − t²/2) dt = d Σ tₖ / (k + 1), where tₖ = Heₖ(z) (−d)ᵏ / k!.

    The recurrence of the Hermite polynomials gives tₖ₊₁ = −(z d tₖ + d² tₖ₋₁) / (k + 1).

    product: z d.
    """
    square, longest = d * d, max(length(product), length(d))
    before: Array | float = 1.0
    term, bound_before, bound, k = -product, 1.0, longest, 1
    total = 0.5 * term
    total += 1.0
    while bound > _NEGLIGIBLE:
        k += 1
        following = product * term
        following += square * before
        following *= -1.0 / k
        before, term = term, following
        bound_before, bound = bound, longest * (bound + longest * bound_before) / k
        total += term * (1.0 / (k + 1))
    total *= d
    return total


_NEGLIGIBLE = 2.0**-54
"""The largest term that a sum of numbers near 1 may lack."""


def _gelu_by_tanh_at_rest(z: Array) -> AtRest:
    """Return z, the factors of d and d² in the change of u, and what the rise of σ(u) needs.

    gelu is z σ(u), with u = 2c (z + k z³). The factors are 0 where σ(u) does not change.
    """
    s, slope, product = _sigmoid_at_rest(in_sigmoid_of_gelu(z))
    near = np.where(slope > 0, z, 0.0)
    linear = 2.0 * GELU_SCALE * (1.0 + 3.0 * GELU_CUBE * near * near)
    return near, linear, 6.0 * GELU_SCALE * GELU_CUBE * near, s, slope, product


def _gelu_by_tanh_rise(at_rest: AtRest, d: Array) -> Array:
    z, linear, quadratic, s, *others = at_rest

    def rise(d: Array) -> Array:
        u = 2.0 * GELU_SCALE * GELU_CUBE * d
        u += quadratic
        u *= d
        u += linear
        u *= d
        return _sigmoid_rise((s, *others), u)

    return _times_argument(z, s, rise, d)


def _gelu_by_tanh_sizes(at_rest: AtRest) -> Array:
    z, linear, _, s, slope, _ = at_rest
    return s + np.abs(z) * slope * linear


@dataclass(frozen=True)
class _GeluRise(Rise):
    """The rise of the exact gelu, z Φ(z), which its option may replace by that of the approximation."""

    def with_options(self, options: Mapping[str, Any]) -> Rise:
        return self if options["approximate"] == "none" else _GELU_BY_TANH_RISE


TANH_RISE = Rise(_tanh_at_rest, _tanh_rise, lambda at_rest: at_rest[1])
SIGMOID_RISE = Rise(_sigmoid_at_rest, _sigmoid_rise, lambda at_rest: at_rest[1])
SILU_RISE = Rise(_silu_at_rest, _silu_rise, lambda at_rest: at_rest[1] + np.abs(at_rest[0]) * at_rest[2])
SOFTPLUS_RISE = Rise(lambda z: (sigmoid(z),), _softplus_rise, lambda at_rest: at_rest[0])
ELU_RISE = Rise(_elu_at_rest, _elu_rise, lambda at_rest: np.where(at_rest[0], 1.0, np.abs(at_rest[1])))


_GELU_BY_TANH_RISE = Rise(_gelu_by_tanh_at_rest, _gelu_by_tanh_rise, _gelu_by_tanh_sizes)
GELU_RISE = _GeluRise(_gelu_at_rest, _gelu_rise, lambda at_rest: at_rest[1] + np.abs(at_rest[0]) * at_rest[2])
