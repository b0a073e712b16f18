"""A pair of equal embeddings, at which the contrastive loss has a cone's tip if the pair should be apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from build import problem_of, right_gradients, spec_of
from judged import Judge, Undiagnosed

from gradcheck_cli import Verdict
from gradcheck_cli.gradients.analytic import Analytic
from gradcheck_cli.network.loss_functions.per_sample import FIRST_PLANE, contrastive, contrastive_branch
from gradcheck_cli.problem.problem import build_problem
from gradcheck_cli.subject.network import network_subject


def verdict(label, **gradients):
    """The verdict on two samples, the first of which is 0, with this label; gradients replace right ones."""
    rest = {
        "inputs": 2,
        "loss": "contrastive",
        "parameters": {"init": "xavier", "seed": 2},
        "data": {"x": [[0.0, 0.0], [1.0, -2.0]], "y": [label, 1]},
    }
    layers = {"units": 3, "activation": "tanh"}, {"units": 4}
    problem, spec = problem_of(*layers, **rest), spec_of(*layers, **rest)
    of = Undiagnosed.of(network_subject(spec, problem))
    values = right_gradients(problem)
    values |= {name: change(values[name]) for name, change in gradients.items()}
    return replace(of, analytic=Analytic(values, of.analytic.dtypes, "a test")).check(spec.check).verdict


@pytest.mark.parametrize("label", [0, 1])
def test_a_right_gradient_agrees_at_equal_embeddings(label):
    """A pair that should be apart has no slope by convention; one that is alike has none in fact."""
    assert verdict(label) is Verdict.AGREES


@pytest.mark.parametrize("along", [np.array([1.0, 0.0, -1.0, 0.0]), np.array([0.6, -0.8, -0.6, 0.8])])
def test_a_slope_of_the_cone_is_not_called_wrong(along):
    assert verdict(0, **{"output.bias": lambda right: right - along}) is not Verdict.WRONG


def test_a_pair_that_is_alike_has_no_cone():
    bend = np.array([0.01, 0.0, -0.01, 0.0])
    assert verdict(1, **{"output.bias": lambda right: right - bend}) is Verdict.WRONG


@pytest.mark.parametrize("beyond", [np.array([2.1, 0.0, -2.1, 0.0]), np.array([1.5, -1.5, -1.5, 1.5])])
def test_a_slope_that_no_side_of_the_cone_has_is_wrong(beyond):
    """Half the slope of (1 − d)² has length 1, and each embedding has the opposite slope of the other."""
    assert verdict(0, **{"output.bias": lambda right: right - beyond}) is Verdict.WRONG


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("distance", [1e-4, 1e-7, 1e-15, 1e-18])
def test_a_right_gradient_next_to_a_tip_is_not_wrong(distance, seed):
    """Steps that are much longer than the distance see the same loss on both sides."""
    layers = {"units": 6, "activation": "silu"}, {"units": 4}
    data = {"x": [[0.6 * distance, -0.8 * distance], [1.0, -2.0]], "y": [0, 1]}
    rest = {"inputs": 2, "loss": "contrastive", "data": data, "seed": seed}
    spec = spec_of(*layers, parameters={"init": "xavier", "seed": seed, "bias": "zeros"}, **rest)
    problem = build_problem(spec)
    judge, right = Judge(spec, problem), right_gradients(problem)
    found = judge.report(right).verdict
    assert found is Verdict.AGREES if distance >= 1e-7 else found is not Verdict.WRONG
    for off in (0.0, 1.001, -1.0):
        wrong = {**right, "output.bias": off * right["output.bias"]}
        assert judge.report(wrong).verdict is not Verdict.AGREES


def test_planes_enclose_the_cone():
    drawn = np.random.default_rng(3)
    for width in (1, 2, 3, 5):
        a, target = np.zeros((1, 2 * width)), np.zeros((1, 1))
        sides = [np.full((1, 2 * width), float(FIRST_PLANE + k)) for k in range(2 * width)]
        for _ in range(20):
            step = 1e-9 * drawn.normal(size=a.shape)
            cone = contrastive(a + step, target, 0.7) - contrastive(a, target, 0.7)
            planes = [contrastive_branch(a + step, target, s, 0.7) - 0.49 for s in sides]
            assert min(planes) <= cone * (1.0 - 1e-6)


TWINS = {
    "inputs": 2,
    "loss": "contrastive",
    "parameters": {"init": "xavier", "seed": 2, "bias": "same"},
    "data": {"x": [[0.3, -0.5], [1.0, -2.0], [0.7, 0.2]], "y": [0, 0, 1]},
}


def with_equal_embeddings():
    """A network whose two embeddings are equal in every sample, though not 0."""
    layers = {"units": 3, "activation": "tanh"}, {"units": 4}
    spec = spec_of(*layers, **TWINS)
    problem = problem_of(*layers, **TWINS)
    twins = {
        name: np.concatenate([value[:2], value[:2]])
        for name, value in problem.parameters.items()
        if name.startswith("output")
    }
    problem = replace(problem, parameters={**problem.parameters, **twins})
    return spec, problem, Undiagnosed.of(network_subject(spec, problem))


@pytest.mark.parametrize("seed", range(5))
def test_each_sample_may_take_a_slope_of_its_own_at_the_cone(seed):
    spec, problem, of = with_equal_embeddings()
    drawn = np.random.default_rng(seed).normal(size=(3, 2))
    along = drawn / np.linalg.norm(drawn, axis=1, keepdims=True) * [[1.0], [1.0], [0.0]]
    delta = -2.0 * problem.network.coefficient * np.concatenate([along, -along], axis=1)
    hidden = np.tanh(problem.x @ problem.parameters["hidden1.weight"].T + problem.parameters["hidden1.bias"])
    values = right_gradients(problem)
    for factor, expected in ((1.0, {Verdict.UNRESOLVED, Verdict.AGREES}), (3.0, {Verdict.WRONG})):
        off = {"output.weight": factor * delta.T @ hidden, "output.bias": factor * delta.sum(axis=0)}
        wrong = {name: value + off.get(name, 0.0) for name, value in values.items()}
        report = replace(of, analytic=Analytic(wrong, of.analytic.dtypes, "a test")).check(spec.check)
        assert report.verdict in expected
