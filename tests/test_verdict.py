from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from reports import one

from gradcheck_cli.comparison import Comparison
from gradcheck_cli.entries.by_convention import by_convention
from gradcheck_cli.numerical.estimate import Estimate
from gradcheck_cli.numerical.kinks import Alternatives
from gradcheck_cli.types import EPS
from gradcheck_cli.verdict import Verdict, overall


@pytest.mark.parametrize(
    ("comparison", "verdict"),
    [
        (one(1.0, 1.0), "agrees"),
        (one(1.0, 1.0 + 0.9e-6), "agrees"),
        (one(1.0, 1.0 + 1.1e-6), "wrong"),
        (one(1.0, 1.0 + 1.1e-6, error=1e-7), "unresolved"),
        (one(1.0, 1.0 + 1.4e-6, error=1e-7), "wrong"),
        (one(1e-20, 2e-20, rounding=1e-19), "unresolved"),
        (one(1e-20, 1e-20, rounding=1e-19), "agrees"),
        (one(2e-19, 1.5e-19, rounding=1e-19), "unresolved"),
        (one(2e-18, 1.95e-18, rounding=1e-19), "unresolved"),
        (one(2e-18, 1.99999e-18, rounding=1e-19), "agrees"),
        (one(2e-18, 1.9999e-18, rounding=1e-19), "unresolved"),
        (one(1e-20, 0.0), "wrong"),
        (one(0.0, 0.0), "agrees"),
        (one(-1.0, 1.0), "wrong"),
        (one(1.0, math.nan, error=math.inf), "unresolved"),
        (one(1.0, math.nan, error=0.1), "unresolved"),
        (one(1.0, math.inf, error=0.1), "unresolved"),
        (one(0.0, 0.0, error=1e9), "unresolved"),
        (one(0.0, 0.0, error=1e-17, rounding=1e-17), "agrees"),
        (one(1.0, 1.0, error=0.5), "unresolved"),
        (one(math.nan, 1.0), "wrong"),
        (one(math.inf, 1.0), "wrong"),
        (one(-math.inf, math.nan, error=math.inf), "wrong"),
        (one(math.inf, math.inf, error=math.inf), "wrong"),
    ],
)
def test_verdict_of_one_entry(comparison, verdict):
    assert comparison.entry((0,)).verdict == verdict
    assert [comparison.agrees[0], comparison.wrong[0], comparison.unresolved[0]].count(True) == 1


def test_relative_error_is_against_the_larger():
    comparison = Comparison(
        "w",
        np.array([2.0, 1.0, 0.0, 0.0, math.nan]),
        np.array([1.0, 2.0, 0.0, 3.0, 1.0]),
        np.zeros(5),
        np.zeros(5),
        1e-6,
    )
    np.testing.assert_array_equal(comparison.relative_error, [0.5, 0.5, 0.0, 1.0, math.inf])


@pytest.mark.parametrize(("noisy", "verdict"), [(0, "agrees"), (2, "agrees"), (3, "unresolved")])
def test_a_tensor_is_unresolved_if_more_than_half_of_its_nonzero_entries_are(noisy, verdict):
    analytic, error = np.array([1e-6, 1e-6, 1e-6, 1.0, 0.0, 0.0]), np.zeros(6)
    numerical = analytic.copy()
    error[:noisy], numerical[:noisy] = 1e-10, 1e-6 + 2e-10
    assert Comparison("w", analytic, numerical, error, np.zeros(6), 1e-6).verdict == verdict


@pytest.mark.parametrize(("size", "verdict"), [(1e-10, "agrees"), (1e-8, "unresolved")])
def test_undecided_entries_do_not_count_if_they_are_a_trifle_next_to_the_largest(size, verdict):
    analytic, error = np.array([size, -size, size, 1.0]), np.array([size, size, size, 0.0]) / 9.0
    numerical = analytic + error
    assert Comparison("w", analytic, numerical, error, np.zeros(4), 1e-6).verdict == verdict
    assert Comparison("w", analytic[:3], numerical[:3], error[:3], np.zeros(3), 1e-6).verdict == "unresolved"
    assert Comparison("w", -analytic, numerical, error, np.zeros(4), 1e-6).verdict == "wrong"


