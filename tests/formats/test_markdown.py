from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

import pytest
from build import spec_of
from markdown_it import MarkdownIt
from reports import EVERY_KIND, HALF_KNOWN, RIGHT, UNKNOWN, WRONG, comparison, diagnosis, report

from gradcheck_cli.errors import Complaint, Position
from gradcheck_cli.explain.explain import explain
from gradcheck_cli.formats import View, render
from gradcheck_cli.formats.table import TENSOR_COLUMNS
from gradcheck_cli.report import Outcome, Report, Run

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def text_of(*reports: Report, **view) -> str:
    outcomes = tuple(Outcome(f"net{i}.yaml", each, seconds=0.25) for i, each in enumerate(reports))
    return render("markdown", Run(outcomes), View(**view))


SEEN = {"text", "text_special", "hardbreak", "strong_open", "strong_close"}
"""Markdown elements that count; gradcheck never writes links, code or HTML on purpose."""


def elements(markdown: str) -> Iterator[tuple[str, str]]:
    """Return what a reader sees, each piece with the kind of its element; a row begins with an empty one."""
    for before, token in pairwise(PARSER.parse(markdown)):
        if token.type == "inline":
            assert {child.type for child in token.children} <= SEEN
            yield before.tag, "".join(child.content for child in token.children)
        if token.type == "tr_open":
            yield "tr", ""


def texts(markdown: str, tag: str) -> list[str]:
    return [text for kind, text in elements(markdown) if kind == tag]


def rows_of(markdown: str) -> list[list[str]]:
    rows: list[list[str]] = []
    for kind, text in elements(markdown):
        if kind == "tr":
            rows.append([])
        elif kind == "td":
            rows[-1].append(text)
    return [row for row in rows if row]


def test_a_table_of_all_tensors_with_every_column():
    text = text_of(report(RIGHT, UNKNOWN))
    assert texts(text, "th") == [column.heading for column in TENSOR_COLUMNS]
    assert rows_of(text) == [
        ["output.weight", "1 × 3", "3", "0", "0", "1e-06", "[0, 0]", "1", "1 ± 1e-12", "✓ agrees"],
        ["hidden1.bias", "2", "2", "–", "–", "–", "[0]", "1", "unknown", "? 2 unresolved"],
    ]


def test_the_verdict_the_reason_and_the_worst_entries_of_what_is_wrong():
    text = text_of(report(WRONG, diagnosis=diagnosis(), unusual=("one sample",)))
    assert text.startswith("### ✗ net0.yaml\n\n")
    verdict, why, *rest = [line for line in texts(text, "p") if line][1:]
    assert verdict.startswith("wrong: 2 of 3 entries, in output.bias; the worst, output.bias[2], is 3e-07")
    assert why == "Why: the activation's derivative is missing from δ of layer output."
    assert "right: δ = ∂L/∂a · a (1 − a)" in rest
    assert "Note: one sample." in rest
    assert "| output.bias | \\[1] | 2.0e-01 | -2 | -2.5 ± 1e-12 | wrong |" in text


def test_entries_are_shown_of_what_is_wrong_or_as_many_as_asked_for():
    many = comparison("w", [1.0] * 9, [2.0] * 9)
    assert "worst entries" not in text_of(report(RIGHT))
    assert text_of(report(RIGHT), show=2).count("| output.weight |") == 3
    assert text_of(report(many)).count("| w |") == 4
    assert text_of(report(many), show=5).count("| w |") == 6


def test_a_spec_that_could_not_be_checked_shows_its_errors():
    complaint = Complaint("unknown key", help="try 'key'", position=Position("a.yaml", 3, 5, "x: ``y"))
    text = render("markdown", Run((Outcome("a.yaml", complaints=(complaint,)),)), View())
    assert text.startswith("### ✗ a.yaml: not checked; see the errors\n\n")
    (fence,) = [token for token in PARSER.parse(text) if token.type == "fence"]
    assert fence.content == f"{complaint}\n"


