"""A vector of zeros among others: its gradient is huge, and neither wrong nor an excuse for the others."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck_cli import check_gradients, check_layer
from gradcheck_cli.testing import WrongGradientError


def normalize(x):
    length = np.maximum(np.sqrt((x * x).sum(axis=1, keepdims=True)), 1e-12)
    return x / length, (x / length, length)


def normalize_backward(dout, cache):
    unit, length = cache
    return (dout - unit * (dout * unit).sum(axis=1, keepdims=True)) / length


def without_the_projection(dout, cache):
    return dout / cache[1]


def inputs(seed, zeros):
    x = np.random.default_rng(seed).normal(size=(4, 3))
    x[:zeros] = 0.0
    return {"x": x}


@pytest.mark.parametrize("zeros", [1, 3])
def test_a_right_gradient_of_1e12_agrees(zeros):
    check_layer(normalize, normalize_backward, inputs(zeros, zeros))


@pytest.mark.parametrize("zeros", [1, 3])
def test_a_gradient_of_1e12_does_not_hide_wrong_entries(zeros):
    with pytest.raises(WrongGradientError, match=f"wrong: {12 - 3 * zeros} of 12"):
        check_layer(normalize, without_the_projection, inputs(zeros, zeros))


def test_entries_without_noise_of_their_own_are_still_0():
    """In the gradient of the largest eigenvalue of a diagonal matrix, some zeros have almost no rounding."""

    def largest(p):
        _, vectors = np.linalg.eigh(0.5 * (p + p.T))
        return np.linalg.eigvalsh(0.5 * (p + p.T))[-1], np.outer(vectors[:, -1], vectors[:, -1])

    check_gradients(largest, np.diag([1.0, 2.0, 3.0]))
