from __future__ import annotations

import numpy as np
import pytest

from gradcheck_cli.numerical.confirm import confirm
from gradcheck_cli.numerical.estimate import certify, differentiate
from gradcheck_cli.numerical.objective import ALONE, FEW, Moved
from gradcheck_cli.numerical.schemes import SCHEMES

ADAPTIVE = SCHEMES["adaptive"]


class Function:
    """A function of one number at some points, with the kinks that it reports."""

    rest = None
    exact = True
    spread = ALONE

    def __init__(self, function, points, kinks=(), magnitude=1.0, batch=1000):
        self.function, self.kinks, self.batch = function, kinks, batch
        self.position = np.atleast_1d(np.array(points, dtype=float))
        self.unit = np.ones(len(self.position))
        self.magnitude = magnitude
        self.calls = 0

    def move(self, which, to):
        self.calls += 1
        here, there = self.position[which], np.real(to)
        crossed = np.zeros(len(which), dtype=bool)
        for kink in self.kinks:
            crossed |= (here > kink) != (there > kink)
        return Moved(self.function(to), np.full(len(which), self.magnitude), crossed)


def test_smooth_functions_come_out_to_rounding():
    points = np.linspace(-2, 2, 50)
    estimate = differentiate(Function(np.tanh, points), ADAPTIVE)
    error = np.abs(estimate.value - 1 / np.cosh(points) ** 2)
    assert error.max() < 1e-13
    assert (error <= 3 * estimate.error).all()
    assert estimate.error.max() < 1e-12


@pytest.mark.parametrize("steepness", [1e2, 1e4, 1e6])
def test_steep_functions_are_resolved_on_finer_rungs_or_unknown(steepness):
    """Coarse steps see a function that is flat on both sides, and agree by accident."""
    points = np.linspace(-3, 3, 61) / steepness
    estimate = differentiate(Function(lambda x: np.tanh(steepness * x), points), ADAPTIVE)
    exact = steepness / np.cosh(steepness * points) ** 2
    assert (np.abs(estimate.value - exact) <= 3 * estimate.error + 1e-10 * exact).all()


def test_oscillation_faster_than_the_steps_is_not_mistaken_for_a_slope():
    """In sin(8π x / ¼ …), every coarse central difference is 0, and only fine ones show the slope."""
    frequency = 2 * np.pi * 4096
    estimate = differentiate(Function(lambda x: np.sin(frequency * x), [0.0, 1e-5]), ADAPTIVE)
    exact = frequency * np.cos(frequency * np.array([0.0, 1e-5]))
    assert (np.abs(estimate.value - exact) <= 3 * estimate.error).all()
    assert (estimate.error < 1e-3 * frequency).all()


def test_noise_in_the_function_shows_in_the_error():
    """The noise is ten million times what the size of the losses suggests, with one sample per evaluation."""
    rng = np.random.default_rng(0)
    noisy = Function(lambda x: np.sin(x) + 1e-9 * rng.normal(size=x.shape), np.linspace(-1, 1, 400))
    estimate = differentiate(noisy, ADAPTIVE)
    error = np.abs(estimate.value - np.cos(noisy.position))
    entry_error = 2 * estimate.error  # as `entry_sums` doubles the error of a single pair
    assert (error <= 3 * entry_error).mean() > 0.99
    assert np.median(estimate.error) < 1e-6


def test_steps_that_cross_a_kink_do_not_count():
    points = [1e-3, -1e-3, 1e-5, 0.7]
    estimate = differentiate(Function(np.abs, points, kinks=(0.0,)), ADAPTIVE)
    np.testing.assert_allclose(estimate.value, np.sign(points), rtol=1e-7)
    assert (np.abs(estimate.value - np.sign(points)) <= 3 * estimate.error + 1e-15).all()


def test_nothing_is_known_on_a_kink():
    estimate = differentiate(Function(np.abs, [0.0, 1e-12], kinks=(0.0,)), ADAPTIVE)
    assert np.isnan(estimate.value).all()
    assert np.isinf(estimate.error).all()


