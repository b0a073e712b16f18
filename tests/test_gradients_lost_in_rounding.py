"""A gradient that rounding may hide does not pass as 0, and rounding does not excuse a small mistake."""

from __future__ import annotations

import numpy as np
import pytest
from build import right_gradients, spec_of
from judged import Judge

from gradcheck_cli import Verdict
from gradcheck_cli.comparison import compare
from gradcheck_cli.numerical.estimate import Estimate
from gradcheck_cli.problem.problem import build_problem
from gradcheck_cli.types import EPS
from gradcheck_cli.verdict import VANISHING

SEEDS = range(8)


def one(analytic, numerical, error, rounding, largest=1.0, eps=EPS, observed=0.0):
    """Return the comparison of one entry, in a network whose largest gradient has the size `largest`."""
    a, n, u, allowed = (np.array([each]) for each in (analytic, numerical, error, rounding / 3.0))
    sizes = {"elsewhere": largest, "largest": largest, "observed": np.array([observed])}
    return compare("w", a, Estimate(n, u), allowed, 1e-6, eps, **sizes)


@pytest.mark.parametrize("largest", [1e-20, 1.0, 1e20])
@pytest.mark.parametrize(
    ("error", "rounding", "verdict"),
    [
        (1e-11, 1e-12, "agrees"),
        (1e-8, 1e-12, "unresolved"),  # too rough next to the largest gradient …
        (1e-8, 1e-5, "unresolved"),  # … however large the rounding bound
        (1e-11, 0.01, "agrees"),
        (1e-11, 0.3, "unresolved"),  # rounding might make this entry a third of the largest …
        (1e-16, 0.3, "agrees"),  # … but both values vanish
    ],
)
def test_a_zero_is_small_next_to_the_largest_gradient(largest, error, rounding, verdict):
    found = one(0.0, 0.0, error * largest, rounding * largest, largest)
    assert found.verdict == verdict
    assert found.zero[0] == (verdict == "agrees")


@pytest.mark.parametrize("largest", [1e-20, 1.0, 1e20])
@pytest.mark.parametrize(("size", "verdict"), [(0.9, "agrees"), (1.1, "unresolved")])
def test_an_entry_lost_in_rounding_is_0_only_if_it_vanishes_next_to_the_largest(largest, size, verdict):
    size *= VANISHING * largest
    assert one(0.0, size, 0.0, 10.0 * size, largest).verdict == verdict


@pytest.mark.parametrize("largest", [1e-20, 1.0, 1e20])
@pytest.mark.parametrize(("size", "verdict"), [(0.6, "agrees"), (1.1, "unresolved")])
@pytest.mark.parametrize(("off", "error", "rounding"), [(0.01, 0.0, 0.1), (0.5, 0.2, 1e-9)])
def test_an_entry_without_evidence_is_0_only_if_it_vanishes(largest, size, verdict, off, error, rounding):
    """The analytic value is larger than its rounding bound, but that bound or the error bar is too large."""
    size *= VANISHING * largest
    found = one(size, size * (1.0 - off), size * error, size * rounding, largest)
    assert found.verdict == verdict
    assert found.open[0]
    assert found.still_open[0]  # wider arithmetic may find evidence
    assert one(size, -size, size * error, size * rounding, largest).verdict is Verdict.WRONG


def test_an_entry_that_vanishes_is_no_zero_if_it_is_known():
    size = 0.5 * VANISHING
    assert one(size, size, 1e-9 * size, 1e-9 * size).agrees[0]
    assert not one(size, size, 1e-9 * size, 1e-9 * size).zero[0]


@pytest.mark.parametrize(
    ("size", "verdict"), [(1e-14, "agrees"), (1e-11, "unresolved"), (1e-5, "unresolved")]
)
def test_a_large_rounding_bound_does_not_make_a_gradient_0(size, verdict):
    assert one(size, 0.0, 1e-16, 1e-3).verdict == verdict


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_an_entry_that_vanishes_is_wrong_if_its_difference_exceeds_rounding(share):
    found = one(0.0, share * VANISHING, 0.0, 0.01 * VANISHING)
    assert found.verdict is Verdict.WRONG
    assert not found.agrees[0]


@pytest.mark.parametrize(
    ("numerical", "error", "rounding", "needs_more"),
    [
        (1e-12, 1e-12, 1e-12, True),
        (1e-14, 1e-12, 1e-12, False),  # noise is usually that small next to its bound
        (1e-15, 1e-15, 1e-12, False),  # it vanishes in any case
        (1e-12, 1e-12, 1e-300, False),  # the gradient is a sum of nothing
    ],
)
def test_a_zero_that_may_be_more_gets_wider_arithmetic(numerical, error, rounding, needs_more):
    found = one(0.0, numerical, error, rounding)
    assert found.zero[0]
    assert found.still_open[0] == needs_more


@pytest.mark.parametrize(
    ("share", "verdict"), [(0.0, "agrees"), (0.3, "agrees"), (0.9, "unresolved"), (1.1, "wrong")]
)
def test_a_right_gradient_in_a_narrow_type_rarely_needs_the_whole_rounding_bound(share, verdict):
    given, numerical = 1.0, 1.0 + 1e-6 + share * 1e-5
    assert one(given, numerical, 0.0, 1e-5, eps=2.0**-23).verdict == verdict
    assert one(given, numerical, 0.0, 1e-5).verdict == ("wrong" if share > 1 else "agrees")


