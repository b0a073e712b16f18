"""The diagnosis benchmark counts correctly; a small share of it runs here."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from build import spec_of
from by_hand import Case
from paths import ROOT
from plants import FAMILY_OF, KINDS, Plant, draw

from gradcheck_cli.diagnose.diagnosis import Answer, Cause, Diagnosis
from gradcheck_cli.diagnose.other_networks import KIND

sys.path.append(str(ROOT / "benchmarks"))  # after the tests, since some module names are the same

import diagnosis as benchmark
from diagnosis import NOTHING, examine
from diagnosis_counts import Tally, both, known, removed
from diagnosis_networks import NETWORKS

SEED, COUNT = 20, 6


@pytest.fixture
def case() -> Case:
    return Case.of(spec_of((3, "tanh"), (4, "sigmoid"), (2, "identity"), penalty={"l2": 0.1}))


def planted(kind: str, case: Case, where: tuple[str, ...] | None = None) -> Plant:
    """Return a plant of this kind at this place."""
    plants = (
        draw(kind, case, np.random.default_rng(seed), lambda wrong: True) for seed in range(100)
    )  # in any of the scopes
    return next(plant for plant in plants if plant and where in (None, plant.layers(case)))


def answer(*kinds: str, where: tuple[str, ...] = ()) -> Answer:
    return Answer(tuple(Cause(kind, FAMILY_OF[kind], where, "", "", "") for kind in kinds), 0.0)


def said(*answers: Answer, layers: tuple[str, ...] = ()) -> Diagnosis:
    return replace(NOTHING, answers=answers, layers=layers)


def test_an_answer_counts_by_its_rank(case):
    plant = planted("bias averaged", case, ("hidden1",))
    right, other = answer("bias averaged", where=("hidden1.bias",)), answer("bias not summed")
    assert known(said(right), plant, case) == {"top", "among three", "tied", "found", "where"}
    assert known(said(other, right), plant, case) == {"among three", "tied", "found", "where"}
    assert known(said(other, other, other, right), plant, case) == {"tied", "found", "where"}
    assert known(said(other), plant, case) == set()
    assert known(said(answer("row")), plant, case) == {"wrong family"}
    assert known(said(answer("row"), right), plant, case) == {"among three", "tied", "found", "where"}
    assert known(NOTHING, plant, case) == {"unknown"}


def test_two_causes_are_a_wrong_answer_to_one_mistake(case):
    plant = planted("bias averaged", case)
    assert "top" not in known(said(answer("bias averaged", "row")), plant, case)


@pytest.mark.parametrize(
    ("where", "right"),
    [
        (("hidden1",), True),
        (("hidden1.bias",), True),
        (("hidden2",), False),
        (("hidden2", "hidden1"), False),
        ((), False),
    ],
)
def test_a_place_is_a_layer_or_a_tensor_of_it(case, where, right):
    plant = planted("bias averaged", case, ("hidden1",))
    assert ("where" in known(said(answer("bias averaged", where=where)), plant, case)) == right


def test_a_mistake_everywhere_needs_no_place(case):
    plant = planted("bias averaged", case, ("output", "hidden2", "hidden1"))
    for where in ((), ("output", "hidden2", "hidden1")):
        assert "where" in known(said(answer("bias averaged", where=where)), plant, case)


def test_without_its_kind_a_mistake_is_unknown_or_named_as_a_related_one(case):
    plant = planted("bias not summed", case, ("hidden1",))
    before = said(answer("bias not summed"), answer("last sample lost"))
    for diagnosis, counted in [
        (NOTHING, "unknown"),
        (said(answer("bias averaged")), "relative"),
        (said(answer("single entries")), "entries"),
        (said(answer("last sample lost")), "coincides"),
        (said(answer("factor")), "wrong family"),
    ]:
        assert removed(diagnosis, before, plant, case) == {"single layer", counted}


@pytest.mark.parametrize(("where", "counted"), [("hidden1", "relative"), ("hidden2", "wrong family")])
def test_another_network_is_related_if_it_differs_in_the_layer_of_the_mistake(case, where, counted):
    plant = planted("activation derivative missing", case, ("hidden1",))
    network = Answer((Cause(KIND, KIND, (where,), "", "", ""),), 0.0)
    assert counted in removed(said(network), NOTHING, plant, case)


def test_naming_the_layer_at_fault_is_counted(case):
    plant = planted("bias not summed", case, ("hidden1",))
    for layers, counted in [
        (("hidden1",), {"layer", "no other layer"}),
        (("hidden2", "hidden1"), {"layer"}),
        (("output",), set()),
    ]:
        found = removed(replace(NOTHING, layers=layers), NOTHING, plant, case)
        assert found == {"single layer", "unknown", *counted}


def test_naming_both_of_two_mistakes_is_counted(case):
    plants = (planted("bias averaged", case), planted("penalty forgotten", case))
    for diagnosis, counted in [
        (NOTHING, {"unknown"}),
        (said(answer("bias averaged", "penalty forgotten")), {"both", "both tied"}),
        (said(answer("row"), answer("penalty forgotten", "bias averaged")), {"wrong single", "both tied"}),
        (said(answer("bias averaged")), {"one of two"}),
        (said(answer("row")), {"wrong single"}),
        (said(answer("bias averaged", "row")), {"wrong pair"}),
    ]:
        assert both(diagnosis, plants) == counted


def test_mistakes_that_nothing_diagnoses_are_unknown(monkeypatch):
    monkeypatch.setattr(benchmark, "diagnosis_of", lambda case, gradients, without=frozenset(): NOTHING)
    tally = examine("larger", SEED, ["bias averaged", "factor 2", "sign"], most_pairs=4)
    assert tally.rate("known", "unknown") == tally.rate("removed", "unknown") == 1.0
    assert tally.count("known", "planted") == 3


def test_the_mistakes_of_one_network_are_named():
    tally = examine("mildly scaled", SEED, list(KINDS)[::6], most_pairs=4)
    count = tally.count("known", "planted")
    assert count >= 5
    assert tally.count("known", "tied") == tally.count("known", "where") == count
    assert tally.count("removed", "wrong family") <= 1
    assert tally.count("removed", "layer") == tally.count("removed", "single layer") > 0
    assert tally.count("pairs", "both") >= tally.count("pairs", "planted") // 2 > 0
    assert tally.count("pairs", "wrong single") == 0


@pytest.mark.slow
def test_the_mistakes_of_a_few_networks_are_named():
    """Every third kind is planted once, spread over a few networks."""
    tally, families = Tally(), list(NETWORKS)
    for i in range(COUNT):
        tally += examine(families[i % len(families)], SEED + i, list(KINDS)[3 * i :: 3 * COUNT], most_pairs=2)
    assert_single_mistakes_are_named(tally)
    assert_the_layer_at_fault_is_found_without_a_name_for_it(tally)
    assert_pairs_are_mostly_named(tally)


def assert_single_mistakes_are_named(tally: Tally) -> None:
    count = tally.count("known", "planted")
    assert count >= 15
    assert tally.count("known", "tied") >= count - 1
    assert tally.count("known", "wrong family") <= 1
    assert tally.count("known", "where") >= tally.count("known", "found") - 1


def assert_the_layer_at_fault_is_found_without_a_name_for_it(tally: Tally) -> None:
    assert tally.count("removed", "wrong family") <= 1
    assert tally.count("removed", "layer") >= tally.count("removed", "single layer") - 1


def assert_pairs_are_mostly_named(tally: Tally) -> None:
    count = tally.count("pairs", "planted")
    assert count >= 5
    assert tally.count("pairs", "both") >= count // 2
    assert tally.count("pairs", "wrong single") <= 1
