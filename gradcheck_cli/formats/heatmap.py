"""Draw heatmaps of relative errors in the terminal, so that a wrong row or column stands out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.color import Color, ColorSystem
from rich.style import Style
from rich.text import Text

from gradcheck_cli.comparison import Comparison
from gradcheck_cli.formats.matrix import matrix_shape
from gradcheck_cli.formats.text import INDENT, STYLES, Page
from gradcheck_cli.formats.view import View
from gradcheck_cli.formats.words.numbers import shape
from gradcheck_cli.formats.words.verdicts import MARKS
from gradcheck_cli.report import Report
from gradcheck_cli.verdict import Verdict

TALLEST = 32
"""The largest number of lines in a heatmap."""

WIDEST = 100
"""The largest width of a heatmap, in characters, if the output is not a terminal."""

SMALLEST, BRIGHT = -16, -6
"""The smallest relative error on the colour scale, and the smallest in a bright colour, as powers of ten.

Colours turn bright at the default rtol.
"""

EDGE = "dim"
"""The style of the frame around a coloured picture."""

PAPER = -1
"""Stands for no colour, so that the terminal's own background shows, dark or light."""

COLORS = (PAPER, PAPER, PAPER, PAPER, PAPER, PAPER, 60, 67, 72, 107, 227, 220, 214, 208, 202, 196, 197)
"""The colour of each power of ten from `SMALLEST` to 0, as an index into xterm's 256 colours.

An error below `BRIGHT` has no colour, or a muted one that is visible on black and on white. Larger errors go
from yellow to red.
"""

GREY = 244

SHADES = (
    (-math.inf, " ", " "),
    (-12, "·", "."),
    (-9, "░", ":"),
    (-6, "▒", "+"),
    (-3, "▓", "#"),
    (-1, "█", "@"),
)
"""The shades of a heatmap that has no colours.

Each row holds a power of ten, the character for errors of at least this size, and its substitute in ASCII.
"""

UNKNOWN = "?"


def draw_heatmaps(page: Page, report: Report) -> None:
    """Draw a legend, and a heatmap of each tensor that does not agree, or of every tensor if all agree.

    A tensor gets a heatmap only if its entries were checked individually.
    """
    moved = [comparison for comparison in report.comparisons if comparison.measured.any()]
    failed = [c for c in moved if report.verdict_of(c) is not Verdict.AGREES]
    for comparison in failed or moved:
        page.line()
        _draw(page, comparison)
    if moved:
        page.line()
        page.drawing([Text(" " * INDENT).append_text(_legend(page.view))])


def _draw(page: Page, comparison: Comparison) -> None:
    errors = _errors(comparison)
    wrong = (comparison.wrong | comparison.suspect).reshape(errors.shape)
    grid = _Grid.of(errors.shape, page.view)
    page.line(f"{comparison.name}, {shape(comparison.shape)}{grid.shrinks}", "bold", indent=INDENT)
    page.drawing([Text(grid.axis(errors.shape[1]))])
    cells = _worst(errors, *grid.by)
    marks = _worst(wrong, grid.by[0] * grid.stacked, errors.shape[1])[:, 0]
    for i, mark in enumerate(marks):
        line = Text(grid.label(i))
        line.append_text(_line(cells[i * grid.stacked : (i + 1) * grid.stacked], grid, page.view))
        if mark:
            line.append(" !" if page.view.ascii else f" {MARKS[Verdict.WRONG]}", STYLES[Verdict.WRONG])
        page.drawing([line])


def _errors(comparison: Comparison) -> NDArray[np.float64]:
    """Return log₁₀ of each entry's relative error, as a matrix.

    The logarithm is −∞ for an entry that tests nothing, and NaN for an entry whose error is unknown.
    """
    unknown = comparison.unresolved & np.isnan(comparison.relative_error)
    with np.errstate(divide="ignore"):
        powers = np.log10(np.where(comparison.telling, comparison.relative_error, 0.0))
    return np.where(unknown, np.nan, powers).reshape(matrix_shape(comparison.shape))


def _worst(array: NDArray[Any], tall: int, wide: int) -> NDArray[Any]:
    """Return the largest entry of each block of `tall` × `wide` entries.

    The result for a block is NaN only if all its entries are NaN.
    """
    rows = np.fmax.reduceat(array, np.arange(0, array.shape[0], tall), axis=0)
    return np.fmax.reduceat(rows, np.arange(0, array.shape[1], wide), axis=1)


