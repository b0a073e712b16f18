"""In wide floats, elements next to a kink keep their smooth pieces, and elements on a kink do not."""

from __future__ import annotations

import numpy as np
import pytest
from build import problem_of, right_gradients, spec_of, units_of
from judged import Judge

from gradcheck_cli import Verdict
from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.numerical.estimate import differentiate
from gradcheck_cli.numerical.schemes import SCHEMES, in_wide_floats
from gradcheck_cli.problem.problem import build_problem
from gradcheck_cli.types import EPS

WITH_KINKS = [name for name, row in ACTIVATIONS.items() if row.pieces]
DISTANCES = [3e-6, -1e-8]
SCHEME = in_wide_floats(SCHEMES["adaptive"])

pytestmark = pytest.mark.skipif(
    np.finfo(np.longdouble).eps > EPS / 1000, reason="longdouble is no wider than float64"
)


def next_to_a_kink(activation, distance, tmp_path, **rest):
    """Return a spec of a network in which every unit of one sample is next to the kink at 0."""
    layers = (3, activation), (2, "identity")
    problem = problem_of(*layers, **rest)
    parameters = {name: np.array(value) for name, value in problem.parameters.items()}
    z = parameters["hidden1.weight"] @ problem.x[0]
    parameters["hidden1.bias"] = distance - z
    np.savez(tmp_path / "p.npz", **parameters)
    return spec_of(*layers, parameters={"file": tmp_path / "p.npz"}, **rest)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("activation", WITH_KINKS)
def test_long_steps_next_to_a_kink_find_the_slope_of_the_own_piece(activation, distance, tmp_path):
    problem = build_problem(next_to_a_kink(activation, distance, tmp_path))
    assert not problem.objective.kinks.any
    units = units_of(problem.objective.widest, "hidden1")
    with np.errstate(all="ignore"):
        found = differentiate(units, SCHEME)
        shortly = differentiate(units_of(problem.objective, "hidden1"), SCHEMES["adaptive"])
    slopes, errors = found.value.reshape(3, -1), found.error.reshape(3, -1)
    exact = right_gradients(problem)["hidden1.bias"]
    largest = np.abs(slopes).max()
    assert errors.max() <= 1e-13 * largest
    assert np.abs(slopes.sum(axis=1) - exact).max() <= 1e-13 * largest
    assert (np.abs(found.value - shortly.value) <= 3.0 * (found.error + shortly.error)).all()
    with np.errstate(all="ignore"):
        assert not units.move(np.arange(15), units.position + 0.25).crossed.any()


@pytest.mark.parametrize("activation", ["relu", "elu"])
def test_the_slope_of_the_other_side_is_wrong_next_to_a_kink(activation, tmp_path):
    spec = next_to_a_kink(activation, 1e-8, tmp_path, samples=3)
    problem = build_problem(spec)
    right = right_gradients(problem)
    judge = Judge(spec, problem)
    assert judge.report(right).verdict is Verdict.AGREES
    for off in (0.0, 1.0 - 1e-5, 1.0 + 1e-5, -1.0):
        wrong = {**right, "hidden1.bias": off * right["hidden1.bias"]}
        assert judge.report(wrong).verdict is Verdict.WRONG


@pytest.mark.parametrize("apart", [1e-7, -1e-9])
def test_the_larger_of_two_nearly_equal_numbers_stays_the_maximum(apart):
    x = [[0.3, 0.3 + apart, -1.0, 2.0], [0.1, -0.7, 0.2, 0.2 - apart]]
    data = {"x": x, "y": [[0.5, 1.0], [0.2, -1.0]]}
    layers = {"reshape": [1, 4]}, {"max_pool1d": 2}, "flatten", {"units": 2}
    spec = spec_of(*layers, data=data, check={"inputs": True})
    judge, problem = Judge(spec), build_problem(spec)
    right = right_gradients(problem.with_shifts(problem.checked_values))
    assert judge.report(right).verdict is Verdict.AGREES
    other_way = {**right, "input": right["input"][:, [1, 0, 3, 2]]}
    assert judge.report(other_way).verdict is Verdict.WRONG


