"""The HTML report as a parser reads it: its contents, its escaping, and that it is self-contained."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import sys
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from reports import EVERY_KIND, RIGHT, UNKNOWN, WRONG, ZERO, comparison, diagnosis, report

from gradcheck_cli import cli
from gradcheck_cli.diagnose.diagnosis import Answer, Diagnosis
from gradcheck_cli.errors import Complaint, ExitCode, Position
from gradcheck_cli.formats import FORMATS, PACKAGES, View, refuse_missing, render
from gradcheck_cli.formats.words import numbers, remarks, tensors, verdicts
from gradcheck_cli.projected import Projected, Projection
from gradcheck_cli.report import Outcome, Run, Witness

pytest.importorskip("jinja2")

VOID = {"meta", "link", "input", "br"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str | None]
    children: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        parts = [child if isinstance(child, str) else child.text for child in self.children]
        return "".join(parts) if self.tag == "pre" else " ".join("".join(parts).split())

    def all(self, tag: str, **attributes: str | None) -> list[Element]:
        """Return the elements below with these attributes; `class_` matches one class of several."""
        inside = [child for child in self.children if isinstance(child, Element)]
        below = [found for child in inside for found in child.all(tag, **attributes)]
        return [child for child in inside if child._is(tag, attributes)] + below

    def _is(self, tag: str, attributes: dict[str, str | None]) -> bool:
        classes = (self.attributes.get("class") or "").split()
        return self.tag == tag and all(
            value in classes if name == "class_" else self.attributes.get(name) == value
            for name, value in attributes.items()
        )


class Reader(HTMLParser):
    """A parser that builds the tree of a page and checks that every element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("document", {})]

    def handle_starttag(self, tag, attributes):
        assert len(dict(attributes)) == len(attributes), f"an attribute twice in <{tag}>"
        element = Element(tag, dict(attributes))
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, text):
        self.open[-1].children.append(text)


def page_of(*outcomes: Outcome, **view) -> str:
    return render("html", Run(outcomes), View(**view))


def tree_of(*outcomes: Outcome, **view) -> Element:
    reader = Reader()
    reader.feed(page_of(*outcomes, **view))
    reader.close()
    (document,) = reader.open
    return document


def outcome_of(*comparisons, name="net.yaml", **fields) -> Outcome:
    return Outcome(name, report(*comparisons, **fields), seconds=0.25)


def rows_of(tree: Element, kind: str = "tensors") -> list[list[str]]:
    """Return the cells of the first table of this kind, without the details below its rows."""
    (table, *_) = tree.all("table", class_=kind)
    bodies = [child for child in table.children if isinstance(child, Element) and child.tag == "tbody"]
    firsts = [next(c for c in body.children if isinstance(c, Element)) for body in bodies]
    return [[cell.text for cell in row.children if isinstance(cell, Element)] for row in firsts]


@pytest.mark.parametrize("kind", EVERY_KIND, ids=lambda kind: f"{kind.name} {kind.verdict}")
def test_a_tensor_has_a_row_its_entries_and_a_map(kind):
    tree = tree_of(outcome_of(kind))
    (row,) = rows_of(tree)
    assert row[0] == kind.name
    assert tensors.tensor_verdict(kind) in row[1]
    assert row[2:] == [
        numbers.shape(kind.shape),
        f"{kind.entries:,}",
        numbers.relative(kind.max_relative_error),
        numbers.relative(kind.median_relative_error),
        tensors.detectable(kind),
        numbers.index(kind.worst()[0].index),
        numbers.number(kind.worst()[0].analytic),
        numbers.measured(kind.worst()[0].numerical, kind.worst()[0].error),
    ]
    assert [button.text for button in tree.all("button", class_="goto")] == [
        numbers.index(entry.index) for entry in kind.worst(10)
    ]
    (figure,) = tree.all("figure")
    assert kind.name in figure.text
    assert verdicts.sentence(report(kind)) in tree.text


