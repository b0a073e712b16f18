"""The facts to report after a verdict: what could not be decided, and what the check would have detected."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gradcheck_cli.comparison import Comparison
from gradcheck_cli.formats.words.coarse import too_narrow
from gradcheck_cli.formats.words.numbers import count, count_true, listed
from gradcheck_cli.formats.words.tensors import in_every_entry, quotient
from gradcheck_cli.formats.words.why import Said
from gradcheck_cli.report import NOT_ESTIMATED, Outcome, Report, Resolution, has_no_estimate, resolution_of
from gradcheck_cli.types import Array
from gradcheck_cli.verdict import MEANINGFUL, Verdict


def remarks(report: Report) -> list[str]:
    """Return further facts about the verdict, one sentence per fact."""
    return [*_method(report), *_reasons(report), *_worth(report)]


def _method(report: Report) -> Iterator[str]:
    """Yield sentences about how the gradients were checked, and what that method found or cannot find."""
    if report.way:
        yield report.way
    if report.weighted and report.verdict is Verdict.WRONG:
        yield report.weighted
    if report.projected:
        yield _blind(report)
    if report.ratio is not None:
        yield _constant(report, report.ratio)
    if report.witness and report.witness.complex_step > 1:
        yield "The two witnesses, literal differences and the complex step, disagree."


def _reasons(report: Report) -> Iterator[str]:
    """Yield the reasons why entries could not be decided, one sentence per reason."""
    unknown = sum(count_true(c.unresolved & c.measured & ~np.isfinite(c.error)) for c in report.comparisons)
    wide = sum(count_true(_is_imprecise(c)) for c in report.comparisons)
    lost = sum(count_true(c.lost & c.measured & np.isfinite(c.error)) for c in report.comparisons) - wide
    more, unseen = (sum(count_true(mask) for mask in masks) for masks in _along_directions(report))
    noisy = report.unresolved - report.suspect - unknown - lost - wide - more - unseen
    if unknown:
        on_kinks = report.kinks and report.not_estimated == NOT_ESTIMATED
        reason = f"{_are(unknown)} {_NO_CONVENTION}" if on_kinks else _not_differenced(report, unknown)
        yield f"{reason}."
    if wide:
        yield f"{_are(wide)} too close to decide: error bars of the differences are wider than the gradient."
    if lost:
        yield f"{_are(lost)} too close to decide: rounding alone could explain the difference."
    if more:
        disagree = "disagrees" if more == 1 else "disagree as a group"
        yield f"{count(more, 'more entry')} {disagree} along the random directions."
    if unseen:
        why = f": {report.not_estimated}" if any(map(has_no_estimate, report.comparisons)) else ""
        yield f"The random directions could not decide {count(unseen, 'entry')}{why}."
    if report.suspect:
        yield f"{count(report.suspect, 'more entry')} would be wrong, judging by the sampled ones."
    if noisy:
        exceed = "exceeds" if noisy == 1 else "exceed"
        yield f"{count(noisy, 'entry')} {exceed} the tolerance, but by less than 3 error bars."


def _is_imprecise(comparison: Comparison) -> Array:
    """Return a mask of entries that are within tolerance, but whose error bar exceeds the entry itself."""
    is_far_off = comparison.bar > comparison.scale + MEANINGFUL * comparison.rounding
    return comparison.lost & comparison.measured & np.isfinite(comparison.error) & is_far_off


def _worth(report: Report) -> Iterator[str]:
    """Yield sentences about what a larger tolerance would decide, and which errors would have been found."""
    if report.verdict is Verdict.UNRESOLVED and report.unresolved and report.deciding_rtol:
        yield f"With --rtol {report.deciding_rtol:.0e}, all entries would agree.".replace("e-0", "e-")
    if report.atol:
        yield _hiding(report)
    if 0 < report.zero < report.entries:
        test = "tests" if report.zero == 1 else "test"
        yield f"{_are(report.zero)} 0 on both sides and {test} nothing."
    if report.verdict is not Verdict.WRONG and report.zero < report.entries:
        yield caught(report.resolution)
    if report.passed and too_narrow(report):
        yield "Gradients in float32 or float64 allow a finer check."


def _hiding(report: Report) -> str:
    """Return a warning about the absolute tolerance, with the number of entries that agree only by it."""
    entries = count(report.by_atol, "entry") if report.by_atol else "no entry"
    agree = "agree" if report.by_atol > 1 else "agrees"
    return f"atol {report.atol:g} can hide a mistake: {entries} {agree} only because of it."


def _constant(report: Report, ratio: float) -> str:
    wrong = [c for c in report.comparisons if c.verdict is Verdict.WRONG]
    where = wrong[0].name if len(wrong) == 1 else f"all {len(wrong)} wrong tensors"
    entries = in_every_entry(report, wrong)
    return f"{quotient(report)} is {ratio:.6g}{entries} {'of' if entries else 'in'} {where}."


def _blind(report: Report) -> str:
    """Return a sentence about the errors that random directions cannot detect."""
    needed = [resolution_of([c]) for c in report.comparisons if c.directions]
    least = max((each.median for each in needed if each and np.isfinite(each.median)), default=None)
    single = (
        "" if least is None else f", or a relative error below {least:.0e} in a single entry of median size"
    )
    return f"Random directions cannot detect errors that cancel in every direction{single}."


_NO_CONVENTION = "on a kink and follow none of the usual conventions"


def _not_differenced(report: Report, entries: int) -> str:
    return f"{count(entries, 'entry')} could not be estimated by differences: {report.not_estimated}"


def _along_directions(report: Report) -> tuple[list[NDArray[np.bool_]], list[NDArray[np.bool_]]]:
    """Return masks of the undecided entries that were checked only along directions.

    The first list has the masks of tensors in which a direction disagrees, and the second has the masks of
    all other tensors.
    """
    masks = [
        (c.projected.disagrees, c.unresolved & ~c.measured & ~c.suspect)
        for c in report.comparisons
        if c.projected
    ]
    return [mask for disagree, mask in masks if disagree], [mask for disagree, mask in masks if not disagree]


def _are(entries: int) -> str:
    return f"{count(entries, 'entry')} {'is' if entries == 1 else 'are'}"


def caught(resolution: Resolution | None) -> str:
    """Return a sentence about the smallest relative error in a single entry that would have been detected."""
    if resolution is None or np.isinf(resolution.smallest):
        return "No error in a single entry, however large, would have been detected."
    caught = "Smallest detectable relative error in a single entry:"
    if np.isinf(resolution.median):
        return (
            f"{caught} {resolution.smallest:.1e} (easiest entry); in most entries, an error of any size "
            "would go undetected."
        )
    if np.isinf(resolution.largest):
        return (
            f"{caught} {resolution.median:.1e} (median entry); in some entries, an error of any size would "
            "go undetected."
        )
    if f"{resolution.median:.1e}" == f"{resolution.largest:.1e}":
        return f"{caught} {resolution.median:.1e}."
    return f"{caught} {resolution.median:.1e} (median entry), {resolution.largest:.1e} (hardest entry)."


def details(outcome: Outcome, report: Report) -> Iterator[str]:
    """Yield the lines that -v adds: tolerances, the witness and the time taken."""
    for rtol in sorted(set(report.rtol.values())):
        names = [name for name, its_own in report.rtol.items() if its_own == rtol]
        yield f"rtol {rtol:.3g} for {'every tensor' if len(names) == len(report.rtol) else listed(names)}"
    if report.atol:
        yield f"atol {report.atol:.3g} for every tensor"
    if report.witness:
        drawn = count(report.witness.entries, "entry")
        yield (
            f"witness: literal differences of {drawn}, drawn at random, deviate from the unit differences "
            f"by at most {report.witness.largest:.2g} error bars, and the complex step by at most "
            f"{report.witness.complex_step:.2g}"
        )
    if report.weighted and report.verdict is not Verdict.WRONG:
        yield report.weighted
    yield f"{outcome.seconds:.3f} s"


def asides(report: Report) -> Iterator[Said]:
    """Yield the notes. Notes about parts that were not exercised are left out if something is wrong."""
    for line in report.unusual:
        yield Said(f"Note: {line}.")
    if report.kinks:
        yield Said("On a kink, where every usual convention is right:", report.kinks)
    if report.unexercised and report.verdict is not Verdict.WRONG:
        yield Said("Not exercised by these data and parameters:", report.unexercised)
