"""Mistakes in the loss's targets: in their entries, in label smoothing or in class weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from gradcheck_cli.diagnose.families import LOSS
from gradcheck_cli.diagnose.mistake import Mistake, Step
from gradcheck_cli.diagnose.site import RIGHT, Part, Site, smoothed
from gradcheck_cli.diagnose.wrong_losses import NOT_ZERO, loss_row, of_loss, total_of
from gradcheck_cli.network.functions import sigmoid, softmax
from gradcheck_cli.types import Array


def _with_target(change: Callable[[Array], Array], *losses: str) -> Step:
    """Return a step that computes the correct gradient of the loss for a changed target.

    losses: the names of the losses that the step applies to; by default, it applies to all losses.
    """

    def step(site: Site, _: float) -> Array | None:
        if losses and site.problem.network.loss.name not in losses:
            return None
        target = _with_weights(site, change(site.target))
        return RIGHT[Part.LOSS](replace(site, problem=replace(site.problem, target=target)))

    return step


def _with_weights(site: Site, target: Array, power: int = 1) -> Array:
    """Return the target with a power of the samples' weights: as a column, or as factors."""
    if site.problem.network.loss.has_weights:
        column = site.problem.network.loss.weights(site.problem.target) ** power
        return np.concatenate([target, np.broadcast_to(column, (*target.shape[:-1], 1))], axis=-1)
    return target * _of_samples(site) ** power


_VALUES = ("mse", "l1", "huber")

TARGET_MISTAKES: tuple[Mistake, ...] = (
    loss_row(
        "sign of the target",
        _with_target(np.negative, *_VALUES),
        "the target is added instead of subtracted",
        "c · {dloss} with −y in place of y",
        "dL_da = 2 * (a + y) / (N * C)",
        NOT_ZERO,
    ),
    loss_row(
        "target forgotten",
        _with_target(np.zeros_like, *_VALUES),
        "the target is not subtracted",
        "c · {dloss} with 0 in place of y",
        "dL_da = 2 * a / (N * C)",
        NOT_ZERO,
    ),
    *(
        loss_row(
            "labels shifted",
            _with_target(partial(np.roll, shift=by, axis=axis)),
            sentence,
            wrong,
            f"dL_da = (p - np.roll(y, {by}, axis={axis})) / N",
            "targets that differ",
        )
        for by, axis, sentence, wrong in (
            (1, 1, "every label is one too high", "c · {dloss} with y of the next class"),
            (-1, 1, "every label is one too low", "c · {dloss} with y of the preceding class"),
            (
                1,
                0,
                "every sample has the target of the preceding sample",
                "c · {dloss} with yₙ₋₁ in place of yₙ",
            ),
            (-1, 0, "every sample has the target of the next sample", "c · {dloss} with yₙ₊₁ in place of yₙ"),
        )
    ),
)


# --- smoothing and class weights ---------------------------------------------------------------------------


def _distribution(site: Site, target: Array, coefficient: float) -> Array | None:
    """Return the gradient of cross-entropy for this target and coefficient; None for another loss."""
    if site.problem.network.loss.name != "cross_entropy":
        return None
    return coefficient * (softmax(site.a) * total_of(target) - target)


def _weights(site: Site) -> Array | None:
    return site.problem.class_weight


def _of_samples(site: Site) -> Array | float:
    weights = site.problem.sample_weight
    return 1.0 if weights is None else weights


def _other_smoothing(site: Site, by: float) -> Array | None:
    weights = _weights(site)
    target = smoothed(site.problem, by) * (1.0 if weights is None else weights) * _of_samples(site)
    return _distribution(site, target, site.problem.network.coefficient)


def _with_pos_weight(gradient: Callable[[Array, Array, Array], Array]) -> Step:
    """Return a step that computes this gradient. The step needs a loss with weights for positives.

    gradient: a function of the outputs, the targets and the weights.
    """

    def step(site: Site, _: float) -> Array | None:
        weights = site.problem.network.loss.given.get("pos_weight", 1.0)
        if np.all(np.asarray(weights) == 1.0):
            return None
        return site.c * gradient(site.a, site.target, np.asarray(weights, site.a.dtype))

    return step


def _with_sample_weights(power: int) -> Step:
    """Return a step that uses a power of the samples' weights: 0 if they are forgotten, 2 if used twice."""

    def step(site: Site, _: float) -> Array | None:
        if site.problem.sample_weight is None:
            return None
        network, target = site.problem.network, _with_weights(site, site.target, power)
        return network.coefficient * network.loss.gradient(site.a, target)

    return step


