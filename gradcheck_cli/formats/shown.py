"""Render a report as HTML for notebooks, and as text for rich."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from rich.text import Text

from gradcheck_cli.formats.glyphs import escaped
from gradcheck_cli.formats.table import TENSOR_COLUMNS, render, tensor_row
from gradcheck_cli.formats.text import STYLES, Cell
from gradcheck_cli.formats.view import View
from gradcheck_cli.formats.words.tensors import folded, listed_tensors
from gradcheck_cli.formats.words.verdicts import MARKS, sentence, subject
from gradcheck_cli.formats.words.why import diagnosed
from gradcheck_cli.report import Outcome, Report, Run
from gradcheck_cli.verdict import Verdict

# --- rich --------------------------------------------------------------------------------------------------


def as_text(report: Report, width: int, ascii: bool) -> Text:
    """Return the report as a `Text` of rich, in the colours that `gradcheck check` prints.

    rich drops the colours when it prints to a console without colours.
    width: the width of the text, in columns.  ascii: whether to use only ASCII characters.
    """
    view = View(width=width, color=True, ascii=ascii)
    printed = render(Run((Outcome(report.source, report),)), view)
    text = Text.from_ansi(printed.rstrip("\n"), no_wrap=True, overflow="ignore")
    text.end = "\n"
    return text


# --- a notebook --------------------------------------------------------------------------------------------

_COLORS = {
    STYLES[Verdict.AGREES]: "#268a47",
    STYLES[Verdict.WRONG]: "#d8434b",
    STYLES[Verdict.UNRESOLVED]: "#a07400",
}
"""The colour of each style.

All colours are readable on white and on black, since HTML cannot know the background of its notebook.
"""

_LAST = 3
"""Columns with a higher rank than this are not shown."""


def as_html(report: Report) -> str:
    """Return the verdict, its cause and a table of the tensors, with inline styles and no script."""
    shown = listed_tensors(report, View())
    verdict = f"{MARKS[report.verdict]} {sentence(report)}"
    return "".join(
        [
            '<div style="line-height: 1.5">',
            _paragraph(". ".join(subject(report)) + ".", "opacity: 0.75"),
            _paragraph(verdict, f"font-weight: bold; color: {_COLORS[STYLES[report.verdict]]}"),
            *_why(report),
            _table([tensor_row(comparison) for comparison in shown]) if shown else "",
            _paragraph(folded(report, shown)) if len(shown) < len(report.comparisons) else "",
            "</div>",
        ]
    )


def _why(report: Report) -> Iterator[str]:
    for said in diagnosed(report.diagnosis):
        yield _paragraph(said.text)
        if said.items:
            yield f'<ul style="margin: 0">{"".join(f"<li>{_text(item)}</li>" for item in said.items)}</ul>'


def _paragraph(text: str, style: str = "") -> str:
    return f'<div style="{style}">{_text(text)}</div>'


def _table(rows: Iterable[Sequence[Cell]]) -> str:
    shown = [i for i, column in enumerate(TENSOR_COLUMNS) if column.rank <= _LAST]
    heading = "".join(_cell("th", i, TENSOR_COLUMNS[i].heading) for i in shown)
    body = "".join(f"<tr>{''.join(_cell('td', i, row[i]) for i in shown)}</tr>" for row in rows)
    return (
        '<table style="margin: 0.5em 0; color: inherit; font: inherit; font-variant-numeric: tabular-nums">'
        f"<thead><tr>{heading}</tr></thead><tbody>{body}</tbody></table>"
    )


def _cell(tag: str, column: int, cell: Cell) -> str:
    text, style = (cell, "") if isinstance(cell, str) else cell
    color = f"; color: {_COLORS[style]}" if style in _COLORS else ""
    align = "right" if TENSOR_COLUMNS[column].right else "left"
    return f'<{tag} style="padding: 0.1em 0.8em; text-align: {align}{color}">{_text(text)}</{tag}>'


def _text(text: str) -> str:
    return escape(escaped(text))
