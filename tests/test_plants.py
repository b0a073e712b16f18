"""Each mistake that measures the diagnosis is exactly the mistake that its name says."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from build import problem_of, right_gradients, spec_of
from by_hand import Case, Gradients, by_hand
from mistakes import MISTAKES
from paths import ROOT
from plants import ALONE, FAMILIES, FAMILY_OF, KINDS, Plant, differ, draw, together

from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.losses import LOSSES

sys.path.append(str(ROOT / "benchmarks"))  # after the tests, since some module names are the same

from diagnosis_networks import NETWORKS, case_or_none

case_of = cache(case_or_none)


def cases(family: str, count: int) -> Iterator[tuple[int, Case]]:
    for seed in range(count):
        if case := case_of(family, seed):
            yield seed, case


def drawn(kind: str, case: Case, seed: int = 0) -> Plant | None:
    right = right_of(case)
    return draw(kind, case, np.random.default_rng(seed), lambda wrong: differ(wrong, right, 1e-5))


def right_of(case: Case) -> Gradients:
    """Return the gradients by hand, computed once for each case."""
    if id(case) not in RIGHT:
        RIGHT[id(case)] = case, by_hand(case)
    return RIGHT[id(case)][1]


RIGHT: dict[int, tuple[Case, Gradients]] = {}
"""Cases, which cannot be hashed, with their gradients by hand."""


@pytest.fixture
def case() -> Case:
    layers = [{"units": 3, "activation": "tanh", "batch_norm": True}, {"units": 4, "activation": "sigmoid"}]
    return Case.of(spec_of(*layers, (4, "identity"), penalty={"l2": 0.1}, loss="mse"))


@pytest.mark.parametrize("family", NETWORKS)
def test_without_a_mistake_the_backprop_by_hand_is_right(family):
    for _, case in cases(family, 20):
        assert not differ(by_hand(case), right_gradients(case.problem), 1e-9)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_activation_and_loss_is_written_by_hand(activation, loss):
    case = Case.of(spec_of((3, activation), (3, activation), loss=loss))
    assert not differ(by_hand(case), right_gradients(case.problem), 1e-9)


def test_every_kind_can_be_planted_and_belongs_to_one_family():
    assert set(KINDS) == set(FAMILY_OF)
    assert len(FAMILY_OF) == sum(map(len, FAMILIES.values()))
    unseen = set(KINDS)
    for family in NETWORKS:
        for seed, case in cases(family, 40):
            unseen -= {kind for kind in unseen if drawn(kind, case, seed) is not None}
            if not unseen:
                return
    pytest.fail(f"never planted: {', '.join(sorted(unseen))}")


@pytest.mark.parametrize("kind", KINDS)
def test_a_plant_is_wrong_only_where_it_was_made_and_below(kind):
    for family in NETWORKS:
        for seed, case in cases(family, 4):
            if plant := drawn(kind, case, seed):
                _is_at_work_where_it_was_made(case, plant)


def _is_at_work_where_it_was_made(case: Case, plant: Plant) -> None:
    wrong, right = plant.gradients(case), right_of(case)
    assert {name: g.shape for name, g in wrong.items()} == dict(case.problem.network.shapes)
    assert differ(wrong, right, 1e-5)
    assert not differ(plant.gradients(case), wrong, 0.0)
    names = [layer.name for layer in case.layers]
    top = max((names.index(layer) for layer in plant.layers(case)), default=len(names))
    above = [layer.shapes for layer in case.layers[top + 1 :]]
    assert not any(differ({name: wrong[name]}, {name: right[name]}, 1e-9) for each in above for name in each)


@pytest.mark.parametrize("family", NETWORKS)
def test_two_mistakes_at_once_are_the_same_in_either_order(family):
    for seed, case in cases(family, 4):
        plants = [plant for kind in KINDS if (plant := drawn(kind, case, seed))]
        for k in range(0, len(plants) - 1, 2):
            first, second = plants[k : k + 2]
            edits, again = together(first, second), together(second, first)
            assert (edits is None) == (again is None)
            if edits is not None and again is not None:
                assert not differ(by_hand(case, edits), by_hand(case, again), 0.0)


def test_interfering_mistakes_are_not_planted_together(case):
    whole = [drawn(kind, case) for kind in ("factor", "accumulated", "sign")]
    for first in whole:
        for second in whole:
            assert together(first, second) is None
    for kind in (kind for family in ALONE for kind in FAMILIES[family]):
        if plant := next((plant for plant in KINDS[kind](kind, case, np.random.default_rng(0))), None):
            assert together(plant, drawn("row", case)) is None


# --- held against other code and formulas -------------------------------------------------------------------


def variant(kind: str, case: Case, text: str, seed: int = 0) -> Gradients:
    """Return the gradients of the widest plant of the kind with this variant."""
    plants = [
        plant for plant in KINDS[kind](kind, case, np.random.default_rng(seed)) if plant.variant == text
    ]
    return max(plants, key=lambda plant: len(plant.edits)).gradients(case)


@pytest.mark.parametrize(
    ("kind", "text", "name"),
    [
        ("activation derivative missing", "", "activation derivative missing"),
        ("activation derivative at a", "", "activation derivative at a"),
        ("bias averaged", "", "bias averaged"),
        ("bias not summed", "last sample", "bias not summed"),
        ("batch norm: mean term missing", "", "batch norm: mean term missing"),
        ("batch norm: statistics held constant", "", "batch norm: statistics held constant"),
        ("penalty forgotten", "l2", "penalty forgotten"),
        ("penalty doubled", "l2", "penalty doubled"),
        ("sign of the target", "", "sign of the target"),
        ("sign", "penalty and all", "sign"),
        ("samples out of order", "one on", "samples out of order"),
        ("last sample lost", "in the product", "last sample lost"),
    ],
)
def test_a_plant_in_every_layer_is_the_mistake_that_a_check_is_tested_with(case, kind, text, name):
    mistake = MISTAKES[name](case.problem, right_gradients(case.problem))
    assert not differ(variant(kind, case, text), dict(mistake), 1e-9)


def test_a_penalty_is_forgotten_on_every_weight(case):
    wrong, right = variant("penalty forgotten", case, "l2"), by_hand(case)
    for name, w in case.problem.parameters.items():
        penalty = 0.1 * w if name.endswith(".weight") else np.zeros_like(w)
        np.testing.assert_allclose(right[name] - wrong[name], penalty, atol=1e-14)


def test_a_missing_mean_scales_the_loss_and_not_the_penalty(case):
    wrong, right = variant("missing 1/N", case, "the loss"), by_hand(case)
    for name, w in case.problem.parameters.items():
        penalty = 0.1 * w if name.endswith(".weight") else 0.0
        np.testing.assert_allclose(wrong[name] - penalty, 5.0 * (right[name] - penalty), atol=1e-13)


def test_a_missing_derivative_leaves_the_factor_of_the_activation_out():
    case = Case.of(spec_of((3, "tanh"), (2, "sigmoid")))
    p, parameters = case.problem, case.problem.parameters
    hidden = np.tanh(p.x @ parameters["hidden1.weight"].T + parameters["hidden1.bias"])
    a = 1.0 / (1.0 + np.exp(-(hidden @ parameters["output.weight"].T + parameters["output.bias"])))
    delta = 2.0 / len(p.x) * (a - p.target)
    wrong = variant("activation derivative missing", case, "")
    np.testing.assert_allclose(wrong["output.weight"], delta.T @ hidden, rtol=1e-12)
    np.testing.assert_allclose(wrong["hidden1.weight"], (delta @ parameters["output.weight"]).T @ p.x)


def test_batch_norm_that_is_left_out_keeps_gamma(case):
    """Without batch normalisation, the bias has a gradient other than 0."""
    wrong, right = variant("batch norm: left out", case, ""), by_hand(case)
    gamma = case.problem.parameters["hidden1.gamma"]
    assert np.abs(right["hidden1.bias"]).max() < 1e-15
    np.testing.assert_allclose(wrong["hidden1.bias"], gamma * right["hidden1.beta"], rtol=1e-12)


def test_a_lost_sample_is_not_in_the_loss():
    wrong = variant("last sample lost", Case.of(spec_of((3, "tanh"), (2, "identity"))), "in the loss")
    problem = problem_of((3, "tanh"), (2, "identity"))
    shorter = replace(problem, x=problem.x[:-1], target=problem.target[:-1])
    assert not differ(wrong, right_gradients(shorter), 1e-12)


@pytest.mark.parametrize(
    "name", ["label smoothing", "class weights", "class weights normalised by N", "missing 1/N"]
)
def test_labels_and_weights_that_are_forgotten_are_those_of_a_plainer_spec(name):
    words = {"name": "cross_entropy", "label_smoothing": 0.2, "weight": [0.5, 1.0, 3.0]}
    case = Case.of(spec_of((4, "tanh"), (3, "identity"), loss=words))
    weight = np.array(words["weight"])[case.problem.y.astype(int)].sum()
    plainer = {
        "label smoothing": {**words, "label_smoothing": 0.0},
        "class weights": {"name": "cross_entropy", "label_smoothing": 0.2},
        "class weights normalised by N": {**words, "scale": float(weight / len(case.problem.y))},
        "missing 1/N": {**words, "reduction": "sum"},
    }[name]
    text = {"class weights": "altogether", "missing 1/N": "the loss"}.get(name, "")
    plain = right_gradients(problem_of((4, "tanh"), (3, "identity"), loss=plainer))
    assert not differ(variant(name, case, text), plain, 1e-12)
