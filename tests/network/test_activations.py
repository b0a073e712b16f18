from __future__ import annotations

import numpy as np
import pytest
from new_rows import NEW_ACTIVATIONS

from gradcheck_cli.network.activations import ACTIVATIONS

ROWS = {**ACTIVATIONS, **NEW_ACTIVATIONS}

OPTIONS = [
    *((name, {}) for name in ROWS),
    ("leaky_relu", {"negative_slope": 0.3}),
    ("elu", {"alpha": 0.5}),
    ("gelu", {"approximate": "tanh"}),
]


@pytest.fixture(params=OPTIONS, ids=lambda named: f"{named[0]} {named[1] or ''}".strip())
def activation(request):
    name, options = request.param
    return ROWS[name].with_options(**options)


@pytest.fixture
def z() -> np.ndarray:
    return np.random.default_rng(5).normal(scale=2.0, size=(7, 5))


def test_derivative_is_that_of_the_value_by_complex_step(activation, z):
    jacobian = np.empty((7, 5, 5))
    for j in range(5):
        moved = z.astype(complex)
        moved[:, j] += 1e-30j
        jacobian[:, :, j] = activation.value(moved).imag / 1e-30
    derivative = activation.derivative(z)
    full = derivative if activation.coupled else derivative[:, :, None] * np.eye(5)
    np.testing.assert_allclose(full, jacobian, rtol=1e-13, atol=1e-16)


def test_vjp_is_the_product_with_the_whole_jacobian(activation, z):
    dL_da = np.random.default_rng(6).normal(size=z.shape)
    derivative = activation.derivative(z)
    full = derivative if activation.coupled else derivative[:, :, None] * np.eye(5)
    np.testing.assert_allclose(activation.vjp(z, dL_da), np.einsum("ni,nij->nj", dL_da, full), atol=1e-15)


def test_complex_values_continue_the_real_ones(activation, z):
    np.testing.assert_allclose(activation.value(z + 0j).real, activation.value(z), rtol=1e-14, atol=1e-16)


def test_float32_stays_float32(activation, z):
    assert activation.value(z.astype(np.float32)).dtype == np.float32
    assert activation.derivative(z.astype(np.float32)).dtype == np.float32


def test_saturates_without_warning_or_nan(activation):
    z = np.array([[-1e4, -800.0, 0.0, 800.0, 1e4]])
    assert np.isfinite(activation.value(z)).all()
    assert np.isfinite(activation.derivative(z)).all()


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if not row.coupled])
def test_pieces_change_where_slope_or_curvature_jumps_and_nowhere_else(name):
    activation = ROWS[name].with_options()
    z = np.linspace(-9.0, 9.0, 18_000)  # steps of about 1e-3; neither 0 nor 6 is among them
    pieces = np.zeros(z.shape) if activation.pieces is None else activation.pieces(z)
    curvature = np.diff(activation.derivative(z)) / np.diff(z)
    jumps = np.flatnonzero(np.abs(np.diff(curvature)) > 0.05)
    changes = np.flatnonzero(np.diff(pieces.astype(float)))
    assert all(np.abs(changes - jump).min(initial=9) <= 1 for jump in jumps)
    assert all(np.abs(jumps - change).min(initial=9) <= 1 for change in changes)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.pieces])
def test_the_branch_of_its_own_piece_is_the_value_and_goes_on_smoothly_past_its_end(name):
    activation = ROWS[name].with_options()
    z = np.linspace(-9.0, 9.0, 1000)  # 0 and 6 are not on this grid
    pieces = activation.pieces(z)
    np.testing.assert_array_equal(activation.branch(z, pieces), activation.value(z))
    for piece in np.unique(pieces):
        at = z[pieces == piece]
        ends = np.array([at[0] - 1e-3, at[0], at[-1], at[-1] + 1e-3])
        slopes = activation.branch(ends + 1e-30j, np.full(4, piece)).imag / 1e-30
        np.testing.assert_allclose(np.diff(slopes)[::2], 0.0, atol=0.01)


@pytest.mark.parametrize("name", ["relu"])
def test_slope_at_zero_is_zero_by_convention(name):
    assert ACTIVATIONS[name].derivative(np.array([0.0]))[0] == 0.0


def test_gelu_agrees_with_its_definition():
    from math import erf, sqrt

    gelu = ACTIVATIONS["gelu"].with_options()
    for z in (-3.0, -0.5, 0.0, 1.7):
        assert gelu.value(np.array([z]))[0] == pytest.approx(z * 0.5 * (1 + erf(z / sqrt(2))), rel=1e-13)
