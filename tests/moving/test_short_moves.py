"""Short steps, evaluated by `near`, give the same results as a full evaluation."""

from __future__ import annotations

import numpy as np
import pytest
from build import problem_of, units_of

from gradcheck_cli.moving import movables as moves_module
from gradcheck_cli.moving.small_products import outer, product
from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.losses import LOSSES
from gradcheck_cli.problem.problem import build_problem
from gradcheck_cli.spec.spec import Spec

STEP = 2.0**-9
NORMED = {"units": 4, "activation": "tanh", "batch_norm": True}


def differences(moves, which):
    """Return the losses a short step up minus those a short step down, and whether a branch changed."""
    here, step = moves.position[which], STEP * moves.unit[which]
    up, down = moves.move(which, here + step), moves.move(which, here - step)
    return up.losses - down.losses, up.crossed | down.crossed, up.losses


def assert_near_is_anew(moves, monkeypatch):
    which = np.arange(len(moves.position))
    some = which[:: 3 if len(which) > 3 else 1]  # part of a column, which takes another path
    taken = [differences(moves, each) for each in (which, some)]
    for each, (rise, crossed, losses) in zip((which, some), taken, strict=True):
        with monkeypatch.context() as patch:
            patch.setattr(moves_module, "NEAR", 0.0)
            exact, crosses, whole = differences(moves, each)
        np.testing.assert_array_equal(crossed, crosses)
        np.testing.assert_allclose(losses, whole, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(rise, exact, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("loss", LOSSES)
def test_units(activation, loss, monkeypatch):
    top = "identity" if LOSSES[loss].applies else activation
    problem = problem_of((5, activation), (4, activation), (3, top), loss=loss, samples=7)
    for layer in ("hidden1", "hidden2", "output"):
        assert_near_is_anew(units_of(problem.objective, layer), monkeypatch)


@pytest.mark.parametrize("name", ["hidden1.weight", "hidden1.bias", "output.weight", "output.bias"])
@pytest.mark.parametrize("loss", LOSSES)
def test_entries(name, loss, monkeypatch):
    problem = problem_of((5, "relu"), (3, "identity"), loss=loss, samples=7)
    assert_near_is_anew(problem.objective.entries(name), monkeypatch)


@pytest.mark.parametrize("kind", ["weight", "bias", "gamma", "beta"])
def test_entries_of_a_normalised_layer(kind, monkeypatch):
    problem = problem_of((5, "tanh"), NORMED, (3, "identity"), samples=7)
    assert_near_is_anew(problem.objective.entries(f"hidden2.{kind}"), monkeypatch)


@pytest.mark.parametrize("site", ["z", "y"])
def test_units_of_a_normalised_layer(site, monkeypatch):
    problem = problem_of((5, "tanh"), NORMED, (3, "identity"), samples=7)
    assert_near_is_anew(units_of(problem.objective, "hidden2", site), monkeypatch)


@pytest.mark.parametrize(
    ("layer", "features"),
    [
        ({"units": 4}, [3, 5]),
        ({"units": 4, "activation": "relu"}, [3, 5]),
        ({"embedding": 6, "embedding_dim": 2}, 3),
    ],
)
def test_units_that_flatten_turns_into_the_output(layer, features, monkeypatch):
    spec = {
        "network": {"inputs": features, "layers": [layer, "flatten"], "loss": "cross_entropy"},
        "parameters": {"init": "normal", "scale": 1.0, "seed": 1, "bias": "same"},
        "data": {"synthetic": "normal", "samples": 4, "seed": 1},
    }
    objective = build_problem(Spec.model_validate(spec)).objective
    assert_near_is_anew(objective.units(1), monkeypatch)


def test_units_whose_columns_do_not_fit_a_block(monkeypatch):
    problem = problem_of((5, "relu"), (4, "tanh"), (3, "identity"), samples=50)
    problem.objective.block = 8 * 4 * 40  # rises need room for two
    units = units_of(problem.objective, "hidden1")
    assert units.batch == 20
    for start in range(0, 250, 20):
        which = np.arange(start, min(start + 20, 250))
        rise, *_ = differences(units, which)
        with monkeypatch.context() as patch:
            patch.setattr(moves_module, "NEAR", 0.0)
            np.testing.assert_allclose(rise, differences(units, which)[0], rtol=1e-7, atol=1e-12)


def test_a_unit_that_is_off_changes_nothing_and_is_silent():
    problem = problem_of((6, "relu"), (3, "identity"), samples=9)
    units = units_of(problem.objective, "hidden1")
    off = np.flatnonzero(units.position < -0.1)
    moved = units.move(off, units.position[off] + STEP)
    np.testing.assert_array_equal(moved.rounding, 0.0)
    np.testing.assert_array_equal(moved.losses, problem.objective.losses[off % 9])


@pytest.mark.parametrize("of", [lambda at: units_of(at, "hidden1"), lambda at: at.entries("hidden1.weight")])
def test_short_and_long_steps_in_one_call_are_evaluated_as_if_alone(of):
    problem = problem_of((5, "tanh"), (3, "identity"), samples=7)
    moves = of(problem.objective)
    which, far = np.tile([2, 9], 4), np.array([0, 0, 1, 1, 1, 0, 0, 1], dtype=bool)
    to = moves.position[which] + np.where(far, 0.25, STEP) * moves.unit[which]
    together = moves.move(which, to)
    for each in (far, ~far):
        for one, other in zip(together, moves.move(which[each], to[each]), strict=True):
            np.testing.assert_array_equal(one[each], other)


def test_a_layer_below_two_normalisations_is_left_to_whole_batches():
    problem = problem_of((5, "tanh"), NORMED, NORMED, (3, "identity"), samples=7)
    near = [units_of(problem.objective, f"hidden{i}").near.plain for i in (1, 2, 3)]
    assert near == [False, False, True]


@pytest.mark.parametrize(("count", "samples", "width"), [(3, 7, 5), (2, 50, 512), (1, 8, 4096), (4, 1, 1)])
def test_outer_products(count, samples, width):
    rng = np.random.default_rng(0)
    columns, rows = rng.normal(size=(count, samples)), rng.normal(size=(count, width))
    np.testing.assert_array_equal(outer(columns, rows), columns[:, :, None] * rows[:, None, :])


@pytest.mark.parametrize(
    ("shape", "width"), [((4, 3), 2), ((5, 300, 512), 10), ((7, 11, 64), 64), ((1, 1), 1)]
)
def test_products(shape, width):
    rng = np.random.default_rng(0)
    a, w = rng.normal(size=shape), rng.normal(size=(shape[-1], width))
    np.testing.assert_allclose(product(a, w), a @ w, rtol=1e-10, atol=1e-10)