@dataclass(frozen=True)
class _Grid:
    """The layout of a matrix's entries as lines of cells.

    by: the number of rows and the number of columns of the matrix that share a cell.
    wide: the width of a cell, in characters.
    stacked: the number of cells that share a character, one above the other in two colours.
    digits: the width of the row numbers.
    """

    by: tuple[int, int]
    wide: int
    stacked: int
    digits: int

    @classmethod
    def of(cls, matrix: tuple[int, ...], view: View) -> _Grid:
        rows, columns = matrix
        digits = len(str(rows - 1))
        room = max((view.width or WIDEST) - digits - 2 * INDENT - len(" || ✗"), 1)
        stacked = 2 if view.color and not view.ascii and rows > TALLEST else 1
        by = math.ceil(rows / (TALLEST * stacked)), math.ceil(columns / room)
        return cls(by, 2 if stacked == 1 and 2 * columns <= room else 1, stacked, digits)

    @property
    def shrinks(self) -> str:
        return f": each cell is the worst of {self.by[0]} × {self.by[1]} entries" if self.by != (1, 1) else ""

    def label(self, line: int) -> str:
        """Return a line's label: the number of its first row, aligned to the right."""
        return f"{line * self.by[0] * self.stacked:>{2 * INDENT + self.digits}} "

    def axis(self, columns: int) -> str:
        """Return the line above a heatmap. It shows the number of the first column in every tenth cell."""
        cells = math.ceil(columns / self.by[1])
        numbers = [str(cell * self.by[1]).ljust(10 * self.wide) for cell in range(0, cells, 10)]
        return " " * (2 * INDENT + self.digits + 2) + "".join(numbers)[: cells * self.wide].rstrip()


def _line(cells: NDArray[np.float64], grid: _Grid, view: View) -> Text:
    """Draw one line of the heatmap: one row of cells, or two rows if cells are stacked."""
    if not view.color:
        return Text("|" + "".join(_shade(power, view) * grid.wide for power in cells[0]) + "|")
    line = Text().append("|", EDGE)
    for powers in cells.T:
        line.append(*_colored(powers, grid, view))
    return line.append("|", EDGE)


def _shade(power: float, view: View) -> str:
    if math.isnan(power):
        return UNKNOWN
    return [ascii if view.ascii else shade for least, shade, ascii in SHADES if power >= least][-1]


def _colored(powers: NDArray[np.float64], grid: _Grid, view: View) -> tuple[str, Style]:
    colors = [_color(_number(power), view) for power in powers]
    if grid.stacked == 1:
        filling = UNKNOWN if math.isnan(powers[0]) else " "
        return filling * grid.wide, Style(bgcolor=colors[0])
    upper, lower = (*colors, None)[:2]
    if upper is None:  # a glyph without a colour would take the text's colour
        return ("▄", Style(color=lower)) if lower else (" ", Style())
    return "▀", Style(color=upper, bgcolor=lower)


def _number(power: float) -> int:
    """Return the colour for an error's power of ten, as an index into xterm's 256 colours, or `PAPER`."""
    if math.isnan(power):
        return GREY
    return COLORS[max(0, math.floor(min(power, 0.0)) - SMALLEST) if power > -math.inf else 0]


def _color(number: int, view: View) -> Color | None:
    """Return the nearest colour in the view's palette; None for `PAPER`.

    Leaving the choice to rich would be wrong, since rich caches styles.
    """
    if number == PAPER:
        return None
    color = Color.from_ansi(number)
    return color if view.palette == "256" else color.downgrade(ColorSystem.STANDARD)


def _legend(view: View) -> Text:
    """Return the legend, which shows the error that each colour or character stands for."""
    if not view.color:
        named = {least: f"{_shade(least, view)} 1e{least:.0f}" for least, *_ in SHADES[1:]}
        agree = "  ".join(text for least, text in named.items() if least < BRIGHT)
        wrong = "  ".join(text for least, text in named.items() if least >= BRIGHT)
        return Text(f"rel error {agree}  agree, {wrong}  wrong, {UNKNOWN} unknown")
    legend = Text("rel error  agree")
    for decade, color in enumerate(COLORS, SMALLEST):
        if decade in (SMALLEST, BRIGHT):
            legend.append(f" 1e{decade} ")
        legend.append(" ", Style(bgcolor=_color(color, view)))
    legend.append(" 1 wrong  ").append(UNKNOWN, Style(bgcolor=_color(GREY, view)))
    return legend.append(" unknown")
