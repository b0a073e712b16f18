"""Mistakes in the gradients of the Huber and hinge losses, which have a threshold or a margin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradcheck_cli.diagnose.families import LOSS
from gradcheck_cli.diagnose.mistake import Mistake
from gradcheck_cli.diagnose.site import Part, Site
from gradcheck_cli.diagnose.wrong_losses import Gradient, loss_row, of_loss
from gradcheck_cli.types import Array

# --- Huber -------------------------------------------------------------------------------------------------


def _threshold(site: Site) -> float:
    """Return the delta of the network's Huber loss."""
    return float(site.problem.network.loss.given["delta"])


def _huber(site: Site, delta: float) -> Array | None:
    if site.problem.network.loss.name != "huber":
        return None
    return site.c * np.clip(site.a - site.target, -delta, delta)


_MOST_SIZES = 2000
"""The largest number of entries in a − y for which all intervals between their sizes are tried."""


def _thresholds(site: Site, found: Array) -> Sequence[float]:
    """Return the thresholds delta of a Huber loss that may explain the gradient of the output layer's bias.

    Between neighbouring values of |a − y|, the gradient is affine in delta. So each interval between two such
    values has one delta that fits best. This delta is returned if it lies in the interval.

    found: the gradient of the bias, (C,), for C outputs.
    """
    sizes = np.sort(np.abs(site.a - site.target), axis=None)
    if len(sizes) > _MOST_SIZES:
        return []
    deltas = []
    for low, high in zip([0.0, *sizes], [*sizes, np.inf], strict=True):
        fixed, slope = _bias_parts(site, low)
        size = float(slope @ slope)
        delta = float(slope @ (found - fixed)) / size if size > 0 else np.nan
        if low <= delta <= high:
            deltas.append(delta)
    return deltas


def _bias_parts(site: Site, low: float) -> tuple[Array, Array]:
    """Return `fixed` and `slope`, with which the gradient of the bias is fixed + delta · slope.

    Both are (C,), for C outputs.

    low: the largest |a − y| that is not clipped. All entries above this are clipped to ± delta.
    """
    d, c = site.a - site.target, site.c
    beyond = np.abs(d) > low
    activation = site.layer.activation
    fixed = activation.vjp(site.y, c * np.where(beyond, 0.0, d)).sum(axis=0)
    slope = activation.vjp(site.y, c * np.where(beyond, np.sign(d), 0.0)).sum(axis=0)
    return fixed, slope


def _signless(site: Site, _: float) -> Array | None:
    if site.problem.network.loss.name != "huber":
        return None
    d, delta = site.a - site.target, _threshold(site)
    return site.c * np.where(np.abs(d) <= delta, d, delta)


def _one_sided(site: Site, _: float) -> Array | None:
    if site.problem.network.loss.name != "huber":
        return None
    return site.c * np.minimum(site.a - site.target, _threshold(site))


def _unit_slope(site: Site, _: float) -> Array | None:
    if site.problem.network.loss.name != "huber":
        return None
    d, delta = site.a - site.target, _threshold(site)
    return site.c * np.where(np.abs(d) <= delta, d, np.sign(d))


_FAR_BELOW = "outputs more than delta below their targets"

