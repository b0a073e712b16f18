"""Elementary functions that numpy lacks or computes in a form that loses digits.

Each function accepts real arrays and, for the complex step, complex arrays near the real axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gradcheck_cli.types import Array

_ERFCX = (
    (0.56418958354617554568, 10.717772014911463287, 99.70595224332166116, 587.57471689996764216,
     2398.9265513172408795, 7012.6145328677660585, 14678.867377226430032, 21302.369674999093291,
     19640.354496299424721, 8957.2970506617757378),
    (1.0, 18.996756280543820993, 177.22419903935265047, 1050.9474467071503181, 4339.8487330955512937,
     12940.76120993135357, 28056.504796393778074, 43475.157463356212923, 45911.624291180243665,
     29747.581881752119702, 8957.2970506617762169),
)  # fmt: skip
"""Coefficients of a rational approximation of e^(y²) erfc(y) for y from 0 to 28, highest power first.

The relative error is 5.2e-17, the smallest possible with these degrees. All terms are positive, so that
nothing cancels.
"""

_END = 39.0
"""e^(−z²/2) is 0 in float64 for every z that is at least this large."""

_BLOCK = 3 * 2**12
"""The number of elements that a long formula processes at once.

A block of this size stays in the cache. A formula takes a quarter longer if blocks are two thirds as large,
and a sixth longer if they are twice as large.
"""


def sigmoid(z: Array, out: Array | None = None) -> Array:
    """Return 1 / (1 + e⁻ᶻ) with full relative accuracy for both positive and negative z.

    out: the array to write the result to, if z is real.
    """
    if not np.iscomplexobj(z):
        with np.errstate(over="ignore"):  # e⁻ᶻ = inf gives 0, the right limit
            e = np.negative(z, out=out)
            np.exp(e, out=e)
            e += 1.0
            return np.divide(1.0, e, out=e)
    right = z.real >= 0
    e = np.exp(np.where(right, -z, z))
    return np.where(right, 1.0, e) / (1.0 + e)


def sigmoid_slope(z: Array) -> Array:
    """Return σ(z) σ(−z), the derivative of the sigmoid σ, with full relative accuracy, for a real z."""
    e = np.exp(-np.abs(z))
    return e / np.square(1.0 + e)


def softplus(z: Array) -> Array:
    """Return log(1 + eᶻ) = max(z, 0) + log(1 + e^−|z|), which cannot overflow."""
    if not np.iscomplexobj(z):
        return np.maximum(z, np.zeros_like(z)) + np.log1p(np.exp(-np.abs(z)))
    right = z.real > 0
    return np.where(right, z, 0.0) + log1p(np.exp(np.where(right, -z, z)))


def log1p(w: Array) -> Array:
    """Return log(1 + w). For a tiny complex w, numpy's version would lose digits."""
    if not np.iscomplexobj(w):
        return np.log1p(w)
    x, y = w.real, w.imag
    return 0.5 * np.log1p(x * (2.0 + x) + y * y) + 1j * np.arctan2(y, 1.0 + x)


def softmax(z: Array) -> Array:
    """Return e^zⱼ / Σₖ e^zₖ over the last axis."""
    e = z - z.real.max(axis=-1, keepdims=True)
    np.exp(e, out=e)
    e /= row_sums(e)[..., None]
    return e


def row_max(z: Array) -> Array:
    """Return the maximum over the last axis, (…, 1).

    A short axis is reduced column by column, which is faster.
    """
    width = z.shape[-1]
    if width > 64 or z.size < 64 * width:
        return z.max(axis=-1, keepdims=True)
    return np.ascontiguousarray(z.reshape(-1, width).T).max(axis=0).reshape(*z.shape[:-1], 1)


def row_sums(terms: Array) -> Array:
    """Return the sum over the last axis.

    If that axis is short, a matrix product is faster than numpy's sum.
    """
    return terms @ np.ones(terms.shape[-1], dtype=terms.dtype)


def normal_cdf(z: Array) -> Array:
    """Return Φ(z), the standard normal distribution, with full relative accuracy even in the left tail.

    The value is computed from a rational approximation that is accurate enough for float64. Wider types use a
    series and a continued fraction, which are slower.
    """
    if z.dtype == np.longdouble:
        return 0.5 * _wide_erfc(-z * np.sqrt(z.dtype.type(0.5)))
    return in_blocks(_normal_cdf, z)


def normal_pdf(z: Array) -> Array:
    """Return the standard normal density e^(−z²/2) / √(2π) with full relative accuracy, for a real z."""
    return in_blocks(_normal_pdf, z)


