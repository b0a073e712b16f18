"""Wording shared by all formats for people: numbers, verdicts, reasons. Plain text without layout."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradcheck_cli.comparison import Comparison, Entry, Verdict
from gradcheck_cli.errors import ExitCode
from gradcheck_cli.formats.coarse import coarsely, too_narrow
from gradcheck_cli.formats.pages import page_of
from gradcheck_cli.formats.view import View
from gradcheck_cli.report import Outcome, Report, Resolution, Run, resolution_of

if TYPE_CHECKING:
    from gradcheck_cli.diagnose.diagnosis import Answer, Diagnosis

MARKS = {Verdict.AGREES: "✓", Verdict.WRONG: "✗", Verdict.UNRESOLVED: "?"}


# --- numbers -----------------------------------------------------------------------------------------------


def relative(value: float) -> str:
    """Format a relative error: ``5.2e-13``, ``0``, or a dash if it is unknown."""
    return "–" if math.isnan(value) else "0" if value == 0 else f"{value:.1e}"


def number(value: float) -> str:
    """Format a gradient's value to ten digits, which is more than rtol compares."""
    return f"{value + 0.0:.10g}"  # −0 is 0


def measured(value: float, error: float) -> str:
    """Format ``value ± error``, or ``unknown``."""
    if math.isinf(error) or math.isnan(value):
        return "unknown"
    return f"{number(value)} ± {error:.0e}" if error else f"{number(value)} ± 0"


def index(of: Sequence[int]) -> str:
    """Format an entry's index: ``[3, 27]``."""
    return "[" + ", ".join(map(str, of)) + "]"


def shape(of: Sequence[int]) -> str:
    """Format a shape: ``10 × 50``."""
    return " × ".join(map(str, of))


def count(n: int, noun: str) -> str:
    """Format a number with its noun: ``1 entry``, ``1,234 entries``."""
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{n:,} {noun if n == 1 else plural}"


def listed(words: Sequence[str]) -> str:
    """Join words: ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def detectable(comparison: Comparison) -> str:
    """Format the smallest relative error that the check would have found wrong in the median entry."""
    resolution = resolution_of([comparison])
    return "–" if resolution is None or np.isinf(resolution.median) else f"{resolution.median:.0e}"


# --- a tensor ----------------------------------------------------------------------------------------------


def tensor_verdict(comparison: Comparison) -> str:
    """Return ``agrees``, or how many entries do not: ``50 wrong``."""
    if comparison.verdict is Verdict.WRONG and comparison.suspect.any():
        return f"{comparison.place} wrong" if comparison.place else "many wrong"
    if comparison.verdict is Verdict.WRONG:
        return f"{_count(comparison.wrong):,} wrong"
    unresolved = f"{_count(comparison.unresolved):,} unresolved"
    if comparison.verdict is Verdict.UNRESOLVED:
        return unresolved
    if comparison.unresolved.any():
        return f"agrees, {unresolved}"
    return "agrees, all 0" if comparison.untested else "agrees"


def against(entry: Entry) -> str:
    """Compare an entry's two values: ``is 0.63; finite differences give 0.15 ± 9e-10``."""
    says = f"finite differences give {measured(entry.numerical, entry.error)}"
    return f"is {number(entry.analytic)}; {says if np.isfinite(entry.error) else _NO_DIFFERENCE}"


MANY = 12
"""Up to this many tensors are all listed. Beyond it, only those that do not agree, if any, are listed."""


def listed_tensors(report: Report, view: View) -> Sequence[Comparison]:
    """Return the tensors that get a row: all of them, or only those that do not agree."""
    failed = [c for c in report.comparisons if report.verdict_of(c) is not Verdict.AGREES]
    fold = view.only_wrong or (failed and len(report.comparisons) > MANY and view.level <= 0)
    return failed if fold else report.comparisons


def folded(report: Report, shown: Sequence[Comparison]) -> str:
    """Summarise the tensors without a row: ``19 other tensors (39,000 entries) agree``."""
    others = len(report.comparisons) - len(shown)
    entries = report.entries - sum(c.entries for c in shown)
    which = count(others, "other tensor" if shown else "tensor")
    return f"{which} ({count(entries, 'entry')}) {'agrees' if others == 1 else 'agree'}."


