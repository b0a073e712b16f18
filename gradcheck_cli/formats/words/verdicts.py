"""The verdict on a spec or a run in one sentence."""

from __future__ import annotations

import numpy as np

from gradcheck_cli.errors import ExitCode
from gradcheck_cli.formats.words.coarse import coarsely
from gradcheck_cli.formats.words.numbers import count, count_true, index, listed
from gradcheck_cli.formats.words.tensors import NOTHING_TESTED, against, place_of
from gradcheck_cli.report import Outcome, Report, Run
from gradcheck_cli.verdict import Verdict

MARKS = {Verdict.AGREES: "✓", Verdict.WRONG: "✗", Verdict.UNRESOLVED: "?"}


def subject(report: Report) -> list[str]:
    """Return two lines that say what was checked, and against what."""
    if report.against:
        return [report.network, f"{report.source} against {report.against}"]
    differences = f"finite differences ({report.scheme}, {report.differences})"
    return [
        f"{report.network}; {report.loss_name} {report.loss:.6g}",
        f"{report.source} against {differences}",
    ]


def failed(outcome: Outcome) -> str:
    """Return the reason why a spec has no report."""
    if outcome.exit_code is ExitCode.DEFECT:
        return "gradcheck itself failed; see the errors"
    if outcome.exit_code is ExitCode.INTERRUPTED:
        return "interrupted before it was checked"
    return "not checked; see the errors"


def one_line(outcome: Outcome) -> str:
    """Return the verdict on a spec with its mark, or the reason why there is no verdict."""
    if outcome.report is None:
        return f"{MARKS[Verdict.WRONG]} {outcome.spec}: {failed(outcome)}"
    return f"{MARKS[outcome.report.verdict]} {outcome.spec}: {sentence(outcome.report)}"


def sentence(report: Report) -> str:
    """Return the verdict and its basis in one sentence."""
    if report.verdict is Verdict.WRONG:
        return f"wrong: {_wrong_entries(report)}; {_worst(report)}."
    if report.verdict is Verdict.UNRESOLVED and report.entries == report.zero:
        return f"unresolved: {NOTHING_TESTED}."
    untested = [_untested(report)] if report.untested else []
    if report.verdict is Verdict.UNRESOLVED:
        strictly = "strictly " if all(c.verdict is Verdict.AGREES for c in report.comparisons) else ""
        undecided = f"{report.unresolved:,} of {count(report.entries, 'entry')} could not be decided"
        reasons = "; ".join([undecided] * bool(report.unresolved) + untested)
        return f"{strictly}unresolved: nothing wrong was found, but {reasons}."
    if report.unresolved:
        agree = f"{report.agree:,} of {count(report.entries, 'entry')}{_by_atol(report)}"
        parts = [agree, "the others could not be decided", *untested]
        return f"agrees: {'; '.join(parts)}{coarsely(report)}."
    all_of_them = f"all {count(report.entries, 'entry')}" + ", along random directions" * bool(
        report.projected
    )
    return f"agrees: {'; '.join([all_of_them + _by_atol(report), *untested])}{coarsely(report)}."


def _by_atol(report: Report) -> str:
    """Return words for the entries that agree only because of the absolute tolerance, if there are any."""
    return f", {report.by_atol:,} only because of atol {report.atol:g}" if report.by_atol else ""


def _wrong_entries(report: Report) -> str:
    """Return the number and place of wrong entries, such as ``51 of 510 entries, in w and b``."""
    wrong = [place_of(c) for c in report.comparisons if c.verdict is Verdict.WRONG]
    where = listed(wrong) if len(wrong) <= 3 else _of_tensors(len(wrong), len(report.comparisons))
    if report.suspect:
        return f"{where} ({report.wrong:,} of {count(individually(report), 'sampled entry')})"
    return f"{report.wrong:,} of {count(report.entries, 'entry')}, in {where}"


def _of_tensors(some: int, tensors: int) -> str:
    return f"all {tensors} tensors" if some == tensors else f"{some} of {tensors} tensors"


def _worst(report: Report) -> str:
    """Return the name of the worst entry and its two values."""
    name, worst = report.worst(1)[0]
    which = "the worst" if np.isfinite(worst.analytic) else "the first that is not finite"
    return f"{which}, {name}{index(worst.index)}, {against(worst, report.against, report.not_estimated)}"


def _untested(report: Report) -> str:
    """Return words for the tensors of zeros: ``x and gamma were not put to the test: 0 on both sides``."""
    names, tensors = report.untested, len(report.comparisons)
    which = listed(names) if len(names) <= 3 else _of_tensors(len(names), tensors)
    return f"{which} {'was' if len(names) == 1 else 'were'} not put to the test: 0 on both sides"


INDIVIDUALLY = {"units": "", "compared": "", "literal": "", "directions": " checked individually"}


def individually(report: Report) -> int:
    """Return the number of entries that were judged individually, and not only along a direction."""
    return sum(count_true(c.measured) for c in report.comparisons)


def summary(run: Run) -> str:
    """Return the number of specs by verdict: ``3 specs: 2 agree, 1 wrong``."""
    codes = [outcome.exit_code for outcome in run.outcomes]
    parts = [
        f"{codes.count(code):,} {word}"
        for code, word in (
            (ExitCode.AGREES, "agree"),
            (ExitCode.WRONG, "wrong"),
            (ExitCode.UNDECIDED, "unresolved"),
            (ExitCode.BAD_INPUT, "not checked"),
            (ExitCode.DEFECT, "where gradcheck itself failed"),
            (ExitCode.INTERRUPTED, "interrupted"),
        )
        if code in codes
    ]
    return f"{count(len(codes), 'spec')}: {', '.join(parts)}."
