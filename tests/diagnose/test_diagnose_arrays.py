"""What arrays alone reveal about code without a described network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from diagnose.networks import kinds, readable

from gradcheck_cli.comparison import Comparison, compare
from gradcheck_cli.diagnose import diagnose
from gradcheck_cli.diagnose.diagnosis import Diagnosis
from gradcheck_cli.diagnose.entries_off import entries_off
from gradcheck_cli.diagnose.target import Target
from gradcheck_cli.diagnose.wrong_entries import ENTRY_MISTAKES, ROW
from gradcheck_cli.numerical.estimate import Estimate
from gradcheck_cli.projected import Projected

RNG = np.random.default_rng(1)
RIGHT = {
    "w": RNG.normal(size=(4, 4)),
    "v": RNG.normal(size=(3, 5)),
    "b": RNG.normal(size=4),
    "c": RNG.normal(size=4),
}


def said(samples: int | None = None, **changed: Any) -> Diagnosis:
    found = {**RIGHT, **changed}
    comparisons = [
        compare(name, found[name], Estimate(value, np.full(value.shape, 1e-11)), 1e-15 * np.abs(value), 1e-6)
        for name, value in RIGHT.items()
    ]
    return readable(diagnose(comparisons, None, samples=samples))


def everything(factor: float) -> dict[str, np.ndarray]:
    return {name: factor * value for name, value in RIGHT.items()}


@pytest.mark.parametrize(
    ("changed", "samples", "kind"),
    [
        (everything(2.0), None, "factor 2"),
        (everything(-1.0), None, "sign"),
        (everything(20.0), 20, "missing 1/N"),
        (everything(3.0), None, "accumulated"),
        (everything(0.3), None, "factor"),
        ({"b": RIGHT["b"] / 20}, 20, "1/N twice"),
        ({"w": RIGHT["w"].T}, None, "transposed gradient"),
        ({"w": 0.0 * RIGHT["w"]}, None, "gradient zero"),
        ({"b": RIGHT["c"], "c": RIGHT["b"]}, None, "tensors swapped"),
        ({"v": RIGHT["v"][::-1]}, None, "rows permuted"),
        ({"v": np.abs(RIGHT["v"])}, None, "absolute value"),
        ({"v": RIGHT["v"] + 0.1 * np.eye(3, 5, k=4)}, None, "single entries"),
    ],
)  # fmt: skip
def test_array_findings_are_worded_cautiously(changed, samples, kind):
    found = said(samples, **changed)
    assert kinds(found)[0] == (kind,)
    assert found.basis == "arrays"
    assert found.layers == ()


def test_arrays_without_a_pattern_lead_to_no_guess():
    found = said(v=RIGHT["v"] * np.cos(RIGHT["v"]))
    assert found.answers == ()
    assert found.observations[0].startswith("w, b and c are right")


def test_numbers_that_are_not_finite_are_reported():
    assert kinds(said(b=np.array([np.nan, *RIGHT["b"][1:]]))) == [("overflow",)]


def test_unmeasured_entries_are_not_mentioned():
    unknown = Estimate(np.full((4, 4), np.nan), np.full((4, 4), np.inf))
    comparisons = [
        compare("w", 2 * RIGHT["w"], unknown, np.zeros((4, 4)), 1e-6),
        compare("b", 2 * RIGHT["b"], Estimate(RIGHT["b"], np.full(4, 1e-12)), np.zeros(4), 1e-6),
    ]
    found = diagnose(comparisons, None)
    assert all("w" not in cause.where for answer in found.answers for cause in answer.causes)


def test_infinity_next_to_a_factor_neither_crashes_nor_joins_it():
    w = 2.0 * RIGHT["w"]
    w[0, 0] = np.inf
    found = said(w=w, b=2.0 * RIGHT["b"])
    assert all("nan" not in text and "inf " not in text for text in found.observations)


# --- where, and how much of it -----------------------------------------------------------------------------


def observed(**changed: np.ndarray) -> tuple[str, ...]:
    found = said(**changed)
    assert found.answers == ()
    return found.observations


def off(value: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return np.where(mask, value + np.cos(np.arange(value.size)).reshape(value.shape), value)


def test_columns_are_columns_and_vectors_off_at_the_same_numbers_are_named():
    units = np.isin(np.arange(4), (1, 3))
    texts = observed(w=off(RIGHT["w"], units), b=off(RIGHT["b"], units))
    assert (
        "In w, only columns 1 and 3 of 4 are wrong, and so are the entries of b with the same indices."
        in texts
    )
    assert not any(word in text for text in texts for word in ("inputs", "outputs"))


def test_up_to_a_dozen_entries_are_listed():
    mask = np.zeros((4, 4), dtype=bool)
    mask[[0, 1, 2, 3, 0], [1, 1, 2, 0, 3]] = True
    assert observed(w=off(RIGHT["w"], mask))[1:] == (
        "In w, only entries [0, 1], [0, 3], [1, 1], [2, 2] and [3, 0] of 16 are wrong.",
    )
    assert "In b, only entries 0, 1 and 3 of 4 are wrong." in observed(b=off(RIGHT["b"], np.arange(4) != 2))


def test_entries_that_are_wrongly_0_are_reported():
    texts = observed(w=RIGHT["w"] * (np.eye(4) == 0), v=np.tril(RIGHT["v"]))
    assert "The gradient of w and v is 0 wherever it is wrong." in texts


def test_zeros_in_whole_columns_and_entries_are_named():
    units = np.isin(np.arange(4), (0, 2, 3))
    found = said(w=np.where(units, 0.0, RIGHT["w"]), b=np.where(units, 0.0, RIGHT["b"]))
    assert [cause.sentence for cause in found.answers[0].causes] == [
        "The gradient of w is 0 in columns 0, 2, 3.",
        "The gradient of b is 0 in entries 0, 2 and 3 of 4, and right elsewhere.",
    ]


def test_a_name_keeps_its_case():
    texts = observed(v=RIGHT["v"] * np.cos(RIGHT["v"]))
    assert texts[0].startswith("w, b and c are right")


def test_two_mistakes_are_both_named_with_all_their_tensors():
    found = said(w=-RIGHT["w"], b=-RIGHT["b"], v=10 * RIGHT["v"], c=10 * RIGHT["c"])
    sentences = {cause.sentence for cause in found.answers[0].causes}
    assert sentences == {
        "The gradient of w and b has the wrong sign.",
        "The gradient of v and c is 10 times too large, as if it had been accumulated 10 times.",
    }


def test_explained_and_unexplained_tensors_are_both_reported():
    texts = observed(w=10 * RIGHT["w"], b=10 * RIGHT["b"], v=RIGHT["v"] * np.cos(RIGHT["v"]))
    assert (
        texts[1] == "The gradient of w and b is 10 times too large, as if it had been accumulated 10 times."
    )
    assert texts[2] == "v is wrong in another way."


def test_a_factor_that_may_have_two_names_gets_none_if_it_does_not_explain_everything():
    changed = {"w": 2 * RIGHT["w"], "v": RIGHT["v"] * np.cos(RIGHT["v"])}
    for samples, name in ((2, "2 times what it should be"), (9, "twice what it should be")):
        sentences = said(samples, **changed).observations
        assert f"The gradient of w is {name}." in sentences


def test_twice_is_not_also_called_accumulated():
    kinds = [answer.causes[0].kind for answer in said(**everything(2.0 * (1 + 1e-12))).answers]
    assert kinds == ["factor 2"]


def test_gradients_in_each_others_place_are_swapped():
    (cause,) = said(b=RIGHT["c"], c=RIGHT["b"]).answers[0].causes
    assert cause.sentence == "The gradients of b and c are swapped."
    assert cause.where == ("b", "c")


# --- along directions --------------------------------------------------------------------------------------


def drawn(name: str, found: np.ndarray, wrong: bool, seed: int) -> Comparison:
    """Pretend that five entries were checked individually; the others are suspect, or agree as a group."""
    value = RIGHT[name]
    moved = np.zeros(value.size, dtype=bool)
    moved[np.random.default_rng(seed).choice(value.size, 5, replace=False)] = wrong
    moved = moved.reshape(value.shape)
    numbers = Estimate(np.where(moved, value, np.nan), np.where(moved, 1e-11, np.inf))
    rest = Projected(covered=~moved & (not wrong), suspect=~moved & wrong, least=1e-6)
    return compare(name, found, numbers, 1e-15 * np.abs(value), 1e-6, projected=rest)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda g: {"w": g["u"], "u": g["w"]}, "The gradients of w and u are swapped."),
        (lambda g: {"w": 10 * g["w"], "u": 10 * g["u"]}, "The gradient of w and u is 10 times too large"),
    ],
)
def test_sampled_entries_stand_for_the_others(monkeypatch, change, told):
    monkeypatch.setitem(RIGHT, "u", np.random.default_rng(7).normal(size=(4, 4)))
    changed = change(RIGHT)
    comparisons = [
        drawn(name, changed.get(name, RIGHT[name]), name in changed, seed=k)
        for k, name in enumerate(("w", "u", "v"))
    ]
    (cause,) = diagnose(comparisons, None).answers[0].causes
    assert cause.sentence.startswith(told)


def test_no_factor_is_reported_for_entries_that_agree_as_a_group():
    mostly = np.where(np.arange(16).reshape(4, 4) < 2, 10.0, 1.0) * RIGHT["w"]
    moved = np.arange(16).reshape(4, 4) < 2
    numbers = Estimate(np.where(moved, RIGHT["w"], np.nan), np.where(moved, 1e-11, np.inf))
    rest = Projected(covered=~moved, suspect=np.zeros((4, 4), dtype=bool), least=1e-6)
    one = compare("w", mostly, numbers, np.zeros((4, 4)), 1e-6, projected=rest)
    other = drawn("v", RIGHT["v"], False, seed=1)
    (cause,) = diagnose([one, other], None).answers[0].causes
    assert cause.sentence == "The gradient of w is right except for entries [0, 0], [0, 1]."


@pytest.mark.parametrize("most", [True, False])
def test_a_constant_loss_is_reported(most):
    numerical = np.where(np.arange(8) < (2 if most else 6), 1.0, 0.0)
    comparison = compare("x", RNG.normal(size=8), Estimate(numerical, np.full(8, 1e-12)), np.zeros(8), 1e-6)
    told = [line for line in diagnose([comparison], None).observations if "does not change" in line]
    assert [("most entries of x" in line) for line in told] == [True] * most


# --- in float32 --------------------------------------------------------------------------------------------


def coarsely_known(factors: dict[str, float], seed: int, samples: int | None = None) -> Diagnosis:
    """Gradients off by these factors, in float32, against differences of a loss in float32."""
    rng = np.random.default_rng(seed)
    comparisons = []
    for name, value in RIGHT.items():
        error = 10.0 ** rng.uniform(-6, -4) * np.abs(value).max()
        numbers = Estimate(value + error * rng.uniform(-1, 1, value.shape), np.full(value.shape, error))
        found = (factors[name] * value).astype(np.float32)
        comparisons.append(compare(name, found, numbers, 1e-7 * np.abs(value), 2e-6, eps=2.0**-23))
    return readable(diagnose(comparisons, None, samples=samples))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("factor", "kind"), [(0.5, "factor 1/2"), (-1.0, "sign"), (1 / 20, "1/N twice"), (0.3, "factor")]
)
def test_one_factor_is_told_once_though_each_tensor_tells_it_but_coarsely(factor, kind, seed):
    (answer,) = coarsely_known(dict.fromkeys(RIGHT, factor), seed, samples=20).answers
    assert [(cause.kind, cause.where) for cause in answer.causes] == [(kind, ())]


def test_two_factors_are_two_though_each_tensor_tells_its_own_but_coarsely():
    (answer,) = coarsely_known({"w": 0.5, "b": 0.5, "v": 0.52, "c": 0.52}, seed=1).answers
    assert [cause.where for cause in answer.causes] == [("w", "b"), ("v", "c")]


def test_a_single_entry_is_off_by_the_factor_of_the_others_and_a_zero_gradient_too(monkeypatch):
    monkeypatch.setitem(RIGHT, "d", np.array([1.7]))
    monkeypatch.setitem(RIGHT, "e", np.zeros(3))
    found = said(**everything(0.5))
    assert found.answers[0].causes[0].sentence == "The gradient is half of what it should be."


# --- where all is 0, or rounds to it -----------------------------------------------------------------------


def test_where_every_gradient_is_0_no_formula_is_to_blame():
    (answer,) = said(**everything(0.0)).answers
    assert answer.causes[0].kind == "gradient zero"
    assert answer.causes[0].sentence.startswith("Every gradient is 0: backward never ran")


def test_what_few_decimals_round_to_0_is_no_second_mistake(monkeypatch):
    monkeypatch.setitem(RIGHT, "e", np.array([3e-3, -4e-3, 1e-3]))
    found = said(**{name: np.round(value, 2) for name, value in RIGHT.items()})
    assert kinds(found) == [("few decimals",)]
    assert "The gradient of e is so small that it rounds to 0." in found.answers[0].causes[0].sentence


def test_what_few_decimals_do_not_round_to_0_is_a_second_mistake():
    found = said(**{name: np.round(value, 2) for name, value in RIGHT.items()} | {"b": np.zeros(4)})
    assert set(kinds(found)[0]) == {"few decimals", "gradient zero"}


@pytest.mark.parametrize(
    ("factors", "place"),
    [
        ([1.0, 2.0, 1.0, 0.5], "rows 1, 3, which are 2, 0.5 times what they should be"),
        ([1.0, np.inf, 1.0, 1.0], "row 1, where it should be 0"),
        ([1.0, 1.0, 1.0, -1.0], "row 3"),
    ],
)
def test_rows_that_are_wrong_are_described(factors, place):
    factors = np.array(factors)[:, None]
    found = np.random.default_rng(8).normal(size=(4, 3))
    right = np.where(np.isinf(factors), 0.0, found / factors)
    target = Target("w", found, right, np.full(right.shape, 1e-12), 1e-8)
    (of_rows,) = (row for row in ENTRY_MISTAKES if row.kind == ROW)
    assert of_rows.fits(target, right).place == place


@pytest.mark.parametrize(("cut", "told"), [(np.trunc, True), (np.rint, True), (lambda g: 0.5 * g, False)])
def test_a_gradient_without_decimals_is_noticed(cut, told):
    right = np.random.default_rng(9).normal(size=(4, 3)) * 3.0
    target = Target("w", cut(right), right, np.full(right.shape, 1e-12), 1e-8)
    facts = list(entries_off({"w": target}, {}))
    assert any("whole numbers only" in fact for fact in facts) is told