# --- a tensor that failed ----------------------------------------------------------------------------------

FEW = 3
"""How many of a tensor's worst entries are listed."""


def headline(report: Report, comparison: Comparison) -> str:
    """Say in one line how many entries of a tensor are wrong or unresolved."""
    if comparison.verdict is Verdict.WRONG:
        return f"{_place(comparison)}: {_of(comparison.wrong | comparison.suspect, 'wrong')}"
    if report.entries == report.zero:
        return f"{comparison.name}: {_NOTHING_TESTED}"
    if comparison.unresolved.any():
        return f"{comparison.name}: {_of(comparison.unresolved, 'unresolved')}"
    if comparison.untested:
        return f"{comparison.name}: every entry is 0 on both sides, which puts nothing to the test (--strict)"
    return f"{comparison.name}: {tensor_verdict(comparison)}"


def _of(mask: NDArray[np.bool_], what: str) -> str:
    if mask.size == 1:
        return f"its only entry is {what}"
    return f"{_count(mask):,} of {mask.size:,} entries {'is' if _count(mask) == 1 else 'are'} {what}"


def describe(report: Report, comparison: Comparison, most: int = FEW) -> list[str]:
    """Describe a tensor that failed, in lines: a headline, the worst entries, and the reasons."""
    wrong = comparison.verdict is Verdict.WRONG
    lines = [headline(report, comparison), *_worst_entries(comparison, most)]
    if wrong and comparison.ratio is not None:
        lines.append(f"analytic / numerical is {comparison.ratio:.6g} in {_every_entry(report)}.")
    for said in diagnosed(report.diagnosis) if wrong else ():
        lines += [said.text, *(f"  {item}" for item in said.items)]
    return lines


def _worst_entries(comparison: Comparison, most: int) -> Iterator[str]:
    failed = [entry for entry in comparison.worst(most) if entry.verdict is not Verdict.AGREES]
    for entry in failed:
        off = relative(entry.relative_error)
        yield f"  {comparison.name}{index(entry.index)} {against(entry)} (relative error {off})"
    if more := _count(comparison.measured & ~comparison.agrees) - len(failed):
        yield f"  and {more:,} more"


def _every_entry(report: Report) -> str:
    return "every sampled entry" if report.suspect else "every entry"


# --- a spec ------------------------------------------------------------------------------------------------


def subject(report: Report) -> list[str]:
    """Return what was checked and against what, in two lines."""
    differences = f"finite differences ({report.scheme}, {report.differences})"
    return [
        f"{report.network}; {report.loss_name} {report.loss:.6g}",
        f"{report.source} against {differences}",
    ]


def failed(outcome: Outcome) -> str:
    """Say why a spec has no report."""
    if outcome.exit_code is ExitCode.DEFECT:
        return "gradcheck itself failed; see the errors"
    if outcome.exit_code is ExitCode.INTERRUPTED:
        return "interrupted before it was checked"
    return "not checked; see the errors"


def one_line(outcome: Outcome) -> str:
    """Return the verdict on a spec with its mark, or the reason why there is none."""
    if outcome.report is None:
        return f"{MARKS[Verdict.WRONG]} {outcome.spec}: {failed(outcome)}"
    return f"{MARKS[outcome.report.verdict]} {outcome.spec}: {sentence(outcome.report)}"


def sentence(report: Report) -> str:
    """Return the verdict and its basis in one sentence."""
    if report.verdict is Verdict.WRONG:
        return f"wrong: {_wrong_entries(report)}; {_worst(report)}."
    if report.verdict is Verdict.UNRESOLVED and report.entries == report.zero:
        return f"unresolved: {_NOTHING_TESTED}."
    untested = [_untested(report)] if report.untested else []
    if report.verdict is Verdict.UNRESOLVED:
        strictly = "strictly " if all(c.verdict is Verdict.AGREES for c in report.comparisons) else ""
        undecided = f"{report.unresolved:,} of {count(report.entries, 'entry')} could not be decided"
        reasons = "; ".join([undecided] * bool(report.unresolved) + untested)
        return f"{strictly}unresolved: nothing wrong was found, but {reasons}."
    if report.unresolved:
        agree = f"{report.agree:,} of {count(report.entries, 'entry')}"
        parts = [agree, "the others could not be decided", *untested]
        return f"agrees: {'; '.join(parts)}{coarsely(report)}."
    all_of_them = f"all {count(report.entries, 'entry')}" + ", along random directions" * bool(
        report.projected
    )
    return f"agrees: {'; '.join([all_of_them, *untested])}{coarsely(report)}."


