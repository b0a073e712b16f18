"""The values that a gradient may take at a kink of a function, found from its values alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from gradcheck_cli.numerical.kinks import SHARES, alternatives, with_sides_that_agree
from gradcheck_cli.numerical.objective import ALONE, Moved
from gradcheck_cli.numerical.reference import LiteralDifferences
from gradcheck_cli.numerical.schemes import SCHEMES


@dataclass(frozen=True)
class OfOne:
    """A function of each of some numbers that reveals only its values."""

    function: Callable[[np.ndarray], np.ndarray]
    position: np.ndarray
    noise: float = 1.0
    tells_kinks: bool = False
    widest: None = None
    conventions: tuple = ()
    batch: int = 3
    exact: bool = False
    spread = ALONE

    @property
    def shapes(self):
        return {"w": self.position.shape}

    @property
    def unit(self):
        return np.ones(len(self.position))

    def entries(self, name):
        return self

    def penalty(self, name):
        return None

    @property
    def rest(self):
        return self.function(self.position).sum(keepdims=True)

    def move(self, which, to):
        losses = self.rest - self.function(self.position[which]) + self.function(to)
        return Moved(losses, self.noise * (np.abs(losses) + 1e-3), np.zeros(len(to), dtype=bool))


def conventions(reference):
    raise AssertionError("a function has no conventions")


def open_at(function, position, noise=1.0):
    objective = OfOne(function, np.array(position), noise)
    reference = LiteralDifferences(objective, SCHEMES["adaptive"])
    mask = {"w": np.ones(len(position), dtype=bool)}
    estimates = reference.refine(reference.estimate(["w"]), mask)
    return estimates["w"], alternatives(reference, estimates, mask, conventions).get("w")


def relu(x):
    return np.maximum(x, 0.0)


def test_on_a_kink_either_side_or_their_mean_is_an_alternative():
    _, kinks = open_at(lambda x: 3.0 * relu(x) - 0.5 * x + 1.0, [0.0, 0.3, -0.2])
    np.testing.assert_array_equal(kinks.at, [True, False, False])
    np.testing.assert_allclose(kinks.values[[0, len(SHARES) // 2, -1], 0], [-0.5, 1.0, 2.5], rtol=1e-6)
    low, high = kinks.bounds()
    assert low[0] < -0.5
    assert high[0] > 2.5


@pytest.mark.parametrize("function", [np.tanh, np.exp, lambda x: x**4, lambda x: relu(x) ** 2, np.cos])
def test_a_smooth_function_has_no_kink_however_bent(function):
    _, kinks = open_at(function, [0.0, 0.1, -0.4, 1.0])
    assert kinks is None


@pytest.mark.parametrize("distance", [1e-2, 1e-4, 1e-6])
def test_near_a_kink_the_slope_is_that_of_its_side(distance):
    estimate, kinks = open_at(lambda x: 3.0 * relu(x), [distance, -distance])
    assert kinks is None or not kinks.at.any()
    np.testing.assert_allclose(estimate.value, [3.0, 0.0], atol=1e-6)
    assert (estimate.error < 1e-6).all()


def test_a_kink_hidden_by_noise_does_not_count():
    _, kinks = open_at(lambda x: 1e-12 * relu(x) + 1.0, [0.0], noise=1e6)
    assert kinks is None


CURVATURE_JUMPS = {
    "huber": (lambda a: np.where(np.abs(a) <= 1, 0.5 * a * a, np.abs(a) - 0.5), [1.0, -1.0], [1.0, -1.0]),
    "elu": (lambda a: np.where(a > 0, a, np.expm1(np.minimum(a, 0))), [0.0], [1.0]),
    "squared relu": (lambda a: np.maximum(a - 0.5, 0) ** 2 + a, [0.5], [1.0]),
}


@pytest.mark.parametrize(("function", "at", "slope"), CURVATURE_JUMPS.values(), ids=list(CURVATURE_JUMPS))
def test_a_slope_is_known_where_only_the_curvature_jumps(function, at, slope):
    objective = OfOne(function, np.array(at))
    reference = LiteralDifferences(objective, SCHEMES["adaptive"])
    mask = {"w": np.ones(len(at), dtype=bool)}
    rough = reference.refine(reference.estimate(["w"]), mask)
    better = with_sides_that_agree(reference, rough, mask)["w"]
    assert (better.error < 1e-7).all()
    assert (np.abs(better.value - slope) <= 3.0 * better.error).all()
    assert (better.error <= rough["w"].error).all()


def test_no_slope_is_known_at_a_kink():
    objective = OfOne(lambda a: np.abs(a) + a, np.array([0.0]))
    reference = LiteralDifferences(objective, SCHEMES["adaptive"])
    mask = {"w": np.ones(1, dtype=bool)}
    rough = reference.refine(reference.estimate(["w"]), mask)
    assert with_sides_that_agree(reference, rough, mask)["w"].error > 0.1
