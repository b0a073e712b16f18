"""A bias of 0 below a kink puts every sample on it, and a wrong gradient is still found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from build import problem_of, right_gradients, spec_of
from judged import Undiagnosed

from gradcheck_cli import Verdict
from gradcheck_cli.gradients.analytic import Analytic
from gradcheck_cli.subject.network import network_subject

CONVOLUTION = {"conv2d": 2, "kernel": [1, 3], "padding": 1, "activation": "relu"}
"""The padding rows see nothing but zeros, so that with a bias of 0 they are on the kink of relu."""


def subject():
    layers = CONVOLUTION, {"flatten": True}, {"units": 2}
    rest = {"inputs": [1, 3, 3], "parameters": {"init": "xavier", "seed": 4, "bias": "zeros"}}
    problem = problem_of(*layers, **rest)
    described = spec_of(*layers, **rest)
    return Undiagnosed.of(network_subject(described, problem)), described, problem


def verdict(bias):
    of, described, problem = subject()
    values = {**right_gradients(problem), "hidden1.bias": bias}
    analytic = Analytic(values, of.analytic.dtypes, "a test")
    return replace(of, analytic=analytic).check(described.check).verdict


def sides():
    """The bias's gradient with relu'(0) = 0 and with relu'(0) = 1."""
    _, _, problem = subject()
    off = right_gradients(problem)["hidden1.bias"]
    lifted = {**problem.parameters, "hidden1.bias": np.full(2, 1e-12)}
    return off, right_gradients(replace(problem, parameters=lifted))["hidden1.bias"]


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_each_convention_agrees(share):
    off, on = sides()
    assert verdict((1.0 - share) * off + share * on) is Verdict.AGREES


@pytest.mark.parametrize("share", [0.1, 0.3, 0.8])
def test_between_the_conventions_nothing_is_called_wrong(share):
    off, on = sides()
    assert verdict((1.0 - share) * off + share * on) is Verdict.UNRESOLVED


@pytest.mark.parametrize("share", [-0.5, -0.01, 1.01, 2.0])
def test_beyond_the_conventions_it_is_wrong(share):
    off, on = sides()
    assert verdict((1.0 - share) * off + share * on) is Verdict.WRONG


def test_a_tie_of_maxima_may_go_to_any_number_of_each_window():
    """Code need not choose the same side of a tie in each window, as it does for relu'(0)."""
    layers = {"conv2d": 1, "kernel": 1}, {"max_pool2d": [1, 2]}, {"flatten": True}, {"units": 1}
    problem = problem_of(*layers, inputs=[2, 2, 2], samples=2)
    tied = {**problem.parameters, "hidden1.weight": np.array([1.0, 1.0]).reshape(1, 2, 1, 1)}
    x = np.array([[[[3.0, 1.0], [2.0, 0.0]], [[0.0, 2.0], [1.0, 3.0]]]] * 2)
    network = replace(problem, parameters=tied, x=x)
    objective = network.objective
    assert objective.kinks.numbered(False, objective.kinks.of_nodes).shared == 0


@pytest.mark.parametrize("slope", [0.2, 0.8])
def test_any_slope_at_the_kinks_of_a_recurrent_layer_may_be_right(slope):
    """The slope multiplies at every time step, so the gradient is no mixture of those of 0 and of 1."""
    layers = {"rnn": 2, "nonlinearity": "relu"}, {"select": -1}, {"units": 1}
    drawn = {"init": "normal", "scale": 1.0, "seed": 3, "bias": "zeros"}
    rest = {"inputs": [3, 1], "parameters": drawn, "loss": "mse"}
    rest["data"] = {"x": [[0.0] * 3], "y": [[1.0]]}
    problem, spec = problem_of(*layers, **rest), spec_of(*layers, **rest)
    of, p = Undiagnosed.of(network_subject(spec, problem)), problem.parameters
    right = right_gradients(problem)
    deltas = [slope * (right["output.bias"] @ p["output.weight"])]
    for _ in range(2):
        deltas.append(slope * (deltas[-1] @ p["rnn1.weight_hh_l0"]))
    bias = np.sum(deltas, axis=0)
    values = {**right, "rnn1.bias_ih_l0": bias, "rnn1.bias_hh_l0": bias}
    report = replace(of, analytic=Analytic(values, of.analytic.dtypes, "a test")).check(spec.check)
    assert report.verdict is not Verdict.WRONG
