"""Mistakes in the gradient of the loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from by_hand import (
    LOSS_GRADIENTS,
    Array,
    Case,
    Edit,
    Pass,
    huber,
    margins,
    sigmoid,
    softmax,
)
from planted.plant import Formula, Parts, Plant, Rng, drawn_seed


def _applied(loss: str) -> Callable[[Array], Array] | None:
    """Return the activation that the loss applies to its logits, if any."""
    return {"cross_entropy": softmax, "bce_with_logits": sigmoid}.get(loss)


def _p(p: Pass, twice: bool = False) -> Array:
    f = _applied(p.case.loss.name)
    return f(f(p.a[-1])) if twice else f(p.a[-1])


def _weight_of(target: Array, p: Pass) -> Array | float:
    """Return each sample's Σ target, which depends on class weights; 1 if every output has a target."""
    return target.sum(axis=1, keepdims=True) if p.case.loss.name == "cross_entropy" else 1.0


def _activation_twice(p: Pass, at: None, rng: Rng) -> Array:
    return _p(p, twice=True) * _weight_of(p.target, p) - p.target


def _derivative_again(p: Pass, at: None, rng: Rng) -> Array:
    """Return a − y, multiplied once more by the derivative of the loss's softmax or sigmoid."""
    g, a = p.loss_gradient(), _p(p)
    if p.case.loss.name == "cross_entropy":
        return a * (g - (g * a).sum(axis=1, keepdims=True))
    return g * a * (1.0 - a)


def _no_activation(p: Pass, at: None, rng: Rng) -> Array:
    return p.a[-1] * _weight_of(p.target, p) - p.target


def _with_target(f: Callable[[Array], Array]) -> Formula:
    """Return the right formula with another target in place of y, except in Σ y."""

    def loss(p: Pass, at: None, rng: Rng) -> Array | None:
        name, target = p.case.loss.name, f(p.target)
        if name == "cross_entropy":
            return _p(p) * _weight_of(p.target, p) - target
        return LOSS_GRADIENTS[name](p.a[-1], target, p.case.loss)

    return loss


CONFUSED: Mapping[str, tuple[str, ...]] = {
    "mse": ("l1", "huber"),
    "l1": ("mse", "huber"),
    "huber": ("mse", "l1"),
    "cross_entropy": ("bce_with_logits",),
    "bce_with_logits": ("cross_entropy",),
}


def _anothers_gradient(other: str) -> Formula:
    def loss(p: Pass, at: None, rng: Rng) -> Array | None:
        own = p.case.loss
        if other not in CONFUSED.get(own.name, ()):
            return None
        return LOSS_GRADIENTS[other](p.a[-1], p.target, own)  # delta is 1 unless the loss is huber

    return loss


def _other_threshold(p: Pass, at: None, rng: Rng) -> Array:
    off = float(rng.choice([0.2, 0.5, 2.0])) * rng.uniform(0.8, 1.2)
    return huber(p.a[-1], p.target, off * p.case.loss.delta)


def _huber_without_sign(p: Pass, at: None, rng: Rng) -> Array:
    d, delta = p.a[-1] - p.target, p.case.loss.delta
    return np.where(np.abs(d) <= delta, d, delta)


def _minus_one(p: Pass, at: None, rng: Rng) -> Array:
    return margins(p.a[-1], p.target) - p.target


def _minus_one_if_any(p: Pass, at: None, rng: Rng) -> Array:
    over = margins(p.a[-1], p.target)
    return over - p.target * (over.sum(axis=1, keepdims=True) > 0)


def _without_margin(p: Pass, at: None, rng: Rng) -> Array:
    over = margins(p.a[-1], p.target, 0.0)
    return over - p.target * over.sum(axis=1, keepdims=True)


def _label_counted(p: Pass, at: None, rng: Rng) -> Array:
    over = margins(p.a[-1], p.target)
    return over - p.target * (over.sum(axis=1, keepdims=True) + 1.0)


def _own_margin_kept(p: Pass, at: None, rng: Rng) -> Array:
    over = margins(p.a[-1], p.target)
    return over + p.target * (1.0 - over.sum(axis=1, keepdims=True))