def test_ten_entries_of_a_tensor_are_listed_or_as_many_as_are_asked_for():
    many = comparison("output.weight", np.ones((5, 5)), np.ones((5, 5)))
    assert len(tree_of(outcome_of(many)).all("button", class_="goto")) == 10
    assert len(tree_of(outcome_of(many), show=3).all("button", class_="goto")) == 10
    assert len(tree_of(outcome_of(many), show=17).all("button", class_="goto")) == 17


def test_several_specs_have_a_table_that_leads_to_each():
    tree = tree_of(
        outcome_of(RIGHT, name="right.yaml"),
        outcome_of(WRONG, RIGHT, name="wrong.yaml"),
        Outcome("bad.yaml", complaints=(Complaint("unknown key"),)),
    )
    assert [[row[0], *row[2:]] for row in rows_of(tree, "sortable")] == [
        ["right.yaml", "1", "3", "0", "0", "0", "0.25"],
        ["wrong.yaml", "2", "6", "2", "0", "5.0e-01", "0.25"],
        ["bad.yaml", "–", "–", "–", "–", "–", "0.00"],
    ]
    assert [link.attributes["href"] for link in tree.all("a")] == ["#spec-0", "#spec-1", "#spec-2"]
    specs = tree.all("details", class_="spec")
    assert [spec.attributes["id"] for spec in specs] == ["spec-0", "spec-1", "spec-2"]
    assert ["open" in spec.attributes for spec in specs] == [False, True, True]
    assert "3 specs: 1 agree, 1 wrong, 1 not checked." in tree.text
    assert "exit code 2" in tree.text


def test_a_single_spec_needs_no_table_of_specs_and_is_open():
    tree = tree_of(outcome_of(RIGHT))
    assert [table.attributes["class"] for table in tree.all("table", class_="sortable")] == [
        "sortable tensors"
    ]
    assert "open" in tree.all("details", class_="spec")[0].attributes


def test_the_cause_stands_with_the_wrong_formula_beside_the_right_one():
    (why,) = tree_of(outcome_of(WRONG, diagnosis=diagnosis())).all("section", class_="why")
    assert [heading.text for heading in why.all("h3")] == ["Why"]
    assert [heading.text for heading in why.all("h4")] == [
        "the activation's derivative is missing from δ of layer output."
    ]
    (formulas,) = why.all("dl", class_="formulas")
    assert [each.text for each in formulas.all("dt")] == ["✗ wrong", "✓ right"]
    assert [each.text for each in formulas.all("dd")] == ["δ = ∂L/∂a", "δ = ∂L/∂a · a (1 − a)"]
    assert [each.text for each in why.all("li")] == [
        "in output",
        "factor of the chain rule: ∂a/∂z",
        "missing_activation_derivative",
    ]


def test_two_mistakes_at_once_differ_from_alternative_answers():
    (answer,) = diagnosis().answers
    (cause,) = answer.causes
    scaled = replace(
        cause, sentence="scaled.", factor="", where=(), unknown="the factor", value=10.0, wrong=""
    )
    found = Diagnosis((answer, Answer((cause, scaled), 3e-12)), 100, ("Row 3.",), (), "network")
    (why,) = tree_of(outcome_of(WRONG, diagnosis=found)).all("section", class_="why")
    assert [heading.text for heading in why.all("h3")] == ["Why", "Or, both at once"]
    assert len(why.all("h4")) == 3
    assert "the factor = 10" in [each.text for each in why.all("li")]
    assert "What is known: Row 3." in why.text
    assert len(why.all("dt")) == 5


def test_a_gradient_that_no_known_mistake_leads_to_keeps_what_is_known():
    found = Diagnosis((), 143, ("The fault lies in layer 'output'.",), ("output",), "network")
    (why,) = tree_of(outcome_of(WRONG, diagnosis=found)).all("section", class_="why")
    assert why.text == (
        "Why: unknown. gradcheck tried 143 wrong formulas, but none reproduces this gradient. "
        "What is known: The fault lies in layer 'output'."
    )
    assert not tree_of(outcome_of(WRONG)).all("section", class_="why")


