"""Losses of probabilities, counts and values, most of which are a sum of one term per output.

Every function takes outputs `a` of shape (…, N, C) and a target of shape (N, C).
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
    """Return y for every a."""
    return np.broadcast_to(target, a.shape)


def negative_dot(a: Array, target: Array) -> Array:
    """Return −Σ y · a, for log-probabilities a."""
    return -row_sums(target * a)


def negative_dot_gradient(a: Array, target: Array) -> Array:
    """Return −y for every a."""
    return np.broadcast_to(-target, a.shape)


def kl_div(a: Array, target: Array) -> Array:
    """Return Σ y (log y − a); an output with y = 0 adds nothing."""
    log = np.log(np.where(target > 0, target, 1.0))
    return row_sums(target * (log - a))


def poisson_nll(a: Array, target: Array) -> Array:
    """Return Σ e^a − y a, where a is the logarithm of the rate."""
    return row_sums(np.exp(a) - target * a)


def poisson_nll_gradient(a: Array, target: Array) -> Array:
    """Return e^a − y."""
    return np.exp(a) - target


def smooth_l1(a: Array, target: Array, beta: float) -> Array:
    """Return Σ ½ d² / beta for small d = a − y, and Σ |d| − ½ beta for large ones."""
    return smooth_l1_branch(a, target, smooth_l1_pieces(a, target, beta), beta)


def smooth_l1_branch(a: Array, target: Array, side: Array, beta: float) -> Array:
    """Return the loss on the given pieces, extended past their ends."""
    d = a - target
    return row_sums(np.where(side == 0, 0.5 * d * d / beta, side * d - 0.5 * beta))


def smooth_l1_pieces(a: Array, target: Array, beta: float) -> Array:
    """Return the piece that each output's error is on: −1 below −beta, 1 above beta, and 0 in between."""
    d = (a - target).real
    return (d > beta).astype(np.int8) - (d < -beta)


def smooth_l1_gradient(a: Array, target: Array, beta: float) -> Array:
    """Return (a − y) / beta, clipped to ± 1."""
    return np.clip((a - target) / beta, -1.0, 1.0)


def _focal_parts(a: Array, target: Array, alpha: float) -> tuple[Array, Array, Array]:
    """Return the weight of each output, 1 − pₜ and the cross-entropy, all without cancellation."""
    weight = alpha * target + (1.0 - alpha) * (1.0 - target) if alpha >= 0 else np.ones_like(target)
    missing = sigmoid(a) * (1.0 - target) + sigmoid(-a) * target
    return weight, missing, target * softplus(-a) + (1.0 - target) * softplus(a)


def focal(a: Array, target: Array, alpha: float, gamma: float) -> Array:
    """Return Σ αₜ (1 − pₜ)^gamma · bce, where pₜ is the probability of the right answer."""
    weight, missing, bce = _focal_parts(a, target, alpha)
    return row_sums(weight * missing**gamma * bce)


def focal_gradient(a: Array, target: Array, alpha: float, gamma: float) -> Array:
    """Return the gradient: αₜ (1 − pₜ)^gamma (p − y), minus a term from the derivative of (1 − pₜ)^gamma."""
    weight, missing, bce = _focal_parts(a, target, alpha)
    slope = (2.0 * target - 1.0) * sigmoid(a) * sigmoid(-a)  # of pₜ
    of_factor = gamma * np.maximum(missing, _TINY) ** (gamma - 1.0) * slope * bce
    return weight * (missing**gamma * (sigmoid(a) - target) - of_factor)