def test_no_fence_is_closed_by_what_is_in_it():
    complaint = Complaint("bad", position=Position("a.yaml", 1, 1, "````` <b>"))
    text = render("markdown", Run((Outcome("a.yaml", complaints=(complaint,)),)), View())
    (fence,) = [token for token in PARSER.parse(text) if token.type == "fence"]
    assert fence.content == f"{complaint}\n"


@pytest.mark.parametrize(
    "name",
    [
        "a|b", "`a`", "<b>a</b>", "a*b*c", "_a_", "[a](http://b)", "![a](b)", "a\\|b", "&amp;", "$a$",
        "~~a~~", "# a", "a\\",
    ],
)  # fmt: skip
def test_no_name_is_mistaken_for_markup(name):
    text = text_of(report(comparison(name, [1.0], [1.0]), unexercised=(name,)))
    assert rows_of(text)[0][0] == name
    assert name in texts(text, "p")
    run = Run((Outcome(name, report(RIGHT)),))
    assert texts(render("markdown", run, View()), "h3") == [f"✓ {name}"]


LARGE = [
    comparison("hidden10.weight", [[-1.23456789e-10, 2.0]], [[-1.23456788e-10, 2.0]], 1e-21),
    comparison("output.bias", [-0.0001234567891] * 1234, [0.0001234567891] * 1234, 1e-19),
]


@pytest.mark.parametrize("width", [None, 40, 80, 200])
def test_no_number_is_cut_however_narrow_the_terminal(width):
    text = text_of(report(*LARGE), width=width)
    for number in ("-1.23456789e-10", "-1.23456788e-10 ± 1e-21", "-0.0001234567891", "1,234 wrong"):
        assert number in text
    assert text == text_of(report(*LARGE))


def test_quiet_is_a_list_with_a_line_for_every_spec_and_verbose_says_more():
    lines = text_of(report(RIGHT), report(WRONG), level=-1).splitlines()
    assert [line[:14] for line in lines] == ["- ✓ net0.yaml:", "- ✗ net1.yaml:"]
    normal, verbose = (text_of(report(RIGHT), level=level) for level in (0, 1))
    assert verbose.startswith(normal)
    assert "- 0.250 s\n" in verbose


def test_several_specs_have_a_section_each_and_are_summed_up():
    text = text_of(*map(report, EVERY_KIND))
    assert len(re.findall(r"^(?:### |<details><summary>)", text, re.MULTILINE)) == len(EVERY_KIND)
    assert text.endswith("\n6 specs: 2 agree, 2 wrong, 2 unresolved.\n")
    assert "\n\n\n" not in text


def test_agreeing_specs_among_several_are_folded():
    run = Run((Outcome("a<b.yaml", report(RIGHT)), Outcome("c.yaml", report(WRONG))))
    text = render("markdown", run, View())
    folded = re.search(
        r"^<details><summary>✓ a&lt;b.yaml: agrees: (.*?)</summary>\n\n(.*)\n\n</details>$", text, re.M | re.S
    )
    assert folded
    assert RIGHT.name in folded[2]
    assert WRONG.name not in folded[2]
    assert text.count("<details>") == 1


def test_a_tensor_has_its_part_in_the_verdict():
    strictly = text_of(report(RIGHT, HALF_KNOWN, strict=True))
    assert [row[-1] for row in rows_of(strictly)] == ["✓ agrees", "? agrees, 1 unresolved"]


def test_a_derivation_has_a_row_for_every_factor():
    explanation = explain(spec_of((3, "tanh"), (2, "sigmoid")), "output")
    text = render("markdown", explanation, View(), "net.yaml")
    assert [row[0] for row in rows_of(text)] == [factor.symbol for factor in explanation.factors]
    (formulas,) = [token.content for token in PARSER.parse(text) if token.type == "fence"]
    assert "L = c Σₙ mse(aₙ, yₙ)  with c = 0.2\n" in formulas
    assert text.endswith("**agrees: every factor matches the differences of its own step.**\n")
