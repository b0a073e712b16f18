"""The text format of reports, its tables and their rows."""

from __future__ import annotations

import re

from gradcheck_cli.formats import View, render
from gradcheck_cli.report import Outcome, Report, Run

NUMBER = re.compile(r"[-+]?(?:\d[\d.,]*(?:e[-+]\d+)?|nan|inf)")


def text_of(*reports: Report, **view) -> str:
    outcomes = tuple(Outcome(f"net{i}.yaml", each, seconds=0.25) for i, each in enumerate(reports))
    return render("table", Run(outcomes), View(**view))


def table_of(text: str, first: str = "tensor") -> list[str]:
    """Return the lines from the heading to the next empty line."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.split()[:1] == [first])
    return lines[start : [*lines, ""].index("", start)]


def row_of(text: str, tensor: str) -> str:
    (row,) = [line for line in table_of(text) if line.split()[0] == tensor]
    return row


def styled_as(text: str, words: str) -> str:
    """Return the terminal's codes for the style of these words, such as 1;31 for bold red."""
    (style,) = set(re.findall(rf"\x1b\[([\d;]+)m{re.escape(words)} *\x1b", text))
    return style
