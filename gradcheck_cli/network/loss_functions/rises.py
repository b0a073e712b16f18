"""Rises of losses: the exact change of a loss after a change d of the outputs, as in `network.rise`.

Arrays at rest have the shape (N, C), for C outputs of N samples; d has the shape (…, N, C). If the outputs
have positions, the shapes are (N, *positions, C) and (…, N, *positions, C).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradcheck_cli.network.functions import row_sums, sigmoid, softmax
from gradcheck_cli.network.loss_functions.common import PosWeight
from gradcheck_cli.network.loss_functions.per_output import focal_parts
from gradcheck_cli.network.rise import EXPM1, LOG1P, AtRest, Rise
from gradcheck_cli.types import Array


def _mse_rise(at_rest: AtRest, d: Array) -> Array:
    """Return Σ d (2 (a − y) + d), the change of Σ (a − y)²."""
    twice = 2.0 * at_rest[0] + d
    twice *= d
    return row_sums(twice)


def _dot_rise(at_rest: AtRest, d: Array) -> Array:
    """Return Σ y d, the change of Σ y a."""
    return row_sums(np.multiply(at_rest[0], d, out=d))


def _sizes(at_rest: AtRest) -> Array:
    return np.abs(at_rest[0])


MSE = Rise(lambda a, target: (a - target,), _mse_rise, lambda at_rest: 2.0 * np.abs(at_rest[0]))
DOT = Rise(lambda a, target: (target,), _dot_rise, _sizes)
NEGATIVE_DOT = Rise(lambda a, target: (-target,), _dot_rise, _sizes)


def _poisson_rise(at_rest: AtRest, d: Array) -> Array:
    """Return Σ (e^a (exp(d) − 1) − y d), the change of Σ (e^a − y a)."""
    rate, target = at_rest
    return row_sums(rate * EXPM1(d.copy()) - target * d)


POISSON = Rise(
    lambda a, target: (np.exp(a), target), _poisson_rise, lambda at_rest: at_rest[0] + np.abs(at_rest[1])
)


def _cross_entropy_at_rest(a: Array, target: Array) -> AtRest:
    """Return the probabilities of the outputs, the target, and a mask of each sample's likeliest label.

    The last two arrays are the target without these labels, and its sum over the outputs.
    """
    target = np.broadcast_to(target, a.shape)
    labelled = (np.arange(a.shape[-1]) == target.argmax(axis=-1)[..., None]).astype(np.float64)
    total = np.broadcast_to(target.sum(axis=-1, keepdims=True), a.shape)
    return softmax(a), target, labelled, target * (1.0 - labelled), total


def _cross_entropy_rise(at_rest: AtRest, d: Array) -> Array:
    """Return the change of Σ_c y_c (log Σₖ e^aₖ − a_c).

    The loss does not change if a number is added to all outputs. So the change of the labelled output is
    subtracted from all changes, and the term of the label in the sum over k does not change. Then nothing
    cancels, even if the label has nearly all the probability.
    """
    p, _, labelled, others, total = at_rest
    d = d - row_sums(d * labelled)[..., None]
    linear = row_sums(others * d) if others.any() else 0.0
    sums = LOG1P(row_sums(p * EXPM1(d)))
    return total[..., 0] * sums - linear


def _cross_entropy_sizes(at_rest: AtRest) -> Array:
    p, target, labelled, *_ = at_rest
    others = (target.sum(axis=-1, keepdims=True) * p + np.abs(target)) * (1.0 - labelled)
    return others + labelled * others.sum(axis=-1, keepdims=True)


CROSS_ENTROPY = Rise(_cross_entropy_at_rest, _cross_entropy_rise, _cross_entropy_sizes)


def _bce_at_rest(a: Array, target: Array, pos_weight: PosWeight) -> AtRest:
    """Return the weights of the losses softplus(a) and softplus(−a), σ(a) and σ(−a)."""
    negative = np.broadcast_to(1.0 - target, a.shape)
    positive = np.broadcast_to(np.asarray(pos_weight, np.float64) * target, a.shape)
    return negative, positive, sigmoid(a), sigmoid(-a)


def _bce_rise(at_rest: AtRest, d: Array) -> Array:
    """Return the change of Σ ((1 − y) softplus(a) + pos_weight y softplus(−a))."""
    negative, positive, s, r = at_rest
    up = EXPM1(d.copy())
    down = EXPM1(-d)
    return row_sums(negative * LOG1P(s * up) + positive * LOG1P(r * down))


BCE = Rise(
    _bce_at_rest, _bce_rise, lambda at_rest: np.abs(at_rest[0]) * at_rest[2] + np.abs(at_rest[1]) * at_rest[3]
)


def _dice_at_rest(a: Array, target: Array, smooth: float) -> AtRest:
    """Return σ(a), σ' = σ(a) σ(−a), the weights of the changes of σ(a), and D, the denominator of the loss.

    The last array has the sizes of the terms of the weights.
    """
    p, y = sigmoid(a), np.broadcast_to(target, a.shape)
    overlap = (2.0 * row_sums(p * y) + smooth)[..., None]
    size = (row_sums(p) + y.sum(axis=-1) + smooth)[..., None]
    weights, terms = overlap - 2.0 * y * size, np.abs(overlap) + 2.0 * np.abs(y * size)
    of_size = np.broadcast_to(size, a.shape)
    return p, p * sigmoid(-a), weights / size**2, of_size, terms / size**2


def _dice_rise(at_rest: AtRest, d: Array) -> Array:
    """Return Σ d_p (A − 2 y D) / (D (D + Σ d_p)), the change of 1 − A / D.

    Here p = σ(a), d_p is its change, A = 2 Σ p y + smooth, y is the target, and D = Σ p + Σ y + smooth.
    """
    p, slope, weights, size, _ = at_rest
    growth = EXPM1(d.copy())
    change = slope * growth / (1.0 + p * growth)
    return row_sums(weights * change) / (1.0 + row_sums(change / size))


DICE = Rise(_dice_at_rest, _dice_rise, lambda at_rest: at_rest[1] * at_rest[4])


def _focal_at_rest(a: Array, target: Array, alpha: float, gamma: float) -> AtRest:
    """Return what the rises of q^gamma and of the cross-entropy of each output need, and gamma.

    The loss is αₜ q^gamma bce, where q is 1 minus the probability of the right answer.
    """
    y, s, r = np.broadcast_to(target, a.shape), sigmoid(a), sigmoid(-a)
    weight, q, bce = focal_parts(a, target, alpha)
    share = (1.0 - 2.0 * y) * r * s / np.maximum(q, _SUBNORMAL)
    return y, s, r, share, weight * q**gamma, bce, np.broadcast_to(gamma, a.shape)


_SUBNORMAL = 2.0**-1074
_LONG_EXPM1 = replace(EXPM1, longest=np.inf)


def _focal_rise(at_rest: AtRest, d: Array) -> Array:
    """Return Σ αₜ q^gamma (g bce + (1 + g) b), with g the relative rise of q^gamma, and b the rise of bce.

    q rises by the share x of itself, so g = (1 + x)^gamma − 1.
    """
    y, s, r, share, power, bce, gamma = at_rest
    up, down = EXPM1(d.copy()), EXPM1(-d)
    of_bce = (1.0 - y) * LOG1P(s * up) + y * LOG1P(r * down)
    of_power = _LONG_EXPM1(gamma * LOG1P(share * up / (1.0 + s * up)))
    return row_sums(power * (of_power * (bce + of_bce) + of_bce))


def _focal_sizes(at_rest: AtRest) -> Array:
    y, s, r, share, power, bce, gamma = at_rest
    return power * (gamma * np.abs(share) * bce + (1.0 - y) * s + y * r)


FOCAL = Rise(_focal_at_rest, _focal_rise, _focal_sizes)


def _kl_gaussian_at_rest(a: Array, target: Array) -> AtRest:
    mu, logvar = np.split(a, 2, axis=-1)
    return (np.concatenate([mu, np.exp(logvar)], axis=-1),)


def _kl_gaussian_rise(at_rest: AtRest, d: Array) -> Array:
    """Return ½ Σ ((2 mu + d) d + e^logvar (exp(r) − 1) − r), where d and r are the changes of the outputs."""
    (mu, var), (d, r) = (np.split(each, 2, axis=-1) for each in (at_rest[0], d))
    return 0.5 * row_sums((2.0 * mu + d) * d + (var * EXPM1(r.copy()) - r))


def _kl_gaussian_sizes(at_rest: AtRest) -> Array:
    mu, var = np.split(at_rest[0], 2, axis=-1)
    return np.concatenate([np.abs(mu), 0.5 * (var + 1.0)], axis=-1)


KL_GAUSSIAN = Rise(_kl_gaussian_at_rest, _kl_gaussian_rise, _kl_gaussian_sizes)


def weighted(rise: Rise) -> Rise:
    """Return the rise of a loss times the weight of each sample, which is the last column of its target."""

    def at_rest(a: Array, target: Array) -> AtRest:
        return (*rise.at_rest(a, target[..., :-1]), np.broadcast_to(target[..., -1:], a.shape))

    def after(at_rest: AtRest, d: Array) -> Array:
        *own, weight = at_rest
        return weight[..., 0] * rise.after(tuple(own), d)

    def sizes(at_rest: AtRest) -> Array:
        *own, weight = at_rest
        return weight * rise.sizes(tuple(own))

    return Rise(at_rest, after, sizes)
