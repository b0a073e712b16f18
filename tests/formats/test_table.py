from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
from reports import HALF_KNOWN, NOT_FINITE, RIGHT, UNKNOWN, WRONG, ZERO, comparison, diagnosis, report
from text_tables import row_of, table_of, text_of

from gradcheck_cli.errors import Complaint, ExitCode
from gradcheck_cli.formats import View, render
from gradcheck_cli.formats.table import TENSOR_COLUMNS
from gradcheck_cli.formats.words.remarks import caught
from gradcheck_cli.formats.words.tensors import MANY
from gradcheck_cli.report import Outcome, Resolution, Run, Witness


def test_a_row_for_every_tensor_with_everything_there_is_to_know():
    lines = table_of(text_of(report(RIGHT, WRONG)))
    assert [re.split(r"\s{2,}", line.strip()) for line in lines] == [
        [
            "tensor", "shape", "entries", "rel error", "median", "detectable",
            "worst entry", "analytic", "numerical ± error", "verdict",
        ],
        ["output.weight", "1 × 3", "3", "0", "0", "1e-06", "[0, 0]", "1", "1 ± 1e-12", "agrees"],
        ["output.bias", "3", "3", "5.0e-01", "2.0e-01", "1e-06", "[2]", "3e-07", "6e-07 ± 1e-12", "2 wrong"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("tensor", "verdict"),
    [
        (RIGHT, "agrees"),
        (WRONG, "2 wrong"),
        (UNKNOWN, "2 unresolved"),
        (ZERO, "agrees, all 0"),
        (HALF_KNOWN, "agrees, 1 unresolved"),
        (NOT_FINITE, "2 wrong"),
    ],
    ids=["right", "wrong", "unknown", "zero", "noisy", "not finite"],
)
def test_a_tensors_verdict_says_how_many_entries_it_is_about(tensor, verdict):
    assert row_of(text_of(report(tensor)), tensor.name).endswith("  " + verdict)


def test_nan_and_infinity_are_spelled_out():
    assert " nan " in row_of(text_of(report(NOT_FINITE)), "output.bias")
    assert " -inf " in text_of(report(NOT_FINITE), show=2)
    assert " unknown " in row_of(text_of(report(UNKNOWN)), "hidden1.bias")
    assert re.search(r" – +– ", row_of(text_of(report(ZERO)), "hidden1.weight"))


def test_minus_zero_is_zero():
    row = row_of(text_of(report(comparison("output.bias", [-0.0], [-0.0], 0.0))), "output.bias")
    assert " 0 ± 0 " in row
    assert "-0" not in row


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ([RIGHT], "✓ agrees: all 3 entries."),
        ([HALF_KNOWN], "✓ agrees: 2 of 3 entries; the others could not be decided."),
        (
            [RIGHT, WRONG],
            (
                "✗ wrong: 2 of 6 entries, in output.bias; the worst, output.bias[2], is 3e-07; "
                "finite differences give 6e-07 ± 1e-12."
            ),
        ),
        ([RIGHT, UNKNOWN], "? unresolved: nothing wrong was found, but 2 of 5 entries could not be decided."),
        ([ZERO], "? unresolved: every gradient is 0 on both sides, so nothing was put to the test."),
    ],
    ids=["right", "noisy", "wrong", "unknown", "zero"],
)
def test_the_verdict_is_a_sentence_with_the_worst_entry_in_it(tensors, sentence):
    assert sentence in text_of(report(*tensors)).splitlines()


@pytest.mark.parametrize(("tensors", "where"), [(3, "a.w, b.w and c.w"), (4, "4 of 5 tensors")])
def test_many_wrong_tensors_are_counted_instead_of_named(tensors, where):
    wrong = [comparison(f"{letter}.w", [1.0], [2.0]) for letter in "abcd"[:tensors]]
    assert f"wrong: {tensors} of {tensors + 3} entries, in {where};" in text_of(report(*wrong, RIGHT))


