"""Compare the output shown in documents with what a command prints, up to rounding.

Words, layout, verdicts, whole numbers and every significant digit must be the same. The size of rounding
errors, and which of the agreeing entries is the worst, differ between processors.
"""

from __future__ import annotations

import re

_NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]\d+)?")
_ERROR = re.compile(r"0|\d(?:\.\d)?e[-+]\d+")
"""Matches an error: one or two digits and a power of ten, or 0."""

_WORST_THAT_AGREES = re.compile(r"(\[[\d, ]+\])\s+\S+\s+\S+( ± \S+\s+agrees)$", re.MULTILINE)
_POINTS = re.compile("[┤│]|^ *best ")
"""Matches a line of a plot, or the line below the plot with the best step of each scheme."""

_SECONDS = re.compile(r"\bin [\d.]+s$", re.MULTILINE)

SMALL = 1e-4
"""Errors below this count as 0."""

DIGITS = 1e-6
"""The relative difference allowed between two numbers: six of ten digits must be the same."""


def settled(printed: str, shown: str) -> tuple[str, str]:
    """Return both texts for comparison, where numbers that differ only by rounding are made equal."""
    printed, shown = _plain(printed), _plain(shown)
    numbers = iter(_NUMBER.findall(shown))
    return _NUMBER.sub(lambda found: _chosen(found[0], next(numbers, "")), printed), shown


def outline(text: str) -> str:
    """Leave out everything that rounding affects: the points of a plot, and all numbers."""
    lines = (line for line in _plain(text).splitlines() if not _POINTS.search(line))
    return "\n".join(" ".join(_NUMBER.sub("0", line).split()) for line in lines)


def _plain(text: str) -> str:
    """Collapse the spaces between columns, since column widths depend on their contents."""
    text = _WORST_THAT_AGREES.sub(_anywhere, _SECONDS.sub("in …s", text.strip()))
    return "\n".join(line if "|" in line else " ".join(line.split()) for line in text.splitlines())


def _anywhere(found: re.Match[str]) -> str:
    return f"{re.sub('[0-9]+', '…', found[1])} … …{found[2]}"


def _chosen(printed: str, shown: str) -> str:
    return shown if _same(printed, shown) else printed


def _same(printed: str, shown: str) -> bool:
    if printed == shown or not shown:
        return printed == shown
    of_printed, of_shown = (float(number.replace(",", "")) for number in (printed, shown))
    if _ERROR.fullmatch(printed) and _ERROR.fullmatch(shown):
        return max(of_printed, of_shown) < SMALL
    return "." in printed and "." in shown and abs(of_printed - of_shown) <= DIGITS * of_shown
