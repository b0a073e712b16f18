"""The dice loss of saturated outputs: right gradients are not wrong, however they compute p (1 − p)."""

from __future__ import annotations

import numpy as np
import pytest
from build import spec_of
from judged import Judge

from gradcheck_cli import Verdict
from gradcheck_cli.network.functions import sigmoid, sigmoid_slope
from gradcheck_cli.problem.problem import build_problem

SEEDS = range(12)


def by_hand(problem, slope):
    """Return the gradients of a network of one layer, with p' = slope(a)."""
    w, b, x, y = (
        each.astype(problem.dtype)
        for each in (*problem.parameters.values(), problem.x, problem.objective.target)
    )
    a = x @ w.T + b
    p = sigmoid(a)
    overlap = 2.0 * (p * y).sum(axis=1, keepdims=True) + 1.0
    size = (p + y).sum(axis=1, keepdims=True) + 1.0
    delta = (overlap / size - 2.0 * y) / size * slope(a) / len(x)
    return {"output.weight": delta.T @ x, "output.bias": delta.sum(axis=0)}


def one_minus(a):
    p = sigmoid(a)
    return p * (1.0 - p)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_saturated_output_does_not_make_a_right_gradient_wrong(dtype, seed):
    rng = np.random.default_rng(seed)
    units, scale = int(rng.integers(1, 5)), 10.0 ** rng.uniform(2.0, 3.0)
    data = {"synthetic": "normal", "samples": 4, "seed": seed, "scale": scale}
    spec = spec_of((units, "identity"), inputs=3, loss="dice", data=data, seed=seed, dtype=dtype)
    problem = build_problem(spec)
    judge = Judge(spec, problem)
    for slope in (sigmoid_slope, one_minus):
        right = by_hand(problem, slope)
        assert judge.report(right).verdict is not Verdict.WRONG
        wrong = {name: (1.001 * value).astype(value.dtype) for name, value in right.items()}
        assert judge.report(wrong).verdict is not Verdict.AGREES


@pytest.mark.parametrize("least", [-20.0, -30.0, -60.0])
def test_tiny_gradients_of_saturated_outputs_are_decided(least, tmp_path):
    """Two nearly equal losses do not show them, but the change of the loss does."""
    np.savez(tmp_path / "p.npz", **{"output.weight": [[1.0], [0.5]], "output.bias": [0.0, least / 2.0]})
    data = {"x": [[least], [least - 2.5]], "y": [[1.0, 0.0], [0.5, 0.25]]}
    spec = spec_of((2, "identity"), inputs=1, loss="dice", data=data, parameters={"file": tmp_path / "p.npz"})
    problem = build_problem(spec)
    judge, right = Judge(spec, problem), by_hand(problem, sigmoid_slope)
    assert judge.report(right).verdict is Verdict.AGREES
    for name, value in right.items():
        assert judge.report({**right, name: (1.0 + 1e-5) * value}).verdict is Verdict.WRONG