def _normal_pdf(z: Array) -> Array:
    density = _exp_minus_half_square(np.minimum(np.abs(z), z.dtype.type(_END)))
    density *= 1.0 / math.sqrt(2.0 * math.pi)
    return density


GELU_SCALE, GELU_CUBE = math.sqrt(2.0 / math.pi), 0.044715
"""The numbers c and k of gelu's approximation, ½ z (1 + tanh(c (z + k z³)))."""


def in_sigmoid_of_gelu(z: Array) -> Array:
    """Return u = 2c (z + k z³), for which gelu's approximation is z σ(u), without cancellation for z ≪ 0."""
    return 2.0 * GELU_SCALE * (z + GELU_CUBE * z * z * z)


def in_blocks(function: Callable[[Array], Array], z: Array) -> Array:
    """Apply an elementwise function to z, in blocks that stay in the cache."""
    if z.size <= _BLOCK:
        return function(z)
    flat = z.reshape(-1)
    result = np.empty_like(flat)
    for start in range(0, len(flat), _BLOCK):
        part = slice(start, start + _BLOCK)
        result[part] = function(flat[part])
    return result.reshape(z.shape)


def _normal_cdf(z: Array) -> Array:
    sign = np.copysign(z.dtype.type(1.0).real, z.real)
    if np.iscomplexobj(z):
        y = sign * z
        np.copyto(y, _END, where=y.real > _END)
    else:
        y = np.abs(z)
        np.minimum(y, z.dtype.type(_END), out=y)
    value = _ratio(_ERFCX, y * math.sqrt(0.5))
    value *= _exp_minus_half_square(y)
    value *= -0.5 * sign
    value += np.greater(sign, 0.0, out=sign)  # 1 − Φ(−z) on the right; faster than a masked operation
    return value


def _wide_erfc(z: Array) -> Array:
    y = np.abs(z)
    near, right = y <= 1.0, np.empty_like(y)
    right[near] = _erfc_series(y[near])
    right[~near] = _erfc_fraction(y[~near])
    return np.where(z < 0, 2.0 - right, right)


def _erfc_series(y: Array) -> Array:
    """Return 1 − 2/√π e^(−y²) Σ 2ᵏ y^(2k+1) / (2k+1)!! (DLMF 7.6.2), whose terms are all positive."""
    square = 2.0 * y * y
    total = np.ones_like(y)
    for k in range(_SERIES_TERMS, 0, -1):
        total *= square
        total /= 2 * k + 1
        total += 1.0
    return 1.0 - y * total * np.exp(-y * y) * _two_over_root_pi(y)


_SERIES_TERMS = 24
"""The number of terms after which the next one is below 1e-21 of the sum at y = 1, where they are largest."""


def _erfc_fraction(y: Array) -> Array:
    """Return erfc(y) by a continued fraction (DLMF 7.9.2).

    The fraction is e^(−y²)/√π · 2y / (2y² + 1 − 1·2/(2y² + 5 − 3·4/(2y² + 9 − …))).
    """
    square = 2.0 * y * y
    tail = square + (4 * _FRACTION_TERMS + 1)
    for k in range(_FRACTION_TERMS, 0, -1):
        tail = square + (4 * k - 3) - (2 * k - 1) * (2 * k) / tail
    return y * np.exp(-y * y) * _two_over_root_pi(y) / tail


_FRACTION_TERMS = 120
"""The number of terms that gives 20 digits at y = 1, where convergence is slowest."""


def _two_over_root_pi(y: Array) -> Any:
    return 2.0 / np.sqrt(np.arccos(y.dtype.type(-1.0)))


def _exp_minus_half_square(y: Array) -> Array:
    """Return e^(−y²/2) without the error from rounding y². As in Cody's code, y is split at sixteenths."""
    head = y.real * 16.0
    np.trunc(head, out=head)
    head /= 16.0
    rest = head - y
    rest *= y + head
    rest *= 0.5
    np.exp(rest, out=rest)
    np.multiply(head, -0.5 * head, out=head)
    rest *= np.exp(head, out=head)
    return rest


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: Array) -> Array:
    numerator, denominator = coefficients
    value = _horner(numerator, x)
    value /= _horner(denominator, x)
    return value


def _horner(coefficients: tuple[float, ...], x: Array) -> Array:
    value = coefficients[0] * x
    for coefficient in coefficients[1:-1]:
        value += coefficient
        value *= x
    value += coefficients[-1]
    return value