_HUBER = (
    Mistake(
        "huber threshold",
        LOSS,
        "the Huber gradient is clipped at {value}, not at the loss's delta",
        "∂L/∂a = c · {w}clip(a − y, ± {value})",
        "∂L/∂a = c · {dloss}",
        "∂L/∂a",
        "delta",
        "dL_da = np.clip(a - y, -1, 1) / N",
        part=Part.LOSS,
        step=_huber,
        shown_by="outputs more than delta away from their targets",
        solver=_thresholds,
        planted=0.3,
    ),
    loss_row(
        "huber sign",
        _signless,
        "beyond its threshold, the Huber gradient is + delta on both sides",
        "c · {w}delta where |a − y| > delta",
        "dL_da = np.where(np.abs(a - y) <= 0.4, a - y, 0.4) / N",
        _FAR_BELOW,
    ),
    loss_row(
        "huber sign",
        _one_sided,
        "the Huber gradient is not clipped below: delta is compared with a − y, not with |a − y|",
        "c · {w}min(a − y, delta)",
        shown_by=_FAR_BELOW,
    ),
    loss_row(
        "huber slope",
        _unit_slope,
        "beyond its threshold, the Huber gradient is ± 1, not ± delta",
        "c · {w}sign(a − y) where |a − y| > delta",
        "dL_da = np.where(np.abs(a - y) <= 0.4, a - y, np.sign(a - y)) / N",
        "outputs more than delta away from their targets, and a delta other than 1",
    ),
)


# --- hinge -------------------------------------------------------------------------------------------------


def _over(a: Array, target: Array, margin: float = 1.0) -> Array:
    labelled = (a * target).sum(axis=-1, keepdims=True)
    return np.where(target > 0, 0.0, (a - labelled + margin > 0).astype(float))


def _counted(over: Array) -> Array:
    count: Array = over.sum(axis=-1, keepdims=True)
    return count


def _largest_only(a: Array, target: Array) -> Array:
    """Return 1 at each sample's most violated margin and 0 elsewhere, as in Crammer and Singer's loss."""
    over = _over(a, target)
    other = np.where(target > 0, -np.inf, a)
    first = np.zeros_like(a)
    np.put_along_axis(first, other.argmax(axis=-1, keepdims=True), 1.0, axis=-1)
    return over * first


def _hinge_row(
    kind: str, gradient: Gradient, sentence: str, wrong: str, code: str = "", shown_by: str = ""
) -> Mistake:
    return loss_row(kind, of_loss(gradient, "hinge"), sentence, f"c · {{w}}{wrong}", code, shown_by)


def _count_row(gradient: Gradient, sentence: str, wrong: str, code: str = "") -> Mistake:
    several = "samples with several violated margins"
    return _hinge_row("hinge not counted", gradient, sentence, wrong, code, several)


_HINGE = (
    _count_row(
        lambda a, t: _over(a, t) - t * (_counted(_over(a, t)) > 0),
        "the label's entry is −1, however many margins are violated",
        "1[…], at y −1",
    ),
    _count_row(
        lambda a, t: _over(a, t) - t,
        "the label's entry is always −1, even where no margin is violated",
        "1[…], at y always −1",
        "dL_da = (over - y) / N",
    ),
    _count_row(
        lambda a, t: _over(a, t) - t * (_counted(_over(a, t)) + 1.0),
        "the label's own margin is counted as violated",
        "1[…], at y −1 − Σ of these",
    ),
    _count_row(
        lambda a, t: _over(a, t) - t * (_counted(_over(a, t)) - 1.0),
        "the label's own margin is not set to 0",
        "1[…], at y 1 − Σ of these",
    ),
    _hinge_row("hinge label forgotten", _over, "the label's entry is 0", "1[…], at y 0", "dL_da = over / N"),
    _hinge_row(
        "hinge margin",
        lambda a, t: _over(a, t, 0.0) - t * _counted(_over(a, t, 0.0)),
        "the margin of 1 is forgotten",
        "1[aⱼ − a_y > 0], minus their sum at y",
        "over = (a > (a * y).sum(axis=1, keepdims=True)) * (1 - y)\n"
        "dL_da = (over - y * over.sum(axis=1, keepdims=True)) / N",
        "margins between 0 and 1",
    ),
    _hinge_row(
        "another loss",
        lambda a, t: _largest_only(a, t) - t * _counted(_largest_only(a, t)),
        "only the most violated margin counts",
        "1[j is the largest violated], −1 at y",
    ),
)


MARGIN_MISTAKES: tuple[Mistake, ...] = (*_HUBER, *_HINGE)