def _wrong_entries(report: Report) -> str:
    """Count and locate: ``51 of 510 entries, in w and b``, or ``all of w (32 of 32 sampled entries)``."""
    wrong = [_place(c) for c in report.comparisons if c.verdict is Verdict.WRONG]
    where = listed(wrong) if len(wrong) <= 3 else _of_tensors(len(wrong), len(report.comparisons))
    if report.suspect:
        return f"{where} ({report.wrong:,} of {count(individually(report), 'sampled entry')})"
    return f"{report.wrong:,} of {count(report.entries, 'entry')}, in {where}"


def _of_tensors(some: int, tensors: int) -> str:
    return f"all {tensors} tensors" if some == tensors else f"{some} of {tensors} tensors"


def _worst(report: Report) -> str:
    """Name the worst entry and its two values."""
    name, worst = report.worst(1)[0]
    which = "the worst" if np.isfinite(worst.analytic) else "the first that is not finite"
    return f"{which}, {name}{index(worst.index)}, {against(worst)}"


def _untested(report: Report) -> str:
    """Name the tensors of zeros: ``x and gamma were not put to the test: 0 on both sides``."""
    names, tensors = report.untested, len(report.comparisons)
    which = listed(names) if len(names) <= 3 else _of_tensors(len(names), tensors)
    return f"{which} {'was' if len(names) == 1 else 'were'} not put to the test: 0 on both sides"


_NOTHING_TESTED = "every gradient is 0 on both sides, so nothing was put to the test"


INDIVIDUALLY = {"units": "", "literal": "", "directions": " checked individually"}


def _place(comparison: Comparison) -> str:
    if comparison.place == "everything":
        return f"all of {comparison.name}"
    return f"{comparison.place} of {comparison.name}" if comparison.place else comparison.name


def individually(report: Report) -> int:
    """Count the entries that were judged individually, not only along a direction."""
    return sum(_count(c.measured) for c in report.comparisons)


def remarks(report: Report) -> list[str]:
    """Return further facts about the verdict, one sentence per fact."""
    remarks = []
    unknown = sum(_count(c.unresolved & c.measured & ~np.isfinite(c.error)) for c in report.comparisons)
    lost = sum(_count(c.lost & c.measured & np.isfinite(c.error)) for c in report.comparisons)
    more, unseen = (sum(_count(mask) for mask in masks) for masks in _along_directions(report))
    noisy = report.unresolved - report.suspect - unknown - lost - more - unseen
    if report.way:
        remarks.append(report.way)
    if report.weighted and report.verdict is Verdict.WRONG:
        remarks.append(report.weighted)
    if report.projected:
        remarks.append(_blind(report))
    if report.ratio is not None:
        remarks.append(_constant(report, report.ratio))
    if report.witness and report.witness.complex_step > 1:
        remarks.append("The two witnesses, literal differences and the complex step, disagree.")
    if unknown:
        reason = f"{_are(unknown)} {_NO_CONVENTION}" if report.kinks else _not_differenced(unknown)
        remarks.append(f"{reason}.")
    if lost:
        remarks.append(f"{_are(lost)} too close to decide: rounding alone could explain the difference.")
    if more:
        disagree = "disagrees" if more == 1 else "disagree as a group"
        remarks.append(f"{count(more, 'more entry')} {disagree} along the random directions.")
    if unseen:
        remarks.append(f"The random directions could not decide {count(unseen, 'entry')}.")
    if report.suspect:
        remarks.append(f"{count(report.suspect, 'more entry')} would be wrong, judging by the sampled ones.")
    if noisy:
        remarks.append(
            f"{_are(noisy)} off by more than the tolerance, but by less than 3 error bars beyond it."
        )
    if report.verdict is Verdict.UNRESOLVED and report.unresolved and report.deciding_rtol:
        remarks.append(f"With --rtol {report.deciding_rtol:.0e} all entries agree.".replace("e-0", "e-"))
    if 0 < report.zero < report.entries:
        remarks.append(f"{_are(report.zero)} 0 on both sides and test nothing.")
    if report.verdict is not Verdict.WRONG and report.zero < report.entries:
        remarks.append(caught(report.resolution))
    if report.passed and too_narrow(report):
        remarks.append("Gradients in float32 or float64 allow a finer check.")
    return remarks


