"""Projections along random directions, and their steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from gradcheck_cli.directions.projections import (
    DIRECTIONS,
    EVALUATIONS,
    SMALLEST,
    Projector,
    most_in_a_row,
    part,
    random_direction,
)
from gradcheck_cli.numerical.objective import ALONE, Direction, Moved


@dataclass
class Layer:
    """The loss Σ f(x wᵀ) over 20 samples, one term each, with w (4, 6)."""

    function: object
    evaluations: int = 0
    batch: int = 16
    exact = False
    spread = ALONE

    def __post_init__(self):
        rng = np.random.default_rng(0)
        self.x, self.w = rng.normal(size=(20, 6)), rng.normal(size=(4, 6))
        self.shapes = {"w": self.w.shape}

    def losses(self, w):
        return self.function(self.x @ w.T).sum(axis=1)

    def gradient(self, slope):
        return slope(self.x @ self.w.T).T @ self.x

    def span(self, name):
        return 2.0

    def along(self, name, directions, unit):
        return Along(self, directions, unit)


@dataclass
class Along:
    layer: Layer
    directions: list[Direction]
    unit: np.ndarray
    batch: int = 16
    exact = False
    spread = ALONE

    @property
    def position(self):
        return np.zeros(len(self.directions))

    @property
    def rest(self):
        return self.layer.losses(self.layer.w)

    def move(self, which, to):
        losses = []
        for i, t in zip(which, to, strict=True):
            w = self.layer.w.copy()
            w.flat[self.directions[i].entries] += t * self.layer.span("w") * self.directions[i].weights
            losses.append(self.layer.losses(w))
        self.layer.evaluations += len(which)
        return Moved(np.stack(losses), np.abs(losses), np.zeros(len(which), dtype=bool))


def directions_of(count=5, entries=24, seed=1):
    rng = np.random.default_rng(seed)
    return [random_direction(np.arange(entries), rng) for _ in range(count)]


def sums(directions, gradient):
    return np.array([gradient.ravel()[d.entries] @ d.weights for d in directions])


def relu(z):
    return np.maximum(z, 0.0)


SMOOTH = [(np.tanh, lambda z: 1 - np.tanh(z) ** 2), (np.sin, np.cos), (np.square, lambda z: 2 * z)]


@pytest.mark.parametrize(("function", "slope"), SMOOTH)
def test_a_projection_is_the_sum_of_signed_entries(function, slope):
    layer, directions = Layer(function), directions_of()
    _, found = Projector(layer, "w").calibrated(directions)
    truth = sums(directions, layer.gradient(slope))
    assert (np.abs(found.value - truth) <= found.error).all()
    np.testing.assert_allclose(found.value, truth, atol=1e-8)
    assert found.error.max() < 1e-5


def test_a_smooth_function_takes_few_evaluations():
    layer = Layer(np.tanh)
    Projector(layer, "w").calibrated(directions_of(DIRECTIONS))
    assert layer.evaluations <= 3 * DIRECTIONS * EVALUATIONS


@pytest.mark.parametrize("seed", range(20))
def test_near_kinks_the_step_is_short_enough_or_the_bar_wide_enough(seed):
    layer, directions = Layer(relu), directions_of(3, seed=seed)
    projector, found = Projector(layer, "w").calibrated(directions)
    truth = sums(directions, layer.gradient(lambda z: (z > 0).astype(float)))
    assert projector.step < Projector(layer, "w").step
    assert (np.abs(found.value - truth) <= found.error).all()
    assert found.error.max() < 1e-6


def test_a_second_opinion_takes_a_shorter_step():
    projector = Projector(Layer(np.tanh), "w")
    assert projector.finer.step == projector.step / 4


def test_weights_are_drawn_from_the_seed_and_parts_keep_them():
    one, same = directions_of(1, seed=7)[0], directions_of(1, seed=7)[0]
    np.testing.assert_array_equal(one.weights, same.weights)
    assert set(np.sign(one.weights)) == {-1.0, 1.0}
    assert SMALLEST <= np.abs(one.weights).min() < np.abs(one.weights).max() <= 1
    some = part(one, np.array([3, 5]))
    np.testing.assert_array_equal(some.entries, [3, 5])
    np.testing.assert_array_equal(some.weights, one.weights[[3, 5]])


@pytest.mark.parametrize(
    ("entries", "shape", "most"),
    [
        ([0, 1, 2, 6], (4, 6), 3),
        ([0, 6, 12], (4, 6), 1),
        ([0, 1, 2], (10,), 1),
        ([], (4, 6), 1),
        ([0], (), 1),
    ],
)
def test_most_entries_in_one_row(entries, shape, most):
    assert most_in_a_row(np.array(entries, dtype=int), shape) == most