def _normalised_by_sample_weights(site: Site, _: float) -> Array | None:
    weights = site.problem.sample_weight
    return None if weights is None else RIGHT[Part.LOSS](site) / float(weights.mean())


def _no_smoothing(site: Site, _: float) -> Array | None:
    return _other_smoothing(site, 0.0) if site.problem.label_smoothing else None


def _weight_per_sample(site: Site) -> float:
    """Return the mean class weight of the samples.

    If code divides a weighted sum by the number of samples, not by their total weight, the loss is multiplied
    by this mean.
    """
    weights, plain = _weights(site), site.problem.plain_target
    return float((plain * (1.0 if weights is None else weights)).sum()) / plain[..., 0].size


def _unweighted(site: Site, normalised: bool) -> Array | None:
    if _weights(site) is None:
        return None
    c = site.problem.network.coefficient * (_weight_per_sample(site) if normalised else 1.0)
    target = smoothed(site.problem, site.problem.label_smoothing) * _of_samples(site)
    return _distribution(site, target, c)


def _normalised_by_count(site: Site, _: float) -> Array | None:
    if _weights(site) is None:
        return None
    return RIGHT[Part.LOSS](site) * _weight_per_sample(site)


def _normalised_by_all(site: Site, _: float) -> Array | None:
    problem = site.problem
    if _weights(site) is not None or not np.isin(problem.y, problem.network.loss.ignored).any():
        return None
    return RIGHT[Part.LOSS](site) * _weight_per_sample(site)


def _ignored_trained(site: Site, _: float) -> Array | None:
    """Return ∂L/∂a as computed without a mask for ignored samples, whose one-hot target is 0.

    Returns None if no sample is ignored, or if the loss is not cross-entropy.
    """
    ignored = np.isin(site.problem.y, site.problem.network.loss.ignored)
    if site.problem.network.loss.name != "cross_entropy" or not ignored.any():
        return None
    untouched = site.c * softmax(site.a)
    return np.where(ignored[..., None], untouched, RIGHT[Part.LOSS](site))


def _ignored_as_classes(mean_over_all: bool) -> Step:
    """Return a step that treats every ignored label as a class that counts like all others.

    mean_over_all: whether the mean is over all samples, not only over the samples whose label counts.
    """

    def step(site: Site, _: float) -> Array | None:
        y, plain, loss = site.problem.y, site.problem.plain_target, site.problem.network.loss
        ignored = np.isin(y, loss.ignored)
        is_class = (y[ignored] >= 0) & (y[ignored] < plain.shape[-1])
        if loss.name != "cross_entropy" or not ignored.any() or not is_class.all():
            return None
        c = site.c * (_weight_per_sample(site) if mean_over_all else 1.0)
        ones = np.eye(plain.shape[-1])[np.where(ignored, y, 0).astype(int)]
        return c * (softmax(site.a) - np.where(ignored[..., None], ones, plain))

    return step


