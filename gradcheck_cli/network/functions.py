"""Elementary functions that numpy lacks or computes in a form that loses digits.

Each accepts real arrays and complex ones near the real axis, as the complex step needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gradcheck_cli.types import Array

# W. J. Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23 (1969), 631-637.
# Numerator and denominator, highest power first.
_ERF_SMALL = (
    (1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2, 3.77485237685302021e2,
     3.20937758913846947e3),
    (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3),
)  # fmt: skip
_ERFC_MIDDLE = (
    (2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1,
     2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3,
     1.23033935479799725e3),
    (1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
     3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3),
)  # fmt: skip
_ERFC_LARGE = (
    (1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
     1.60837851487422766e-2, 6.58749161529837803e-4),
    (1.0, 2.56852019228982242e0, 1.87295284992346047e0, 5.27905102951428412e-1, 6.05183413124413191e-2,
     2.33520497626869185e-3),
)  # fmt: skip


def sigmoid(z: Array, out: Array | None = None) -> Array:
    """Return 1 / (1 + e⁻ᶻ) with full relative accuracy for both positive and negative z.

    out: where to write the result for a real z.
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


def softplus(z: Array) -> Array:
    """Return log(1 + eᶻ) = max(z, 0) + log(1 + e^−|z|), which cannot overflow."""
    if not np.iscomplexobj(z):
        return np.maximum(z, np.zeros_like(z)) + np.log1p(np.exp(-np.abs(z)))
    right = z.real > 0
    return np.where(right, z, 0.0) + log1p(np.exp(np.where(right, -z, z)))


def log1p(w: Array) -> Array:
    """Return log(1 + w). For a tiny complex w, it keeps digits that numpy's version loses."""
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
    """Return Φ(z) = ½ erfc(−z/√2), with a small relative error even in the left tail."""
    return 0.5 * erfc(z * -math.sqrt(0.5))


def normal_pdf(z: Array) -> Array:
    """Return the standard normal density e^(−z²/2) / √(2π)."""
    return np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)


def erfc(z: Array) -> Array:
    """Return 1 − erf(z) by Cody's rational approximations, one for each of three ranges of |Re z|.

    These are accurate enough for float64. Wider types use a series and a continued fraction, which are
    slower.
    """
    left = z.real < 0
    y = np.where(left, -z, z)
    size = y.real
    result = np.empty_like(y)
    pieces: tuple[tuple[Array, Callable[[Array], Array]], ...] = (
        (size <= 0.46875, _erfc_small),
        ((size > 0.46875) & (size <= 4.0), _erfc_middle),
        (~(size <= 4.0), _erfc_large),  # NaN lands here and stays NaN
    )
    if y.dtype == np.longdouble:
        pieces = ((size <= 1.0, _erfc_series), (~(size <= 1.0), _erfc_fraction))
    for where, formula in pieces:
        if where.any():
            result[where] = formula(y[where])
    return np.where(left, 2.0 - result, result)


def _erfc_small(y: Array) -> Array:
    return 1.0 - y * _ratio(_ERF_SMALL, y * y)


def _erfc_middle(y: Array) -> Array:
    return _exp_minus_square(y) * _ratio(_ERFC_MIDDLE, y)


def _erfc_large(y: Array) -> Array:
    inverse_square = 1.0 / (y * y)
    tail = 1.0 / math.sqrt(math.pi) - inverse_square * _ratio(_ERFC_LARGE, inverse_square)
    return _exp_minus_square(y) * tail / y


def _erfc_series(y: Array) -> Array:
    """Return 1 − 2/√π e^(−y²) Σ 2ᵏ y^(2k+1) / (2k+1)!! (DLMF 7.6.2), whose terms are all positive."""
    term = total = y
    for k in range(1, 40):
        term = term * (2.0 * y * y / (2 * k + 1))
        total = total + term
    return 1.0 - total * np.exp(-y * y) * _two_over_root_pi(y)


def _erfc_fraction(y: Array) -> Array:
    """Return erfc(y) by a continued fraction (DLMF 7.9.2).

    It is e^(−y²)/√π · 2y / (2y² + 1 − 1·2/(2y² + 5 − 3·4/(2y² + 9 − …))).
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


def _exp_minus_square(y: Array) -> Array:
    """Return e^(−y²), keeping the rounding error of y² out of the exponent (Cody's split at sixteenths)."""
    head = np.trunc(np.minimum(y.real, 1e3) * 16.0) / 16.0
    return np.exp(-head * head) * np.exp(-(y - head) * (y + head))


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: Array) -> Array:
    numerator, denominator = coefficients
    return _horner(numerator, x) / _horner(denominator, x)


def _horner(coefficients: tuple[float, ...], x: Array) -> Array:
    value = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value