def _at_the_label(p: Pass, at: None, rng: Rng) -> Array:
    labels = np.eye(p.a[-1].shape[1])[p.case.problem.y.astype(int)]
    return p.loss_gradient() * labels


def _of_positive(p: Pass, at: None, rng: Rng) -> Array:
    return p.target * (sigmoid(p.a[-1]) - 1.0)


def _of_negative(p: Pass, at: None, rng: Rng) -> Array:
    return (1.0 - p.target) * sigmoid(p.a[-1])


def _where_positive(p: Pass, at: None, rng: Rng) -> Array:
    return p.loss_gradient() * (p.target > 0)


def _worked_in(p: Pass, smoothing: bool, weights: bool) -> Array:
    """Return the gradient of cross-entropy for a target without label smoothing or without class weights."""
    loss, classes = p.case.loss, p.a[-1].shape[1]
    y = np.eye(classes)[p.case.problem.y.astype(int)]
    if smoothing:
        y = (1.0 - loss.label_smoothing) * y + loss.label_smoothing / classes
    if weights and loss.weight is not None:
        y = np.array(loss.weight) * y
    return softmax(p.a[-1]) * y.sum(axis=1, keepdims=True) - y


def _smoothing_forgotten(p: Pass, at: None, rng: Rng) -> Array | None:
    return _worked_in(p, smoothing=False, weights=True) if p.case.loss.label_smoothing else None


def _weights_forgotten(p: Pass, at: None, rng: Rng) -> Array | None:
    return _worked_in(p, smoothing=True, weights=False) if p.case.loss.weight else None


def _normalised_by_n(p: Pass, at: None, rng: Rng) -> float | None:
    loss = p.case.loss
    return loss.scale / len(p.x) if loss.weight and loss.reduction != "sum" else None


APPLYING = ("cross_entropy", "bce_with_logits")
COMPARED = ("mse", "l1", "huber", *APPLYING)
"""The losses that decrease as an output approaches its target."""

LOSS_PLANTS: Mapping[str, tuple[tuple[str, ...], Mapping[str, Parts]]] = {
    "output activation twice": (
        APPLYING,
        {"applied again": {"loss": _activation_twice}, "its derivative again": {"loss": _derivative_again}},
    ),
    "output activation missing": (APPLYING, {"": {"loss": _no_activation}}),
    "sign of the target": (COMPARED, {"": {"loss": _with_target(np.negative)}}),
    "target forgotten": (COMPARED, {"": {"loss": _with_target(np.zeros_like)}}),
    "another loss": (
        tuple(CONFUSED),
        {f"{other}'s": {"loss": _anothers_gradient(other)} for other in CONFUSED},
    ),
    "huber threshold": (("huber",), {"": {"loss": _other_threshold}}),
    "huber sign": (("huber",), {"": {"loss": _huber_without_sign}}),
    "hinge not counted": (
        ("hinge",),
        {
            "-1 always": {"loss": _minus_one},
            "-1 if any is over": {"loss": _minus_one_if_any},
            "the label counted too": {"loss": _label_counted},
            "the label's margin kept": {"loss": _own_margin_kept},
        },
    ),
    "hinge margin": (("hinge",), {"": {"loss": _without_margin}}),
    "label smoothing": (("cross_entropy",), {"": {"loss": _smoothing_forgotten}}),
    "class weights": (
        ("cross_entropy",),
        {
            "altogether": {"loss": _weights_forgotten, "coefficient": _normalised_by_n},
            "all but their sum": {"loss": _weights_forgotten},
        },
    ),
    "class weights normalised by N": (("cross_entropy",), {"": {"coefficient": _normalised_by_n}}),
    "target's entry alone": (("cross_entropy",), {"": {"loss": _at_the_label}}),
    "positive targets alone": (
        ("bce_with_logits",),
        {"half of the loss": {"loss": _of_positive}, "masked": {"loss": _where_positive}},
    ),
    "negative targets alone": (("bce_with_logits",), {"": {"loss": _of_negative}}),
}


def of_the_loss(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    losses, variants = LOSS_PLANTS[kind]
    if case.loss.name in losses:
        for variant, parts in variants.items():
            seed = drawn_seed(rng)
            yield Plant(kind, variant, tuple(Edit(part, None, do, seed) for part, do in parts.items()))