def test_the_reason_for_unresolved_entries_is_given():
    text = text_of(report(HALF_KNOWN, UNKNOWN))
    assert "1 entry exceeds the tolerance, but by less than 3 error bars." in text
    assert "2 entries could not be estimated by differences: every step crosses a kink or overflows." in text
    assert "could not be" not in text_of(report(RIGHT))


def test_zeros_on_both_sides_are_counted():
    assert "2 entries are 0 on both sides" in text_of(report(RIGHT, ZERO))
    assert "0 on both sides" not in text_of(report(RIGHT))


@pytest.mark.parametrize(
    ("resolution", "says"),
    [
        (Resolution(1e-6, 1.2e-6, 1.2e-6), "single entry: 1.2e-06."),
        (
            Resolution(1e-6, 1.2e-6, 3e-3),
            "single entry: 1.2e-06 (median entry), 3.0e-03 (hardest entry).",
        ),
        (
            Resolution(1e-6, 1.2e-6, math.inf),
            "single entry: 1.2e-06 (median entry); in some entries, an error of any size would go",
        ),
        (
            Resolution(1e-6, math.inf, math.inf),
            "single entry: 1.0e-06 (easiest entry); in most entries, an error of any size would go",
        ),
        (Resolution(math.inf, math.inf, math.inf), "No error in a single entry, however large,"),
        (None, "No error in a single entry, however large,"),
    ],
)
def test_the_smallest_visible_error_is_reported(resolution, says):
    assert says in caught(resolution)


def test_the_smallest_visible_error_is_omitted_if_something_is_wrong():
    assert "Smallest detectable relative error" in text_of(report(RIGHT))
    assert "detectable relative error" not in text_of(report(RIGHT, WRONG))


def test_blind_spots_are_listed_below_the_verdict():
    lines = text_of(report(RIGHT, unexercised=("all biases are 0", "one sample"))).splitlines()
    start = lines.index("Not exercised by these data and parameters:")
    assert lines[start + 1 :] == ["  · all biases are 0", "  · one sample"]


def test_why_it_is_wrong_comes_right_after_the_verdict():
    lines = text_of(report(WRONG, diagnosis=diagnosis())).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("✗ wrong"))
    assert lines[start + 1 : start + 6] == [
        "Why: the activation's derivative is missing from δ of layer output.",
        "  · wrong: δ = ∂L/∂a   (see ∂a/∂z in gradcheck explain)",
        "  · right: δ = ∂L/∂a · a (1 − a)",
        "  · This explanation reproduces every entry, up to rounding.",
        "",
    ]
    assert lines[start + 6].split()[0] == "tensor"


def test_notes_come_after_the_numbers():
    lines = text_of(report(RIGHT, unusual=("one sample",), unexercised=("all biases are 0",))).splitlines()
    start = lines.index("Note: one sample.")
    assert lines.index(next(line for line in lines if line.split()[:1] == ["tensor"])) < start
    assert lines[start + 1 :] == ["Not exercised by these data and parameters:", "  · all biases are 0"]


@pytest.mark.parametrize(("tensors", "told"), [((RIGHT,), True), ((UNKNOWN,), True), ((RIGHT, WRONG), False)])
def test_blind_spots_are_listed_only_if_nothing_is_wrong(tensors, told):
    assert ("all biases" in text_of(report(*tensors, unexercised=("all biases are 0",)))) == told


# --- many tensors ------------------------------------------------------------------------------------------


def many(*more, agree=20):
    return report(*(replace(RIGHT, name=f"w{i}") for i in range(agree)), *more)


def test_agreeing_tensors_among_many_are_one_line():
    lines = table_of(text_of(many(WRONG, UNKNOWN)))
    assert [line.split()[0] for line in lines[1:3]] == [WRONG.name, UNKNOWN.name]
    assert lines[3:] == ["  20 other tensors (60 entries) agree."]


