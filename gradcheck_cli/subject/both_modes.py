"""Put the reports of reverse mode and of another mode together: which of the two modes is wrong?"""

from __future__ import annotations

from dataclasses import replace

from gradcheck_cli.report import Report
from gradcheck_cli.verdict import Verdict

_REVERSE = "reverse mode (vjp)"


def of_both_modes(reverse: Report, other: Report, mode: str) -> Report:
    """Return the report to show for the two modes: the report of a wrong mode, or else of an undecided mode.

    If only one mode is wrong, the report says so.

    mode: the name of the mode of the report `other`.
    """
    wrong = [report for report in (reverse, other) if report.verdict is Verdict.WRONG]
    if not wrong:
        if not other.passed:
            return reverse if not reverse.passed else other
        return replace(reverse, unusual=(*reverse.unusual, f"{mode} agrees as well"))
    first, diagnosis = wrong[0], wrong[0].diagnosis
    right, faulty = (mode, _REVERSE) if first is reverse else (_REVERSE, mode)
    if len(wrong) == 2:
        place = f"{_REVERSE} and {mode} are both wrong"
    elif (other if first is reverse else reverse).passed:
        place = f"{right} agrees with finite differences, so the fault is in {faulty}"
    else:
        return first
    return replace(first, diagnosis=diagnosis and replace(diagnosis, places=(place, *diagnosis.places)))
