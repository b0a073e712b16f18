from __future__ import annotations

import numpy as np
import pytest

from gradcheck_cli.numerical.noise import POINTS, changes, noise_level, resolution

LINE = np.arange(POINTS) - POINTS // 2


@pytest.mark.parametrize("sigma", [1e-3, 1e-9, 1e-15])
@pytest.mark.parametrize("smooth", ["constant", "steep", "curved"])
def test_the_noise_of_a_smooth_function_is_found(sigma, smooth):
    """The estimate is within a factor of 4 for nine of ten functions, as Moré and Wild report."""
    rng = np.random.default_rng(0)
    t = 1e-9 * LINE[:, None]
    truth = {"constant": 0.0 * t, "steep": 1e-3 * t, "curved": np.expm1(t) * 1e-3}[smooth]
    level = noise_level(truth + sigma * rng.normal(size=(POINTS, 500)))
    assert np.mean((level > sigma / 4) & (level < 4 * sigma)) > 0.9


def test_a_smooth_function_without_noise_has_next_to_none():
    t = 2.0**-30 * LINE
    assert noise_level(np.sin(1.0 + t)) < 1e-15


def test_the_noise_of_float32_shows_in_float64():
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(POINTS, 200)) + 1e-4 * LINE[:, None]
    sums = np.sum(weights.astype(np.float32) ** 2, axis=1).astype(np.float64)
    exact = np.sum(weights**2, axis=1)
    assert 1e-7 < noise_level(sums - exact) < 1e-3


def test_every_component_has_its_own_noise_level():
    rng = np.random.default_rng(2)
    sigma = np.array([[1.0, 1e-4], [1e-8, 0.0]])
    level = noise_level(sigma * rng.normal(size=(POINTS, 2, 2)))
    assert level.shape == (2, 2)
    assert level[1, 1] == 0
    np.testing.assert_array_less(level[sigma > 0], 4 * sigma[sigma > 0])
    np.testing.assert_array_less(sigma[sigma > 0] / 4, level[sigma > 0])


def test_components_that_are_mostly_constant_do_not_change():
    values = np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 3.0], [1.0, 4.0], [2.0, 4.0]])
    np.testing.assert_array_equal(changes(values), [False, True])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_type_that_values_are_computed_in_shows_in_those_that_change(dtype):
    values = np.random.default_rng(4).normal(size=(POINTS, 3)).astype(dtype).astype(np.float64)
    values[:, 1] = 3.0  # a round number that any type holds
    assert resolution(values) == np.finfo(dtype).eps


def test_numbers_that_never_change_may_be_lost_in_float32():
    assert resolution(np.full((POINTS, 2), 1e5)) == np.finfo(np.float32).eps


@pytest.mark.parametrize("at", range(1, POINTS))
def test_a_jump_does_not_count_as_noise(at):
    """A gradient jumps like this if its point is on a kink."""
    jump = (np.arange(POINTS) >= at).astype(float)
    assert noise_level(jump) == 0
    noisy = jump + 1e-9 * np.random.default_rng(3).normal(size=POINTS)
    assert noise_level(noisy) < 1e-8