@pytest.mark.parametrize(
    ("found", "view"),
    [(many(WRONG), {"level": 1}), (many(), {}), (many(WRONG, agree=MANY - 1), {})],
    ids=["verbose", "all agree", "few"],
)
def test_agreeing_tensors_have_rows_if_requested_alone_or_few(found, view):
    text = text_of(found, **view)
    assert [row_of(text, comparison.name) for comparison in found.comparisons]
    assert "other tensor" not in text


def test_only_wrong_tensors_are_listed_if_requested():
    text = text_of(report(RIGHT, WRONG), only_wrong=True)
    assert [line.split()[0] for line in table_of(text)[1:-1]] == [WRONG.name]
    assert "  1 other tensor (3 entries) agrees.\n" in text
    assert "\n  1 tensor (3 entries) agrees.\n" in text_of(report(RIGHT), only_wrong=True)


@pytest.mark.parametrize("width", [40, 60, 80, 100, None])
def test_the_legend_explains_the_visible_columns(width):
    text = text_of(report(RIGHT, WRONG), width=width, level=1)
    heading = table_of(text)[0]
    told = " ".join(text.split())
    for column in TENSOR_COLUMNS:
        if column.means:
            assert (f"{column.heading}: {column.means}" in told) == (column.heading in heading)
    assert "the gradient being checked" not in text_of(report(RIGHT, WRONG), width=width)


# --- options of the view -----------------------------------------------------------------------------------


def test_the_worst_entries_of_all_tensors_are_listed_on_request():
    lines = text_of(report(RIGHT, WRONG), show=2).splitlines()
    start = lines.index("The worst of all 6 entries:")
    rows = [re.split(r"\s{2,}", line.strip()) for line in lines[start + 2 :]]
    assert rows == [
        ["output.bias", "[2]", "5.0e-01", "3e-07", "6e-07 ± 1e-12", "wrong"],
        ["output.bias", "[1]", "2.0e-01", "-2", "-2.5 ± 1e-12", "wrong"],
    ]
    assert "The worst" not in text_of(report(RIGHT, WRONG))


def test_quiet_is_one_line_per_spec_and_nothing_else():
    lines = text_of(report(RIGHT), report(WRONG), report(ZERO), level=-1, show=3).splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["✓ net0.yaml", "agrees"],
        ["✗ net1.yaml", "wrong"],
        ["? net2.yaml", "unresolved"],
    ]


def test_verbose_adds_tolerances_witness_and_time():
    text = text_of(report(RIGHT, WRONG, witness=Witness(8, 0.0123)), level=1)
    assert "  · rtol 1e-06 for every tensor\n" in text
    assert "witness: literal differences of 8 entries, drawn at random" in text
    assert "deviate from the unit differences by at most 0.012 error bars" in text
    assert text.endswith("  · 0.250 s\n")
    assert "witness" not in text_of(report(RIGHT, WRONG, witness=Witness(8, 0.0123)))


def test_tolerances_that_differ_are_listed_by_tensor():
    text = text_of(report(RIGHT, WRONG, rtol={"output.weight": 1e-6, "output.bias": 2e-6}), level=1)
    assert "rtol 1e-06 for output.weight\n" in text
    assert "rtol 2e-06 for output.bias\n" in text


def test_several_specs_are_summed_up():
    outcomes = [Outcome("a", report(tensor)) for tensor in (RIGHT, RIGHT, WRONG, ZERO)]
    outcomes += [Outcome("bad.yaml", complaints=(Complaint("no"),))]
    outcomes += [Outcome("odd.yaml", complaints=(Complaint("no"),), failure=ExitCode.DEFECT)]
    text = render("table", Run(tuple(outcomes)), View())
    assert "✗ bad.yaml: not checked; see the errors\n" in text
    assert "✗ odd.yaml: gradcheck itself failed; see the errors\n" in text
    assert text.endswith(
        "6 specs: 2 agree, 1 wrong, 1 unresolved, 1 not checked, 1 where gradcheck itself failed.\n"
    )
    assert "specs:" not in text_of(report(RIGHT))
