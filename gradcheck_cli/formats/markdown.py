"""GitHub's Markdown, for a job summary, a comment or a wiki."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

from gradcheck_cli.comparison import Comparison, Verdict
from gradcheck_cli.errors import ExitCode
from gradcheck_cli.formats.derivation import chain_rule, definitions, derives, explained, notes
from gradcheck_cli.formats.files import Written
from gradcheck_cli.formats.glyphs import escaped, without_commands
from gradcheck_cli.formats.table import (
    ENTRY_COLUMNS,
    FACTOR_COLUMNS,
    TENSOR_COLUMNS,
    entry_row,
    factor_rows,
    tensor_row,
)
from gradcheck_cli.formats.text import Cell, Column
from gradcheck_cli.formats.view import View
from gradcheck_cli.formats.words.remarks import asides, details, remarks
from gradcheck_cli.formats.words.tensors import FEW, folded, listed_tensors
from gradcheck_cli.formats.words.verdicts import MARKS, one_line, sentence, subject, summary
from gradcheck_cli.formats.words.why import Said, diagnosed
from gradcheck_cli.report import Outcome, Report, Run

if TYPE_CHECKING:
    from gradcheck_cli.explain.explain import Derivation, Explanation

WRITTEN = Written((".md", ".markdown"), re.compile(r"^(### |- |<details><summary>)[✓✗?] ", re.MULTILINE))


def render(run: Run, view: View) -> str:
    """Return one section per spec, or with -q one line. If there are several, those that agree are folded."""
    if view.level < 0:
        return _list(one_line(outcome) for outcome in run.outcomes)
    sections = [
        (_folded if len(run.outcomes) > 1 and outcome.exit_code is ExitCode.AGREES else _section)(
            outcome, view
        )
        for outcome in run.outcomes
    ]
    if len(run.outcomes) > 1:
        sections.append(_text(summary(run)) + "\n")
    return "\n".join(sections)


def _section(outcome: Outcome, view: View) -> str:
    if outcome.report is None:
        complaints = "\n\n".join(map(str, outcome.complaints))
        return _blocks(f"### {_text(one_line(outcome))}", _fenced(complaints) if complaints else "")
    heading = f"### {MARKS[outcome.report.verdict]} {_text(outcome.spec)}"
    verdict = f"**{_text(sentence(outcome.report))}**"
    return _blocks(heading, _subject(outcome.report), verdict, *_found(outcome, outcome.report, view))


def _folded(outcome: Outcome, view: View) -> str:
    """Return the section of a spec that agrees, folded into a single line."""
    assert outcome.report is not None
    summary = f"<details><summary>{escape(escaped(one_line(outcome)))}</summary>"
    found = _found(outcome, outcome.report, view)
    return _blocks(summary, _subject(outcome.report), *found, "</details>")


def _subject(report: Report) -> str:
    return "  \n".join(map(_text, subject(report)))


def _found(outcome: Outcome, report: Report, view: View) -> Iterator[str]:
    """Yield the text that follows the verdict: the reasons, the numbers, and notes."""
    shown = listed_tensors(report, view)
    yield from map(_said, diagnosed(report.diagnosis))
    if shown:
        yield _table(TENSOR_COLUMNS, [_marked(report, comparison) for comparison in shown])
    if len(shown) < len(report.comparisons):
        yield _text(folded(report, shown))
    yield from map(_said, (*map(Said, remarks(report)), *asides(report)))
    worst = report.worst(view.show or (FEW if report.verdict is Verdict.WRONG else 0))
    if worst:
        yield "The worst entries:"
        yield _table(ENTRY_COLUMNS, [entry_row(name, entry) for name, entry in worst])
    if view.level > 0:
        yield _list(details(outcome, report))


def _marked(report: Report, comparison: Comparison) -> list[Cell]:
    """Return the row of a tensor, with a mark instead of a colour."""
    *row, verdict = tensor_row(comparison)
    return [*row, f"{MARKS[report.verdict_of(comparison)]} {_plain(verdict)}"]


def render_explanation(spec: str, explanation: Explanation, view: View) -> str:
    """Return the derivation with its formulas and a table of factors for each layer."""
    return _blocks(
        f"### {MARKS[explanation.verdict]} {_text(spec)}",
        _text(explanation.network),
        *(block for derivation in explanation.layers for block in _derivation(explanation, derivation)),
        f"**{_text(explained(explanation))}**",
        *map(_text, notes(explanation)),
    )


def _derivation(explanation: Explanation, derivation: Derivation) -> Iterator[str]:
    formulas = [f"{formula}  {remark}".strip() for formula, remark in definitions(explanation, derivation)]
    yield _text(derives(derivation))
    yield _fenced("\n".join([*formulas, "", *("  ".join(parts) for parts in chain_rule(derivation))]))
    yield _table(FACTOR_COLUMNS, factor_rows(derivation.factors))


def _blocks(*blocks: str) -> str:
    return "\n\n".join(block.rstrip("\n") for block in blocks if block) + "\n"


def _said(said: Said) -> str:
    return _blocks(_text(said.text), _list(said.items))


def _list(items: Iterable[str]) -> str:
    return "".join(f"- {_text(item)}\n" for item in items)


def _table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> str:
    """Return a table with all columns and digits: a viewer can scroll."""
    heading = [_text(column.heading) for column in columns]
    ruler = ["---:" if column.right else "---" for column in columns]
    cells = [[_text(_plain(cell)) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heading, ruler, *cells))


def _plain(cell: Cell) -> str:
    return cell if isinstance(cell, str) else cell[0]


_SPECIAL = re.compile(r"[\\`*_~|<>&$#\[]")


def _text(text: str) -> str:
    """Escape the text, so that nothing in it acts as markup, as HTML or as the end of a column."""
    plain = _SPECIAL.sub(lambda match: "\\" + match[0], escaped(text))
    return without_commands(plain, lambda character: "\\" + character)


def _fenced(text: str) -> str:
    """Return the text as a fenced block, with a fence longer than any inside."""
    lines = [without_commands(escaped(line)) for line in text.split("\n")]
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}text", *lines, fence])
