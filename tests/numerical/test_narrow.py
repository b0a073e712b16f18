"""A feature of the loss that is narrower than the steps never makes a right gradient wrong."""

from __future__ import annotations

import numpy as np
import pytest
from build import problem_of, right_gradients, spec_of
from judged import Undiagnosed
from random_layers import random_layers
from shares import first

from gradcheck_cli import Spec, Verdict, check
from gradcheck_cli.numerical.estimate import differentiate
from gradcheck_cli.numerical.schemes import SCHEMES, in_wide_floats
from gradcheck_cli.problem.problem import build_problem
from gradcheck_cli.subject.network import network_subject
from gradcheck_cli.types import EPS
from tests.numerical.test_estimate import Function

WIDTHS = [1e-5, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12, 1e-13]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("height", [1.0, 1e-3, 1e-6])
def test_a_narrow_jump_is_resolved_or_unknown(width, height):
    """A long step sees only the jump, and its slopes agree with each other as noise does."""
    points = width * np.array([0.0, 0.3, -1.0])
    function = Function(lambda x: x + height * x / np.sqrt(x * x + width * width), points)
    estimate = differentiate(function, SCHEMES["adaptive"])
    ratio = points / width
    exact = 1.0 + height / width / (1.0 + ratio * ratio) ** 1.5
    known = np.isfinite(estimate.error)
    assert (np.abs(estimate.value - exact) <= 3.0 * estimate.error + 1e-6 * exact)[known].all()
    if width >= 1e-9:
        assert known.all()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("distance", [0.9e-9, 3e-8, 2e-6])
def test_a_narrow_jump_next_to_a_kink_is_resolved_or_unknown(width, distance):
    """Only the steps that are shorter than the distance to the kink count, and they may be too long, too."""
    points = width * np.array([0.0, 0.3, -1.0])

    def curve(x):
        return x + x / np.sqrt(x * x + width * width) + np.maximum(x - distance, 0.0)

    estimate = differentiate(Function(curve, points, kinks=[distance]), SCHEMES["adaptive"])
    exact = 1.0 + (points > distance) + 1.0 / width / (1.0 + (points / width) ** 2) ** 1.5
    known = np.isfinite(estimate.error)
    assert (np.abs(estimate.value - exact) <= 3.0 * estimate.error + 1e-6 * exact)[known].all()
    if 1e-10 <= width <= 1e-8:
        assert known.all()


NORMS = ["rms_norm", {"rms_norm": True, "eps": 1e-12}, {"layer_norm": True, "eps": 1e-14}]


@pytest.mark.parametrize("norm", NORMS)
def test_a_norm_of_zeros_agrees(norm):
    """The slope of x / √(mean x² + eps) at 0 is 1 / √eps."""
    data = {"x": [[0.0] * 4, [1.0, -2.0, 0.5, 0.3]], "y": [[0.5, 1.0], [0.2, -1.0]]}
    described = spec_of((3, "identity"), norm, {"units": 2}, data=data)
    zeros = described.parameters.model_copy(update={"bias": "zeros"})
    report = check(described.model_copy(update={"parameters": zeros}))
    assert report.verdict is Verdict.AGREES


@pytest.mark.skipif(np.finfo(np.longdouble).eps > EPS / 1000, reason="longdouble is no wider than float64")
@pytest.mark.parametrize("eps", [1e-11, 1e-14, 1e-17, 1e-20])
def test_the_slope_of_a_norm_of_zeros_is_exact_in_wide_floats(eps):
    """The steps are so close that some of them suit each eps."""
    data = {"x": [[0.0] * 4, [1.0, -2.0, 0.5, 0.3]], "y": [[0.5, 1.0], [0.2, -1.0]]}
    parameters = {"init": "xavier", "seed": 1, "bias": "zeros"}
    layers = (3, "identity"), {"rms_norm": True, "eps": eps}, {"units": 2}
    problem = problem_of(*layers, data=data, parameters=parameters)
    (use,) = problem.objective.widest.uses("hidden1.bias")
    units = problem.objective.widest.units(use.site)
    found = differentiate(units, in_wide_floats(SCHEMES["adaptive"]))
    largest = np.abs(found.value).max()
    assert found.error.max() <= 1e-9 * largest
    exact = right_gradients(problem)["hidden1.bias"]
    assert np.abs(found.value.reshape(3, 2).sum(axis=1) - exact).max() <= 1e-9 * largest


def test_a_channel_of_nearly_equal_numbers_is_not_wrong_next_to_a_kink():
    """In this network, a norm divides by a deviation of 1e-10, and steps beyond 1e-9 cross a kink of elu."""
    described = Spec.model_validate(random_layers(60271440, "instance_norm", "kinked"))
    subject = Undiagnosed.of(network_subject(described, build_problem(described)))
    assert subject.check(described.check).verdict is Verdict.AGREES


@pytest.mark.parametrize("scale", first(1, [1e-3, 1e-2, 1e-6]))
@pytest.mark.parametrize("loss", ["contrastive", "triplet", "cosine"])
def test_vectors_that_are_nearly_0_do_not_make_a_right_gradient_wrong(loss, scale):
    """The length of such a vector turns within a distance that is far below every step."""
    for seed in range(2):
        described = spec_of(
            (3, "tanh"),
            (2, "identity"),
            (6, "identity"),
            loss=loss,
            seed=seed,
            parameters={"init": "xavier", "scale": scale, "seed": seed},
        )
        subject = Undiagnosed.of(network_subject(described, build_problem(described)))
        assert subject.check(described.check).verdict is not Verdict.WRONG, seed


def test_slopes_of_noise_are_not_taken_as_a_feature():
    """A number with noise keeps its estimate, whose error covers the noise."""
    rng = np.random.default_rng(1)
    noisy = Function(lambda x: np.cos(x) + 1e-8 * rng.normal(size=x.shape), np.linspace(-1, 1, 200))
    estimate = differentiate(noisy, SCHEMES["adaptive"])
    assert np.isfinite(estimate.error).mean() > 0.99


def test_entries_that_sum_nothing_are_0():
    """PReLU's slope has no gradient if no number is negative; another slope's gradient is still judged."""
    layers = {"units": 3, "activation": "softplus"}, "prelu", {"units": 2}
    report = check(spec_of(*layers))
    assert report.verdict is Verdict.AGREES
    (slope,) = (c for c in report.comparisons if c.name == "prelu1.weight")
    assert slope.zero.all()
    assert not slope.analytic.any()


class Entries(Function):
    """Numbers of the user's code: only the losses are known, and steps may be as short as floats allow."""

    @property
    def rest(self):
        return self.function(self.position[:1])


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("sharp", [False, True])
def test_a_number_at_0_gets_steps_within_any_feature(width, sharp):
    """A vector of zeros is divided by max(its length, 1e-12), or by √(its square + 1e-24)."""

    def divided(x):
        return x / np.fmax(np.abs(x), width) if sharp else x / np.sqrt(x * x + width * width)

    estimate = differentiate(Entries(divided, np.zeros(2)), SCHEMES["adaptive"])
    assert (np.abs(estimate.value - 1.0 / width) <= 3.0 * estimate.error).all()
    assert (estimate.error <= 1e-6 / width).all()


def test_a_jump_at_0_has_no_slope():
    jump = Entries(lambda x: np.where(x >= 0.0, 1.0, 0.0) + x, np.zeros(2))
    assert not (differentiate(jump, SCHEMES["adaptive"]).error < 1e3).any()