@pytest.mark.parametrize(("off", "verdict"), [(8e-6, "agrees"), (5e-5, "unresolved")])
def test_no_bound_excuses_more_than_a_small_share_of_a_gradient_in_float64(off, verdict):
    """A mistake of this size in a gradient that is ill-conditioned would pass otherwise."""
    assert one(1.0, 1.0 + off, 0.0, 2e-3).verdict == verdict


@pytest.mark.parametrize("eps", [EPS, 2.0**-23])
@pytest.mark.parametrize(
    ("off", "rounding", "verdict"),
    [
        (0.9e-3, 1.5e-2, "agrees"),
        (1.1e-3, 1.5e-2, "unresolved"),  # rounding of this size was not observed
        (0.9e-3, 1.1e-1, "unresolved"),  # the bound is too large for evidence
        (0.9e-3, 0.8e-3, "wrong"),  # the bound is smaller
    ],
)
def test_rounding_that_was_observed_is_excused(off, rounding, verdict, eps):
    assert one(1.0, 1.0 + off, 0.0, rounding, eps=eps, observed=1e-3).verdict == verdict


@pytest.mark.parametrize("eps", [EPS, 2.0**-23])
@pytest.mark.parametrize(
    ("observed", "error", "verdict"),
    [(1.1, 0.0, "agrees"), (0.9, 0.0, "unresolved"), (0.0, 0.0, "unresolved"), (1.1, 1e-3, "unresolved")],
)
def test_a_zero_may_be_as_large_as_the_rounding_that_was_observed(observed, error, verdict, eps):
    """An example is a bias below a batch normalisation of values that hardly vary."""
    size = 1e-3
    found = one(size, 0.0, error * size, 10.0 * size, eps=eps, observed=observed * size)
    assert found.verdict == verdict
    assert found.zero[0] == (verdict == "agrees")


class Judged:
    """A network with its right gradients, the input's included, and verdicts on others."""

    def __init__(self, *layers, **rest):
        spec = spec_of(*layers, check={"inputs": True}, **rest)
        problem = build_problem(spec)
        self.right = right_gradients(problem.with_shifts(problem.checked_values))
        self.largest = max(np.abs(value).max() for value in self.right.values())
        self._judge = Judge(spec, problem)

    @np.errstate(all="ignore")
    def verdict(self, **changed):
        return self._judge.report({**self.right, **changed}).verdict

    def all_of(self, name):
        """Return all entries of a gradient that do not nearly vanish, as their flat indices."""
        return np.flatnonzero(np.abs(self.right[name]) > 2.0 * VANISHING * self.largest)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("eps", [2e-16, 1e-15])
def test_zeros_for_a_gradient_that_nearly_cancels_do_not_pass(eps, seed):
    """The norm of a single number is ±1, so the gradient below it is nearly 0, but not quite."""
    norm = {"reshape": [4, 1]}, {"rms_norm": [1], "eps": eps}, "flatten"
    network = Judged(*norm, (2, "identity"), seed=seed, samples=2)
    assert network.verdict() is not Verdict.WRONG
    if len(network.all_of("input")):
        assert network.verdict(input=np.zeros((2, 4))) is not Verdict.AGREES


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("eps", [1e-15, 1e-14])
def test_a_gradient_that_may_be_as_large_as_the_others_does_not_pass_as_0(eps, seed):
    """The mean of a layer norm is 0 up to rounding, and the norm above it enlarges this rounding."""
    mean = {"layer_norm": True}, {"reshape": [1, 4]}, {"avg_pool1d": 4}, {"rms_norm": True, "eps": eps}
    network = Judged(*mean, "flatten", (3, "identity"), seed=seed, loss="cosine")
    assert network.verdict() is not Verdict.WRONG
    bias = network.right["layer_norm1.bias"]
    if len(network.all_of("layer_norm1.bias")):
        for wrong in (0.0 * bias, -bias, 2.0 * bias):
            assert network.verdict(**{"layer_norm1.bias": wrong}) is not Verdict.AGREES


@pytest.mark.parametrize("seed", SEEDS)
def test_rounding_in_float32_does_not_excuse_an_eps_that_is_forgotten(seed):
    """The eps of the second norm is 1e-5 of a variance of 1, and so is the effect on the first norm."""
    layers = {"layer_norm": True}, {"layer_norm": True}, (3, "elu"), (4, "identity")
    network = Judged(*layers, inputs=5, seed=seed, dtype="float32")
    assert network.verdict() is Verdict.AGREES
    bias = network.right["layer_norm1.bias"]
    wrong = (bias * np.float64(1.0 + 1.06e-5)).astype(np.float32)
    assert network.verdict(**{"layer_norm1.bias": wrong}) is not Verdict.AGREES


def test_a_zero_with_an_unknown_numerical_value_is_unresolved():
    assert one(0.0, np.nan, np.inf, 1e-16).verdict is Verdict.UNRESOLVED
