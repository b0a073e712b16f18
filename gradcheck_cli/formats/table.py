"""Render a run as text for people: a table with one row per tensor, and a few sentences."""

from __future__ import annotations

from collections.abc import Iterable

from gradcheck_cli.comparison import Comparison, Entry
from gradcheck_cli.formats.files import PLAIN
from gradcheck_cli.formats.text import INDENT, STYLES, Cell, Column, Page
from gradcheck_cli.formats.view import View
from gradcheck_cli.formats.words.numbers import count, index, measured, number, relative, shape
from gradcheck_cli.formats.words.remarks import asides, details, remarks
from gradcheck_cli.formats.words.tensors import detectable, folded, listed_tensors, tensor_verdict
from gradcheck_cli.formats.words.verdicts import (
    INDIVIDUALLY,
    MARKS,
    individually,
    one_line,
    sentence,
    subject,
    summary,
)
from gradcheck_cli.formats.words.why import Said, diagnosed
from gradcheck_cli.projected import Projection
from gradcheck_cli.report import Outcome, Report, Run
from gradcheck_cli.verdict import Verdict

WRITTEN = PLAIN


def render(run: Run, view: View) -> str:
    """Return the run as text that fits the width and colours of the view."""
    page = Page(view)
    for i, outcome in enumerate(run.outcomes):
        if i and view.level >= 0:
            page.line()
        if outcome.report is None or view.level < 0:
            verdict = outcome.report.verdict if outcome.report else Verdict.WRONG
            page.line(one_line(outcome), STYLES[verdict])
        else:
            _report(page, outcome, outcome.report)
    if len(run.outcomes) > 1 and view.level >= 0:
        page.line()
        page.line(summary(run))
    return page.text


def _report(page: Page, outcome: Outcome, report: Report) -> None:
    page.line(outcome.spec, "bold")
    for line in subject(report):
        page.line(line, indent=INDENT)
    page.line()
    page.line(f"{MARKS[report.verdict]} {sentence(report)}", STYLES[report.verdict])
    _say(page, diagnosed(report.diagnosis))
    page.line()
    _tensors(page, report)
    notes = (*map(Said, remarks(report)), *asides(report))
    if notes:
        page.line()
    _say(page, notes)
    worst = report.worst(page.view.show)
    if worst:
        page.line()
        page.line(
            f"The worst of all {count(individually(report), 'entry')}{INDIVIDUALLY[report.differences]}:"
        )
        page.table(ENTRY_COLUMNS, [entry_row(name, entry) for name, entry in worst])
    if page.view.heatmap:
        from gradcheck_cli.formats.heatmap import draw_heatmaps

        draw_heatmaps(page, report)
    if page.view.level > 0:
        page.line()
        for line in details(outcome, report):
            page.item(line)


def _tensors(page: Page, report: Report) -> None:
    """Add the table of tensors to the page and, with -v, a legend of its columns."""
    shown = listed_tensors(report, page.view)
    if shown:
        columns = page.table(tensor_columns(report), [tensor_row(comparison) for comparison in shown])
        if page.view.level > 0:
            page.line("; ".join(f"{c.heading}: {c.means}" for c in columns if c.means), indent=INDENT)
    if len(shown) < len(report.comparisons):
        page.line(folded(report, shown), indent=INDENT)


def _say(page: Page, said: Iterable[Said]) -> None:
    for each in said:
        page.line(each.text)
        for item in each.items:
            page.item(item)


_BY_DIFFERENCES = (
    Column("analytic", rank=3, right=True, means="a, the gradient being checked"),
    Column("numerical ± error", rank=3, right=True, means="n, by finite differences, with its error bar"),
)
_BY_ANOTHER_SOURCE = (
    Column("first", rank=3, right=True, means="a, the value in the first source"),
    Column("second ± rounding", rank=3, right=True, means="n, the value in the second source"),
)

TENSOR_COLUMNS = (
    Column("tensor", folds=True),
    Column("shape", rank=5, right=True),
    Column("entries", rank=6, right=True),
    Column("rel error", rank=1, right=True, means="the largest |a − n| / max(|a|, |n|)"),
    Column("median", rank=7, right=True, means="the relative error of the median entry"),
    Column(
        "detectable",
        rank=4,
        right=True,
        means="the smallest relative error that would have been detected in the median entry",
    ),
    Column("worst entry", rank=2),
    *_BY_DIFFERENCES,
    Column("verdict"),
)


def tensor_columns(report: Report) -> tuple[Column, ...]:
    """Return the columns of the table of tensors, with headings that name what was compared."""
    *columns, verdict = TENSOR_COLUMNS
    values = _BY_ANOTHER_SOURCE if report.against else _BY_DIFFERENCES
    return (*columns[: -len(values)], *values, verdict)


def tensor_row(comparison: Comparison) -> list[Cell]:
    """Return a tensor's cells, one for each column in `TENSOR_COLUMNS`."""
    style = _style(comparison)
    return [
        comparison.name,
        shape(comparison.shape),
        f"{comparison.entries:,}",
        (relative(comparison.max_relative_error), style),
        relative(comparison.median_relative_error),
        detectable(comparison),
        *_worst(comparison),
        (tensor_verdict(comparison), style),
    ]


def _worst(comparison: Comparison) -> list[Cell]:
    """Return the cells for the worst entry, or the worst direction if no entry was checked individually."""
    worst: Entry | Projection
    if comparison.directions:
        worst = max(comparison.directions, key=lambda direction: direction.relative_error)
        where = "direction"
    elif entries := comparison.worst():
        worst, where = entries[0], index(entries[0].index)
    else:
        return ["–", "–", "–"]
    return [where, number(worst.analytic), measured(worst.numerical, worst.error)]


def _style(comparison: Comparison) -> str:
    """Return the style of a tensor's verdict.

    A gradient of zeros agrees but tests nothing, so it is not green.
    """
    return STYLES[Verdict.UNRESOLVED if comparison.untested else comparison.verdict]


ENTRY_COLUMNS = (
    Column("tensor", folds=True),
    Column("entry"),
    Column("rel error", rank=3, right=True),
    Column("analytic", rank=1, right=True),
    Column("numerical ± error", rank=1, right=True),
    Column("verdict", rank=2),
)


def entry_row(name: str, entry: Entry) -> list[Cell]:
    """Return an entry's cells, one for each column in `ENTRY_COLUMNS`."""
    style = STYLES[entry.verdict]
    return [
        name,
        index(entry.index),
        (relative(entry.relative_error), style),
        number(entry.analytic),
        measured(entry.numerical, entry.error),
        (str(entry.verdict), style),
    ]
