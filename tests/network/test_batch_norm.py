from __future__ import annotations

import numpy as np
import pytest
from build import problem_of, right_gradients
from hypothesis import given
from hypothesis import strategies as st
from unhurried import unhurried

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.steps.normalise import normalised_at as normalise

NORMED = {"units": 4, "activation": "tanh", "batch_norm": True}


def test_every_column_has_mean_0_and_variance_1():
    z = np.random.default_rng(0).normal(3.0, 5.0, size=(50, 4))
    z_hat = normalise(z, eps=0.0)
    np.testing.assert_allclose(z_hat.value.mean(axis=0), 0.0, atol=1e-14)
    np.testing.assert_allclose(z_hat.value.var(axis=0), 1.0)
    np.testing.assert_allclose(z_hat.deviation[0], z.std(axis=0))


def test_eps_is_added_to_the_variance():
    z_hat = normalise(np.array([[1.0], [3.0]]), eps=3.0)
    np.testing.assert_allclose(z_hat.value, [[-0.5], [0.5]])  # the variance is 1, and √(1 + 3) = 2


@unhurried
@given(st.integers(2, 6), st.integers(0, 99))
def test_the_vjp_is_that_of_the_complex_step(samples, seed):
    rng = np.random.default_rng(seed)
    z, g = rng.normal(size=(2, samples, 3))
    vjp = normalise(z, 1e-5).vjp(g)
    for n in range(samples):
        for j in range(3):
            moved = z.astype(complex)
            moved[n, j] += 1e-30j
            slope = (g * normalise(moved, 1e-5).value.imag).sum() / 1e-30
            assert vjp[n, j] == pytest.approx(slope, rel=1e-9, abs=1e-12)


def test_batches_of_batches_are_normalised_individually():
    z = np.random.default_rng(1).normal(size=(3, 5, 2))
    np.testing.assert_array_equal(normalise(z, 1e-5).value[1], normalise(z[1], 1e-5).value)


def test_the_rounding_bound_covers_float32():
    rng = np.random.default_rng(2)
    for scale, offset in ((1.0, 0.0), (1.0, 100.0), (1e-3, 1.0)):
        z = (offset + scale * rng.normal(size=(20, 4))).astype(np.float32)
        exact = normalise(z.astype(np.float64), 1e-5)
        wide = (z.astype(np.float64),)
        arithmetic = Arithmetic.of(np.dtype(np.float32))
        bound = exact.step.error({}, wide, exact.value, (np.zeros(z.shape),), arithmetic)
        assert (np.abs(normalise(z, np.float32(1e-5)).value - exact.value) <= bound).all()


def test_gamma_and_beta_are_parameters_like_any_other():
    problem = problem_of(NORMED, (3, "identity"), samples=6, check={"parameters": ["hidden1.*"]})
    assert problem.checked == ("hidden1.weight", "hidden1.bias", "hidden1.gamma", "hidden1.beta")
    gradients = right_gradients(problem)
    assert gradients["hidden1.gamma"].shape == gradients["hidden1.beta"].shape == (4,)
    np.testing.assert_allclose(gradients["hidden1.bias"], 0.0, atol=1e-14)  # a sum of 6 terms that cancels


def test_gamma_is_1_and_beta_0_unless_the_biases_are_drawn():
    plain = problem_of(NORMED, (3, "identity"), parameters={"init": "he"}).parameters
    np.testing.assert_array_equal(plain["hidden1.gamma"], 1.0)
    np.testing.assert_array_equal(plain["hidden1.beta"], 0.0)
    drawn = problem_of(NORMED, (3, "identity")).parameters
    assert (drawn["hidden1.gamma"] != 1.0).all()
    assert (drawn["hidden1.beta"] != 0.0).all()


def test_the_other_parameters_are_drawn_as_without_it():
    with_it, without = problem_of(NORMED, (3, "identity")), problem_of((4, "tanh"), (3, "identity"))
    for name, value in without.parameters.items():
        np.testing.assert_array_equal(with_it.parameters[name], value)
