"""Rises of losses with kinks: the exact change of a loss after a change d of the outputs.

Each is the change on the smooth pieces that the unperturbed outputs are on. Arrays at rest and d have the
shapes in `rises`.
"""

from __future__ import annotations

import numpy as np

from gradcheck_cli.network.functions import row_sums
from gradcheck_cli.network.loss_functions.multi_margin import multi_margin_over
from gradcheck_cli.network.rise import LOG1P, AtRest, Rise
from gradcheck_cli.types import Array

# --- losses of single outputs ------------------------------------------------------------------------------


def _piece_rise(at_rest: AtRest, d: Array) -> Array:
    """Return Σ (slope + half d) d, the change of a sum of lines (half = 0) and parabolas."""
    slope, half = at_rest
    risen = half * d
    risen += slope
    risen *= d
    return row_sums(risen)


def _piece_sizes(at_rest: AtRest) -> Array:
    return np.abs(at_rest[0])


def _l1_at_rest(a: Array, target: Array) -> AtRest:
    sign = np.sign(a - target)
    return sign, np.zeros_like(sign)


def _huber_at_rest(a: Array, target: Array, delta: float) -> AtRest:
    d = a - target
    return np.clip(d, -delta, delta), np.where(np.abs(d) <= delta, 0.5, 0.0)


def _smooth_l1_at_rest(a: Array, target: Array, beta: float) -> AtRest:
    d = a - target
    return np.clip(d / beta, -1.0, 1.0), np.where(np.abs(d) <= beta, 0.5 / beta, 0.0)


L1 = Rise(_l1_at_rest, _piece_rise, _piece_sizes)
HUBER = Rise(_huber_at_rest, _piece_rise, _piece_sizes)
SMOOTH_L1 = Rise(_smooth_l1_at_rest, _piece_rise, _piece_sizes)


# --- losses that compare all outputs with that of the label ------------------------------------------------


def _against_label_rise(at_rest: AtRest, d: Array) -> Array:
    """Return Σ (slope + half r) r, where r is the change of an output relative to that of the label."""
    *piece, label = at_rest
    return _piece_rise(tuple(piece), d - row_sums(label * d)[..., None])


def _against_label_sizes(at_rest: AtRest) -> Array:
    slope, _, label = at_rest
    return np.abs(slope) + label * np.abs(slope).sum(axis=-1, keepdims=True)


def _multi_margin_at_rest(a: Array, target: Array, p: int, margin: float) -> AtRest:
    """Return the slope and half of the curvature of each output's term, and a mask of the label."""
    over = multi_margin_over(a, target, margin)
    weight = np.where(over > 0, target.sum(axis=-1, keepdims=True) / a.shape[-1], 0.0)
    label = np.broadcast_to(np.where(target > 0, 1.0, 0.0), a.shape)
    if p == 1:
        return weight, np.zeros_like(weight), label
    return 2.0 * weight * over, weight, label


def _hinge_at_rest(a: Array, target: Array) -> AtRest:
    """Return the same as for the multi-class margin loss. The hinge loss does not divide by C."""
    weight, half, label = _multi_margin_at_rest(a, target, 1, 1.0)
    return a.shape[-1] * weight, half, label


HINGE = Rise(_hinge_at_rest, _against_label_rise, _against_label_sizes)
MULTI_MARGIN = Rise(_multi_margin_at_rest, _against_label_rise, _against_label_sizes)


# --- the likelihood of a Gaussian --------------------------------------------------------------------------


def _gaussian_nll_at_rest(a: Array, target: Array, eps: float) -> AtRest:
    """Return mean − y and v = max(var, eps) in one array, and a mask of the outputs that count."""
    half = a.shape[-1] // 2
    d, var = a[..., :half] - target[..., :half], a[..., half:]
    above = var > eps
    counts = np.concatenate([np.ones(above.shape), above], axis=-1)
    return np.concatenate([d, np.where(above, var, eps)], axis=-1), counts


def _gaussian_nll_rise(at_rest: AtRest, d: Array) -> Array:
    """Return ½ Σ (log(1 + r / v) + ((2 e + d) d − e² r / v) / (v + r)), the change of ½ Σ (log v + e² / v).

    Here e is mean − y, and d and r are the changes of the mean and of v.
    """
    (e, v), (d, r) = (np.split(each, 2, axis=-1) for each in (at_rest[0], at_rest[1] * d))
    squares = (2.0 * e + d) * d - e * e / v * r
    return 0.5 * row_sums(LOG1P(r / v) + squares / (v + r))


def _gaussian_nll_sizes(at_rest: AtRest) -> Array:
    e, v = np.split(at_rest[0], 2, axis=-1)
    return at_rest[1] * np.concatenate([np.abs(e) / v, 0.5 * (1.0 + e * e / v) / v], axis=-1)


GAUSSIAN_NLL = Rise(_gaussian_nll_at_rest, _gaussian_nll_rise, _gaussian_nll_sizes)
