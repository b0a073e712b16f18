from __future__ import annotations

import numpy as np
import pytest
from build import problem_of
from random_networks import random_spec

from gradcheck_cli import InputError, Spec
from gradcheck_cli.network.arithmetic import ROUNDING_SAFETY, Arithmetic
from gradcheck_cli.network.network import backprop, gradients
from gradcheck_cli.network.rounding import gradient_rounding, rounding_of
from gradcheck_cli.problem.problem import build_problem

FLOAT32 = np.dtype(np.float32)


def in_float32(problem):
    parameters = {name: value.astype(FLOAT32) for name, value in problem.parameters.items()}
    with np.errstate(all="ignore"):
        return gradients(
            problem.network, parameters, problem.x.astype(FLOAT32), problem.target.astype(FLOAT32)
        )


def share_of_bound(problem) -> float:
    """Return the largest rounding error of backprop in float32, relative to its bound."""
    with np.errstate(all="ignore"):
        exact = gradients(problem.network, problem.parameters, problem.x, problem.target)
        bound = gradient_rounding(
            problem.network, problem.parameters, problem.x, problem.target, Arithmetic.of(FLOAT32)
        )
    computed = in_float32(problem)
    off = {name: np.abs(computed[name] - exact[name]) / bound[name] for name in exact}
    return max(float(np.nanmax(np.where(np.isfinite(computed[name]), off[name], 0.0))) for name in exact)


@pytest.mark.parametrize("seed", range(300, 330))
def test_float32_backprop_stays_within_the_bound(seed):
    try:
        problem = build_problem(Spec.model_validate(random_spec(seed, dtype="float32")))
    except InputError:
        return  # no gradient without a finite loss
    assert share_of_bound(problem) <= ROUNDING_SAFETY


@pytest.mark.parametrize("activation", ["sigmoid", "relu", "softmax", "gelu"])
def test_long_sums_stay_within_the_bound(activation):
    problem = problem_of(
        (100, activation), (10, "identity"), inputs=784, samples=256, loss="cross_entropy", dtype="float32"
    )
    assert share_of_bound(problem) <= ROUNDING_SAFETY


def test_bound_is_not_so_loose_that_it_hides_mistakes():
    problem = problem_of((20, "tanh"), (5, "sigmoid"), inputs=30, samples=50)
    exact = gradients(problem.network, problem.parameters, problem.x, problem.target)
    bound = gradient_rounding(
        problem.network, problem.parameters, problem.x, problem.target, Arithmetic.of(np.dtype(np.float64))
    )
    for name in exact:
        assert np.median(bound[name] / np.abs(exact[name])) < 1e-12


def test_every_factor_has_a_bound_of_its_shape():
    problem = problem_of((4, "softmax"), (3, "softmax"), samples=5)
    at = (problem.network, problem.parameters, problem.x, problem.target)
    bound = rounding_of(*at, Arithmetic.of(FLOAT32))
    for factors, place in zip(backprop(*at), reversed(problem.network.places), strict=True):
        for name, value in (("dL_da", place.a), ("delta", place.z)):
            assert bound.of(value).shape == getattr(factors, name).shape, name
            assert (bound.of(value) > 0).all(), name
        y_error = bound.values[place.y]
        assert y_error.shape == factors.y.shape
        assert (y_error > 0).all()
        for name, gradient in factors.gradients.items():
            assert bound.gradients[name].shape == gradient.shape, name
            assert (bound.gradients[name] > 0).all(), name
        activation = factors.layer.activation
        of_derivative = activation.rounding.derivative(activation, factors.y, y_error, 1e-7)
        assert of_derivative.shape == factors.da_dz.shape
        assert (of_derivative > 0).all()


def test_arithmetic_that_cannot_hold_the_numbers_says_so():
    assert Arithmetic.of(FLOAT32, held=np.dtype(np.float64)).input_eps == np.finfo(np.float32).eps
    assert Arithmetic.of(FLOAT32, held=FLOAT32).input_eps == 0.0
    assert Arithmetic.of(np.dtype(np.float64), held=FLOAT32).input_eps == 0.0


def test_penalties_add_their_own_rounding():
    plain, penalised = (
        gradient_rounding(p.network, p.parameters, p.x, p.target, Arithmetic.of(np.dtype(np.float64)))[
            "output.weight"
        ]
        for p in (
            problem_of((3, "tanh"), (2, "tanh"), penalty=penalty) for penalty in ({}, {"l1": 5.0, "l2": 7.0})
        )
    )
    assert (penalised >= plain + 2 * 5.0 * np.finfo(float).eps).all()
