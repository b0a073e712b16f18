"""Verdicts on gradients on a kink and next to one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from build import spec_of
from test_checker import with_gradients

from gradcheck_cli import Spec, Verdict, check
from gradcheck_cli.network.network import gradients
from gradcheck_cli.problem.problem import build_problem

ON_KINKS = {
    "relu, a sample of zeros": spec_of(
        (4, "relu"), (4, "relu"), (3, "identity"), inputs=2,
        data={"x": [[0, 0], [1, 2], [-1, 0.5]], "y": [1, 0, 2]}, parameters={"init": "xavier", "seed": 1},
    ),
    "leaky_relu, a sample of zeros": spec_of(
        (4, "leaky_relu"), (4, "leaky_relu"), (3, "identity"), inputs=2,
        data={"x": [[0, 0], [1, 2], [-1, 0.5]], "y": [1, 0, 2]}, parameters={"init": "xavier", "seed": 1},
    ),
    "l1 loss, half of it fitted": spec_of(
        (2, "identity"), inputs=2, loss="l1", parameters={"init": "zeros"},
        data={"x": [[1, 2], [3, 1], [1, -1]], "y": [[0, 1], [2, 0], [0, 0]]},
    ),
    "hinge at a margin of 1": spec_of(
        (3, "identity"), inputs=3, loss="hinge", parameters={"init": "zeros"},
        data={"x": [[1, 0, 2], [0, 1, 1]], "y": [0, 2]},
    ),
    "penalty l1 on weights of 0": spec_of(
        (3, "identity"), inputs=2, penalty={"l1": 0.25}, parameters={"init": "zeros"},
        data={"x": [[1, 2], [3, 1]], "y": [0, 2]},
    ),
}  # fmt: skip


def test_a_gradient_of_any_size_on_a_kink_does_not_pass(tmp_path):
    spec = spec_of(
        (1, "identity"), inputs=4, penalty={"l1": 0.1}, data={"x": [[1, 2, 3, 4]], "y": [1]},
        parameters={"init": "zeros"},
    )  # fmt: skip
    absurd = {"output.weight": np.array([[1e9, 0, 0, 0]]), "output.bias": np.array([-2.0])}
    assert not check(with_gradients(spec, absurd, tmp_path)).passed


def test_the_complex_step_sees_kinks_too(tmp_path):
    """An imaginary step crosses no kink: at w = 0 it would mistake |w| for w."""
    spec = spec_of(
        (1, "identity"), inputs=1, penalty={"l1": 0.1}, data={"x": [[1]], "y": [1]},
        parameters={"init": "zeros"}, check={"scheme": "complex"},
    )  # fmt: skip
    assert check(spec).wrong == 0


@pytest.mark.parametrize("name", ON_KINKS)
@pytest.mark.parametrize("differences", ["units", "literal"])
def test_the_usual_conventions_on_a_kink_agree(name, differences):
    check_spec = ON_KINKS[name].check.model_copy(update={"differences": differences})
    report = check(ON_KINKS[name].model_copy(update={"check": check_spec}))
    assert report.verdict is Verdict.AGREES, report.worst(3)
    assert report.unresolved == 0


@pytest.mark.parametrize("right", [0.0, 0.5, 1.0])
def test_every_common_value_of_relu_prime_at_0_agrees(right, tmp_path, monkeypatch):
    spec = ON_KINKS["relu, a sample of zeros"]
    problem = build_problem(spec)

    def derivative(z):
        return np.where(z > 0, 1.0, np.where(z == 0, right, 0.0))

    layers = tuple(
        replace(layer, activation=replace(layer.activation, derivative=derivative))
        if layer.activation.name == "relu" else layer
        for layer in problem.network.layers
    )  # fmt: skip
    theirs = gradients(problem.network.with_layers(layers), problem.parameters, problem.x, problem.target)
    report = check(with_gradients(spec, theirs, tmp_path))
    assert report.verdict is Verdict.AGREES, report.worst(3)
    assert "hidden1" in report.kinks[0]
    assert "sample 0" in report.kinks[0]


def test_between_the_sides_of_a_kink_is_unresolved_and_beyond_them_wrong(tmp_path):
    spec = ON_KINKS["relu, a sample of zeros"]
    problem = build_problem(spec)
    right = gradients(problem.network, problem.parameters, problem.x, problem.target)
    delta = right["hidden2.bias"].copy()
    other = gradients(
        problem.network, problem.parameters, problem.x + 1e-300, problem.target
    )["hidden2.bias"]  # fmt: skip
    i = int(np.abs(other - delta).argmax())
    for share, verdict in ((0.3, Verdict.UNRESOLVED), (1.5, Verdict.WRONG), (-0.5, Verdict.WRONG)):
        theirs = delta.copy()
        theirs[i] += share * (other - delta)[i]
        report = check(with_gradients(spec, {**right, "hidden2.bias": theirs}, tmp_path))
        assert report.verdict is verdict, (share, report.worst(2))


def test_interacting_kinks_are_not_judged_one_by_one(tmp_path):
    """While one unit is off, the units above it do not count: the effects of single kinks do not add up."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        x = rng.integers(-3, 4, size=3) / 10
        weights = {
            "hidden1.weight": rng.integers(-4, 5, size=(2, 3)) / 10,
            "hidden2.weight": rng.integers(-6, 7, size=(2, 2)) / 10,
            "output.weight": np.array([[0.1, 0.1]]),
        }
        above = weights["hidden2.weight"] @ np.maximum(rng.normal(size=2) * 1e-17, 0)
        biases = {
            "hidden1.bias": -(weights["hidden1.weight"] @ x) + 1e-17,
            "hidden2.bias": -above,
            "output.bias": np.zeros(1),
        }
        np.savez(tmp_path / "p.npz", **weights, **biases)
        spec = spec_of(
            (2, "relu"), (2, "relu"), (1, "identity"), inputs=3, dtype="float32",
            data={"x": [x.tolist()], "y": [[1.0]]}, parameters={"file": tmp_path / "p.npz"},
        )  # fmt: skip
        assert check(spec).wrong == 0


@pytest.mark.parametrize("distance", [1e-3, 1e-5, 1e-7, 1e-9, 1e-11, 1e-13])
def test_near_a_kink_the_gradient_is_that_of_its_side(distance, tmp_path):
    """A pair that crosses gets its own smaller steps, however near the kink is."""
    for side in (-1, 1):
        spec = spec_of(
            (1, "relu"), (1, "identity"), inputs=1, data={"x": [[1.0], [2.0]], "y": [3.0, 1.0]},
            parameters={"init": "zeros"},
        )  # fmt: skip
        np.savez(tmp_path / "p.npz", **{
            "hidden1.weight": [[0.0]], "hidden1.bias": [side * distance],
            "output.weight": [[0.7]], "output.bias": [0.1],
        })  # fmt: skip
        source = {"file": tmp_path / "p.npz"}
        spec = Spec.model_validate(
            {**spec.model_dump(by_alias=True, exclude_unset=True), "parameters": source}
        )
        report = check(spec)
        assert report.wrong == 0
        problem = build_problem(spec)
        right = gradients(problem.network, problem.parameters, problem.x, problem.target)
        other = {**right, "hidden1.bias": right["hidden1.bias"] + 1.0}
        assert not check(with_gradients(spec, other, tmp_path)).passed
