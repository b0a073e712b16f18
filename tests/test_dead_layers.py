"""Deep relu networks in which a layer is off for some samples, so the layers above are all on kinks."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from build import right_gradients
from judged import Judge
from shares import first

from gradcheck_cli import Spec, Verdict
from gradcheck_cli.network.network import gradients
from gradcheck_cli.problem.problem import Problem, build_problem


def spec_of_depth(seed: int, folder: Path) -> Spec:
    """Return a spec of 6 to 9 relu layers with small weights and no biases, whose gradients vanish."""
    rng = np.random.default_rng(seed)
    units, outputs = int(rng.integers(6, 13)), int(rng.integers(2, 9))
    sizes = [int(rng.integers(4, 13)), *[units] * int(rng.integers(5, 9)), outputs]
    samples = int(rng.integers(1, 4))
    parameters = {}
    for i, (below, above) in enumerate(pairwise(sizes), start=1):
        name = f"hidden{i}" if i + 1 < len(sizes) else "output"
        parameters |= {
            f"{name}.weight": 0.15 * rng.normal(size=(above, below)),
            f"{name}.bias": np.zeros(above),
        }
    np.savez(folder / "p.npz", **parameters)
    layers = [{"units": size, "activation": "relu"} for size in sizes[1:-1]] + [{"units": outputs}]
    return Spec.model_validate(
        {
            "network": {
                "inputs": sizes[0],
                "layers": layers,
                "loss": str(rng.choice(["cross_entropy", "mse"])),
            },
            "parameters": {"file": folder / "p.npz"},
            "data": {"x": rng.normal(size=(samples, sizes[0])).tolist(), "y": [0] * samples},
        }
    )


def is_dead(problem: Problem) -> bool:
    """Return whether, for one sample, all units of a layer and all above it are on their kinks."""
    dead = [
        bool(kink.mask.all(axis=1).any()) for kink in list(problem.objective.kinks.of_nodes.values())[:-1]
    ]
    return sum(dead) > 1


@cache
def judges_of_the_dead(count: int = 3) -> list[tuple[Problem, Judge]]:
    """Return the first networks with a dead layer, whose differences all tests share."""
    found = []
    with TemporaryDirectory() as folder:
        for seed in range(1000, 2000):
            spec = spec_of_depth(seed, Path(folder))
            problem = build_problem(spec)
            if is_dead(problem):
                found.append((problem, Judge(spec, problem)))
            if len(found) == count:
                return found
    raise AssertionError("no network with a dead layer among a thousand")


def with_slope_at_0(problem: Problem, slope: float) -> dict[str, np.ndarray]:
    """Return the right gradients for relu'(0) = `slope`."""

    def relu_derivative(z: np.ndarray) -> np.ndarray:
        return np.where(z == 0, slope, (z > 0).astype(float))

    layers = tuple(
        replace(layer, activation=replace(layer.activation, derivative=relu_derivative))
        if layer.activation.name == "relu"
        else layer
        for layer in problem.network.layers
    )
    at = problem.parameters, problem.x, problem.target
    return gradients(problem.network.with_layers(layers), *at)


@pytest.mark.parametrize("number", first(1, range(3)))
def test_a_dead_layer_is_decided_under_every_usual_convention(number):
    problem, judge = judges_of_the_dead()[number]
    assert judge.report(right_gradients(problem)).verdict is Verdict.AGREES
    for slope in (0.0, 0.5, 1.0):
        assert judge.report(with_slope_at_0(problem, slope)).verdict is Verdict.AGREES, slope


@pytest.mark.parametrize("number", first(1, range(3)))
def test_a_mistake_in_a_network_with_a_dead_layer_is_wrong(number):
    problem, judge = judges_of_the_dead()[number]
    right = with_slope_at_0(problem, 0.0)
    rng = np.random.default_rng(number)
    visible = [name for name, value in right.items() if value.any()]
    for mistake in ("sign", "zeroed", "off"):
        name = str(rng.choice(visible))
        value = right[name].copy()
        largest = np.unravel_index(np.abs(value).argmax(), value.shape)
        value[largest] *= {"sign": -1.0, "zeroed": 0.0, "off": 1.0 + rng.uniform(0.01, 1.0)}[mistake]
        verdict = judge.report({**right, name: value}).verdict
        # A bias has a wide range of valid values if its samples are on kinks; their share in a weight is 0.
        allowed = {Verdict.WRONG, *([Verdict.UNRESOLVED] if name.endswith("bias") else [])}
        assert verdict in allowed, (name, mistake)
