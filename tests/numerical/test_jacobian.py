"""Derivatives of arrays that are computed row by row."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck_cli.numerical.estimate import ERROR_BARS
from gradcheck_cli.numerical.jacobian import jacobian


def normalised(p):
    return p / np.linalg.norm(p, axis=1, keepdims=True)


def of_normalised(p):
    norm = np.linalg.norm(p, axis=1)[:, None, None]
    unit = p[:, :, None] / norm
    return (np.eye(p.shape[1]) - unit * unit.transpose(0, 2, 1)) / norm


FUNCTIONS = {
    "normalised": (normalised, of_normalised),
    "exp": (np.exp, lambda p: np.exp(p)[:, :, None] * np.eye(p.shape[1])),
    "cube": (lambda p: p**3, lambda p: 3 * (p * p)[:, :, None] * np.eye(p.shape[1])),
    "sum": (
        lambda p: np.sin(p.sum(1, keepdims=True)),
        lambda p: np.cos(p.sum(1))[:, None, None] + 0 * p[:, None],
    ),
}


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_are_exact_within_their_errors_and_the_errors_are_small(name, scale):
    """In some of 1,000 rows, the sum is near a multiple of π, or two extrapolates agree by accident."""
    function, expected = FUNCTIONS[name]
    p = np.random.default_rng(2).normal(size=(1000, 12))
    found = jacobian(lambda q: scale * function(q), p, np.ones_like(p))
    right = scale * np.moveaxis(expected(p), -1, 0)
    assert (np.abs(found.value - right) <= ERROR_BARS * found.error).all()
    assert found.error.max() <= 1e-6 * np.abs(right).max()


def test_a_kink_inside_every_step_has_a_large_error():
    p = np.array([[1e-4, 1.0]])
    found = jacobian(np.abs, p, np.ones_like(p))
    assert found.error[0, 0, 0] >= abs(found.value[0, 0, 0] - 1.0)
    assert found.error[1, 0, 1] < 1e-9
