"""Losses that compare whole vectors of outputs, so that every output of a sample affects every slope.

Every function takes outputs `a` of shape (…, N, C) and a target of shape (N, C). A loss with a kink has one
kink per sample, at which its margin (…, N) changes sign. Pieces (…, N, C) hold the piece of each sample in
their first column.
"""

from __future__ import annotations

import numpy as np

from gradcheck_cli.network.functions import row_sums, sigmoid
from gradcheck_cli.types import Array


def in_first_column(on: Array, outputs: int) -> Array:
    """Return pieces (…, N, C) whose first column holds the piece of each sample, `on` (…, N)."""
    pieces = np.zeros((*on.shape, outputs), dtype=np.int8)
    pieces[..., 0] = on
    return pieces


def _norm(v: Array) -> Array:
    return np.sqrt(row_sums(v * v))


def _along(v: Array) -> Array:
    """Return v / ‖v‖, or 0 where v is 0, as PyTorch does."""
    norm = _norm(v)[..., None]
    return v / np.where(norm == 0, 1.0, norm)


# --- dice --------------------------------------------------------------------------------------------------


def dice(a: Array, target: Array, smooth: float) -> Array:
    """Return 1 − (2 Σ p y + smooth) / (Σ p + Σ y + smooth) for p = σ(a)."""
    p = sigmoid(a)
    return 1.0 - (2.0 * row_sums(p * target) + smooth) / (row_sums(p) + target.sum(axis=-1) + smooth)


def dice_gradient(a: Array, target: Array, smooth: float) -> Array:
    """Return ∂p/∂a times the quotient rule's (2 Σ p y + smooth) / D² − 2 y / D."""
    p = sigmoid(a)
    overlap = (2.0 * row_sums(p * target) + smooth)[..., None]
    size = (row_sums(p) + target.sum(axis=-1) + smooth)[..., None]
    return (overlap / size - 2.0 * target) / size * p * (1.0 - p)


# --- cosine ------------------------------------------------------------------------------------------------


def cosine_margin(a: Array, target: Array, eps: float) -> Array:
    """Return ‖a‖ − eps, by which a is longer than eps."""
    return _norm(a) - eps


def cosine(a: Array, target: Array, eps: float) -> Array:
    """Return 1 − cos(a, y); vectors shorter than eps count as having that length."""
    on = in_first_column(cosine_margin(a, target, eps).real > 0, a.shape[-1])
    return cosine_branch(a, target, on, eps)


def cosine_branch(a: Array, target: Array, side: Array, eps: float) -> Array:
    """Return the loss computed as if a were longer than eps where `side` is 1, and shorter elsewhere."""
    size = np.where(side[..., 0] > 0, _norm(a), eps)
    return 1.0 - row_sums(a * target) / (size * np.maximum(_norm(target), eps))


def cosine_gradient(a: Array, target: Array, eps: float) -> Array:
    """Return (cos(a, y) a / ‖a‖ − y / ‖y‖) / ‖a‖."""
    norm = _norm(a)[..., None]
    size = np.maximum(norm, eps)
    unit, unit_y = a / size, target / np.maximum(_norm(target), eps)[..., None]
    cosine = np.where(norm > eps, row_sums(unit * unit_y)[..., None], 0.0)
    return (cosine * unit - unit_y) / size


def cosine_lengths(a: Array, target: Array, eps: float) -> tuple[Array, ...]:
    """Return the length of each a as the loss counts it: at least eps, below which the loss is linear."""
    return (np.maximum(_norm(a).real, eps),)


# --- triplet -----------------------------------------------------------------------------------------------


def _to_positive_and_negative(a: Array, eps: float) -> tuple[Array, Array]:
    """Return anchor − positive + eps and anchor − negative + eps, (…, N, C / 3) each."""
    anchor, positive, negative = np.split(a, 3, axis=-1)
    return anchor - positive + eps, anchor - negative + eps


def triplet_margin(a: Array, target: Array, margin: float, eps: float) -> Array:
    """Return margin + ‖anchor − positive + eps‖ − ‖anchor − negative + eps‖."""
    positive, negative = _to_positive_and_negative(a, eps)
    return margin + _norm(positive) - _norm(negative)