def _constant(report: Report, ratio: float) -> str:
    wrong = [c.name for c in report.comparisons if c.verdict is Verdict.WRONG]
    where = wrong[0] if len(wrong) == 1 else f"all {len(wrong)} wrong tensors"
    return f"analytic / numerical is {ratio:.6g} in {_every_entry(report)} of {where}."


def _blind(report: Report) -> str:
    """Say which errors random directions cannot detect, and how large one in a single entry must be."""
    needed = [resolution_of([c]) for c in report.comparisons if c.directions]
    least = max((each.median for each in needed if each and np.isfinite(each.median)), default=None)
    single = (
        "" if least is None else f", and a relative error below {least:.0e} in a single entry of median size"
    )
    return f"Not detectable this way: errors that cancel in every direction{single}."


_NO_DIFFERENCE = "every step crosses a kink or overflows"
_NO_CONVENTION = "on a kink and follow none of the usual conventions"


def _not_differenced(entries: int) -> str:
    return f"{count(entries, 'entry')} could not be differenced: {_NO_DIFFERENCE}"


def _along_directions(report: Report) -> tuple[list[NDArray[np.bool_]], list[NDArray[np.bool_]]]:
    """Return masks of the undecided entries that were checked only along directions.

    The first list has those of tensors in which a direction disagrees, and the second has all others.
    """
    masks = [
        (c.projected.disagrees, c.unresolved & ~c.measured & ~c.suspect)
        for c in report.comparisons
        if c.projected
    ]
    return [mask for disagree, mask in masks if disagree], [mask for disagree, mask in masks if not disagree]


def _count(mask: NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(mask))


def _are(entries: int) -> str:
    return f"{count(entries, 'entry')} {'is' if entries == 1 else 'are'}"


def caught(resolution: Resolution | None) -> str:
    """Say how small a relative error in a single entry this check would have detected."""
    if resolution is None or np.isinf(resolution.smallest):
        return "No error in a single entry, however large, would have been detected."
    caught = "Smallest detectable relative error in a single entry:"
    if np.isinf(resolution.median):
        return f"{caught} {resolution.smallest:.1e} (easiest entry); none in most entries."
    if np.isinf(resolution.largest):
        return f"{caught} {resolution.median:.1e} (median entry); none in some entries."
    if f"{resolution.median:.1e}" == f"{resolution.largest:.1e}":
        return f"{caught} {resolution.median:.1e}."
    return f"{caught} {resolution.median:.1e} (median entry), {resolution.largest:.1e} (hardest entry)."


def details(outcome: Outcome, report: Report) -> Iterator[str]:
    """Yield the lines that -v adds: tolerances, the witness and the time taken."""
    for rtol in sorted(set(report.rtol.values())):
        names = [name for name, its_own in report.rtol.items() if its_own == rtol]
        yield f"rtol {rtol:.3g} for {'every tensor' if len(names) == len(report.rtol) else listed(names)}"
    if report.witness:
        drawn = count(report.witness.entries, "entry")
        yield (
            f"witness: literal differences of {drawn}, drawn at random, confirm the unit differences "
            f"within {report.witness.largest:.2g} of their error bars, and the complex step "
            f"within {report.witness.complex_step:.2g}"
        )
    if report.weighted and report.verdict is not Verdict.WRONG:
        yield report.weighted
    yield f"{outcome.seconds:.3f} s"


