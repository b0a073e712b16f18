from __future__ import annotations

import numpy as np
import pytest
from build import problem_of, right_gradients

from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.losses import LOSSES
from gradcheck_cli.network.network import backprop, forward, sample_losses
from gradcheck_cli.network.penalties import PENALTIES


def total_loss(problem, parameters) -> complex:
    """Return L written out: the sum of the losses, plus the penalties."""
    network = problem.network
    with np.errstate(all="ignore"):
        output = forward(network, parameters, problem.x.astype(complex)).output
        total = sample_losses(network, output, problem.target).sum()
    for name, value in parameters.items():
        for penalty, strength in network.penalties_on(name).items():
            total += PENALTIES[penalty].value(value, strength).sum()
    return total


def by_complex_step(problem) -> dict[str, np.ndarray]:
    """Return ∂L/∂θ entry by entry, with h = 1e-30: no truncation error and no cancellation."""
    gradient = {}
    for name, value in problem.parameters.items():
        gradient[name] = np.empty(value.shape)
        for index in np.ndindex(value.shape):
            parameters = {key: array.astype(complex) for key, array in problem.parameters.items()}
            parameters[name][index] += 1e-30j
            gradient[name][index] = total_loss(problem, parameters).imag / 1e-30
    return gradient


REDUCTIONS = ("batchmean", "mean", "sum")


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_backprop_is_right_by_complex_step(activation, loss):
    """The reductions take turns, since each is only another coefficient."""
    reduction = REDUCTIONS[(len(activation) + len(loss)) % len(REDUCTIONS)]
    problem = problem_of(
        (3, activation),
        (4, activation),
        inputs=3,
        loss={"name": loss, "reduction": reduction, "scale": 0.5},
        penalty={"l1": 0.01, "l2": 0.02},
        seed=3,
    )
    right, expected = right_gradients(problem), by_complex_step(problem)
    assert right.keys() == expected.keys()
    for name in right:
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(right[name], expected[name], rtol=1e-9, atol=1e-14 * max(scale, 1e-3))


@pytest.mark.parametrize(
    "loss",
    [
        {"name": "cross_entropy", "label_smoothing": 0.2, "weight": [1.0, 0.5, 2.0]},
        {"name": "huber", "delta": 0.2},
    ],
    ids=["smoothed and weighted", "huber"],
)
@pytest.mark.parametrize("biases", [False, True])
def test_options_and_penalised_biases_reach_the_gradient(loss, biases):
    problem = problem_of(
        (5, {"name": "elu", "alpha": 0.7}),
        (3, {"name": "leaky_relu", "negative_slope": 0.2}),
        loss=loss,
        penalty={"l2": 0.1, "biases": biases},
    )
    right, expected = right_gradients(problem), by_complex_step(problem)
    for name in right:
        np.testing.assert_allclose(right[name], expected[name], rtol=1e-10, atol=1e-14)


def test_the_three_factors_of_the_output_layer_exist_by_name():
    problem = problem_of((3, "tanh"), (2, "sigmoid"))
    factors = next(backprop(problem.network, problem.parameters, problem.x, problem.target))
    a = problem.objective.activity.output
    np.testing.assert_allclose(factors.dL_da, 2 / 5 * (a - problem.target))
    np.testing.assert_allclose(factors.da_dz, a * (1 - a))
    np.testing.assert_allclose(factors.dz_dw, problem.objective.activity.inputs[1])
    np.testing.assert_allclose(factors.delta, factors.dL_da * factors.da_dz)
    np.testing.assert_allclose(factors.gradients["output.weight"], factors.delta.T @ factors.dz_dw)
    np.testing.assert_allclose(factors.gradients["output.bias"], factors.delta.sum(axis=0))


def test_reference_network_has_the_gradient_of_the_book():
    """Raschka's NeuralNetMLP: δ = 2/N (a − y) a (1 − a), weights from RandomState(123), hidden first."""
    problem = problem_of(
        (50, "sigmoid"),
        (10, "sigmoid"),
        inputs=784,
        samples=100,
        parameters={"init": "normal", "scale": 0.1, "seed": 123},
    )
    rng = np.random.RandomState(123)
    w_h = rng.normal(loc=0.0, scale=0.1, size=(50, 784))
    w_out = rng.normal(loc=0.0, scale=0.1, size=(10, 50))
    a_h = 1 / (1 + np.exp(-(problem.x @ w_h.T)))
    a_out = 1 / (1 + np.exp(-(a_h @ w_out.T)))
    delta_out = 2.0 * (a_out - problem.target) / 100 * a_out * (1.0 - a_out)
    delta_h = delta_out @ w_out * a_h * (1.0 - a_h)
    right = right_gradients(problem)
    np.testing.assert_allclose(right["output.weight"], delta_out.T @ a_h, rtol=1e-9)
    np.testing.assert_allclose(right["output.bias"], delta_out.sum(axis=0), rtol=1e-9)
    np.testing.assert_allclose(right["hidden1.weight"], delta_h.T @ problem.x, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(right["hidden1.bias"], delta_h.sum(axis=0), rtol=1e-7)


def test_output_layer_comes_first():
    assert list(problem_of((3, "tanh"), (2, "sigmoid")).network.shapes) == [
        "output.weight",
        "output.bias",
        "hidden1.weight",
        "hidden1.bias",
    ]
