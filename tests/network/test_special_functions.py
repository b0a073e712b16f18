from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest

from gradcheck_cli.network.functions import (
    log1p,
    normal_cdf,
    normal_pdf,
    sigmoid,
    sigmoid_slope,
    softmax,
    softplus,
)

POINTS = np.concatenate(
    [np.linspace(-6, 6, 97), [-700.0, -30.0, -12.5, 12.5, 26.0, 30.0, 700.0, 0.46875, 4.0]]
)


def exact(function, x: float) -> float:
    with mpmath.workdps(400):
        return float(function(mpmath.mpf(x)))


REFERENCES = [
    (sigmoid, lambda x: 1 / (1 + mpmath.exp(-x))),
    (softplus, lambda x: mpmath.log(1 + mpmath.exp(x))),
    (normal_cdf, mpmath.ncdf),
]
REAL_ALONE = [
    (sigmoid_slope, lambda x: mpmath.exp(-x) / (1 + mpmath.exp(-x)) ** 2),
    (normal_pdf, mpmath.npdf),
]


@pytest.mark.parametrize(
    ("function", "reference"), REFERENCES + REAL_ALONE, ids=lambda f: getattr(f, "__name__", "")
)
def test_is_relatively_accurate_everywhere(function, reference):
    expected = np.array([exact(reference, x) for x in POINTS])
    assert (np.abs(function(POINTS) - expected) <= 2e-15 * expected + 1e-307).all()


@pytest.mark.parametrize(("function", "reference"), REFERENCES, ids=lambda f: getattr(f, "__name__", ""))
def test_carries_a_tiny_imaginary_part_as_its_derivative(function, reference):
    points = np.linspace(-6, 6, 41)
    with mpmath.workdps(40):
        slopes = np.array([float(mpmath.diff(reference, mpmath.mpf(x))) for x in points])
    np.testing.assert_allclose(function(points + 1e-30j).imag / 1e-30, slopes, rtol=1e-12)


@pytest.mark.parametrize("function", [sigmoid, softplus, normal_cdf])
def test_real_and_complex_branches_give_the_same_values(function):
    np.testing.assert_allclose(function(POINTS + 0j).real, function(POINTS), rtol=1e-15, atol=1e-307)


@pytest.mark.parametrize("function", [sigmoid, softplus, normal_cdf, softmax])
def test_keeps_float32(function):
    assert function(np.linspace(-3, 3, 7, dtype=np.float32)).dtype == np.float32


def test_log1p_keeps_a_tiny_complex_number():
    w = np.array([1e-25 + 1e-40j])
    assert log1p(w)[0] == pytest.approx(1e-25 + 1e-40j, rel=1e-15)


def test_softmax_survives_large_logits_and_sums_to_one():
    a = softmax(np.array([[1e4, 1e4 - 1, -1e4]]))
    np.testing.assert_allclose(a, [[1 / (1 + math.exp(-1)), math.exp(-1) / (1 + math.exp(-1)), 0.0]])


def test_the_normal_distribution_passes_nan_on():
    assert np.isnan(normal_cdf(np.array([np.nan]))).all()