@dataclass(frozen=True)
class Said:
    """A sentence, and the items of a list below it."""

    text: str
    items: tuple[str, ...] = ()


def asides(report: Report) -> Iterator[Said]:
    """Yield the notes. Those about parts that were not exercised are left out if something is wrong."""
    for line in report.unusual:
        yield Said(f"Note: {line}.")
    if report.kinks:
        yield Said("On a kink, where every usual convention is right:", report.kinks)
    if report.unexercised and report.verdict is not Verdict.WRONG:
        yield Said("Not exercised by these data and parameters:", report.unexercised)


# --- a run -------------------------------------------------------------------------------------------------


def summary(run: Run) -> str:
    """Count the specs by verdict: ``3 specs: 2 agree, 1 wrong``."""
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


# --- the diagnosis -----------------------------------------------------------------------------------------


OTHERS = 3
"""How many other explanations are given in full."""


def diagnosed(diagnosis: Diagnosis | None) -> Iterator[Said]:
    """Yield why the gradient is wrong: the mistakes that would lead to it, and other known facts."""
    if diagnosis is None:
        return
    if diagnosis.trials:
        yield Said(f"Why: {' '.join(f'{sentence}.' for sentence in diagnosis.trials)}")
    if diagnosis.answers:
        likeliest, *others = diagnosis.answers
        yield Said(
            f"Why: {_both(likeliest)}", (*_formulas(likeliest, diagnosis.basis), REPRODUCED[diagnosis.basis])
        )
        if others:
            yield Said("These would give the same gradient on these data:", tuple(_told(others)))
    yield from besides(diagnosis)


def _both(answer: Answer) -> str:
    both = "Two mistakes at once. " if len(answer.causes) > 1 else ""
    return both + " ".join(cause.sentence for cause in answer.causes)


def _formulas(answer: Answer, basis: str) -> Iterator[str]:
    of_a_network = basis == "network"  # only networks have a derivation
    for cause in answer.causes:
        if cause.wrong:
            pointed = of_a_network and cause.factor
            factor = f"   (see {cause.factor} in gradcheck explain)" if pointed else ""
            yield f"wrong: {cause.wrong}{factor}"
        if cause.right:
            yield f"right: {cause.right}"
        if page := page_of(cause.kind):
            yield f"see {page}"


REPRODUCED = {
    "network": "This reproduces every entry, up to rounding.",
    "arrays": "This reproduces everything that was measured, within the error bars.",
    "another network": "This reproduces everything that was measured, within the error bars.",
}
"""How well an answer explains the gradient, in words, as numbers would vary with the processor's rounding."""


def _told(others: Sequence[Answer]) -> Iterator[str]:
    for answer in others[:OTHERS]:
        yield _both(answer)
    if len(others) > OTHERS:
        yield f"{len(others) - OTHERS:,} more"


def besides(diagnosis: Diagnosis) -> Iterator[Said]:
    """Yield the facts known besides the answers, or instead of them if there are none."""
    if diagnosis.basis == "arrays" and diagnosis.answers:
        yield Said("Other mistakes can lead to the same arrays.")
    if diagnosis.basis == "another network" and diagnosis.answers:
        yield Said(
            "The network section has a different loss and cannot help: other mistakes can lead to the same "
            "arrays."
        )
    if not diagnosis.answers and diagnosis.tried:
        yield Said(
            f"Why: unknown. None of {count(diagnosis.tried, 'wrong formula')} tried reproduces this gradient."
        )
    if diagnosis.observations:
        yield Said("What is known:", diagnosis.observations)
    if diagnosis.basis == "arrays" and not diagnosis.trials:
        yield Said(NETWORK_TELLS_MORE)


NETWORK_TELLS_MORE = (
    "If the code is a dense network, describe it in the spec, and gradcheck may name the wrong formula: add "
    "network: {inputs: N, layers: [{units: N, activation: NAME}, …], loss: NAME}, and under gradients "
    "names: {YOURS: hidden1.weight, …}, and layout: in_out for weights [in, out]."
)
