"""Render a run in GitHub's Markdown, for a job summary, a comment or a wiki."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape

from gradcheck_cli.comparison import Comparison
from gradcheck_cli.errors import ExitCode
from gradcheck_cli.formats.files import Written
from gradcheck_cli.formats.glyphs import escaped, without_commands
from gradcheck_cli.formats.table import (
    ENTRY_COLUMNS,
    entry_row,
    tensor_columns,
    tensor_row,
)
from gradcheck_cli.formats.text import Cell, Column
from gradcheck_cli.formats.view import View
from gradcheck_cli.formats.words.remarks import asides, details, remarks
from gradcheck_cli.formats.words.tensors import FEW, folded, listed_tensors
from gradcheck_cli.formats.words.verdicts import MARKS, one_line, sentence, subject, summary
from gradcheck_cli.formats.words.why import Said, diagnosed
from gradcheck_cli.report import Outcome, Report, Run
from gradcheck_cli.verdict import Verdict

WRITTEN = Written((".md", ".markdown"), re.compile(r"^(### |- |<details><summary>)[✓✗?] ", re.MULTILINE))


def render(run: Run, view: View) -> str:
    """Return a section for each spec or, with -q, one line for each spec.

    If there are several specs, the section of a spec that agrees is folded.
    """
    if view.level < 0:
        return bullets(one_line(outcome) for outcome in run.outcomes)
    sections = [
        (_folded if len(run.outcomes) > 1 and outcome.exit_code is ExitCode.AGREES else _section)(
            outcome, view
        )
        for outcome in run.outcomes
    ]
    if len(run.outcomes) > 1:
        sections.append(plain_text(summary(run)) + "\n")
    return "\n".join(sections)


def _section(outcome: Outcome, view: View) -> str:
    if outcome.report is None:
        complaints = "\n\n".join(map(str, outcome.complaints))
        return blocks(f"### {plain_text(one_line(outcome))}", fenced(complaints) if complaints else "")
    heading = f"### {MARKS[outcome.report.verdict]} {plain_text(outcome.spec)}"
    verdict = f"**{plain_text(sentence(outcome.report))}**"
    return blocks(heading, _subject(outcome.report), verdict, *_found(outcome, outcome.report, view))


def _folded(outcome: Outcome, view: View) -> str:
    """Return the section of a spec that agrees, folded into one line that can be expanded."""
    assert outcome.report is not None
    summary = f"<details><summary>{escape(escaped(one_line(outcome)))}</summary>"
    found = _found(outcome, outcome.report, view)
    return blocks(summary, _subject(outcome.report), *found, "</details>")


def _subject(report: Report) -> str:
    return "  \n".join(map(plain_text, subject(report)))


def _found(outcome: Outcome, report: Report, view: View) -> Iterator[str]:
    """Yield the blocks of text that follow the verdict: the diagnosis, the tables and the notes."""
    shown = listed_tensors(report, view)
    yield from map(_said, diagnosed(report.diagnosis))
    if shown:
        yield table(tensor_columns(report), [_marked(report, comparison) for comparison in shown])
    if len(shown) < len(report.comparisons):
        yield plain_text(folded(report, shown))
    yield from map(_said, (*map(Said, remarks(report)), *asides(report)))
    worst = report.worst(view.show or (FEW if report.verdict is Verdict.WRONG else 0))
    if worst:
        yield "The worst entries:"
        yield table(ENTRY_COLUMNS, [entry_row(name, entry) for name, entry in worst])
    if view.level > 0:
        yield bullets(details(outcome, report))


def _marked(report: Report, comparison: Comparison) -> list[Cell]:
    """Return the cells of a tensor's row. A mark precedes the verdict, since Markdown has no colours."""
    *row, verdict = tensor_row(comparison)
    return [*row, f"{MARKS[report.verdict_of(comparison)]} {_plain(verdict)}"]


def blocks(*blocks: str) -> str:
    """Join blocks of text with empty lines between them. Empty blocks are left out."""
    return "\n\n".join(block.rstrip("\n") for block in blocks if block) + "\n"


def _said(said: Said) -> str:
    return blocks(plain_text(said.text), bullets(said.items))


def bullets(items: Iterable[str]) -> str:
    """Return the items as a bulleted list."""
    return "".join(f"- {plain_text(item)}\n" for item in items)


def table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> str:
    """Return a table with all columns and digits, since the reader can scroll."""
    heading = [plain_text(column.heading) for column in columns]
    ruler = ["---:" if column.right else "---" for column in columns]
    cells = [[plain_text(_plain(cell)) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heading, ruler, *cells))


def _plain(cell: Cell) -> str:
    return cell if isinstance(cell, str) else cell[0]


_SPECIAL = re.compile(r"[\\`*_~|<>&$#\[]")


def plain_text(text: str) -> str:
    """Escape the text so that no character in it acts as markup, as HTML or as the end of a table cell."""
    plain = _SPECIAL.sub(lambda match: "\\" + match[0], escaped(text))
    return without_commands(plain, lambda character: "\\" + character)


def fenced(text: str) -> str:
    """Return the text as a fenced block. The fence is longer than any run of backticks in the text."""
    lines = [without_commands(escaped(line)) for line in text.split("\n")]
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}text", *lines, fence])
