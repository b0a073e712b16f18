from __future__ import annotations

import numpy as np
import pytest

from gradcheck_cli.network.activations import ACTIVATIONS

OPTIONS = [
    *((name, {}) for name in ACTIVATIONS),
    ("leaky_relu", {"negative_slope": 0.3}),
    ("elu", {"alpha": 0.5}),
    ("gelu", {"approximate": "tanh"}),
]


@pytest.fixture(params=OPTIONS, ids=lambda named: f"{named[0]} {named[1] or ''}".strip())
def activation(request):
    name, options = request.param
    return ACTIVATIONS[name].with_options(**options)


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


@pytest.mark.parametrize("name", [name for name, row in ACTIVATIONS.items() if row.pieces])
def test_pieces_change_at_the_kink_and_nowhere_else(name):
    activation = ACTIVATIONS[name].with_options()
    assert activation.pieces is not None
    left, right = np.array([[-1e-9]]), np.array([[1e-9]])
    assert (activation.pieces(left) != activation.pieces(right)).all()
    assert (activation.pieces(np.array([[2.0]])) == activation.pieces(right)).all()


@pytest.mark.parametrize("name", ["relu"])
def test_slope_at_zero_is_zero_by_convention(name):
    assert ACTIVATIONS[name].derivative(np.array([0.0]))[0] == 0.0


def test_gelu_agrees_with_its_definition():
    from math import erf, sqrt

    gelu = ACTIVATIONS["gelu"].with_options()
    for z in (-3.0, -0.5, 0.0, 1.7):
        assert gelu.value(np.array([z]))[0] == pytest.approx(z * 0.5 * (1 + erf(z / sqrt(2))), rel=1e-13)
