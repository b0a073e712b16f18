"""The most common losses: squares, absolute values, cross-entropies and the hinge.

Every function takes `a`, the C outputs of N samples, (…, N, C), and a target y, (N, C).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradcheck_cli.network.functions import log1p, row_max, row_sums, sigmoid, softmax
from gradcheck_cli.types import Array


def absolute(d: Array) -> Array:
    """Return |d| for a real d; for a complex d, return −d if its real part is negative, otherwise d."""
    return np.where(d.real < 0, -d, d) if np.iscomplexobj(d) else np.abs(d)


def mse(a: Array, target: Array) -> Array:
    """Return the sum of (a − y)² over the outputs a of each sample, with y the target."""
    d = a - target
    d *= d
    return row_sums(d)


def huber(a: Array, target: Array, delta: float) -> Array:
    """Return Huber's loss, which is quadratic up to an error of delta and linear beyond it."""
    return huber_branch(a, target, huber_pieces(a, target, delta), delta)


def huber_branch(a: Array, target: Array, side: Array, delta: float) -> Array:
    """Return Huber's loss computed on the pieces in `side`, even where an output is outside its piece."""
    d = a - target
    return row_sums(np.where(side == 0, 0.5 * d * d, delta * (side * d - 0.5 * delta)))


def huber_pieces(a: Array, target: Array, delta: float) -> Array:
    """Return the piece that each output is on: 0 for the square, −1 and 1 for the lines."""
    d = (a - target).real
    return (d > delta).astype(np.int8) - (d < -delta)


def cross_entropy(a: Array, target: Array) -> Array:
    """Return Σ_c target_c (log Σₖ e^aₖ − a_c) for logits a.

    First, the largest logit is subtracted from all logits, so that the largest term of the sum over k is 1.
    Then log1p of the sum of the other terms keeps the digits of a loss near 0.
    """
    if np.iscomplexobj(a):
        largest = np.take_along_axis(a, a.real.argmax(axis=-1, keepdims=True), axis=-1)
    else:
        largest = row_max(a)
    shifted = a - largest
    others = np.exp(shifted)
    others[_first_zeros(shifted)] = 0.0
    log_sum = log1p(row_sums(others))[..., None]
    return row_sums(target * (log_sum - shifted))


def _first_zeros(shifted: Array) -> Array:
    """Return a mask of the first 0 in each row.

    Rows with several zeros need a cumulative sum. If there is no such row, the sum is skipped.
    """
    zero = shifted == 0
    if np.count_nonzero(zero) > zero.size // zero.shape[-1]:
        zero &= zero.cumsum(axis=-1) == 1
    return zero


def cross_entropy_gradient(a: Array, target: Array) -> Array:
    """Return the gradient of cross-entropy, softmax(a) · Σ target − target."""
    return softmax(a) * target.sum(axis=-1, keepdims=True) - target


PosWeight = float | Sequence[float]
"""The weight of positive targets: one number for all outputs, or one number for each output."""


def bce_with_logits(a: Array, target: Array, pos_weight: PosWeight) -> Array:
    """Return Σ (pos_weight · target softplus(−a) + (1 − target) softplus(a)).

    This form keeps the digits of a loss near 0.
    """
    right, weight = a.real > 0, np.asarray(pos_weight, a.real.dtype)
    linear = np.where(right, a * (1.0 - target), -a * weight * target)
    both = 1.0 + (weight - 1.0) * target
    return row_sums(linear + both * log1p(np.exp(np.where(right, -a, a))))


def bce_with_logits_gradient(a: Array, target: Array, pos_weight: PosWeight) -> Array:
    """Return σ(a) (1 − target) − pos_weight · target (1 − σ(a)), written with a single σ(a)."""
    weight = np.asarray(pos_weight, a.real.dtype)
    return sigmoid(a) * (1.0 + (weight - 1.0) * target) - weight * target


def margins(a: Array, target: Array) -> Array:
    """Return the margin s_j − s_y + 1 of every output j, for scores s = a and the label y.

    The output of the label itself gets −1 instead, so that it never counts.
    """
    labelled = row_sums(a * target)[..., None]
    return np.where(target > 0, -1.0, a - labelled + 1.0)


def hinge(a: Array, target: Array) -> Array:
    """Return the hinge loss: the sum of all positive margins."""
    return hinge_branch(a, target, margins(a, target).real > 0)


def hinge_branch(a: Array, target: Array, counts: Array) -> Array:
    """Return the sum of the margins of the outputs that `counts` marks."""
    return row_sums(np.where(counts, margins(a, target), 0.0))


def hinge_gradient(a: Array, target: Array) -> Array:
    """Return the gradient: 1 for each output with a positive margin, and minus their number at the label."""
    over = (margins(a, target) > 0).astype(a.dtype)
    return over - target * over.sum(axis=-1, keepdims=True)
