from __future__ import annotations

import numpy as np
import pytest

from gradcheck_cli.numerical.noise import POINTS, noise_level, too_close

LINE = np.arange(POINTS) - POINTS // 2


@pytest.mark.parametrize("sigma", [1e-3, 1e-9, 1e-15])
@pytest.mark.parametrize("smooth", ["constant", "steep", "curved"])
def test_the_noise_of_a_smooth_function_is_found(sigma, smooth):
    """To within a factor of 4 in nine of ten functions, as Moré and Wild find."""
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


def test_every_component_has_a_level_of_its_own():
    rng = np.random.default_rng(2)
    sigma = np.array([[1.0, 1e-4], [1e-8, 0.0]])
    level = noise_level(sigma * rng.normal(size=(POINTS, 2, 2)))
    assert level.shape == (2, 2)
    assert level[1, 1] == 0
    np.testing.assert_array_less(level[sigma > 0], 4 * sigma[sigma > 0])
    np.testing.assert_array_less(sigma[sigma > 0] / 4, level[sigma > 0])


def test_points_are_too_close_where_most_values_are_the_same():
    assert too_close(np.array([1.0, 1.0, 1.0, 1.0, 2.0]))
    assert not too_close(np.array([1.0, 2.0, 3.0, 4.0, 4.0]))


@pytest.mark.parametrize("at", range(1, POINTS))
def test_a_jump_is_no_noise(at):
    """As that of a gradient whose point sits on a kink."""
    jump = (np.arange(POINTS) >= at).astype(float)
    assert noise_level(jump) == 0
    noisy = jump + 1e-9 * np.random.default_rng(3).normal(size=POINTS)
    assert noise_level(noisy) < 1e-8
