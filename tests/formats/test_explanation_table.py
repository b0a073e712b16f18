"""The derivation as a table of factors."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from build import spec_of
from shares import pairs
from text_tables import styled_as, table_of

from gradcheck_cli.explain.explain import Explanation, explain
from gradcheck_cli.formats import View, render
from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.losses import LOSSES

SYMBOLS = ["∂L/∂a", "∂a/∂z", "δ", "∂z/∂w", "∂z/∂b", "∂z/∂a⁽ʰ⁾", "∂L/∂w", "∂L/∂b", "∂L/∂a⁽ʰ⁾"]


@pytest.fixture(scope="module")
def explanation() -> Explanation:
    return explain(spec_of((3, "tanh"), (2, "sigmoid")), "output")


def spoilt(explanation: Explanation, symbol: str, factor: float) -> Explanation:
    """Return the derivation with one factor's analytic values multiplied."""
    (derivation,) = explanation.layers
    factors = [
        replace(f, comparison=replace(f.comparison, analytic=factor * f.comparison.analytic))
        if f.symbol == symbol
        else f
        for f in derivation.factors
    ]
    return replace(explanation, layers=(replace(derivation, factors=tuple(factors)),))


def explained(explanation: Explanation, **view) -> str:
    return render("table", explanation, View(**view), "net.yaml")


def test_a_line_for_each_factor_with_formula_shape_numbers_and_check(explanation):
    rows = table_of(explained(explanation), "factor")[1:]
    assert [row.split()[0] for row in rows] == SYMBOLS
    assert all(row.endswith("✓ agrees") for row in rows)
    cells = [re.split(r"\s{2,}", row.strip()) for row in rows]
    assert [row[1] for row in cells] == [
        "c · 2 (a − y)", "a (1 − a)", "∂L/∂a · ∂a/∂z", "a⁽ʰ⁾", "1", "w", "δᵀ a⁽ʰ⁾", "Σₙ δₙ", "δ w",
    ]  # fmt: skip
    shapes = ["5 × 2", "5 × 2", "5 × 2", "5 × 3", "5 × 2", "2 × 3", "2 × 3", "2", "5 × 3"]
    assert [row[2] for row in cells] == shapes
    first = explanation.factors[0].comparison.analytic.ravel()[:3]
    assert rows[0].split()[-7:-3] == [f"{first[0]:.3g}", f"{first[1]:.3g}", f"{first[2]:.3g}", "…"]


def test_the_derivation_says_what_is_differentiated(explanation):
    text = explained(explanation)
    assert "  a = sigmoid(z)\n" in text
    assert "  L = c Σₙ mse(aₙ, yₙ)  with c = 0.2\n" in text
    assert "  ∂L/∂w     = ∂L/∂a · ∂a/∂z · ∂z/∂w     = δᵀ a⁽ʰ⁾  because ∂z/∂w = a⁽ʰ⁾\n" in text
    assert text.endswith("✓ agrees: every factor matches the differences of its own step.\n")


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_only_the_wrong_factor_stands_out(explanation, symbol):
    wrong = spoilt(explanation, symbol, 2.0)
    rows = table_of(explained(wrong), "factor")[1:]
    assert [row.split()[0] for row in rows if "✓" not in row] == [symbol]
    (row,) = [row for row in rows if "✗" in row]
    entries = next(f for f in wrong.factors if f.symbol == symbol).comparison.entries
    assert row.endswith(f"✗ {entries} wrong")
    *_, last = explained(wrong).splitlines()
    assert last.startswith(f"✗ wrong: {symbol} = ")
    assert "finite differences give" in last


def test_the_first_of_several_wrong_factors_is_the_one_named(explanation):
    *_, last = explained(spoilt(spoilt(explanation, "∂L/∂w", 2.0), "δ", -1.0)).splitlines()
    assert last.startswith("✗ wrong: δ = ∂L/∂a · ∂a/∂z is the first wrong factor; at [")


def test_a_wrong_factor_is_red_and_the_others_green(explanation):
    text = explained(spoilt(explanation, "δ", 2.0), color=True)
    assert styled_as(text, "✓ agrees") == "32"
    assert styled_as(text, "✗ 10 wrong") == styled_as(text, "δ") == "1;31"


def test_a_factor_on_a_kink_is_unresolved_and_says_why():
    spec = spec_of((3, "tanh"), (2, "relu"), parameters={"init": "zeros"})
    *_, last = explained(explain(spec)).splitlines()
    assert last == (
        "? unresolved: ∂a/∂z of layer output could not be decided; "
        "at [0, 0] it is 0; every step crosses a kink or overflows."
    )


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_a_narrow_explanation_fits_and_keeps_factor_formula_and_check(explanation, width):
    text = explained(explanation, width=width)
    assert max(map(len, text.splitlines())) <= width
    heading, *rows = table_of(text, "factor")
    assert {"factor", "formula", "check"} <= set(heading.split())
    assert ("first numbers" in heading) == (width >= 80)
    assert width >= 80 or "from" not in heading
    assert [row.split()[0] for row in rows] == SYMBOLS


@pytest.mark.parametrize(("activation", "loss"), pairs(list(ACTIVATIONS), list(LOSSES), 1))
def test_every_formula_of_the_tables_can_be_spelt_in_ascii_and_folded(activation, loss):
    text = explained(explain(spec_of((3, "tanh"), (3, activation), loss=loss)), ascii=True, width=40)
    assert text.isascii()
    assert "?" not in text.replace("? ", "")
    assert max(map(len, text.splitlines())) <= 40
