from __future__ import annotations

import math

import numpy as np
import pytest
from reports import one

from gradcheck_cli.comparison import Comparison, compare
from gradcheck_cli.network.arithmetic import ROUNDING_SAFETY
from gradcheck_cli.numerical.estimate import ERROR_BARS, Estimate


@pytest.mark.parametrize(
    ("numerical", "ratio"), [([0.1, 0.2, 0.3], 10.0), ([0.1, 0.2, 0.31], None), ([-1.0, -2.0, -3.0], -1.0)]
)
def test_a_ratio_that_is_the_same_everywhere_is_reported(numerical, ratio):
    error = np.full(3, 1e-12)
    comparison = Comparison("w", np.array([1.0, 2.0, 3.0]), np.array(numerical), error, np.zeros(3), 1e-6)
    assert comparison.ratio == (None if ratio is None else pytest.approx(ratio))
    right = Comparison("w", np.ones(3), np.ones(3), error, np.zeros(3), 1e-6)
    assert right.ratio is None


def test_zeros_up_to_rounding_have_no_ratio():
    noise, rounding = np.array([1e-17, -3e-17, 2e-17]), np.full(3, 1e-16)
    assert Comparison("w", noise, np.ones(3), np.full(3, 1e-12), rounding, 1e-6).ratio is None
    assert Comparison("w", 0.0 * noise, np.ones(3), np.full(3, 1e-12), rounding, 1e-6).ratio == 0.0


def test_worst_entries_are_wrong_then_unresolved_then_by_relative_error():
    analytic = np.array([[1.0, 1.0, 1.0], [1.0, 1.0, math.nan]])
    numerical = np.array([[1.0 + 5e-7, math.nan, 1.5], [1.0, 2.0, 1.0]])
    error = np.array([[0.0, math.inf, 0.0], [0.0, 0.0, 0.0]])
    comparison = Comparison("w", analytic, numerical, error, np.zeros((2, 3)), 1e-6)
    assert [entry.index for entry in comparison.worst(6)] == [(1, 2), (1, 1), (0, 2), (0, 1), (0, 0), (1, 0)]
    assert len(comparison.worst(2)) == 2


def test_values_below_rounding_have_no_telling_relative_error():
    comparison = Comparison(
        "w",
        np.array([1.0, 1e-20]),
        np.array([1.0 + 1e-9, -3e-20]),
        np.array([1e-10, 1e-19]),
        np.zeros(2),
        1e-6,
    )
    assert comparison.max_relative_error == pytest.approx(1e-9, rel=1e-5)
    assert comparison.relative_error[1] > 1


def test_tensor_of_zeros_has_no_relative_error_to_show():
    comparison = Comparison("w", np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(3), 1e-6)
    assert math.isnan(comparison.max_relative_error)
    assert comparison.zero.all()
    assert comparison.agrees.all()


def test_resolution_is_the_relative_error_that_would_be_called_wrong():
    comparison = Comparison("w", np.ones(2), np.ones(2), np.array([1e-8, 1e-3]), np.zeros(2), 1e-6)
    np.testing.assert_allclose(comparison.resolution, [1e-6 + ERROR_BARS * 1e-8, 1e-6 + ERROR_BARS * 1e-3])
    for i, needed in enumerate(comparison.resolution):
        assert one(1.0 + 1.01 * needed, 1.0, error=comparison.error[i]).wrong.all()
        assert not one(1.0 + 0.99 * needed, 1.0, error=comparison.error[i]).wrong.any()


def test_rounding_gets_its_safety_factor():
    comparison = compare("w", np.ones(1), Estimate(np.ones(1), np.zeros(1)), np.array([1e-9]), 1e-6)
    assert comparison.rounding == ROUNDING_SAFETY * 1e-9
