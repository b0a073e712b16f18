"""Lay out text for a terminal, with tables that fit its width."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gradcheck_cli.formats.glyphs import escaped, to_ascii, without_commands
from gradcheck_cli.formats.view import View
from gradcheck_cli.verdict import Verdict

UNBOUNDED = 100_000
"""The width of rich's console, which is enough for any line. Each call of `print` sets a width of its own."""

INDENT = 2
"""The width of one indentation, and of the space between a table's columns."""

NARROWEST = 6
"""The smallest width of a column that folds."""

STYLES = {Verdict.AGREES: "green", Verdict.WRONG: "bold red", Verdict.UNRESOLVED: "yellow"}


class Page:
    """A console that collects its output as text, in the width and colours of a view."""

    def __init__(self, view: View) -> None:
        self.view = view
        self._sink = io.StringIO()
        self._console = Console(
            file=self._sink,
            width=UNBOUNDED,
            height=25,  # with a height given, rich asks neither the terminal nor TERM for a size
            force_terminal=view.color,
            color_system="256" if view.color else None,
            no_color=not view.color,
            highlight=False,
            emoji=False,
            markup=False,
            legacy_windows=False,
        )

    def line(self, text: str = "", style: str = "", indent: int = 0) -> None:
        """Add a paragraph, wrapped between words and indented. Without text, add an empty line."""
        paragraph = Text(_spelt(text, self.view), style=style)
        self._console.print(_indented(paragraph, indent) if text else "", width=self._columns)

    def item(self, text: str, style: str = "") -> None:
        """Add an item of a bulleted list."""
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_row(_spelt("·", self.view), Text(_spelt(text, self.view), style=style))
        self._console.print(_indented(grid, INDENT), width=self._columns)

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> list[Column]:
        """Add a table and return the columns that fit. If all headings are empty, they are left out.

        On a narrow terminal the least important columns are dropped first, then one column folds. A table
        that is still too wide runs over the edge, since numbers are never shortened.
        """
        table, widths = _table(columns, rows, self.view)
        self._console.print(table, width=_together(widths.values()))
        return [columns[i] for i in widths]

    def drawing(self, lines: Iterable[Text]) -> None:
        """Add lines that are never wrapped."""
        for line in lines:
            spelt = Text(_spelt(line.plain, self.view), spans=line.spans)
            self._console.print(spelt, width=UNBOUNDED, no_wrap=True)

    @property
    def text(self) -> str:
        lines = (line.rstrip() for line in self._sink.getvalue().split("\n"))
        return without_commands("\n".join(lines))

    @property
    def _columns(self) -> int:
        return self.view.width or UNBOUNDED


@dataclass(frozen=True)
class Column:
    """A column's heading, and how the column behaves on a narrow terminal.

    rank: a column of rank 0 is always shown. All other columns are added in order of rank if there is room.
    folds: whether cells wrap over several lines if there is still too little room.
    widest: the width to which the column folds before another column is dropped. If it is 0, the other column
        is dropped first.
    right: whether cells are aligned to the right.
    means: what the column shows, for the legend.
    """

    heading: str = ""
    rank: int = 0
    right: bool = False
    folds: bool = False
    widest: int = 0
    means: str = ""


def _indented(content: RenderableType, by: int) -> Padding:
    return Padding(content, (0, 0, 0, by), expand=False)


Cell = str | tuple[str, str]
"""The content of a table's cell: text, or a pair of text and style."""


def _table(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell]], view: View
) -> tuple[Table, dict[int, int]]:
    """Return a table of the columns that fit, and the width of each, by the column's index."""
    texts = [[_cell(cell, view) for cell in row] for row in rows]
    headings = [_spelt(column.heading, view) for column in columns]
    needed = [max([cell_len(head), *(row[i].cell_len for row in texts)]) for i, head in enumerate(headings)]
    widths = _fit(needed, columns, view.width or UNBOUNDED)
    table = Table(box=None, padding=(0, 0, 0, INDENT), header_style="bold", show_header=any(headings))
    for i, width in widths.items():
        justified: Literal["left", "right"] = "right" if columns[i].right else "left"
        table.add_column(headings[i], justify=justified, width=width, overflow="fold")
    for row in texts:
        table.add_row(*(row[i] for i in widths))
    return table, widths


def _cell(cell: Cell, view: View) -> Text:
    text, style = (cell, "") if isinstance(cell, str) else cell
    return Text(_spelt(text, view), style=style)


def _fit(needed: Sequence[int], columns: Sequence[Column], room: int) -> dict[int, int]:
    """Return the width of each column that fits, by the column's index.

    needed: the width at which each column would fit without folding.  room: the width of the terminal.
    """
    shown: set[int] = set()
    least = [min(width, column.widest or width) for width, column in zip(needed, columns, strict=True)]
    for rank in sorted({column.rank for column in columns}):
        more = shown | {i for i, column in enumerate(columns) if column.rank == rank}
        if rank == 0 or _together(least[i] for i in more) <= room:
            shown = more
    widths = {i: needed[i] for i in sorted(shown)}
    for i in widths:
        if columns[i].folds:
            excess = max(0, _together(widths.values()) - room)
            widths[i] = max(min(widths[i], NARROWEST), widths[i] - excess)
    return widths


def _together(widths: Iterable[int]) -> int:
    return sum(INDENT + width for width in widths)


def _spelt(text: str, view: View) -> str:
    return to_ascii(escaped(text)) if view.ascii else escaped(text)
