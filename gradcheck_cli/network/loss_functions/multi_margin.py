"""The multi-class margin loss, like torch.nn.MultiMarginLoss: w_y / C Σ max(0, margin − a_y + aⱼ)^p.

The sum is over j ≠ y. Every function takes `a`, the C outputs of N samples, (…, N, C), and a target,
(N, C). The target is the class weight w_y at the label y and 0 elsewhere.
"""

from __future__ import annotations

import numpy as np

from gradcheck_cli.network.functions import row_sums
from gradcheck_cli.types import Array


def multi_margin_over(a: Array, target: Array, margin: float) -> Array:
    """Return margin − a_y + aⱼ for every output j, and −1 for the label y, so that the label never counts."""
    labelled = row_sums(np.where(target > 0, a, 0.0))[..., None]
    return np.where(target > 0, -1.0, a - labelled + margin)


def multi_margin_pieces(a: Array, target: Array, p: int, margin: float) -> Array:
    """Return a mask of the outputs that count: those with a positive margin − a_y + aⱼ."""
    return multi_margin_over(a, target, margin).real > 0


def multi_margin(a: Array, target: Array, p: int, margin: float) -> Array:
    """Return the multi-class margin loss, w_y / C Σ max(0, margin − a_y + aⱼ)^p over j ≠ y."""
    return multi_margin_branch(a, target, multi_margin_pieces(a, target, p, margin), p, margin)


def multi_margin_branch(a: Array, target: Array, counts: Array, p: int, margin: float) -> Array:
    """Return the multi-class margin loss with terms for only those outputs that `counts` marks."""
    terms = np.where(counts, multi_margin_over(a, target, margin), 0.0) ** p
    return target.sum(axis=-1) / a.shape[-1] * row_sums(terms)


def multi_margin_gradient(a: Array, target: Array, p: int, margin: float) -> Array:
    """Return the gradient of the multi-class margin loss.

    With over = max(0, margin − a_y + aⱼ), the gradient is w_y / C · p over^(p − 1) for every output j other
    than the label y, and minus the sum of these values at the label.
    """
    over = multi_margin_over(a, target, margin)
    slopes = (over > 0) * (over if p == 2 else np.ones_like(over)) * p
    at_label = np.where(target > 0, slopes.sum(axis=-1, keepdims=True), 0.0)
    return target.sum(axis=-1, keepdims=True) / a.shape[-1] * (slopes - at_label)
