from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from reports import diagnosis

from gradcheck_cli.comparison import Comparison
from gradcheck_cli.errors import ExitCode
from gradcheck_cli.report import Outcome, Report, Run
from gradcheck_cli.verdict import Verdict, overall


def comparison(name: str, analytic, numerical, error=0.0) -> Comparison:
    analytic, numerical = np.array(analytic, dtype=float), np.array(numerical, dtype=float)
    return Comparison(
        name, analytic, numerical, np.full(analytic.shape, error), np.zeros(analytic.shape), 1e-6
    )


def report(*comparisons: Comparison) -> Report:
    return Report(comparisons, "4-3-2", "mse (batchmean)", 1.0, "backprop", "adaptive", "units", {})


RIGHT = comparison("output.weight", [1.0, 0.0], [1.0, 0.0])
WRONG = comparison("output.bias", [1.0, 2.0, 3.0], [1.0, 2.5, 6.0])
UNKNOWN = comparison("hidden1.bias", [1.0], [math.nan], math.inf)
ZERO = comparison("hidden1.weight", [0.0, 0.0], [0.0, 0.0])
NOISY = comparison("hidden1.bias", [1.0, 2e-6, 3.0], [1.0, 2.1e-6, 3.0], 1e-7)


@pytest.mark.parametrize(
    ("comparisons", "code"),
    [
        ([RIGHT], 0),
        ([RIGHT, WRONG], 1),
        ([UNKNOWN, WRONG], 1),
        ([RIGHT, UNKNOWN], 3),
        ([ZERO], 3),
        ([RIGHT, ZERO], 0),
        ([], 3),
    ],
)
def test_exit_code_is_a_property_of_the_report(comparisons, code):
    assert report(*comparisons).exit_code == code
    assert report(*comparisons).passed == (code == 0)


@pytest.mark.parametrize(
    ("comparisons", "strict", "verdicts"),
    [
        ([RIGHT, WRONG, UNKNOWN], False, ["agrees", "wrong", "unresolved"]),
        ([RIGHT, ZERO], False, ["agrees", "agrees"]),
        ([ZERO], False, ["unresolved"]),
        ([RIGHT, NOISY], False, ["agrees", "agrees"]),
        ([RIGHT, NOISY], True, ["agrees", "unresolved"]),
    ],
)
def test_a_tensors_part_in_the_verdict_is_explained(comparisons, strict, verdicts):
    whole = replace(report(*comparisons), strict=strict)
    assert [whole.verdict_of(comparison) for comparison in comparisons] == verdicts
    assert whole.verdict == overall([Verdict(verdict) for verdict in verdicts])


def test_one_tensor_reads_the_same_alone_and_among_all():
    whole = replace(report(RIGHT, WRONG, UNKNOWN), diagnosis=diagnosis())
    alone = whole.of("output.bias")
    assert (alone.comparisons, alone.rtol) == ((WRONG,), {"output.bias": WRONG.rtol})
    assert (alone.network, alone.loss, alone.wrong) == (whole.network, whole.loss, whole.wrong)
    assert alone.diagnosis is whole.diagnosis


def test_a_tensor_that_is_not_wrong_has_no_cause():
    whole = replace(report(RIGHT, WRONG, UNKNOWN), diagnosis=diagnosis())
    assert [whole.of(name).diagnosis for name in ("output.weight", "hidden1.bias")] == [None, None]


def test_counts_add_up():
    whole = report(RIGHT, WRONG, UNKNOWN, ZERO)
    assert (whole.entries, whole.agree, whole.wrong, whole.unresolved, whole.zero) == (8, 5, 2, 1, 3)
    assert whole.agree + whole.wrong + whole.unresolved == whole.entries


def test_worst_entries_of_all_tensors_come_worst_first():
    worst = report(RIGHT, WRONG, UNKNOWN).worst(4)
    assert [(name, entry.index) for name, entry in worst] == [
        ("output.bias", (2,)),
        ("output.bias", (1,)),
        ("hidden1.bias", (0,)),
        ("output.weight", (0,)),
    ]


def test_resolution_leaves_out_what_is_zero_on_both_sides():
    assert report(RIGHT, ZERO).resolution.largest == pytest.approx(1e-6)
    assert report(ZERO).resolution is None
    assert math.isinf(report(UNKNOWN).resolution.smallest)


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([], 3),
        ([Outcome("a", report(RIGHT))], 0),
        ([Outcome("a", report(RIGHT)), Outcome("b", report(UNKNOWN))], 3),
        ([Outcome("a", report(UNKNOWN)), Outcome("b", report(WRONG))], 1),
        ([Outcome("a", report(WRONG)), Outcome("b")], 2),
        ([Outcome("a"), Outcome("b", failure=ExitCode.DEFECT), Outcome("c", report(WRONG))], 70),
    ],
)
def test_the_worst_of_several_specs_wins(outcomes, code):
    assert Run(tuple(outcomes)).exit_code == code
