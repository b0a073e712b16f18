from __future__ import annotations

import json
import math

import numpy as np
import pytest
from build import problem_of, spec_of

from gradcheck_cli.checker import check
from gradcheck_cli.comparison import Comparison
from gradcheck_cli.errors import Complaint, ExitCode, Position
from gradcheck_cli.explain.explain import explain
from gradcheck_cli.formats import View, render
from gradcheck_cli.projected import Projected, Projection
from gradcheck_cli.report import Outcome, Report, Run

SPEC = spec_of((3, "tanh"), (2, "sigmoid"))


def strict(text: str) -> dict:
    """Parse JSON without NaN and Infinity."""

    def refuse(literal: str) -> None:
        raise AssertionError(f"{literal} is no JSON")

    return json.loads(text, parse_constant=refuse)


def rendered(*outcomes: Outcome, **view) -> dict:
    return strict(render("json", Run(outcomes), View(**view)))


def outcome_of(analytic, numerical, error) -> Outcome:
    """Return the outcome of a spec with one tensor."""
    analytic, numerical, error = (np.array(values, dtype=float) for values in (analytic, numerical, error))
    comparison = Comparison("output.bias", analytic, numerical, error, np.zeros(analytic.shape), 1e-6)
    report = Report(
        (comparison,),
        "4-2, tanh, 5 samples",
        "mse (batchmean)",
        0.5,
        "g.npz",
        "central",
        "literal",
        {"output.bias": 1e-6},
    )
    return Outcome("net.yaml", report)


def test_every_spec_has_its_verdict_and_a_row_for_every_tensor():
    document = rendered(Outcome("net.yaml", check(SPEC), seconds=0.25))
    assert document["version"] == 1
    assert document["exit_code"] == 0
    (spec,) = document["specs"]
    assert (spec["spec"], spec["verdict"], spec["seconds"]) == ("net.yaml", "agrees", 0.25)
    assert [tensor["name"] for tensor in spec["tensors"]] == [
        "output.weight",
        "output.bias",
        "hidden1.weight",
        "hidden1.bias",
    ]
    assert [tensor["shape"] for tensor in spec["tensors"]] == [[2, 3], [2], [3, 4], [3]]
    assert [tensor["entries"] for tensor in spec["tensors"]] == [6, 2, 12, 3]
    assert spec["entries"] == spec["agree"] == 23
    assert spec["witness"]["entries"] == 4 + 2 + 4 + 3


def test_counts_errors_and_the_worst_entry_of_a_tensor():
    outcome = outcome_of([1.0, 2.0, 3.0, 0.0], [1.0, 2.5, math.nan, 0.0], [1e-9, 1e-9, math.inf, 0.0])
    document = rendered(outcome)
    (tensor,) = document["specs"][0]["tensors"]
    assert document["exit_code"] == document["specs"][0]["exit_code"] == 1
    assert (tensor["agree"], tensor["wrong"], tensor["unresolved"], tensor["zero"]) == (2, 1, 1, 1)
    assert tensor["verdict"] == "wrong"
    assert tensor["max_relative_error"] == 0.2
    assert tensor["median_relative_error"] == 0.1
    assert tensor["worst"] == {
        "index": [1],
        "analytic": 2.0,
        "numerical": 2.5,
        "error": 1e-9,
        "relative_error": 0.2,
        "verdict": "wrong",
    }


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_is_null_and_wrong(value):
    (tensor,) = rendered(outcome_of([1.0, value], [1.0, 2.0], [0.0, 0.0]))["specs"][0]["tensors"]
    assert tensor["worst"]["index"] == [1]
    assert tensor["worst"]["analytic"] is None
    assert tensor["max_relative_error"] is None
    assert tensor["verdict"] == "wrong"


def test_unknown_differences_are_null():
    document = rendered(outcome_of([1.0], [math.nan], [math.inf]))
    (spec,) = document["specs"]
    assert document["exit_code"] == 3
    assert spec["verdict"] == "unresolved"
    assert spec["tensors"][0]["worst"]["numerical"] is None
    assert spec["tensors"][0]["worst"]["error"] is None
    assert spec["resolution"] == {"smallest": None, "median": None, "largest": None}


def test_only_zeros_have_no_resolution():
    assert rendered(outcome_of([0.0], [0.0], [0.0]))["specs"][0]["resolution"] is None


def test_worst_entries_of_the_spec_are_as_many_as_asked_for():
    outcome = outcome_of([1.0, 2.0, 3.0], [1.0, 2.5, 6.0], [0.0, 0.0, 0.0])
    assert rendered(outcome)["specs"][0]["worst"] == []
    worst = rendered(outcome, show=2)["specs"][0]["worst"]
    assert [(entry["tensor"], entry["index"]) for entry in worst] == [
        ("output.bias", [2]),
        ("output.bias", [1]),
    ]