def test_other_notes_use_the_words_of_the_table():
    fields = {
        "witness": Witness(4, 0.5, 0.25),
        "unexercised": ("all biases are 0",),
        "unusual": ("the gradients are float16",),
        "kinks": ("unit 3 of hidden1 at sample 4",),
    }
    outcome = outcome_of(UNKNOWN, ZERO, **fields)
    text = tree_of(outcome).all("section", class_="remarks")[0].text
    said = [*remarks.remarks(outcome.report), *remarks.details(outcome, outcome.report)]
    said += [part for aside in remarks.asides(outcome.report) for part in (aside.text, *aside.items)]
    assert [line for line in said if line not in text] == []
    assert len(said) > 9


def test_a_spec_that_was_not_checked_has_its_complaints_as_a_compiler_writes_them():
    position = Position("net.yaml", 4, 18, "      - {units: 8, activaton: tanh}")
    complaint = Complaint("unknown key 'activaton'", help="did you mean 'activation'?", position=position)
    tree = tree_of(Outcome("net.yaml", complaints=(complaint,)))
    (text,) = tree.all("pre")
    assert text.text.strip("\n") == str(complaint)
    assert "not checked; see the errors" in tree.text
    assert not tree.all("table")
    failed = Outcome("net.yaml", complaints=(Complaint("see above"),), failure=ExitCode.DEFECT)
    assert "gradcheck itself failed; see the errors" in tree_of(failed).text


def test_a_tensor_checked_only_along_directions_shows_these_and_no_map():
    unknown = comparison("w", np.ones(4), np.full(4, math.nan), math.inf)
    covered, nothing = np.ones(4, dtype=bool), np.zeros(4, dtype=bool)
    projected = Projected(covered, nothing, 1e-8, (Projection(1.0, 1.0, 1e-9), Projection(2.0, 2.1, 1e-9)))
    tree = tree_of(outcome_of(replace(unknown, projected=projected)))
    (row,) = rows_of(tree)
    assert row[7:] == ["direction", "2", "2.1 ± 1e-09"]
    assert "Along random directions" in tree.text
    assert not tree.all("figure")
    unmoved = replace(projected, directions=())
    assert rows_of(tree_of(outcome_of(replace(unknown, projected=unmoved))))[0][7:] == ["–", "–", "–"]


def test_a_tensor_without_entries_has_a_row_and_no_map():
    tree = tree_of(outcome_of(comparison("w", np.ones((2, 0)), np.ones((2, 0)))))
    assert rows_of(tree)[0][2:] == ["2 × 0", "0", "–", "–", "–", "–", "–", "–"]
    assert not tree.all("figure")