def triplet_lengths(a: Array, target: Array, margin: float, eps: float) -> tuple[Array, ...]:
    """Return ‖anchor − positive + eps‖ and ‖anchor − negative + eps‖."""
    positive, negative = _to_positive_and_negative(a, eps)
    return _norm(positive), _norm(negative)


def triplet(a: Array, target: Array, margin: float, eps: float) -> Array:
    """Return the margin of each sample, or 0 if it is negative."""
    over = triplet_margin(a, target, margin, eps)
    return np.where(over.real > 0, over, 0.0)


def triplet_branch(a: Array, target: Array, side: Array, margin: float, eps: float) -> Array:
    """Return the margin where `side` is 1, else 0."""
    return np.where(side[..., 0] > 0, triplet_margin(a, target, margin, eps), 0.0)


def triplet_gradient(a: Array, target: Array, margin: float, eps: float) -> Array:
    """Return (v_p − v_n, −v_p, v_n) for the unit vectors from positive and negative to the anchor, or 0.

    The gradient is 0 if the loss is 0.
    """
    to_positive, to_negative = (_along(each) for each in _to_positive_and_negative(a, eps))
    over = (triplet_margin(a, target, margin, eps) > 0)[..., None].astype(a.dtype)
    return over * np.concatenate([to_positive - to_negative, -to_positive, to_negative], axis=-1)


# --- contrastive -------------------------------------------------------------------------------------------


def _apart(a: Array) -> Array:
    """Return the difference (…, N, C / 2) of the two embeddings that the outputs a hold."""
    one, other = np.split(a, 2, axis=-1)
    return one - other


def contrastive_margin(a: Array, target: Array, margin: float) -> Array:
    """Return margin − distance for each pair that should be apart, and −1 for all other pairs."""
    return np.where(target[..., 0] < 1, margin - _norm(_apart(a)), -1.0)


def contrastive_lengths(a: Array, target: Array, margin: float) -> tuple[Array, ...]:
    """Return the distance of the two embeddings."""
    return (_norm(_apart(a)),)


def contrastive(a: Array, target: Array, margin: float) -> Array:
    """Return y d² + (1 − y) max(0, margin − d)², where d is the distance of the embeddings."""
    on = in_first_column(contrastive_margin(a, target, margin).real > 0, a.shape[-1])
    return contrastive_branch(a, target, on, margin)


def contrastive_branch(a: Array, target: Array, side: Array, margin: float) -> Array:
    """Return the loss with max(0, margin − d) replaced by margin − d where `side` is 1, else by 0."""
    apart, alike = _apart(a), target[..., 0]
    short = np.where(side[..., 0] > 0, margin - _norm(apart), 0.0)
    return alike * row_sums(apart * apart) + (1.0 - alike) * short * short


def contrastive_gradient(a: Array, target: Array, margin: float) -> Array:
    """Return (g, −g), where g is the gradient with respect to the first embedding."""
    apart, alike = _apart(a), target[..., :1]
    short = np.maximum(margin - _norm(apart), 0.0)[..., None]
    of_one = 2.0 * alike * apart - 2.0 * (1.0 - alike) * short * _along(apart)
    return np.concatenate([of_one, -of_one], axis=-1)


# --- Kullback-Leibler divergence of a Gaussian -------------------------------------------------------------


def kl_gaussian(a: Array, target: Array) -> Array:
    """Return −½ Σ (1 + logvar − mu² − e^logvar), computed with expm1 to keep its digits near 0."""
    mu, logvar = np.split(a, 2, axis=-1)
    return 0.5 * row_sums(mu * mu + (np.expm1(logvar) - logvar))


def kl_gaussian_gradient(a: Array, target: Array) -> Array:
    """Return (mu, ½ (e^logvar − 1))."""
    mu, logvar = np.split(a, 2, axis=-1)
    return np.concatenate([mu, 0.5 * (np.exp(logvar) - 1.0)], axis=-1)