@pytest.mark.parametrize("name", SCHEMES)
def test_nothing_is_known_of_a_function_that_is_not_finite(name):
    with np.errstate(all="ignore"):
        estimate = differentiate(Function(lambda x: x * np.inf, [0.5]), SCHEMES[name])
    assert np.isnan(estimate.value).all() or np.isinf(estimate.error).all()
    assert np.isinf(estimate.error).all()


def test_a_step_lost_in_the_number_is_not_taken():
    """At 1e18 the finest steps vanish in rounding; dividing by the nominal step would give 0."""
    estimate = differentiate(Function(lambda x: 3.0 * x, [1e18], magnitude=3e18), ADAPTIVE)
    assert not np.isfinite(estimate.error) or abs(estimate.value - 3.0) <= 3 * estimate.error


def test_batches_do_not_change_the_result():
    points = np.linspace(-2, 2, 37)
    whole = differentiate(Function(np.tanh, points), ADAPTIVE)
    parts = differentiate(Function(np.tanh, points, batch=5), ADAPTIVE)
    np.testing.assert_array_equal(whole.value, parts.value)
    np.testing.assert_array_equal(whole.error, parts.error)


def test_certifying_takes_two_steps_confirming_one_and_the_whole_ladder_all():
    few, whole = (Function(np.tanh, [0.5, 0.7, 0.9], batch=1) for _ in range(2))
    first = certify(few, ADAPTIVE)
    assert few.calls == 3 * 2 * len(ADAPTIVE.certify) == 12
    confirm(few, ADAPTIVE, first)
    assert few.calls == 12 + 3 * 2 + 1  # plus one unperturbed, for the noise
    differentiate(whole, ADAPTIVE)
    assert whole.calls == 3 * 2 * len(ADAPTIVE.ladder)


def test_all_steps_of_few_numbers_are_evaluated_in_one_call():
    points = np.linspace(-2, 2, FEW // 4)
    together, apart = Function(np.tanh, points), Function(np.tanh, points, batch=len(points))
    one, other = certify(together, ADAPTIVE), certify(apart, ADAPTIVE)
    assert (together.calls, apart.calls) == (1, 4)
    np.testing.assert_array_equal(one.value, other.value)
    np.testing.assert_array_equal(one.error, other.error)


def confirmed(function, position, kinks=()):
    movable = Function(function, [position], kinks=kinks)
    first, which = certify(movable, ADAPTIVE), np.ones(1, dtype=bool)
    return first, first.challenged(which, *confirm(movable, ADAPTIVE, first))


@pytest.mark.parametrize("function", [np.tanh, np.exp, lambda x: x**4, lambda x: np.sin(300.0 * x)])
def test_a_smooth_function_is_confirmed(function):
    first, after = confirmed(function, 0.7)
    assert after.error <= max(1.1 * first.error, 1e-3 * np.abs(first.value))
    assert after.value == first.value


@pytest.mark.parametrize("width", [1e-4, 1e-5, 1e-6, 1e-7])
def test_the_confirming_step_sees_features_narrower_than_earlier_steps(width):
    """Longer steps see almost nothing of a wave of this length on a slope of 1."""
    first, after = confirmed(lambda x: x + width * np.sin(x / width), 1.0)
    true = 1.0 + np.cos(1.0 / width)
    assert np.abs(first.value - true) > 30.0 * first.error
    assert np.abs(after.value - true) < 30.0 * after.error


def test_a_number_on_a_kink_is_not_confirmed():
    _, after = confirmed(np.abs, 1e-12, kinks=(0.0,))
    assert after.error == np.inf


def test_certifying_looks_closer_only_where_it_sees_nothing():
    function = Function(np.abs, [0.7, 1e-6, -0.5], kinks=(0.0,))
    estimate = certify(function, ADAPTIVE)
    np.testing.assert_allclose(estimate.value, [1.0, 1.0, -1.0], rtol=1e-6)
    assert np.isfinite(estimate.error).all()


def test_progress_counts_every_evaluation():
    class Tally:
        expected = done = 0

        def expect(self, evaluations):
            self.expected += evaluations

        def advance(self, evaluations):
            self.done += evaluations

    tally = Tally()
    differentiate(Function(np.tanh, np.linspace(0, 1, 7), batch=3), ADAPTIVE, progress=tally)
    assert tally.expected == tally.done == 7 * 2 * len(ADAPTIVE.ladder)