HOSTILE = (
    "<script>alert(1)</script>.yaml",
    '"><img src=x onerror=alert(1)>.yaml',
    "' autofocus onfocus=alert(1) x='",
    "</script><!--<script>",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt;",
    "&#0;",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_text_wherever_it_stands(name):
    plain = tree_of(outcome_of(WRONG, diagnosis=diagnosis()), outcome_of(RIGHT))
    found = diagnosis()
    cause = replace(
        found.answers[0].causes[0], sentence=name, wrong=name, right=name, where=(name,), factor=name
    )
    hostile = replace(
        report(replace(WRONG, name=name)),
        network=name,
        loss_name=name,
        source=name,
        unexercised=(name,),
        diagnosis=Diagnosis((Answer((cause,), 0.0),), 1, (), (), "network"),
    )
    tree = tree_of(Outcome(name, hostile), Outcome(name, complaints=(Complaint(name, help=name),)))
    assert {each.tag for each in everything(tree)} <= {each.tag for each in everything(plain)} | {"pre"}
    assert len(tree.all("script")) == 2
    assert tree.all("h2")[1].text == " ".join(name.split())
    assert json.loads(tree.all("script", id="data")[0].children[0])["maps"][0][0]["name"] == name


def test_unprintable_characters_are_escaped():
    text = page_of(outcome_of(WRONG, name="a\x1b[31m\u202e\udcff\n.yaml"))
    assert "a\\x1b[31m\\u202e\\udcff\\n.yaml" in text


def everything(element: Element) -> list[Element]:
    inside = [child for child in element.children if isinstance(child, Element)]
    return inside + [found for child in inside for found in everything(child)]


@pytest.fixture(scope="module")
def whole() -> str:
    """Return a page that contains everything."""
    return page_of(
        outcome_of(*EVERY_KIND, diagnosis=diagnosis()), Outcome("b.yaml", complaints=(Complaint("no"),))
    )


def test_the_page_refers_to_nothing_outside_of_it(whole):
    assert not re.search(r"https?:|//[a-z]|url\(|@import|\bfetch\b|XMLHttpRequest|WebSocket|import\(", whole)
    reader = Reader()
    reader.feed(whole)
    elements = everything(reader.open[0])
    assert not [
        each for each in elements if each.tag in {"img", "iframe", "object", "base", "audio", "video"}
    ]
    assert not [each for each in elements if {"src", "srcset", "action", "style"} & set(each.attributes)]
    assert not [name for each in elements for name in each.attributes if name.startswith("on")]
    links = [each.attributes["href"] for each in elements if "href" in each.attributes]
    assert [link for link in links if not link.startswith("#") and link != "data:,"] == []


def test_its_policy_allows_its_own_style_and_script_and_nothing_else(whole):
    reader = Reader()
    reader.feed(whole)
    (document,) = reader.open
    (policy,) = document.all("meta", **{"http-equiv": "Content-Security-Policy"})
    style, script = document.all("style")[0], document.all("script", id=None)[0]
    digests = [
        base64.b64encode(hashlib.sha256(part.children[0].encode()).digest()).decode()
        for part in (style, script)
    ]
    assert policy.attributes["content"] == (
        f"default-src 'none'; style-src 'sha256-{digests[0]}'; script-src 'sha256-{digests[1]}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def test_the_page_is_ascii_and_the_same_every_time(whole):
    assert whole.isascii()
    assert whole.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert whole.endswith("</html>\n")
    assert page_of(outcome_of(RIGHT)) == page_of(outcome_of(RIGHT))


def test_headings_go_down_by_one_and_controls_have_names(whole):
    reader = Reader()
    reader.feed(whole)
    elements = in_order(reader.open[0])
    levels = [int(each.tag[1]) for each in elements if re.fullmatch("h[1-6]", each.tag)]
    assert levels[0] == 1
    assert [pair for pair in pairwise(levels) if pair[1] > pair[0] + 1] == []
    assert levels.count(1) == 1
    for each in elements:
        if each.tag == "button":
            assert each.text or each.attributes.get("aria-label")
        if each.tag == "canvas" and "tabindex" in each.attributes:
            assert each.attributes["aria-label"]
    ids = [each.attributes["id"] for each in elements if "id" in each.attributes]
    assert len(ids) == len(set(ids))
    controls = [each.attributes["aria-controls"] for each in elements if "aria-controls" in each.attributes]
    assert set(controls) <= set(ids)


def in_order(element: Element) -> list[Element]:
    inside = [child for child in element.children if isinstance(child, Element)]
    return [found for child in inside for found in (child, *in_order(child))]


@pytest.mark.parametrize("asked", [["--format", "{}"], ["--report", "{}=report"]])
@pytest.mark.parametrize("format", PACKAGES)
def test_a_missing_package_is_reported_before_anything_is_checked(
    format, asked, monkeypatch, configs, capsys, tmp_path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, PACKAGES[format], None)
    with pytest.raises(SystemExit) as left:
        cli.main(["check", str(configs / "output_layer.yaml"), *(each.format(format) for each in asked)])
    assert left.value.code == ExitCode.BAD_INPUT
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        f"error: format {format} needs the package {PACKAGES[format]}, which is not installed\n"
        f"      = help: pip install {PACKAGES[format]}\n"
    )
    assert not list(tmp_path.iterdir())


def test_formats_without_packages_are_never_refused():
    for format in FORMATS.keys() - PACKAGES.keys():
        refuse_missing(format)