@pytest.mark.parametrize("apart", [1e-7, -1e-9])
@pytest.mark.parametrize("loss", ["l1", "smooth_l1"])
def test_an_output_next_to_a_kink_of_the_loss_stays_on_its_side(loss, apart):
    plain = problem_of((3, "tanh"), (2, "identity"), loss=loss, samples=2)
    output = plain.objective.output
    y = output - apart - (0.0 if loss == "l1" else 1.0)
    data = {"x": plain.x.tolist(), "y": y.tolist()}
    problem = problem_of((3, "tanh"), (2, "identity"), loss=loss, data=data)
    units = units_of(problem.objective.widest, "output")
    found = differentiate(units, SCHEME)
    slopes = found.value.reshape(2, -1)
    assert np.abs(slopes.sum(axis=1) - right_gradients(problem)["output.bias"]).max() <= 1e-13
    assert found.error.max() <= 1e-13


def test_an_element_on_a_kink_is_not_held():
    data = {"x": [[0.0] * 4, [1.0, -2.0, 0.5, 0.3]], "y": [[0.5, 1.0], [0.2, -1.0]]}
    parameters = {"init": "xavier", "seed": 1, "bias": "zeros"}
    problem = problem_of((3, "relu"), (2, "identity"), data=data, parameters=parameters)
    units = units_of(problem.objective.widest, "hidden1")
    which = np.arange(6)
    for step in (0.25, -0.25, 2.0**-30):
        crossed = units.move(which, units.position + step).crossed.reshape(3, 2)
        assert not crossed[:, 1].any()
        assert crossed[:, 0].all() == (step > 0)


def on_a_kink_by_rounding(tmp_path):
    """Return a spec in which z of one unit is 0 in float64, and −3e-17 in wide floats."""
    data = {"x": [[0.1, 0.30000000000000004], [1.0, -2.0]], "y": [[0.5, 1.0], [0.2, -1.0]]}
    layers = {"units": 1, "activation": "relu", "bias": False}, {"units": 2}
    output = {"output.weight": np.array([[1.0], [-2.0]]), "output.bias": np.array([0.1, 0.2])}
    np.savez(tmp_path / "p.npz", **output, **{"hidden1.weight": np.array([[3.0, -1.0]])})
    return spec_of(*layers, inputs=2, data=data, parameters={"file": tmp_path / "p.npz"})


def test_wide_floats_do_not_choose_the_side_of_an_element_on_a_kink(tmp_path):
    spec = on_a_kink_by_rounding(tmp_path)
    problem = build_problem(spec)
    assert problem.objective.kinks.any
    wide = problem.objective.widest
    ((site, _),) = wide.uses("hidden1.weight")
    units = wide.units(site)
    assert units.position[0] != 0.0
    with np.errstate(all="ignore"):
        found = differentiate(units, in_wide_floats(SCHEMES["adaptive"], on_a_kink=True))
    assert np.isnan(found.value[0])
    judge, right = Judge(spec, problem), right_gradients(problem)
    slope = (problem.objective.output[0] - problem.target[0]) @ np.array([1.0, -2.0])
    for share in (0.0, 0.5, 1.0):
        other = right["hidden1.weight"] + share * slope * problem.x[0]
        assert judge.report({**right, "hidden1.weight": other}).verdict is Verdict.AGREES, share


def test_a_change_that_a_saturated_softmax_rounds_off_has_an_error_bar():
    """The inputs of relu do not change at all then, but relu hides nothing."""
    layers = {"attention": 1}, {"units": 4, "activation": "relu"}, "flatten", {"units": 2}
    parameters = {"init": "normal", "scale": 12.0, "seed": 4}
    objective = build_problem(spec_of(*layers, inputs=[2, 3], parameters=parameters)).objective.widest
    (site, _), *_ = objective.uses("attention1.in_proj_weight")
    units = objective.units(site)
    to = units.position + 2.0**-40 * units.unit
    with np.errstate(all="ignore"):
        moved = units.move(np.arange(len(to)), to)
    unchanged = moved.losses == np.tile(objective.losses, len(to) // len(objective.losses))
    assert unchanged.any()
    assert (moved.rounding > 0).all()