def test_a_spec_that_could_not_be_checked_has_its_errors_in_the_place_of_tensors():
    complaints = (
        Complaint("unknown key 'x'", help="try 'y'", position=Position("bad.yaml", 5, 34, "")),
        Complaint("no"),
    )
    document = rendered(outcome_of([1.0], [1.0], [0.0]), Outcome("bad.yaml", complaints=complaints))
    good, bad = document["specs"]
    assert document["exit_code"] == bad["exit_code"] == 2
    assert good["errors"] == bad["tensors"] == []
    assert bad["verdict"] is None
    assert bad["errors"] == [
        {"message": "unknown key 'x'", "line": 5, "column": 34, "help": "try 'y'"},
        {"message": "no", "line": None, "column": None, "help": None},
    ]


def test_the_worst_exit_code_of_all_specs_is_the_runs():
    failed = Outcome("a.yaml", complaints=(Complaint("no"),), failure=ExitCode.DEFECT)
    assert rendered(failed, outcome_of([1.0], [2.0], [0.0]))["exit_code"] == 70


def test_no_view_changes_the_document_or_leaves_ascii():
    run = Run((Outcome("naïve/δ.yaml", check(SPEC)),))
    plain = render("json", run, View())
    for view in (View(width=20), View(color=True), View(ascii=True), View(level=-1), View(level=1)):
        assert render("json", run, view) == plain
    assert plain.isascii()
    assert plain.endswith("}\n")
    assert strict(plain)["specs"][0]["spec"] == "naïve/δ.yaml"


def test_the_explanation_has_its_factors_in_the_order_of_the_derivation():
    document = strict(render("json", explain(SPEC), View(), "net.yaml"))
    assert (document["spec"], document["verdict"], document["exit_code"]) == ("net.yaml", "agrees", 0)
    layer = document["layers"][0]
    assert (layer["layer"], layer["above"], layer["batch_norm"]) == ("output", "", False)
    assert document["coefficient"] == pytest.approx(1 / len(problem_of((2, "sigmoid")).x))
    assert [factor["symbol"] for factor in layer["factors"]] == [
        "∂L/∂a", "∂a/∂z", "δ", "∂z/∂w", "∂z/∂b", "∂z/∂a⁽ʰ⁾", "∂L/∂w", "∂L/∂b", "∂L/∂a⁽ʰ⁾",
    ]  # fmt: skip
    delta = layer["factors"][2]
    assert (delta["formula"], delta["origin"]) == ("∂L/∂a · ∂a/∂z", "backprop")
    assert (delta["shape"], delta["verdict"], delta["agree"]) == ([5, 2], "agrees", 10)


def test_entries_covered_by_directions_are_counted_separately():
    analytic = np.array([[1.0, -2.0], [4.0, 0.0]])
    numerical, error = np.full((2, 2), np.nan), np.full((2, 2), np.inf)
    numerical[0, 0], error[0, 0] = 0.5, 1e-12
    covered = np.array([[False, True], [False, True]])
    projected = Projected(covered, ~covered & np.isinf(error), 1e-6, (Projection(1.0, 1.5, 1e-9),))
    comparison = Comparison("w", analytic, numerical, error, np.zeros((2, 2)), 1e-6, projected=projected)
    report = Report(
        (comparison,), "net", "its own loss", 0.5, "f", "adaptive", "directions", {"w": 1e-6}, way="Along."
    )
    (spec,) = rendered(Outcome("net.yaml", report))["specs"]
    (tensor,) = spec["tensors"]
    assert (spec["differences"], spec["way"]) == ("directions", "Along.")
    for counts in (spec, tensor):
        assert [counts[key] for key in ("agree", "projected", "wrong", "unresolved", "suspect")] == [
            2,
            2,
            1,
            1,
            1,
        ]
    assert tensor["place"] == "column 0"
    assert tensor["directions"] == [{"analytic": 1.0, "numerical": 1.5, "error": 1e-9}]
    assert tensor["worst"]["index"] == [0, 0]


def test_without_individually_checked_entries_there_is_no_worst():
    unknown = np.full(2, np.nan)
    projected = Projected(np.ones(2, dtype=bool), np.zeros(2, dtype=bool), 1e-6)
    comparison = Comparison(
        "w", np.ones(2), unknown, np.full(2, np.inf), np.zeros(2), 1e-6, projected=projected
    )
    report = Report((comparison,), "net", "its own loss", 0.5, "f", "adaptive", "directions", {"w": 1e-6})
    (spec,) = rendered(Outcome("net.yaml", report), show=3)["specs"]
    assert (spec["verdict"], spec["worst"], spec["tensors"][0]["worst"]) == ("agrees", [], None)
