from __future__ import annotations

import numpy as np
import pytest
from build import problem_of

from gradcheck_cli.numerical.estimate import Estimate
from gradcheck_cli.numerical.reference import LiteralDifferences, UnitDifferences
from gradcheck_cli.numerical.schemes import SCHEMES
from gradcheck_cli.numerical.witness import ENTRIES, contradictions, hear


@pytest.fixture
def problem():
    return problem_of((6, "tanh"), (3, "sigmoid"))


@pytest.fixture
def literal(problem):
    return LiteralDifferences(problem.objective, SCHEMES["adaptive"])


@pytest.fixture
def estimates(problem):
    return UnitDifferences(problem.objective, SCHEMES["adaptive"]).estimate(problem.checked)


@pytest.fixture
def no_rounding(estimates):
    return {name: np.zeros(estimate.value.shape) for name, estimate in estimates.items()}


def test_draws_entries_of_every_tensor_and_the_same_ones_for_a_seed(literal, estimates, no_rounding):
    first, again, other = (hear(literal, estimates, no_rounding, seed) for seed in (1, 1, 2))
    assert [t.name for t in first] == list(estimates)
    assert [len(t.which) for t in first] == [ENTRIES, 3, ENTRIES, ENTRIES]
    assert all((a.which == b.which).all() for a, b in zip(first, again, strict=True))
    assert any((a.which != b.which).any() for a, b in zip(first, other, strict=True))


def test_does_not_contradict_right_unit_differences(literal, estimates, no_rounding):
    assert contradictions(hear(literal, estimates, no_rounding, 0), estimates) == {}


def test_contradicts_wrong_unit_differences(literal, estimates, no_rounding):
    testimony = hear(literal, estimates, no_rounding, 0)
    name, which = testimony[0].name, testimony[0].which
    off = estimates[name].value * (1 + 1e-4)
    doubts = contradictions(testimony, {**estimates, name: Estimate(off, estimates[name].error)})
    assert list(doubts) == [name]
    np.testing.assert_array_equal(np.flatnonzero(doubts[name]), which)


def test_unknown_entries_contradict_nothing(literal, estimates, no_rounding):
    testimony = hear(literal, estimates, no_rounding, 0)
    unknown = {
        name: Estimate(np.full_like(e.value, np.nan), np.full_like(e.error, np.inf))
        for name, e in estimates.items()
    }
    assert contradictions(testimony, unknown) == {}
