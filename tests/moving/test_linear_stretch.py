"""Short changes through relu layers: one linear map per sample, except for changes that may cross a kink."""

from __future__ import annotations

import numpy as np
import pytest
from build import problem_of, units_of

from gradcheck_cli.moving import linear_stretch
from gradcheck_cli.moving import movables as moves_module

STEPS = (2.0**-9, 2.0**-17, 2.0**-30)


def relu_problem(activation, loss="cross_entropy", seed=1):
    parameters = {"init": "normal", "scale": 0.7, "seed": seed, "bias": "same"}
    layers = [(40, activation), (30, activation), (20, "relu"), (3, "identity")]
    return problem_of(*layers, loss=loss, parameters=parameters, samples=60)


def moved(units, step):
    which = np.arange(len(units.position))
    return units.move(which, units.position + step)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("loss", ["cross_entropy", "hinge", "mse"])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "identity"])
def test_losses_and_kinks_are_those_of_a_full_evaluation(activation, loss, step, monkeypatch):
    problem = relu_problem(activation, loss)
    for layer in ("hidden1", "hidden2", "hidden3"):
        units = units_of(problem.objective, layer)
        short = moved(units, step)
        with monkeypatch.context() as patch:
            patch.setattr(moves_module, "NEAR", 0.0)
            whole = moved(units, step)
        np.testing.assert_array_equal(short.crossed, whole.crossed)
        np.testing.assert_allclose(short.losses, whole.losses, rtol=1e-13, atol=1e-14)


def test_some_changes_hold_and_some_may_cross_a_kink():
    problem = relu_problem("relu")  # its objective must live as long as the units
    stretch = units_of(problem.objective, "hidden1").near.stretch
    samples, some = np.arange(60), 2.0 * stretch.reach.min()
    holds = [int(stretch.holds(samples, np.full(60, step)).sum()) for step in (2.0**-60, some, 0.5)]
    assert holds[0] == 60
    assert 0 < holds[1] < 60
    assert holds[2] == 0


def test_a_change_that_holds_crosses_no_kink():
    problem = relu_problem("relu", seed=5)
    units = units_of(problem.objective, "hidden1")
    stretch, which = units.near.stretch, np.arange(len(units.position))
    samples = which % 60
    for side in (-1.0, 1.0):
        by = side * stretch.reach[samples]
        crossed = units.move(which, units.position + by).crossed
        own = (units.position > 0) != (units.position + by > 0)
        assert not crossed[~own].any()


def test_a_network_of_tanh_has_no_stretch_unless_its_upper_layers_are_linear():
    for top, has in (("tanh", False), ("relu", True)):
        problem = problem_of((8, "tanh"), (6, top), (3, "identity"), samples=5)
        assert (units_of(problem.objective, "hidden1").near.stretch is not None) == has


def test_the_witness_does_not_use_the_maps(monkeypatch):
    problem = relu_problem("relu")
    entries = problem.objective.entries("hidden1.weight")
    right = entries.move(np.array([3]), entries.position[[3]] + 2.0**-17).losses
    monkeypatch.setattr(linear_stretch.LinearStretch, "changes", lambda *_: 1 / 0)
    again = problem.objective.entries("hidden1.weight")
    np.testing.assert_array_equal(again.move(np.array([3]), again.position[[3]] + 2.0**-17).losses, right)
    with pytest.raises(ZeroDivisionError):
        moved(units_of(problem.objective, "hidden1"), 2.0**-30)
