"""A logarithmic plot in character cells. The marks are glyphs, so the plot is readable without colours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rich.text import Text

Mark = tuple[str, str]
"""A glyph and its style."""

LABEL = 8
"""The width of the labels to the left of the plot."""


@dataclass(frozen=True)
class Axes:
    """The axes of a plot: x from 2 ** −octaves to 1, and y from 10 ** bottom to 10 ** top.

    An octave is a whole number of columns wide, so that powers of 2 are equally far apart.
    """

    octaves: int
    bottom: int
    top: int
    columns_per_octave: int
    rows_per_decade: float
    ascii: bool = False

    @property
    def columns(self) -> int:
        return self.octaves * self.columns_per_octave + 1

    @property
    def rows(self) -> int:
        return round((self.top - self.bottom) * self.rows_per_decade) + 1

    def column(self, x: float) -> int:
        return round((self.octaves + math.log2(x)) * self.columns_per_octave)

    def row(self, y: float) -> int:
        """Return the row for a value. A value beyond the axis is drawn at the nearest end of the axis."""
        row = round((self.top - math.log10(y)) * self.rows_per_decade) if y > 0 else self.rows
        return min(max(row, 0), self.rows - 1)

    def power(self, exponent: int) -> str:
        """Format a power of ten: ``10⁻¹²``, or ``1e-12`` in ASCII."""
        return f"1e{exponent}" if self.ascii else f"10{str(exponent).translate(_RAISED)}"


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Plot:
    """A plot of marks at points (x, y), with strips of marks below the axis."""

    def __init__(self, axes: Axes) -> None:
        self.axes = axes
        self._marks: dict[tuple[int, int], list[Mark]] = {}

    def put(self, x: float, y: float, glyph: str, style: str = "") -> None:
        """Add a mark, unless it is beyond the left end of the axis."""
        column = self.axes.column(x)
        if column >= 0:
            self._marks.setdefault((self.axes.row(y), column), []).append((glyph, style))

    def lines(self, x_label: str, every: int = 2, every_x: int = 3) -> Iterator[Text]:
        """Yield the lines of the plot, with a label every `every` decades of y and `every_x` decades of x."""
        axes = self.axes
        exponents = range(axes.bottom, axes.top + 1, every)
        labelled = {axes.row(10.0**exponent): axes.power(exponent) for exponent in exponents}
        for row in range(axes.rows):
            label = labelled.get(row, "")
            line = _margin(label, "┤" if label else "│")
            for column in range(axes.columns):
                line.append(*self._at(row, column))
            yield line
        yield from self._x_axis(x_label, every_x)

    def strip(self, label: str, marks: Iterable[tuple[float, str, str]]) -> Text:
        """Return a line of marks (x, glyph, style) to go below the plot."""
        cells: list[Mark] = [(" ", "")] * self.axes.columns
        for x, glyph, style in marks:
            if 0 <= self.axes.column(x) < len(cells):
                cells[self.axes.column(x)] = glyph, style
        return _margin(label, " ").append_tokens(cells)

    def _at(self, row: int, column: int) -> Mark:
        """Return the mark of a cell. Marks that share cells alternate by column, to show every curve."""
        marks = self._marks.get((row, column))
        return marks[column // self.axes.columns_per_octave % len(marks)] if marks else (" ", "")

    def _x_axis(self, label: str, every: int) -> Iterator[Text]:
        axes = self.axes
        exponents = range(0, -math.floor(axes.octaves * math.log10(2)) - 1, -every)
        at = {axes.column(10.0**exponent): axes.power(exponent) for exponent in exponents}
        yield _margin("", "└").append("".join("┬" if c in at else "─" for c in range(axes.columns)))
        yield _margin(label, " ").append(_labels(at, axes.columns))


def _labels(at: dict[int, str], columns: int) -> str:
    """Return the labels of x, each centred below its column as far as the ends allow."""
    line = [" "] * columns
    for column, label in at.items():
        start = min(max(column - len(label) // 2, 0), columns - len(label))
        line[start : start + len(label)] = label
    return "".join(line)


def _margin(label: str, edge: str) -> Text:
    return Text(f"{label:>{LABEL - 1}} {edge}")
