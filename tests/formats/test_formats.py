"""Properties that every format shares."""

from __future__ import annotations

import re
from importlib import import_module
from inspect import signature

import pytest
from build import spec_of
from reports import EVERY_KIND, RIGHT, WRONG, comparison, diagnosis, report

from gradcheck_cli.errors import Complaint, ExitCode, Position
from gradcheck_cli.explain.explain import Explanation, explain
from gradcheck_cli.formats import FORMATS, RENDERERS, View, render
from gradcheck_cli.mutate.mutate import Mutation
from gradcheck_cli.report import Outcome, Run
from gradcheck_cli.sweep.sweep import Sweep

NASTY = "\x1b[2J\x00 <b>|`\r\n]]>&%,: \udcff\ufffe.weight"

BAD = Outcome("bad.yaml", complaints=(Complaint("no", help="yes", position=Position("bad.yaml", 3, 5, "x")),))
BROKEN = Outcome("odd.yaml", complaints=(Complaint("oh"),), failure=ExitCode.DEFECT)
RUN = Run(
    (
        *(Outcome(f"{i}.yaml", report(tensor, RIGHT)) for i, tensor in enumerate(EVERY_KIND)),
        Outcome("why.yaml", report(WRONG, diagnosis=diagnosis())),
        BAD,
        BROKEN,
    )
)


@pytest.mark.parametrize("format", FORMATS)
def test_every_outcome_of_a_spec_is_in_the_text(format):
    text = render(format, RUN, View())
    assert text.endswith("\n")
    for outcome in RUN.outcomes:
        assert outcome.spec in text


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("level", [-1, 0, 1])
def test_no_name_can_steer_a_terminal_or_spoil_the_encoding(format, level):
    hostile = Outcome(NASTY, report(comparison(NASTY, [1.0], [2.0]), unexercised=(NASTY,)))
    complaint = Complaint(NASTY, help=NASTY, position=Position(NASTY, 1, 1, NASTY))
    refused = Outcome(NASTY, complaints=(complaint,))
    text = render(format, Run((hostile, refused)), View(level=level, show=1))
    text.encode("utf-8")
    assert all(character.isprintable() for character in text.replace("\n", ""))


@pytest.mark.parametrize("format", [format for format in FORMATS if format != "table"])
def test_the_terminal_changes_nothing_but_the_table(format):
    plain = render(format, RUN, View(show=2))
    for view in (View(width=20, show=2), View(color=True, show=2), View(ascii=True, show=2)):
        assert render(format, RUN, view) == plain


@pytest.mark.parametrize("format", [format for format in FORMATS if format not in ("json", "junit", "html")])
def test_texts_for_people_say_why(format):
    text = render(format, RUN, View())
    assert "Why: the activation's derivative is missing from δ of layer output." in text
    assert "right: δ = ∂L/∂a · a (1 − a)" in text


RESULTS = {"Run": Run, "Explanation": Explanation, "Sweep": Sweep, "Mutation": Mutation}


def test_every_type_of_result_is_rendered_by_modules_that_can():
    assert set(RESULTS) == set(RENDERERS)
    for name, formats in RENDERERS.items():
        assert RESULTS[name].__name__ == name
        for module in formats.values():
            (first, *_) = signature(import_module(module).render).parameters.values()
            assert first.annotation == name, module


@pytest.mark.parametrize("format", RENDERERS["Explanation"])
def test_every_factor_is_in_a_derivation(format):
    explanation = explain(spec_of((3, "tanh"), (2, "sigmoid")), "output")
    text = render(format, explanation, View(), "net.yaml")
    for factor in explanation.factors:
        assert re.search(factor.symbol if format != "json" else factor.comparison.name, text)
