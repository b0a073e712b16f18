"""Mistakes in the gradients of losses, written in numpy, are named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from diagnose.networks import compared, kinds, right, why

from gradcheck_cli.problem.problem import Problem, build_problem
from gradcheck_cli.spec.spec import Spec

Array = np.ndarray
Parts = dict[str, Any]


def network(loss: Any, seed: int = 4, scale: float = 2.0, **data: Any) -> Problem:
    """Return a network with 6 outputs and 9 samples."""
    spec = {
        "network": {"inputs": 4, "layers": [{"units": 5, "activation": "tanh"}, {"units": 6}], "loss": loss},
        "parameters": {"init": "xavier", "scale": scale, "seed": seed, "bias": "same"},
        "data": data or {"synthetic": "normal", "samples": 9, "seed": seed},
    }
    return build_problem(Spec.model_validate(spec))


def backprop(of: Problem, gradient: Callable[[Array, Array], Array]) -> dict[str, Array]:
    """Return the gradients, given ∂ℓ/∂a; the loss is the mean over the samples."""
    p, x = of.parameters, of.x
    a_h = np.tanh(x @ p["hidden1.weight"].T + p["hidden1.bias"])
    delta = gradient(a_h @ p["output.weight"].T + p["output.bias"], of.target) / len(x)
    delta_h = (delta @ p["output.weight"]) * (1 - a_h**2)
    found = {"output.weight": delta.T @ a_h, "output.bias": delta.sum(axis=0)}
    return {**found, "hidden1.weight": delta_h.T @ x, "hidden1.bias": delta_h.sum(axis=0)}


def row_sum(array: Array) -> Array:
    return array.sum(axis=1, keepdims=True)


def length(array: Array) -> Array:
    return np.sqrt(row_sum(array**2))


def focal(a: Array, y: Array, term: float = 1, power: int = 1, alpha: str = "right") -> Array:
    p = 1 / (1 + np.exp(-a))
    q, bce = np.where(y == 1, 1 - p, p), -np.log(np.where(y == 1, p, 1 - p))
    weight = {"right": np.where(y == 1, 0.3, 0.7), "forgotten": 1.0, "everywhere": 0.3}[alpha]
    sign = np.where(y == 1, 1, -1)
    return weight * (q**3 * (p - y) - term * 3 * q ** (3 - power) * sign * p * (1 - p) * bce)


def dice(a: Array, y: Array, smooth: float = 1.0, held: str = "", two: float = 2.0, dp: bool = True) -> Array:
    p = 1 / (1 + np.exp(-a))
    above, below = 2 * row_sum(p * y) + smooth, row_sum(p) + row_sum(y) + smooth
    of_above = 0.0 if held == "numerator" else -two * y / below
    of_below = 0.0 if held == "denominator" else above / below**2
    return (of_above + of_below) * (p * (1 - p) if dp else 1.0)


def cosine(a: Array, y: Array, projected: float = 1.0, divided: bool = True) -> Array:
    u, v = a / length(a), y / length(y)
    return (projected * row_sum(u * v) * u - v) / (length(a) if divided else 1.0)


def triplet(
    a: Array, _: Array, margin: float = 0.5, always: bool = False, swapped: bool = False, unit: bool = True
) -> Array:
    anchor, positive, negative = np.split(a, 3, axis=1)
    to_positive, to_negative = anchor - positive + 1e-6, anchor - negative + 1e-6
    over = (length(to_positive) - length(to_negative) + margin > 0) | always
    u = to_positive / (length(to_positive) if unit else 1)
    v = to_negative / (length(to_negative) if unit else 1)
    parts = [u - v, -u, v]
    return over * np.concatenate([parts[0], *(parts[:0:-1] if swapped else parts[1:])], axis=1)


def contrastive(
    a: Array, y: Array, clipped: bool = True, inverted: bool = False, unit: bool = True, sign: float = -1.0
) -> Array:
    one, other = np.split(a, 2, axis=1)
    d, alike = one - other, y[:, :1]
    alike = 1 - alike if inverted else alike
    short = 2.5 - length(d)
    short = np.maximum(short, 0) if clipped else short
    g = 2 * alike * d - 2 * (1 - alike) * short * d / (length(d) if unit else 1)
    return np.concatenate([g, sign * g], axis=1)


def gaussian(a: Array, _: Array, logvar: Callable[[Array], Array] = lambda v: (np.exp(v) - 1) / 2) -> Array:
    mu, own = np.split(a, 2, axis=1)
    return np.concatenate([mu, logvar(own)], axis=1)


FOCAL = network({"name": "focal", "alpha": 0.3, "gamma": 3.0})
DICE = network({"name": "dice"})
COSINE = network({"name": "cosine"})
TRIPLET = network({"name": "triplet", "margin": 0.5})
CONTRASTIVE = network({"name": "contrastive", "margin": 2.5})
GAUSSIAN = network("kl_gaussian")

SLIPS: tuple[tuple[str, Problem, Callable[..., Array], Parts], ...] = (
    ("focal: term missing", FOCAL, focal, {"term": 0}),
    ("focal: sign of a term", FOCAL, focal, {"term": -1}),
    ("focal: derivative of the power", FOCAL, focal, {"term": 1 / 3}),
    ("focal: derivative of the power", FOCAL, focal, {"power": 0}),
    ("focal: alpha", FOCAL, focal, {"alpha": "forgotten"}),
    ("focal: alpha", FOCAL, focal, {"alpha": "everywhere"}),
    ("dice: term missing", DICE, dice, {"held": "denominator"}),
    ("dice: term missing", DICE, dice, {"held": "numerator"}),
    ("dice: factor 2", DICE, dice, {"two": 1.0}),
    ("dice: smooth forgotten", DICE, dice, {"smooth": 0.0}),
    ("output activation missing", DICE, dice, {"dp": False}),
    ("cosine: projection missing", COSINE, cosine, {"projected": 0.0}),
    ("cosine: not divided by the norm", COSINE, cosine, {"divided": False}),
    ("cosine: sign of a term", COSINE, cosine, {"projected": -1.0}),
    ("triplet: margin", TRIPLET, triplet, {"margin": 0.0}),
    ("triplet: margin", TRIPLET, triplet, {"always": True}),
    ("triplet: distance not normalised", TRIPLET, triplet, {"unit": False}),
    ("triplet: positive and negative swapped", TRIPLET, triplet, {"swapped": True}),
    ("contrastive: margin", CONTRASTIVE, contrastive, {"clipped": False}),
    ("contrastive: labels inverted", CONTRASTIVE, contrastive, {"inverted": True}),
    ("contrastive: distance not normalised", CONTRASTIVE, contrastive, {"unit": False}),
    ("contrastive: sign of the second gradient", CONTRASTIVE, contrastive, {"sign": 1.0}),
    ("kl: factor of a part", GAUSSIAN, gaussian, {"logvar": lambda v: np.exp(v) - 1}),
    ("kl: term missing", GAUSSIAN, gaussian, {"logvar": lambda v: np.exp(v) / 2}),
    (
        "kl: gradient with respect to sigma",
        GAUSSIAN,
        gaussian,
        {"logvar": lambda v: np.exp(v / 2) - np.exp(-v / 2)},
    ),
)


@pytest.mark.parametrize(("of", "by_hand"), list({id(of): (of, by) for _, of, by, _ in SLIPS}.values()))
def test_the_gradient_by_hand_is_right(of, by_hand):
    for name, gradient in backprop(of, by_hand).items():
        np.testing.assert_allclose(gradient, right(of)[name], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize(
    ("kind", "of", "by_hand", "wrong"), SLIPS, ids=[f"{kind}-{n}" for n, (kind, *_) in enumerate(SLIPS)]
)
def test_a_slip_in_the_gradient_of_a_loss_is_named_first(kind, of, by_hand, wrong):
    found = backprop(of, lambda a, y: by_hand(a, y, **wrong))
    assert any(each.wrong.any() for each in compared(of, found))
    assert kinds(why(of, found))[0] == (kind,)


def test_ignored_labels_that_count_as_classes_are_named():
    labels = [0, 3, 5, 0, 1, 2, 2, 0, 4]
    x = np.random.default_rng(3).normal(size=(9, 4)).tolist()
    of = network({"name": "cross_entropy", "ignore_index": 0}, x=x, y=labels)
    counted = sum(label != 0 for label in labels)
    ones = np.eye(6)[labels]
    for divisor in (9, counted):
        found = backprop(of, lambda a, _, n=divisor: (np.exp(a) / row_sum(np.exp(a)) - ones) * 9 / n)
        assert kinds(why(of, found))[0] == ("ignored labels",)
