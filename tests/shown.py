"""Output that is shown to readers beside what a command prints: the same but for rounding.

Words, layout, verdicts, whole numbers and every digit that means something must be the same. How large an
error is that rounding made, and which of the entries that agree is the worst, differs between processors.
"""

from __future__ import annotations

import re

_NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]\d+)?")
_ERROR = re.compile(r"0|\d(?:\.\d)?e[-+]\d+")
"""How an error is written: one digit or two, and a power of ten; or nothing at all."""

_WORST_THAT_AGREES = re.compile(r"(\[[\d, ]+\])\s+\S+\s+\S+( ± \S+\s+agrees)$", re.MULTILINE)
_SECONDS = re.compile(r"\bin [\d.]+s$", re.MULTILINE)

SMALL = 1e-4
"""An error below it says that there is none."""

DIGITS = 1e-6
"""By how much a number may be off, as a share of it: of ten digits six are the same."""


def settled(printed: str, shown: str) -> tuple[str, str]:
    """Both texts, to be compared: with the same number wherever two differ by no more than rounding."""
    printed, shown = _plain(printed), _plain(shown)
    numbers = iter(_NUMBER.findall(shown))
    return _NUMBER.sub(lambda found: _chosen(found[0], next(numbers, "")), printed), shown


def _plain(text: str) -> str:
    """Columns are as wide as what stands in them, so that spaces between them say nothing."""
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