@pytest.mark.parametrize(("off", "verdict"), [(1e-6, "agrees"), (1e-4, "unresolved"), (1.0, "unresolved")])
def test_undecided_entries_may_be_off_by_only_a_little_of_the_largest_entry(off, verdict):
    """Otherwise a zeroed unit could pass among many right ones."""
    analytic, numerical = np.array([1.0, 1.0, 1.0, 0.0]), np.array([1.0, 1.0, 1.0, off])
    error = np.array([0.0, 0.0, 0.0, off])
    assert Comparison("w", analytic, numerical, error, np.zeros(4), 1e-6).verdict == verdict


@pytest.mark.parametrize(
    ("analytic", "numerical", "error", "verdict"),
    [
        (1e-17, 1e-13, 1e-12, "agrees"),  # the sum cancels: 0 to within both rounding and the error
        (1e-17, 1e-8, 1e-7, "unresolved"),  # … but this error is too large compared with the terms of 1e-1
        (1e-17, 1e-11, 1e-12, "wrong"),  # … and this is not zero
        (1e-13, 1e-13, 1e-12, "unresolved"),  # more than rounding can produce from 0
        (5e-17, 1e-23, 1e-24, "agrees"),  # a number far below the rounding of the gradient is 0 to it
        (5e-17, 1e-21, 1e-24, "unresolved"),  # … but this one is not far below
    ],
)
def test_zero_on_both_sides_is_zero_to_within_rounding_and_error(analytic, numerical, error, verdict):
    comparison = one(analytic, numerical, error, rounding=1e-16)
    assert comparison.entry((0,)).verdict == verdict
    assert comparison.zero[0] == (verdict == "agrees")


@pytest.mark.parametrize(
    ("analytic", "eps", "verdict"),
    [
        (1e-12, EPS, "agrees"),
        (4e-12, EPS, "unresolved"),
        (5e-11, 2.0**-23, "agrees"),
        (5e-4, 2.0**-23, "unresolved"),
    ],
)
def test_a_zero_that_rounding_has_changed_is_far_below_the_largest_entry(analytic, eps, verdict):
    """Otherwise a large bound on rounding would excuse a mistake."""
    zero = one(analytic, 0.0, 1e-20, rounding=1e-3)
    assert replace(zero, eps=eps, largest=1.0).entry((0,)).verdict == verdict


def test_one_entry_beyond_knowing_leaves_the_tensor_unresolved():
    """On a kink, the entry could have any value, even a billion."""
    analytic, numerical = np.array([1e9, 1.0, 1.0]), np.array([math.nan, 1.0, 1.0])
    error = np.array([math.inf, 0.0, 0.0])
    assert Comparison("w", analytic, numerical, error, np.zeros(3), 1e-6).verdict == "unresolved"


def test_one_wrong_entry_makes_the_tensor_wrong():
    numerical = np.array([math.nan, math.nan, math.nan, 2.0])
    error = np.array([math.inf, math.inf, math.inf, 0.0])
    assert Comparison("w", np.ones(4), numerical, error, np.zeros(4), 1e-6).verdict == "wrong"


@pytest.mark.parametrize(
    ("verdicts", "together"),
    [
        ([], "unresolved"),
        (["agrees"], "agrees"),
        (["agrees", "unresolved"], "unresolved"),
        (["unresolved", "wrong", "agrees"], "wrong"),
    ],
)
def test_overall_verdict_is_the_worst(verdicts, together):
    assert overall([Verdict(verdict) for verdict in verdicts]) == together


def test_a_convention_that_explains_an_entry_needs_no_rounding():
    """A number on a kink may have a rounding bound so large that any convention would explain its entry."""
    values, errors = np.array([[0.5], [128.5], [256.5]]), np.array([[1e-13], [1e-11], [1e-11]])
    kinks = Alternatives(np.array([True]), values, errors, lambda: (np.array([0.5]), np.array([256.5])))
    found = by_convention(np.array([128.5]), Estimate(values[0], errors[0]), kinks, np.array([1e6]), 1e-6)
    np.testing.assert_array_equal(found.value, [128.5])
