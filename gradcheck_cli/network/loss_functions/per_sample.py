"""Losses that compare whole vectors of outputs. Every output of a sample affects every slope.

Every function takes `a`, the C outputs of N samples, (…, N, C), and a target y, (N, C).
A loss with a kink has one kink per sample, where its margin, (…, N), changes sign. The first column of the
pieces, (…, N, C), holds the piece of each sample.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradcheck_cli.network.functions import row_sums, sigmoid
from gradcheck_cli.types import Array

FIRST_PLANE = 2
"""The side on which the first plane replaces a length, at the tip of a cone."""


def in_first_column(on: Array, outputs: int) -> Array:
    """Return pieces, (…, N, C), whose first column holds the pieces of the N samples.

    on: the piece of each sample, (…, N).
    outputs: the number C of outputs.
    """
    pieces = np.zeros((*on.shape, outputs), dtype=np.int8)
    pieces[..., 0] = on
    return pieces


def _switched(margin: Array, a: Array, lengths: Sequence[Array]) -> Array:
    """Return the smooth pieces, (…, N, C), of a loss with one kink per sample.

    N is the number of samples, C the number of outputs.

    margin: the loss's margin, (…, N), whose sign shows the side of the kink.
    lengths: the lengths of vectors, (…, N). A length has a kink at 0, and a perturbation far larger than the
        length cannot distinguish the length from 0. So a length that leaves its order of magnitude counts as
        having crossed the kink.
    """
    pieces = in_first_column(margin.real > 0, a.shape[-1]).astype(np.float64)
    if a.shape[-1] == 1:
        return pieces
    for k, length in enumerate(lengths):
        pieces[..., -1] += _MAGNITUDES**k * _magnitude(length.real)
    return pieces


_LEAST_MAGNITUDE, _BETWEEN = 1024.0, 0.2071
_MAGNITUDES = 4.0 * _LEAST_MAGNITUDE
"""A number that exceeds the number of orders of magnitude that a length can have."""


def _magnitude(length: Array) -> Array:
    """Return the order of magnitude of each length, in powers of 4.

    No round number lies on the border between two orders.
    """
    with np.errstate(divide="ignore"):
        order: Array = np.floor(0.5 * np.log2(length) + _BETWEEN)
    return np.maximum(order, -_LEAST_MAGNITUDE)


def _norm(v: Array) -> Array:
    return np.sqrt(row_sums(v * v))


def _along(v: Array) -> Array:
    """Return v / ‖v‖, or 0 where v is 0, as PyTorch does."""
    norm = _norm(v)[..., None]
    return v / np.where(norm == 0, 1.0, norm)


# --- dice --------------------------------------------------------------------------------------------------


def dice(a: Array, target: Array, smooth: float) -> Array:
    """Return the dice loss, 1 − (2 Σ p y + smooth) / (Σ p + Σ y + smooth), with p = σ(a) and the target y."""
    p = sigmoid(a)
    return 1.0 - (2.0 * row_sums(p * target) + smooth) / (row_sums(p) + target.sum(axis=-1) + smooth)


def dice_gradient(a: Array, target: Array, smooth: float) -> Array:
    """Return the gradient of the dice loss: ∂p/∂a · ((2 Σ p y + smooth) / D² − 2 y / D).

    Here p = σ(a), y is the target, and D = Σ p + Σ y + smooth.
    """
    p = sigmoid(a)
    overlap = (2.0 * row_sums(p * target) + smooth)[..., None]
    size = (row_sums(p) + target.sum(axis=-1) + smooth)[..., None]
    return (overlap / size - 2.0 * target) / size * p * (1.0 - p)


# --- cosine ------------------------------------------------------------------------------------------------


def cosine_margin(a: Array, target: Array, eps: float) -> Array:
    """Return ‖a‖ − eps, which is positive if the vector a is longer than eps."""
    return _norm(a) - eps


def cosine(a: Array, target: Array, eps: float) -> Array:
    """Return 1 − cos(a, y), with y the target. Vectors shorter than eps count as having the length eps."""
    on = in_first_column(cosine_margin(a, target, eps).real > 0, a.shape[-1])
    return cosine_branch(a, target, on, eps)


def cosine_branch(a: Array, target: Array, side: Array, eps: float) -> Array:
    """Return the cosine loss as if a vector were longer than eps where `side` is 1, and shorter elsewhere."""
    size = np.where(side[..., 0] > 0, _norm(a), eps)
    return 1.0 - row_sums(a * target) / (size * np.maximum(_norm(target), eps))


def cosine_gradient(a: Array, target: Array, eps: float) -> Array:
    """Return the gradient of the cosine loss, (cos(a, y) a / ‖a‖ − y / ‖y‖) / ‖a‖, with y the target."""
    norm = _norm(a)[..., None]
    size = np.maximum(norm, eps)
    unit, unit_y = a / size, target / np.maximum(_norm(target), eps)[..., None]
    cosine = np.where(norm > eps, row_sums(unit * unit_y)[..., None], 0.0)
    return (cosine * unit - unit_y) / size


def cosine_lengths(a: Array, target: Array, eps: float) -> tuple[Array, ...]:
    """Return the length of each vector a, but at least eps. For a shorter vector, the loss is linear."""
    return (np.maximum(_norm(a).real, eps),)


def cosine_pieces(a: Array, target: Array, eps: float) -> Array:
    """Return the smooth piece of each sample: the side of its margin, and the magnitudes of its lengths."""
    return _switched(cosine_margin(a, target, eps), a, cosine_lengths(a, target, eps))


# --- triplet -----------------------------------------------------------------------------------------------


def _to_positive_and_negative(a: Array, eps: float) -> tuple[Array, Array]:
    """Return anchor − positive + eps and anchor − negative + eps, each (…, N, C / 3).

    The C outputs of each of the N samples hold anchor, positive and negative.
    """
    anchor, positive, negative = np.split(a, 3, axis=-1)
    return anchor - positive + eps, anchor - negative + eps


def triplet_margin(a: Array, target: Array, margin: float, eps: float) -> Array:
    """Return the triplet margin: margin + ‖anchor − positive + eps‖ − ‖anchor − negative + eps‖."""
    positive, negative = _to_positive_and_negative(a, eps)
    return margin + _norm(positive) - _norm(negative)


def triplet_lengths(a: Array, target: Array, margin: float, eps: float) -> tuple[Array, ...]:
    """Return ‖anchor − positive + eps‖ and ‖anchor − negative + eps‖."""
    positive, negative = _to_positive_and_negative(a, eps)
    return _norm(positive), _norm(negative)


def triplet_pieces(a: Array, target: Array, margin: float, eps: float) -> Array:
    """Return the smooth piece of each sample: the side of its margin, and the magnitudes of its lengths."""
    lengths = triplet_lengths(a, target, margin, eps)
    return _switched(triplet_margin(a, target, margin, eps), a, lengths)


def triplet(a: Array, target: Array, margin: float, eps: float) -> Array:
    """Return the triplet loss: the margin of each sample, or 0 if the margin is negative."""
    over = triplet_margin(a, target, margin, eps)
    return np.where(over.real > 0, over, 0.0)


def triplet_branch(a: Array, target: Array, side: Array, margin: float, eps: float) -> Array:
    """Return the triplet margin of each sample where `side` is 1, and 0 elsewhere."""
    return np.where(side[..., 0] > 0, triplet_margin(a, target, margin, eps), 0.0)


def triplet_gradient(a: Array, target: Array, margin: float, eps: float) -> Array:
    """Return the gradient of the triplet loss: (v_p − v_n, −v_p, v_n), or 0 if the loss is 0.

    v_p and v_n are the unit vectors that point from positive and from negative to the anchor.
    """
    to_positive, to_negative = (_along(each) for each in _to_positive_and_negative(a, eps))
    over = (triplet_margin(a, target, margin, eps) > 0)[..., None].astype(a.dtype)
    return over * np.concatenate([to_positive - to_negative, -to_positive, to_negative], axis=-1)


# --- contrastive -------------------------------------------------------------------------------------------


def _apart(a: Array) -> Array:
    """Return the difference between the two embeddings that the outputs hold, (…, N, C / 2).

    N is the number of samples, and C the number of outputs.
    """
    one, other = np.split(a, 2, axis=-1)
    return one - other


def contrastive_margin(a: Array, target: Array, margin: float) -> Array:
    """Return margin − distance for each pair that should be apart, and −1 for all other pairs."""
    return np.where(target[..., 0] < 1, margin - _norm(_apart(a)), -1.0)


def contrastive_lengths(a: Array, target: Array, margin: float) -> tuple[Array, ...]:
    """Return the distance between the two embeddings, or 1 if the pair is alike.

    The loss d² of a pair that is alike is smooth at distance 0.
    """
    return (np.where(target[..., 0] < 1, _norm(_apart(a)), 1.0),)


def contrastive_pieces(a: Array, target: Array, margin: float) -> Array:
    """Return the smooth piece of each sample: the side of its margin, and the magnitudes of its lengths."""
    lengths = contrastive_lengths(a, target, margin)
    return _switched(contrastive_margin(a, target, margin), a, lengths)


def contrastive_tip(a: Array, target: Array, margin: float) -> Array:
    """Return the distance of each pair that should be apart, and inf for all other pairs.

    The slope of the loss along the distance does not vanish at a distance of 0, because the loss has the tip
    of a cone there.
    """
    apart = _norm(_apart(a))
    return np.where((target[..., 0] < 1) & (apart < margin), apart, np.inf)


def contrastive(a: Array, target: Array, margin: float) -> Array:
    """Return y d² + (1 − y) max(0, margin − d)², with the distance d of the embeddings and the target y."""
    on = in_first_column(contrastive_margin(a, target, margin).real > 0, a.shape[-1])
    return contrastive_branch(a, target, on, margin)


def contrastive_branch(a: Array, target: Array, side: Array, margin: float) -> Array:
    """Return the contrastive loss on the side of the kink that `side` names.

    With d the distance of the embeddings, max(0, margin − d) is replaced by margin − d where `side` is 1, and
    by 0 where it is 0. At the tip d = 0, the sides from 2 on replace d by planes: the slopes of d in every
    direction lie between the slopes of these planes.
    """
    apart, alike, chosen = _apart(a), target[..., 0], side[..., 0]
    short = np.where(chosen > 0, margin - _norm(apart), 0.0)
    if (chosen >= FIRST_PLANE).any():
        short = np.where(chosen >= FIRST_PLANE, margin - _on_plane(apart, chosen - FIRST_PLANE), short)
    return alike * row_sums(apart * apart) + (1.0 - alike) * short * short


def _on_plane(apart: Array, number: Array) -> Array:
    """Return the height, (…, N), of one of 2 W planes over each vector of W entries, (…, N, W).

    The planes are ± √W times an entry, so their slopes enclose every slope of the vector's length.

    number: the number of the plane, (…, N). A negative number gives any height.
    """
    width = apart.shape[-1]
    entry, is_down = np.divmod(np.maximum(number, 0).astype(np.intp), 2)
    entry = np.broadcast_to(entry, apart.shape[:-1])[..., None]
    height = np.take_along_axis(apart, entry, axis=-1)[..., 0]
    return np.sqrt(width) * np.where(is_down, -height, height)


def contrastive_gradient(a: Array, target: Array, margin: float) -> Array:
    """Return (g, −g), where g is the gradient with respect to the first of the two embeddings."""
    apart, alike = _apart(a), target[..., :1]
    short = np.maximum(margin - _norm(apart), 0.0)[..., None]
    of_one = 2.0 * alike * apart - 2.0 * (1.0 - alike) * short * _along(apart)
    return np.concatenate([of_one, -of_one], axis=-1)


# --- Kullback-Leibler divergence of a Gaussian -------------------------------------------------------------


def kl_gaussian(a: Array, target: Array) -> Array:
    """Return −½ Σ (1 + logvar − mu² − e^logvar), the divergence of a Gaussian from the standard normal.

    The outputs hold mu and logvar. Using expm1 keeps the digits of a loss near 0.
    """
    mu, logvar = np.split(a, 2, axis=-1)
    return 0.5 * row_sums(mu * mu + (np.expm1(logvar) - logvar))


def kl_gaussian_gradient(a: Array, target: Array) -> Array:
    """Return the gradients with respect to mu and logvar: mu and ½ (e^logvar − 1)."""
    mu, logvar = np.split(a, 2, axis=-1)
    return np.concatenate([mu, 0.5 * (np.exp(logvar) - 1.0)], axis=-1)
