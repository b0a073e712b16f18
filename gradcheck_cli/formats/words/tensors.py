"""Describe a tensor: its verdict and, if it failed, its worst entries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from gradcheck_cli.comparison import Comparison, Entry
from gradcheck_cli.formats.view import View
from gradcheck_cli.formats.words.numbers import count, count_true, index, measured, number, relative
from gradcheck_cli.formats.words.why import diagnosed
from gradcheck_cli.report import NOT_ESTIMATED, Report, resolution_of
from gradcheck_cli.verdict import Verdict


def tensor_verdict(comparison: Comparison) -> str:
    """Return ``agrees``, or the number of entries that do not agree, such as ``50 wrong``."""
    if comparison.verdict is Verdict.WRONG and comparison.suspect.any():
        return f"{comparison.place} wrong" if comparison.place else "many wrong"
    if comparison.verdict is Verdict.WRONG:
        return f"{count_true(comparison.wrong):,} wrong"
    unresolved = f"{count_true(comparison.unresolved):,} unresolved"
    if comparison.verdict is Verdict.UNRESOLVED:
        return unresolved
    if comparison.unresolved.any():
        return f"agrees, {unresolved}"
    return "agrees, all 0" if comparison.untested else "agrees"


def against(entry: Entry, source: str = "", not_estimated: str = NOT_ESTIMATED) -> str:
    """Return an entry's two values: ``is 0.63; finite differences give 0.15 ± 9e-10``.

    source: the source of the second value, if it does not come from finite differences.
    not_estimated: the words for an entry that differences could not estimate.
    """
    if source:
        return f"is {number(entry.analytic)}; {source} has {number(entry.numerical)}"
    says = f"finite differences give {measured(entry.numerical, entry.error)}"
    return f"is {number(entry.analytic)}; {says if np.isfinite(entry.error) else not_estimated}"


def detectable(comparison: Comparison) -> str:
    """Format the smallest relative error that the check would have detected in the median entry."""
    resolution = resolution_of([comparison])
    return "–" if resolution is None or np.isinf(resolution.median) else f"{resolution.median:.0e}"


MANY = 12
"""If there are at most this many tensors, all of them are listed.

If there are more tensors, only those that do not agree are listed.
"""


def listed_tensors(report: Report, view: View) -> Sequence[Comparison]:
    """Return the tensors that get a row in the table: all tensors, or only those that do not agree."""
    failed = [c for c in report.comparisons if report.verdict_of(c) is not Verdict.AGREES]
    fold = view.only_wrong or (failed and len(report.comparisons) > MANY and view.level <= 0)
    return failed if fold else report.comparisons


def folded(report: Report, shown: Sequence[Comparison]) -> str:
    """Summarise the tensors without a row: ``19 other tensors (39,000 entries) agree``."""
    others = len(report.comparisons) - len(shown)
    entries = report.entries - sum(c.entries for c in shown)
    which = count(others, "other tensor" if shown else "tensor")
    return f"{which} ({count(entries, 'entry')}) {'agrees' if others == 1 else 'agree'}."


FEW = 3
"""The number of worst entries that are listed for each tensor."""


def headline(report: Report, comparison: Comparison) -> str:
    """Return one line that says how many entries of a tensor are wrong or unresolved."""
    if comparison.verdict is Verdict.WRONG:
        return f"{place_of(comparison)}: {_of(comparison.wrong | comparison.suspect, 'wrong')}"
    if report.entries == report.zero:
        return f"{comparison.name}: {NOTHING_TESTED}"
    if comparison.unresolved.any():
        return f"{comparison.name}: {_of(comparison.unresolved, 'unresolved')}"
    if comparison.untested:
        return f"{comparison.name}: every entry is 0 on both sides, so nothing was put to the test (--strict)"
    return f"{comparison.name}: {tensor_verdict(comparison)}"


NOTHING_TESTED = "every gradient is 0 on both sides, so nothing was put to the test"


def _of(mask: NDArray[np.bool_], what: str) -> str:
    if mask.size == 1:
        return f"its only entry is {what}"
    return f"{count_true(mask):,} of {mask.size:,} entries {'is' if count_true(mask) == 1 else 'are'} {what}"


def place_of(comparison: Comparison) -> str:
    """Return where a tensor is wrong, such as ``row 3 of output.weight``.

    If the wrong entries form no pattern, return just the tensor's name.
    """
    if comparison.place == "everything":
        return f"all of {comparison.name}"
    return f"{comparison.place} of {comparison.name}" if comparison.place else comparison.name


def quotient(report: Report) -> str:
    """Return the name of the ratio between the two values of an entry."""
    return f"{report.source} / {report.against}" if report.against else "analytic / numerical"


def describe(report: Report, comparison: Comparison, most: int = FEW) -> list[str]:
    """Describe a tensor that failed, in lines: a headline, the worst entries, and the reasons."""
    wrong = comparison.verdict is Verdict.WRONG
    lines = [headline(report, comparison), *_worst_entries(report, comparison, most)]
    if wrong and comparison.ratio is not None:
        lines.append(f"{quotient(report)} is {comparison.ratio:.6g}{in_every_entry(report, [comparison])}.")
    for said in diagnosed(report.diagnosis) if wrong else ():
        lines += [said.text, *(f"  {item}" for item in said.items)]
    return lines


def _worst_entries(report: Report, comparison: Comparison, most: int) -> Iterator[str]:
    failed = [entry for entry in comparison.worst(most) if entry.verdict is not Verdict.AGREES]
    for entry in failed:
        off, values = relative(entry.relative_error), against(entry, report.against, report.not_estimated)
        yield f"  {comparison.name}{index(entry.index)} {values} (relative error {off})"
    if more := count_true(comparison.measured & ~comparison.agrees) - len(failed):
        yield f"  and {more:,} more"


def in_every_entry(report: Report, comparisons: Sequence[Comparison]) -> str:
    """Return words for the entries that share a constant ratio; empty if each tensor has a single entry."""
    if all(c.analytic.size == 1 for c in comparisons):
        return ""
    return f" in every {'sampled ' if report.suspect else ''}entry"
