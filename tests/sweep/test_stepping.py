from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from build import problem_of, spec_of

from gradcheck_cli.numerical.reference import LiteralDifferences, UnitDifferences
from gradcheck_cli.numerical.schemes import SCHEMES, plain_schemes
from gradcheck_cli.problem.problem import Problem, build_problem
from gradcheck_cli.sweep import stepping
from gradcheck_cli.sweep.stepping import Drawing, evaluations

PLAIN = {name: SCHEMES[name] for name in plain_schemes()}
STEPS = [2.0**-k for k in range(12)]


@pytest.fixture(params=["plain", "normalised", "penalised"])
def problem(request) -> Problem:
    hidden = {"units": 4, "activation": "tanh", "batch_norm": request.param == "normalised"}
    penalty = {"l2": 0.1} if request.param == "penalised" else {}
    return problem_of(hidden, (3, "sigmoid"), samples=7, penalty=penalty)


def single(name: str):
    return replace(PLAIN[name], ladder=(1.0,), certify=(0,))


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("way", ["units", "literal"])
def test_a_value_at_one_step_equals_the_reference_at_that_step(name, way, problem):
    names, step = list(problem.network.shapes), 2.0**-5
    drawing = Drawing({}, seed=0)
    if way == "units":
        entries = drawing.by_units(problem.objective, names)
        expected = UnitDifferences(problem.objective, single(name), step).estimate(names)
    else:
        entries = drawing.by_entries(problem.objective, names)
        expected = LiteralDifferences(problem.objective, single(name), step).estimate(names)
    for tensor, of in entries.items():
        stepped = of.at(PLAIN[name], step)
        np.testing.assert_allclose(stepped.value, expected[tensor].value.ravel()[of.which], rtol=1e-12)
        assert not stepped.crossed.any()


@pytest.mark.parametrize("name", PLAIN)
def test_a_step_that_crosses_a_kink_has_a_value_and_is_marked(name):
    problem = problem_of((8, "relu"), (2, "identity"), samples=20)
    (of,) = Drawing({}, seed=0).by_units(problem.objective, ["hidden1.weight"]).values()
    far, near = of.at(PLAIN[name], 1.0), of.at(PLAIN[name], 2.0**-40)
    assert np.isfinite(far.value).all()
    assert far.crossed.any() == PLAIN[name].cancels  # an imaginary step crosses nothing
    assert not near.crossed.any()


def test_points_of_steps_that_fall_by_halves_are_evaluated_once(problem):
    name, evaluated = "output.weight", []

    class Counting:
        def expect(self, evaluations: int) -> None: ...

        def advance(self, evaluations: int) -> None:
            evaluated.append(evaluations)

    (of,) = Drawing({}, 0, Counting()).by_units(problem.objective, [name]).values()
    for step in STEPS:
        for scheme in PLAIN.values():
            of.at(scheme, step)
    ((_, moved),) = of.losses.uses
    numbers = len(moved.which)
    # 0, ±2, ±1, … of the real schemes; one imaginary point each; and a look to both sides of it
    assert evaluations(PLAIN.values(), STEPS) == 1 + 2 * (len(STEPS) + 1) + len(STEPS) + 2
    assert sum(evaluated) == numbers * evaluations(PLAIN.values(), STEPS)


@pytest.mark.parametrize("way", ["by_units", "by_entries"])
def test_large_tensors_are_sampled_and_include_the_required_entries(way, monkeypatch):
    monkeypatch.setattr(stepping, "BATCHES", 1)
    problem = problem_of((40, "tanh"), (3, "sigmoid"), samples=6)
    problem.objective.block = 2000
    name, included = "hidden1.weight", 39 * 4 + 1
    drawn = [
        getattr(Drawing({name: included}, seed), way)(problem.objective, [name])[name].which
        for seed in (0, 0, 1)
    ]
    assert 0 < len(drawn[0]) < 160
    assert all(included in which for which in drawn)
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_the_weight_and_the_bias_of_a_layer_share_their_units(problem):
    entries = Drawing({}, 0).by_units(problem.objective, ["output.weight", "output.bias"])
    (weight,), (bias,) = (of.losses.uses for of in entries.values())
    assert weight[1] is bias[1]


def test_a_sample_of_rows_is_the_same_at_every_use_of_a_parameter(monkeypatch):
    """The sites of a parameter differ in how many of their numbers fit a batch."""
    monkeypatch.setattr(stepping, "BATCHES", 1)
    layers = ({"lstm": 8}, {"residual": [{"attention": 2}]}, {"select": -1}, {"units": 3})
    spec = spec_of(*layers, inputs=[3, 2], loss="cross_entropy", samples=6)
    objective, scheme = build_problem(spec).objective, PLAIN["central"]
    objective.block = 2000
    names = ["lstm1.weight_hh_l0", "attention1.in_proj_weight"]
    expected = UnitDifferences(objective, single("central"), 2.0**-5).estimate(names)
    for tensor, of in Drawing({}, seed=0).by_units(objective, names).items():
        assert 0 < len(of.which) < expected[tensor].value.size
        stepped = of.at(scheme, 2.0**-5)
        np.testing.assert_allclose(stepped.value, expected[tensor].value.ravel()[of.which], rtol=1e-10)


@pytest.mark.parametrize("way", ["by_units", "by_entries"])
def test_layers_of_many_steps_are_sampled_until_the_work_is_affordable(way, monkeypatch):
    layers = ({"lstm": 8}, {"residual": [{"attention": 2}]}, {"select": -1}, {"units": 3})
    spec = spec_of(*layers, inputs=[3, 2], loss="cross_entropy", samples=6)
    objective = build_problem(spec).objective
    names = list(objective.shapes)

    def drawn() -> dict[str, int]:
        return {name: len(of.which) for name, of in getattr(Drawing({}, 0), way)(objective, names).items()}

    monkeypatch.setattr(stepping, "NUMBERS", 2**40)
    assert drawn() == {name: np.prod(shape) for name, shape in objective.shapes.items()}
    monkeypatch.setattr(stepping, "NUMBERS", 1)
    few = drawn()
    assert all(few[name] >= min(stepping.FEWEST, np.prod(shape)) for name, shape in objective.shapes.items())
    assert few["lstm1.weight_ih_l0"] < np.prod(objective.shapes["lstm1.weight_ih_l0"])