CLASS_MISTAKES: tuple[Mistake, ...] = (
    loss_row(
        "label smoothing",
        _no_smoothing,
        "the labels are not smoothed",
        "c · {w}(softmax(a) − one-hot y)",
        "q = weight * y\ndL_da = (p * q.sum(axis=1, keepdims=True) - q) / total",
        freedom=1,
    ),
    Mistake(
        "label smoothing",
        LOSS,
        "the labels are smoothed by {value}, not by the loss's label_smoothing",
        "∂L/∂a = c · {w}(softmax(a) − y smoothed by {value})",
        "∂L/∂a = c · {dloss}",
        "∂L/∂a",
        "label_smoothing",
        freedom=1,
        part=Part.LOSS,
        step=_other_smoothing,
        planted=0.05,
    ),
    loss_row(
        "class weights",
        lambda site, _: _unweighted(site, True),
        "the class weights are forgotten",
        "1/N · {w_n}(softmax(a) − y)",
        "dL_da = (p - smooth) / N",
    ),
    loss_row(
        "class weights",
        lambda site, _: _unweighted(site, False),
        "the class weights are forgotten, except in the divisor",
        "c · {w_n}(softmax(a) − y)",
    ),
    loss_row(
        "class weights",
        _with_pos_weight(lambda a, t, _: sigmoid(a) - t),
        "the weights of positive targets (pos_weight) are forgotten",
        "c · {w}(σ(a) − y)",
        shown_by="positive targets whose pos_weight is not 1",
    ),
    loss_row(
        "class weights",
        _with_pos_weight(lambda a, t, weight: weight * (sigmoid(a) - t)),
        "the weights of positive targets (pos_weight) multiply the terms of negative targets, too",
        "c · {w}pos_weight (σ(a) − y)",
        shown_by="negative targets whose pos_weight is not 1",
    ),
    loss_row(
        "class weights",
        _with_pos_weight(lambda a, t, weight: sigmoid(a) - weight * t),
        "the weights of positive targets (pos_weight) multiply only y, not σ(a) − y",
        "c · {w}(σ(a) − pos_weight y)",
        shown_by="positive targets whose pos_weight is not 1",
    ),
    loss_row(
        "class weights normalised by N",
        _normalised_by_count,
        "the weighted sum is divided by the number of samples, not by the sum of their weights",
        "1/N · {dloss}",
        "dL_da = (p * q.sum(axis=1, keepdims=True) - q) / N",
    ),
    loss_row(
        "sample weights",
        _with_sample_weights(0),
        "the weights of the samples are forgotten",
        "c · {dloss} with every weight 1",
        "dL_da = (p - y) / N",
        "samples whose weights are not 1",
    ),
    loss_row(
        "sample weights",
        _with_sample_weights(2),
        "the weights of the samples are used twice",
        "c · {dloss} with wₙ² in place of wₙ",
        "dL_da = weight**2 * (p - y) / N",
        "samples whose weights are neither 0 nor 1",
    ),
    loss_row(
        "sample weights",
        _normalised_by_sample_weights,
        "the weighted sum is divided by the sum of the samples' weights, not by the number of samples",
        "{dloss} / Σ wₙ",
        "dL_da = weight * (p - y) / weight.sum()",
        "samples whose weights do not have the mean 1",
    ),
    loss_row(
        "ignored labels",
        _normalised_by_all,
        "the mean is over all samples, not only over those whose label counts",
        "1/N · {dloss}",
        "dL_da = (p * counts - y) / N",
        "samples whose label is ignore_index",
    ),
    loss_row(
        "ignored labels",
        _ignored_trained,
        "samples whose label is ignored have a gradient: they are not masked",
        "c · {w_n}softmax(a) where the label is ignored",
        "dL_da = (p - y) / counts.sum()",
        "samples whose label is ignore_index",
    ),
    *(
        loss_row(
            "ignored labels",
            _ignored_as_classes(mean_over_all),
            f"samples whose label is ignored count like all others{more}",
            f"{c} · {{w_n}}(softmax(a) − y), for ignored labels too",
            shown_by="samples whose label is ignore_index",
        )
        for mean_over_all, c, more in ((True, "1/N", ""), (False, "c", ", except in the mean"))
    ),
)


# --- only some entries of the target -----------------------------------------------------------------------


def _at_the_target(site: Site, _: float) -> Array | None:
    """Return ∂L/∂a with 0 in every entry except the label's; None if the loss is not cross-entropy."""
    if site.problem.network.loss.name != "cross_entropy":
        return None
    return np.where(site.problem.plain_target > 0, RIGHT[Part.LOSS](site), 0.0)


_BCE = "bce_with_logits"

ENTRY_MISTAKES: tuple[Mistake, ...] = (
    loss_row(
        "target's entry alone",
        _at_the_target,
        "only the label's entry has a gradient; the other entries of the same softmax have none",
        "c · {w}(softmax(a) − y) at y, else 0",
        "dL_da = (p - y) * y / N",
    ),
    loss_row(
        "positive targets alone",
        of_loss(lambda a, t: -t * sigmoid(-a), _BCE),
        "the gradient lacks the loss's second term, (1 − y) log(1 − p)",
        "−c · {w}y (1 − σ(a))",
        "dL_da = -y * (1 - p) / N",
    ),
    loss_row(
        "positive targets alone",
        of_loss(lambda a, t: np.where(t > 0, sigmoid(a) - t, 0.0), _BCE),
        "only outputs with a positive target have a gradient",
        "c · {w}(σ(a) − y) where y > 0, else 0",
    ),
    loss_row(
        "negative targets alone",
        of_loss(lambda a, t: (1.0 - t) * sigmoid(a), _BCE),
        "the gradient lacks the loss's first term, y log p",
        "c · {w}(1 − y) σ(a)",
        "dL_da = (1 - y) * p / N",
    ),
)
