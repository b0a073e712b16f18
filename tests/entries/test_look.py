from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from gradcheck_cli.entries import witness
from gradcheck_cli.entries.claim import Claim, claim_of
from gradcheck_cli.entries.look import Look, first_look, settled, union
from gradcheck_cli.gradients.analytic import Analytic
from gradcheck_cli.numerical.estimate import Estimate

NAMES = ("w", "b")
AGREES, FAR_OFF, DOUBTFUL, UNKNOWN = range(4)


def claim(**values: list[float]) -> Claim:
    arrays = {name: np.array(value) for name, value in values.items()}
    dtypes = dict.fromkeys(arrays, np.dtype(np.float64))
    rounding = {name: np.zeros(array.shape) for name, array in arrays.items()}
    elsewhere = dict.fromkeys(arrays, np.array(0.0))
    return claim_of(Analytic(arrays, dtypes, "a test"), rounding, rtol=None, elsewhere=elsewhere)


def estimate(value: list[float], error: list[float]) -> Estimate:
    return Estimate(np.array(value), np.array(error))


def of_every_kind() -> Look:
    """Return a look at w, with one entry of each kind, and at b, which agrees."""
    found = estimate([1.0, 2.0, 1.0 + 4e-4, np.nan], [0.0, 0.0, 1e-4, np.inf])
    return first_look(claim(w=[1.0] * 4, b=[1.0]), {"w": found, "b": estimate([1.0], [0.0])})


def marked(*entries: int) -> list[bool]:
    return [i in entries for i in range(4)]


def test_a_look_marks_the_entries_of_each_kind():
    look = of_every_kind()
    assert look.wrong["w"].tolist() == marked(FAR_OFF, DOUBTFUL)
    assert look.doubtful["w"].tolist() == marked(DOUBTFUL)
    assert look.unresolved["w"].tolist() == look.open["w"].tolist() == marked(UNKNOWN)
    assert look.still_open["w"].tolist() == marked(UNKNOWN)


def test_tensors_without_marked_entries_are_left_out():
    look = of_every_kind()
    for masks in (look.wrong, look.doubtful, look.unresolved, look.open, look.still_open, look.worst_wrong):
        assert "b" not in masks


def test_only_some_entries_may_be_marked():
    whole = of_every_kind()
    among = {"w": np.array(marked(AGREES, FAR_OFF)), "b": np.array([True])}
    look = first_look(whole.claim, whole.estimates, among)
    assert look.wrong["w"].tolist() == marked(FAR_OFF)
    assert not look.unresolved
    assert not look.after(whole.estimates).open


def test_an_estimate_that_stays_keeps_its_comparison():
    look = of_every_kind()
    newer = look.after({**look.estimates, "w": estimate([1.0] * 4, [0.0] * 4)})
    assert newer.comparisons["b"] is look.comparisons["b"]
    assert newer.comparisons["w"].agrees.all()
    assert list(newer.comparisons) == list(NAMES)
    assert look.wrong, "the earlier look stays as it was"


def test_a_union_marks_what_any_mask_marks():
    one, other = {"w": np.array([True, False])}, {"w": np.array([False, True]), "b": np.array([True])}
    both = union(one, other, {})
    assert both["w"].all()
    assert both["b"].all()
    assert one["w"].tolist() == [True, False]
    assert union({}, {}) == {}


@dataclass
class Asked:
    """A reference that records which entries of w it is asked about, and finds `then` when it refines."""

    then: Estimate
    stages: dict[str, list[bool]] = field(default_factory=dict)

    def confirm(self, estimates, wrong):
        self.stages["confirm"] = wrong["w"].tolist()
        return estimates

    def refine(self, estimates, undecided):
        self.stages["refine"] = undecided["w"].tolist()
        return estimates | {"w": self.then}

    def sharpen(self, estimates, undecided):
        self.stages["sharpen"] = undecided["w"].tolist()
        return estimates


def test_each_entry_gets_only_the_steps_that_it_needs():
    look = of_every_kind()
    asked = Asked(look.estimates["w"])
    settled(look, asked)
    assert asked.stages == {
        "confirm": marked(FAR_OFF, DOUBTFUL),
        "refine": marked(DOUBTFUL, UNKNOWN),
        "sharpen": marked(UNKNOWN),
    }


def test_entries_that_a_refinement_decides_get_no_wider_arithmetic():
    asked = Asked(estimate([1.0, 2.0, 1.0, 1.0], [0.0] * 4))
    look = settled(of_every_kind(), asked)
    assert "sharpen" not in asked.stages
    assert look.wrong["w"].tolist() == marked(FAR_OFF)


@pytest.mark.parametrize("worst", [True, False])
def test_the_worst_entry_is_refined_on_request(worst):
    found = estimate([1.0, 9.0, 1.0, 1.0], [0.0, 1e-3, 0.0, 0.0])
    look = first_look(claim(w=[1.0] * 4), {"w": found})
    assert look.worst_wrong["w"].tolist() == marked(FAR_OFF)
    asked = Asked(found)
    settled(look, asked, worst=worst)
    assert ("refine" in asked.stages) == worst


def test_agreement_asks_for_nothing():
    asked = Asked(estimate([1.0], [0.0]))
    look = first_look(claim(w=[1.0]), {"w": estimate([1.0], [0.0])})
    assert settled(look, asked) is look
    assert asked.stages == {}


def test_what_a_contradiction_refines_gets_wider_arithmetic_again(monkeypatch):
    """Otherwise the estimates from wider arithmetic would be lost."""
    look = of_every_kind()
    asked = Asked(look.estimates["w"])
    answers = iter([{"w": np.array(marked(DOUBTFUL))}, {}])
    monkeypatch.setattr(witness, "hear", lambda *_: [])
    monkeypatch.setattr(witness, "contradictions", lambda *_: next(answers))
    witness.examined(look, asked, asked, seed=0)
    assert asked.stages == {"refine": marked(DOUBTFUL), "sharpen": marked(UNKNOWN)}
