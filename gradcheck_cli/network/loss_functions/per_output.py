"""Losses of probabilities, counts and real numbers. Most are sums of one term per output.

Every function takes `a`, the C outputs of N samples, (…, N, C), and a target y, (N, C).
"""

from __future__ import annotations

import numpy as np

from gradcheck_cli.network.functions import row_sums, sigmoid, softplus
from gradcheck_cli.types import Array

_TINY = float(np.finfo(np.float32).tiny)


def dot(a: Array, target: Array) -> Array:
    """Return Σ y · a, the inner product of the output a and an upstream gradient y."""
    return row_sums(target * a)


def dot_gradient(a: Array, target: Array) -> Array:
    """Return ∂(Σ y · a)/∂a = y, with y the target."""
    return np.broadcast_to(target, a.shape)


def negative_dot(a: Array, target: Array) -> Array:
    """Return −Σ y · a for log-probabilities a and the target y."""
    return -row_sums(target * a)


def negative_dot_gradient(a: Array, target: Array) -> Array:
    """Return ∂(−Σ y · a)/∂a = −y, with y the target."""
    return np.broadcast_to(-target, a.shape)


def kl_div(a: Array, target: Array) -> Array:
    """Return Σ y (log y − a) for log-probabilities a and the target y; where y is 0, the term is 0."""
    log = np.log(np.where(target > 0, target, 1.0))
    return row_sums(target * (log - a))


def poisson_nll(a: Array, target: Array) -> Array:
    """Return Σ (e^a − y a), where a is the logarithm of the rate and y is the target."""
    return row_sums(np.exp(a) - target * a)


def poisson_nll_gradient(a: Array, target: Array) -> Array:
    """Return the gradient of the Poisson loss, e^a − y, with y the target."""
    return np.exp(a) - target


def smooth_l1(a: Array, target: Array, beta: float) -> Array:
    """Return a sum over the outputs: ½ d² / beta for |d| up to beta, and |d| − ½ beta for a larger |d|.

    Here d = a − y, with y the target.
    """
    return smooth_l1_branch(a, target, smooth_l1_pieces(a, target, beta), beta)


def smooth_l1_branch(a: Array, target: Array, side: Array, beta: float) -> Array:
    """Return the smooth L1 loss on the pieces in `side`, even where an output is outside its piece."""
    d = a - target
    return row_sums(np.where(side == 0, 0.5 * d * d / beta, side * d - 0.5 * beta))


def smooth_l1_pieces(a: Array, target: Array, beta: float) -> Array:
    """Return the piece that each error a − y is on: −1 below −beta, 1 above beta, and 0 in between."""
    d = (a - target).real
    return (d > beta).astype(np.int8) - (d < -beta)


def smooth_l1_gradient(a: Array, target: Array, beta: float) -> Array:
    """Return the gradient of the smooth L1 loss, (a − y) / beta, clipped to ± 1, with y the target."""
    return np.clip((a - target) / beta, -1.0, 1.0)


def focal_parts(a: Array, target: Array, alpha: float) -> tuple[Array, Array, Array]:
    """Return three terms of the focal loss for each output: the weight αₜ, 1 − pₜ, and the cross-entropy.

    pₜ is the probability of the right answer. No digits cancel in any of the terms.
    """
    weight = alpha * target + (1.0 - alpha) * (1.0 - target) if alpha >= 0 else np.ones_like(target)
    missing = sigmoid(a) * (1.0 - target) + sigmoid(-a) * target
    return weight, missing, target * softplus(-a) + (1.0 - target) * softplus(a)


def focal(a: Array, target: Array, alpha: float, gamma: float) -> Array:
    """Return the focal loss, Σ αₜ (1 − pₜ)^gamma · bce.

    pₜ is the probability of the right answer, αₜ the weight of the class, and bce the binary cross-entropy.
    """
    weight, missing, bce = focal_parts(a, target, alpha)
    return row_sums(weight * missing**gamma * bce)


def focal_gradient(a: Array, target: Array, alpha: float, gamma: float) -> Array:
    """Return the gradient of the focal loss.

    The gradient is αₜ (1 − pₜ)^gamma (p − y), minus a term from the derivative of (1 − pₜ)^gamma. Here p =
    σ(a), y is the target, pₜ is the probability of the right answer, and αₜ is the weight of the class.
    """
    weight, missing, bce = focal_parts(a, target, alpha)
    slope = (2.0 * target - 1.0) * sigmoid(a) * sigmoid(-a)  # the slope of pₜ
    of_factor = gamma * np.maximum(missing, _TINY) ** (gamma - 1.0) * slope * bce
    return weight * (missing**gamma * (sigmoid(a) - target) - of_factor)
