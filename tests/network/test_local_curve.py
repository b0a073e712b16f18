"""The polynomial near each argument gives the rise of an activation as exactly as the activation itself."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.local_curve import RADIUS, LocalCurve, is_near

SMOOTH = [row for row in ACTIVATIONS.values() if row.pieces is None and not row.coupled]


@pytest.mark.parametrize("row", SMOOTH, ids=lambda row: row.name)
@pytest.mark.parametrize("size", [0.1, 1.0, 5.0, 40.0])
@pytest.mark.parametrize("longest", [RADIUS, 2.0**-9, 2.0**-11, 2.0**-20])
def test_rises_are_exact_to_the_rounding_of_the_activation(row, size, longest):
    rng, value = np.random.default_rng(3), row.with_options().value
    z, d = size * rng.normal(size=(2, 300)), longest * rng.uniform(-1.0, 1.0, size=(2, 300))
    found = LocalCurve.of(value, z).rise(_picked, d, _unknown)
    wide = z.astype(np.longdouble)
    exact = value(wide + d) - value(wide)
    scale = np.abs(z) + np.abs(value(z)) + 1.0
    assert np.all(np.abs(found - exact) <= 4.0 * np.finfo(float).eps * scale)


def test_only_long_changes_are_left_to_the_function():
    d = np.array([[0.0, RADIUS, -RADIUS], [1.01 * RADIUS, -1.0, np.nan]])
    found = LocalCurve.of(np.tanh, np.zeros((2, 3))).rise(_picked, d, lambda part, far: 10.0 * d[part][far])
    assert np.allclose(found[0], np.tanh(d[0]))
    assert np.array_equal(found[1], 10.0 * d[1], equal_nan=True)


def _picked(array, part):
    return array[part]


def _unknown(part, far):
    return np.full(far.sum(), np.nan)


def test_a_long_change_is_not_near():
    assert is_near(np.array([RADIUS, -RADIUS]))
    assert not is_near(np.array([0.0, 1.01 * RADIUS]))
    assert not is_near(np.array([0.0, -1.01 * RADIUS]))
    assert not is_near(np.array([0.0, np.nan]))
