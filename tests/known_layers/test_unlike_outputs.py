"""A layer whose outputs cannot be joined is not recognised, and its mistakes are still found."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck_cli import WrongGradientError, check_layer


def forward(mu, lv, eps):
    return mu + np.exp(0.5 * lv) * eps, 0.5 * (mu**2 + np.exp(lv) - lv - 1.0).sum(axis=1), (mu, lv, eps)


def backward(dz, dk, cache):
    mu, lv, eps = cache
    return (
        dz - dk[:, None] * mu,
        dz * eps * 0.5 * np.exp(0.5 * lv) + dk[:, None] * 0.5 * (np.exp(lv) - 1.0),
        None,
    )


def test_outputs_of_different_ranks_are_no_known_layer():
    rng = np.random.default_rng(7)
    with pytest.raises(WrongGradientError, match="in mu"):
        check_layer(forward, backward, {name: rng.normal(size=(4, 3)) for name in ("mu", "lv", "eps")})


def test_an_output_without_an_axis_for_time_is_no_known_layer():
    def dots(a, b):
        return (a * b).sum(axis=1), (a, b)

    def of_dots(dout, cache):
        return dout[:, None] * cache[1], dout[:, None] * cache[1]

    rng = np.random.default_rng(2)
    with pytest.raises(WrongGradientError, match="in b"):
        check_layer(dots, of_dots, {name: rng.normal(size=(4, 3)) for name in "ab"})
