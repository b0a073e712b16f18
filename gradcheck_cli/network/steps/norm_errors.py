"""Bounds on the errors that a normalisation carries on from its input and from its upstream gradient.

The Jacobian of a normalisation of m numbers is J = (1 − 1/m − ẑ ẑᵀ / d) / σ, where d is m or m − 1. The term
1/m is for norms that subtract the mean. J removes what does not change ẑ: errors that all numbers share, and
errors along ẑ. Without that, a norm of few numbers would multiply every bound, and hide small mistakes.

Every array has the shape (…, m): the last axis is the one that is normalised.
"""

from __future__ import annotations

import numpy as np

from gradcheck_cli.types import Array

_MOST_NUMBERS = 2**22
"""The largest number of entries of J to store. Above it, a simpler bound on |J| is used."""

_LEAST = float(np.finfo(np.float64).eps)
"""The smallest share of a root mean square that counts as left after an error. A root is never 0."""


def projected(error: Array, z_hat: Array, divisor: int, centred: bool) -> Array:
    """Return |1 − 1/m − ẑ ẑᵀ / d| e: the largest change of σ ẑ, or of σ ∂L/∂z, for errors of up to ± e.

    error: e. In the forward pass, this is the error of z; in the backward pass, that of ∂L/∂ẑ.
    divisor: the number d that the variance divides by.
    centred: whether the norm subtracts the mean.
    """
    m, size = error.shape[-1], np.abs(z_hat)
    shared = 1.0 / m if centred else 0.0
    if error.size * m <= _MOST_NUMBERS:
        products = z_hat[..., :, None] * z_hat[..., None, :] / divisor
        exact: Array = (np.abs(np.eye(m) - shared - products) @ error[..., None])[..., 0]
        return exact
    others = shared * error.sum(axis=-1, keepdims=True)
    others = others + size * (size * error).sum(axis=-1, keepdims=True) / divisor
    own = shared + z_hat * z_hat / divisor
    bound: Array = others - own * error + np.abs(1.0 - own) * error
    return bound


def carried(error: Array, z_hat: Array, deviation: Array, divisor: int, centred: bool) -> Array:
    """Return a bound on the error of ẑ that is due to errors of z of up to ± e.

    The bound is of second order, since that of first order may be 0. No error is larger than the range of ẑ.

    deviation: σ, (…, 1), or the same number repeated.
    """
    size, deviation = np.abs(z_hat), deviation[..., :1]
    moved = np.sqrt(np.square(error).sum(axis=-1, keepdims=True) / divisor) / deviation
    first = projected(error, z_hat, divisor, centred) / deviation
    # Without a mean, a number of exactly 0 stays 0, however large the errors of the others are.
    left = np.fmax(1.0 - moved, _LEAST)
    alone = moved * (size + 1.0) if centred else (error / deviation + 2.0 * moved * size) / left
    second = 2.0 * moved * (first + alone)
    bound: Array = np.fmin(first + second, size + np.sqrt(divisor))
    return bound
