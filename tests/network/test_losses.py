from __future__ import annotations

import numpy as np
import pytest
from new_rows import NEW_LOSSES

from gradcheck_cli.network.losses import LOSSES, coefficient

ROWS = {**LOSSES, **NEW_LOSSES}

N, C = 6, 6  # two vectors of 3 outputs, or three of 2

OPTIONS = [
    ("huber", {"delta": 0.3}),
    ("smooth_l1", {"beta": 0.3}),
    ("focal", {"alpha": -1.0, "gamma": 1.5}),
    ("focal", {"alpha": 0.7, "gamma": 0.0}),
    ("dice", {"smooth": 0.0}),
    ("cosine", {"eps": 1.5}),
    ("triplet", {"margin": 0.3, "eps": 0.0}),
    ("multi_margin", {"p": 2, "margin": 2.5}),
    ("gaussian_nll", {"eps": 1.5}),
    ("contrastive", {"margin": 4.0}),
]


@pytest.fixture(params=[*((name, {}) for name in ROWS), *OPTIONS], ids=str)
def loss(request):
    name, options = request.param
    return ROWS[name].with_options(**options)


@pytest.fixture
def a() -> np.ndarray:
    return np.random.default_rng(1).normal(scale=2.0, size=(N, C))


@pytest.fixture
def target(loss) -> np.ndarray:
    return target_of(loss, np.random.default_rng(2))


def target_of(loss, rng, samples=N, outputs=C) -> np.ndarray:
    if loss.target == "pairs":
        return np.repeat(rng.integers(2, size=(samples, 1)), outputs, axis=1).astype(float)
    if loss.target == "first vector":
        return np.tile(rng.uniform(0.0, 1.0, size=(samples, outputs // 2)), 2)
    if loss.target in ("values", "upstream"):
        return rng.uniform(0.0, 1.0, size=(samples, outputs))
    one_hot = np.eye(outputs)[rng.integers(outputs, size=samples)]
    spread = 0.7 * one_hot + 0.3 * rng.dirichlet(np.ones(outputs), size=samples)
    return spread if loss.target == "distribution" else one_hot


def test_gradient_is_that_of_the_value_by_complex_step(loss, a, target):
    gradient = np.empty((N, C))
    for c in range(C):
        moved = a.astype(complex)
        moved[:, c] += 1e-30j
        gradient[:, c] = loss.value(moved, target).imag / 1e-30
    np.testing.assert_allclose(loss.gradient(a, target), gradient, rtol=1e-13, atol=1e-15)


def test_takes_stacks_of_batches(loss, a, target):
    stacked = loss.value(np.stack([a, a + 1.0]), target)
    assert stacked.shape == (2, N)
    np.testing.assert_array_equal(stacked[0], loss.value(a, target))


GROWS = ("poisson_nll", "kl_gaussian")
"""Losses that are e^a for large outputs."""


def test_survives_large_outputs(loss, target):
    if loss.name in GROWS:
        return
    a = np.where(np.arange(C) % 2, 1e4, -1e4) * np.ones((N, 1))
    assert np.isfinite(loss.value(a, target)).all()
    assert np.isfinite(loss.gradient(a, target)).all()


A, Y = np.array([[0.5, -1.0, 2.0]]), np.array([[0.0, 1.0, 0.0]])
P = 1 / (1 + np.exp(-A[0]))
RIGHT = 1 / (1 + np.exp([0.5, 1.0, 2.0]))
"""The probabilities of 0, 1, 0, which Y asks for."""

TEXTBOOK = {
    "mse": 0.25 + 4.0 + 4.0,
    "l1": 0.5 + 2.0 + 2.0,
    "huber": 0.125 + 1.5 + 1.5,
    "cross_entropy": np.log(np.exp([0.5, -1.0, 2.0]).sum()) + 1.0,
    "bce_with_logits": np.log1p(np.exp(0.5)) + np.log1p(np.exp(1.0)) + np.log1p(np.exp(2.0)),
    "hinge": 2.5 + 4.0,
    "multi_margin": (2.5 + 4.0) / 3,
    "dot": -1.0,
    "nll": 1.0,
    "kl_div": 1.0,
    "poisson_nll": np.exp([0.5, -1.0, 2.0]).sum() + 1.0,
    "smooth_l1": 0.125 + 1.5 + 1.5,
    "focal": -(np.array([0.75, 0.25, 0.75]) * (1 - RIGHT) ** 2 * np.log(RIGHT)).sum(),
    "dice": 1.0 - (2 * P[1] + 1) / (P.sum() + 2),
    "cosine": 1.0 + 1.0 / np.sqrt(0.25 + 1.0 + 4.0),
    "triplet": 1.0 + (1.5 + 1e-6) - (1.5 - 1e-6),
}


def test_values_are_the_textbook_ones():
    for name, value in TEXTBOOK.items():
        assert LOSSES[name].with_options().value(A, Y)[0] == pytest.approx(value, rel=1e-14), name


def test_values_of_two_vectors_are_the_textbook_ones():
    a = np.array([[1.0, 2.0, 1.0, 1.5]])
    alike, apart = np.ones((1, 4)), np.zeros((1, 4))
    contrastive, kl = LOSSES["contrastive"].with_options(), LOSSES["kl_gaussian"].with_options()
    nll = LOSSES["gaussian_nll"].with_options()
    assert nll.value(a, np.zeros((1, 4)))[0] == pytest.approx(0.5 * (np.log(1.5) + 1 / 1 + 4 / 1.5))
    assert contrastive.value(a, alike)[0] == pytest.approx(0.25)
    assert contrastive.value(a, apart)[0] == pytest.approx((1.0 - 0.5) ** 2)
    assert kl.value(a, apart)[0] == pytest.approx(0.5 * (1 + 4 + np.e + np.exp(1.5) - 1 - 1.5 - 2))


def test_every_loss_has_a_textbook_value_here():
    assert {*TEXTBOOK, "contrastive", "kl_gaussian", "gaussian_nll"} == set(LOSSES)


@pytest.mark.parametrize("name", ["cross_entropy", "bce_with_logits"])
def test_loss_near_zero_keeps_its_digits(name):
    a, y = np.array([[40.0, -40.0]]), np.array([[1.0, 0.0]])
    expected = {"cross_entropy": np.exp(-80.0), "bce_with_logits": 2 * np.exp(-40.0)}
    assert LOSSES[name].with_options().value(a, y)[0] == pytest.approx(expected[name], rel=1e-12, abs=0.0)


@pytest.mark.parametrize(
    ("name", "reduction", "expected"),
    [
        ("mse", "batchmean", 1 / 5),
        ("mse", "mean", 1 / 15),
        ("mse", "sum", 1.0),
        ("cross_entropy", "batchmean", 1 / 5),
        ("cross_entropy", "mean", 1 / 5),
        ("hinge", "sum", 1.0),
    ],
)
def test_reductions_divide_by_what_they_say(name, reduction, expected):
    assert coefficient(LOSSES[name], reduction, 1.0, outputs=(3,), weight=5.0) == expected
    assert coefficient(LOSSES[name], reduction, 0.5, outputs=(3,), weight=5.0) == expected / 2


def test_l1_and_hinge_are_flat_on_their_kinks_by_convention():
    assert LOSSES["l1"].gradient(np.array([[1.0]]), np.array([[1.0]])) == 0.0
    assert not LOSSES["hinge"].gradient(np.array([[1.0, 0.0]]), np.array([[1.0, 0.0]])).any()
