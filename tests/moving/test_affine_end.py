"""The matrices of the affine end give the outputs that the steps themselves compute."""

from __future__ import annotations

import numpy as np
import pytest
from build import spec_of

from gradcheck_cli.network.part import Resting, Risen
from gradcheck_cli.problem.problem import build_problem

CONV = {"conv2d": 2, "kernel": 3, "padding": 1, "activation": "tanh"}
HIDDEN = {"units": 8, "activation": "tanh"}
NETWORKS = {
    "pooling": ([CONV, {"avg_pool2d": 2}, "flatten", {"units": 3}], [1, 4, 4]),
    "a mean of a sum": (
        [
            {"residual": [{"units": 8, "activation": "tanh"}, {"units": 4}]},
            {"mean": True, "dim": 0},
            {"units": 3},
        ],
        [3, 4],
    ),
    "the last time step": ([{"rnn": 4}, {"select": -1}, {"units": 3}], [3, 2]),
}


def objective_of(layers, inputs):
    spec = spec_of(*layers, inputs=inputs, loss="cross_entropy", samples=5, seed=2)
    return build_problem(spec).objective


@pytest.mark.parametrize("kind", NETWORKS)
def test_rises_of_the_outputs_are_those_of_the_steps(kind):
    layers, inputs = NETWORKS[kind]
    objective = build_problem(
        spec_of(*layers, inputs=inputs, loss="cross_entropy", samples=5, seed=2)
    ).objective
    end, graph, rng = objective.affine_end, objective.graph, np.random.default_rng(2)
    entering = end._entering(sorted(end.nodes))
    assert entering
    assert not any(value - 1 in end.nodes for value in entering)
    for value in entering:
        for share in (0.0, 0.6, 1.0):
            features, samples = graph.value_features[value], np.repeat(np.arange(5), 4)
            fixed = tuple(rng.integers(0, n, 20) if rng.random() < share else None for n in features)
            rest = Resting(objective.values[value], samples)
            part = Risen(rest, fixed, rng.normal(size=rest.at(fixed).shape))
            found = end.rise(value, part)
            whole = _output(objective, {value: part.whole}, samples) - objective.output[samples]
            np.testing.assert_allclose(0.0 if found is None else found, whole, rtol=1e-11, atol=1e-12)


def _output(objective, values, samples):
    """Return the outputs after the affine end is evaluated with some values replaced."""
    for i in sorted(objective.affine_end.nodes):
        node = objective.graph.nodes[i]
        inputs = [values.get(k, objective.values[k][samples]) for k in node.inputs]
        values[i + 1] = node.step.forward(objective.own[i], *inputs)
    return values[len(objective.values) - 1]


def test_no_matrix_where_the_steps_are_cheaper():
    nodes = objective_of(
        [{"units": 40, "activation": "tanh"}, {"units": 2}, {"units": 40}], [3]
    ).affine_end.nodes
    assert 2 not in nodes  # the dense step from 40 units to 2: its matrix would have 40 × 40 elements
    assert 4 in nodes
