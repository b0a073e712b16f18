"""What the texts for people share: a console of the reader's width, numbers, indices and glyphs."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gradcheck_cli.compare import Verdict
from gradcheck_cli.formats import View

UNBOUNDED = 100_000

STYLES = {Verdict.AGREES: "green", Verdict.WRONG: "bold red", Verdict.UNRESOLVED: "yellow"}
MARKS = {Verdict.AGREES: "✓", Verdict.WRONG: "✗", Verdict.UNRESOLVED: "?"}

_PLAIN = {
    "±": "+-", "×": "x", "·": "*", "✓": "ok:", "✗": "XX:", "…": "...", "−": "-", "–": "-", "—": "-", "’": "'",
    "∂": "d", "δ": "delta", "Σ": "sum", "σ": "sigma", "Φ": "Phi", "φ": "phi", "∈": "in", "ε": "eps",
    "⁽ʰ⁾": "_h", "ᵀ": "^T", "ₙ": "_n", "ᵢ": "_i", "ⱼ": "_j", "ₖ": "_k", "²": "^2", "ᶻ": "^z", "½": "1/2",
    "ℓ": "l", "→": "->", "≥": ">=", "≤": "<=",
}  # fmt: skip


class _Sink(io.StringIO):
    """A string buffer that tells rich which characters its reader can show."""

    def __init__(self, ascii: bool) -> None:
        super().__init__()
        self._encoding = "ascii" if ascii else "utf-8"

    @property
    def encoding(self) -> str:  # type: ignore[override]  # StringIO has none to give
        return self._encoding


class Page:
    """A console that collects what it is given, for `view`."""

    def __init__(self, view: View) -> None:
        self.view = view
        self._sink = _Sink(view.ascii)
        self._console = Console(
            file=self._sink,
            width=view.width or UNBOUNDED,
            force_terminal=view.color,
            color_system="standard" if view.color else None,
            no_color=not view.color,
            highlight=False,
            emoji=False,
            markup=False,
            legacy_windows=False,
        )

    def line(self, text: str = "", style: str = "") -> None:
        self._console.print(Text(plain(text, self.view), style=style), soft_wrap=self.view.width is None)

    def item(self, text: str, style: str = "") -> None:
        """A paragraph with its later lines indented under the first."""
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_row(Text("  " + plain("·", self.view)), Text(plain(text, self.view), style=style))
        self._console.print(grid)

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> None:
        table, width = _table(columns, rows, self.view)
        self._console.print(table, width=width, crop=False)  # rather past the edge than a number cut

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self._sink.getvalue().split("\n"))


class Column:
    """A heading, and how soon the column may go when the terminal is narrow (0 never, then highest first)."""

    def __init__(self, heading: str, keep: int = 0, right: bool = False) -> None:
        self.heading, self.keep, self.right = heading, keep, right


Cell = str | tuple[str, str]
"""Text, or text with its style."""


def _table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], view: View) -> tuple[Table, int]:
    """The columns that fit, each as wide as its widest cell, and the width they take together."""
    texts = [
        [
            Text(plain(cell, view)) if isinstance(cell, str) else Text(plain(cell[0], view), style=cell[1])
            for cell in row
        ]
        for row in rows
    ]
    shown = list(range(len(columns)))
    while view.width is not None and _natural_width(columns, texts, shown) > view.width:
        droppable = [i for i in shown if columns[i].keep > 0]
        if not droppable:
            break
        shown.remove(max(droppable, key=lambda i: columns[i].keep))
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for i in shown:
        table.add_column(
            "  " * (i == 0) + plain(columns[i].heading, view),
            justify="right" if columns[i].right else "left",
            no_wrap=True,
        )
    for row in texts:
        cells = [row[i] for i in shown]
        table.add_row(Text("  ").append_text(cells[0]), *cells[1:])
    return table, _natural_width(columns, texts, shown)


def _natural_width(columns: Sequence[Column], rows: Sequence[Sequence[Text]], shown: Sequence[int]) -> int:
    widths = (max([cell_len(columns[i].heading), *(row[i].cell_len for row in rows)]) for i in shown)
    return 2 + sum(width + 2 for width in widths)


def plain(text: str, view: View) -> str:
    """The text in ASCII where that is all the terminal has."""
    if not view.ascii:
        return text
    for glyph, replacement in _PLAIN.items():
        text = text.replace(glyph, replacement)
    return text.encode("ascii", "replace").decode("ascii")


def relative(value: float) -> str:
    """A relative error: 5.2e-13, 0 or, where there is none, a dash."""
    return "–" if math.isnan(value) else "0" if value == 0 else f"{value:.1e}"


def number(value: float) -> str:
    """A gradient's value to ten digits, which is more than rtol looks at."""
    if math.isnan(value):
        return "nan"
    return f"{value:.10g}"


def measured(value: float, error: float) -> str:
    """value ± error, or what kept it unknown."""
    return "unknown" if math.isinf(error) or math.isnan(value) else f"{number(value)} ± {error:.0e}"


def index(of: Sequence[int]) -> str:
    return "[" + ", ".join(map(str, of)) + "]"


def shape(of: Sequence[int]) -> str:
    return " × ".join(map(str, of))


def count(n: int, noun: str) -> str:
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{n:,} {noun if n == 1 else plural}"
