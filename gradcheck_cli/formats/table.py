"""The result as a table with a row per tensor and a few sentences, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradcheck_cli.compare import Comparison, Entry, Projection, Verdict
from gradcheck_cli.errors import ExitCode
from gradcheck_cli.formats import View
from gradcheck_cli.formats.text import (
    INDENT,
    MARKS,
    STYLES,
    Cell,
    Column,
    Page,
    count,
    index,
    listed,
    measured,
    number,
    relative,
    shape,
)
from gradcheck_cli.formats.why import tell_why
from gradcheck_cli.report import Outcome, Report, Resolution, Run, resolution_of

if TYPE_CHECKING:
    from gradcheck_cli.explain import Explanation, Factor


def render(run: Run, view: View) -> str:
    page = Page(view)
    for i, outcome in enumerate(run.outcomes):
        if i and view.level >= 0:
            page.line()
        if outcome.report is None:
            page.line(f"{MARKS[Verdict.WRONG]} {outcome.spec}: {_failed(outcome)}", STYLES[Verdict.WRONG])
        elif view.level < 0:
            verdict = outcome.report.verdict
            page.line(f"{MARKS[verdict]} {outcome.spec}: {_sentence(outcome.report)}", STYLES[verdict])
        else:
            _report(page, outcome, outcome.report)
    if len(run.outcomes) > 1 and view.level >= 0:
        page.line()
        page.line(_summary(run))
    return page.text


def _failed(outcome: Outcome) -> str:
    if outcome.exit_code is ExitCode.DEFECT:
        return "gradcheck itself failed, see the errors"
    return "not checked, see the errors"


def _report(page: Page, outcome: Outcome, report: Report) -> None:
    page.line(outcome.spec, "bold")
    differences = f"finite differences ({report.scheme}, {report.differences})"
    page.line(f"{report.network}; {report.loss_name} {report.loss:.6g}", indent=INDENT)
    page.line(f"{report.source} against {differences}", indent=INDENT)
    page.line()
    page.table(_TENSOR_COLUMNS, [_tensor_row(comparison) for comparison in report.comparisons])
    page.line()
    page.line(f"{MARKS[report.verdict]} {_sentence(report)}", STYLES[report.verdict])
    if report.diagnosis:
        tell_why(page, report.diagnosis)
    for remark in _remarks(report):
        page.line(remark)
    for line in report.unusual:
        page.line(f"Note: {line}.")
    if report.kinks:
        page.line("On a kink, where any usual convention is right:")
        for line in report.kinks:
            page.item(line)
    if report.unexercised:
        page.line("Not exercised by these data and parameters:")
        for line in report.unexercised:
            page.item(line)
    worst = report.worst(page.view.show)
    if worst:
        page.line()
        page.line(f"The worst of all {count(_moved(report), 'entry')}{_THEMSELVES[report.differences]}:")
        page.table(_ENTRY_COLUMNS, [_entry_row(name, entry) for name, entry in worst])
    if page.view.level > 0:
        _details(page, outcome, report)


_TENSOR_COLUMNS = (
    Column("tensor", folds=True),
    Column("shape", rank=4, right=True),
    Column("entries", rank=6, right=True),
    Column("max rel err", rank=1, right=True),
    Column("median", rank=5, right=True),
    Column("catches", rank=7, right=True),
    Column("worst entry", rank=2),
    Column("analytic", rank=3, right=True),
    Column("numerical ± error", rank=3, right=True),
    Column("verdict"),
)


def _tensor_row(comparison: Comparison) -> list[Cell]:
    style = _style(comparison)
    return [
        comparison.name,
        shape(comparison.shape),
        f"{comparison.entries:,}",
        (relative(comparison.max_relative_error), style),
        relative(comparison.median_relative_error),
        _catches(comparison),
        *_worst(comparison),
        (_verdict(comparison), style),
    ]


def _worst(comparison: Comparison) -> list[Cell]:
    """The worst entry; where none was moved by itself, the worst direction."""
    worst: Entry | Projection
    if comparison.directions:
        worst = max(comparison.directions, key=lambda direction: direction.relative_error)
        where = "direction"
    elif entries := comparison.worst():
        worst, where = entries[0], index(entries[0].index)
    else:
        return ["–", "–", "–"]
    return [where, number(worst.analytic), measured(worst.numerical, worst.error)]


def _catches(comparison: Comparison) -> str:
    """The relative error that would have been called wrong in the median entry."""
    resolution = resolution_of([comparison])
    return "–" if resolution is None or np.isinf(resolution.median) else f"{resolution.median:.0e}"


def _style(comparison: Comparison) -> str:
    """Nothing but zeros agrees, yet says nothing: no green for that."""
    return STYLES[Verdict.UNRESOLVED if _all_zero(comparison) else comparison.verdict]


def _verdict(comparison: Comparison) -> str:
    if comparison.verdict is Verdict.WRONG and comparison.suspect.any():
        return f"{comparison.place} wrong" if comparison.place else "many wrong"
    if comparison.verdict is Verdict.WRONG:
        return f"{np.count_nonzero(comparison.wrong):,} wrong"
    unresolved = f"{np.count_nonzero(comparison.unresolved):,} unresolved"
    if comparison.verdict is Verdict.UNRESOLVED:
        return unresolved
    if comparison.unresolved.any():
        return f"agrees, {unresolved}"
    return "agrees, all 0" if _all_zero(comparison) else "agrees"


def _all_zero(comparison: Comparison) -> bool:
    return bool(comparison.zero.all())


_ENTRY_COLUMNS = (
    Column("tensor", folds=True),
    Column("entry"),
    Column("rel err", rank=3, right=True),
    Column("analytic", rank=1, right=True),
    Column("numerical ± error", rank=1, right=True),
    Column("verdict", rank=2),
)


def _entry_row(name: str, entry: Entry) -> list[Cell]:
    style = STYLES[entry.verdict]
    return [
        name,
        index(entry.index),
        (relative(entry.relative_error), style),
        number(entry.analytic),
        measured(entry.numerical, entry.error),
        (str(entry.verdict), style),
    ]


def _sentence(report: Report) -> str:
    """The verdict and what it rests on, in one sentence."""
    if report.verdict is Verdict.WRONG:
        beside = count(_moved(report), "entry") + _THEMSELVES[report.differences]
        if not report.suspect:
            beside = count(report.entries, "entry")
        entries = f"{report.wrong:,} of {beside}"
        return f"wrong: {entries}, {_where(report)}."
    if report.verdict is Verdict.UNRESOLVED and report.entries == report.zero:
        return "unresolved: every gradient is 0 on both sides, so nothing was put to the test."
    if report.verdict is Verdict.UNRESOLVED:
        strictly = "strictly " if all(c.verdict is Verdict.AGREES for c in report.comparisons) else ""
        undecided = f"{report.unresolved:,} of {count(report.entries, 'entry')}"
        return f"{strictly}unresolved: nothing wrong was found, but {undecided} could not be decided."
    if report.unresolved:
        return (
            f"agrees: {report.agree:,} of {count(report.entries, 'entry')}; the others could not be decided."
        )
    how = ", along random directions" if report.projected else ""
    return f"agrees: all {count(report.entries, 'entry')}{how}."


def _where(report: Report) -> str:
    """The tensors that are wrong, or how many if there are many, and the worst entry of all."""
    wrong = [_place(c) for c in report.comparisons if c.verdict is Verdict.WRONG]
    tensors = listed(wrong) if len(wrong) <= 3 else f"{len(wrong)} of {len(report.comparisons)} tensors"
    name, worst = report.worst(1)[0]
    return f"in {tensors}; the worst, {name}{index(worst.index)}, {_against(worst)}"


_THEMSELVES = {"units": "", "literal": "", "directions": " that were moved by themselves"}


def _place(comparison: Comparison) -> str:
    if comparison.place == "everything":
        return f"{comparison.name} (everything in it)"
    return f"{comparison.place} of {comparison.name}" if comparison.place else comparison.name


def _moved(report: Report) -> int:
    """The entries that were moved by themselves, or need not be to be judged."""
    return sum(int(np.count_nonzero(c.measured)) for c in report.comparisons)


def _against(entry: Entry) -> str:
    says = f"differences say {measured(entry.numerical, entry.error)}"
    return f"is {number(entry.analytic)}; {says if np.isfinite(entry.error) else _NO_DIFFERENCE}"


def _remarks(report: Report) -> list[str]:
    """What else there is to know about the verdict, a sentence each."""
    remarks = []
    unknown = sum(_count(c.unresolved & c.measured & ~np.isfinite(c.error)) for c in report.comparisons)
    lost = sum(_count(c.lost & c.measured & np.isfinite(c.error)) for c in report.comparisons)
    more, unseen = (sum(_count(mask) for mask in masks) for masks in _along_directions(report))
    noisy = report.unresolved - report.suspect - unknown - lost - more - unseen
    if report.way:
        remarks.append(report.way)
    if report.projected:
        remarks.append(_BLIND)
    if report.ratio is not None:
        remarks.append(_constant(report, report.ratio))
    if report.witness and report.witness.complex_step > 1:
        remarks.append("The two witnesses, literal differences and the complex step, contradict each other.")
    if unknown:
        reason = _NO_CONVENTION if report.kinks else f"could not be differenced: {_NO_DIFFERENCE}"
        remarks.append(f"{count(unknown, 'entry')} {reason}.")
    if lost:
        remarks.append(f"{_are(lost)} within what rounding may do to a right gradient, or too close to tell.")
    if more:
        remarks.append(f"Along the random directions {count(more, 'entry')} more disagree as a group.")
    if unseen:
        remarks.append(f"The random directions could not tell of {count(unseen, 'entry')}.")
    if report.suspect:
        remarks.append(
            f"{_are(report.suspect)} part of what is wrong, as far as entries of it drawn at random tell."
        )
    if noisy:
        remarks.append(f"{_are(noisy)} off by more than the tolerance, but not by 3 error bars more.")
    if 0 < report.zero < report.entries:
        remarks.append(f"{_are(report.zero)} 0 on both sides, which puts nothing to the test.")
    if report.verdict is not Verdict.WRONG and report.zero < report.entries:
        remarks.append(_caught(report.resolution))
    return remarks


def _constant(report: Report, ratio: float) -> str:
    wrong = [c.name for c in report.comparisons if c.verdict is Verdict.WRONG]
    where = wrong[0] if len(wrong) == 1 else f"all {len(wrong)} wrong tensors"
    every = "every entry that was moved" if report.suspect else "every entry"
    return f"analytic / numerical is {ratio:.6g} in {every} of {where}."


_BLIND = (
    "What they could not have seen: errors that cancel in every direction, and smaller ones than the column "
    "catches says."
)
_NO_DIFFERENCE = "every step crosses a kink or overflows"
_NO_CONVENTION = "on a kink, and none of the values that are usual there"


def _along_directions(report: Report) -> tuple[list[NDArray[np.bool_]], list[NDArray[np.bool_]]]:
    """The undecided entries that were not moved by themselves: those that disagree, and the others."""
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


def _caught(resolution: Resolution | None) -> str:
    """The size of error that this check would have caught in a single entry."""
    if resolution is None or np.isinf(resolution.smallest):
        return "No error in a single entry, however large, would have been caught."
    caught = "The smallest relative error it would have caught in a single entry:"
    if np.isinf(resolution.median):
        return f"{caught} {resolution.smallest:.1e} in the easiest, and none in most."
    if np.isinf(resolution.largest):
        return f"{caught} {resolution.median:.1e} in the median entry, and none in some."
    if f"{resolution.median:.1e}" == f"{resolution.largest:.1e}":
        return f"{caught} {resolution.median:.1e}."
    return f"{caught} {resolution.median:.1e} in the median entry, {resolution.largest:.1e} in the hardest."


def _details(page: Page, outcome: Outcome, report: Report) -> None:
    page.line()
    for rtol in sorted(set(report.rtol.values())):
        names = [name for name, its_own in report.rtol.items() if its_own == rtol]
        page.item(
            f"rtol {rtol:.3g} for {'every tensor' if len(names) == len(report.rtol) else listed(names)}"
        )
    if report.witness:
        drawn = count(report.witness.entries, "entry")
        page.item(
            f"witness: {drawn} drawn at random and moved literally, to confirm the unit differences; "
            f"they are at most {report.witness.largest:.2g} of what their error bars allow away, and "
            f"{report.witness.complex_step:.2g} from the complex step"
        )
    page.item(f"{outcome.seconds:.3f} s")


def _summary(run: Run) -> str:
    codes = [outcome.exit_code for outcome in run.outcomes]
    parts = [
        f"{codes.count(code):,} {word}"
        for code, word in (
            (ExitCode.AGREES, "agree"),
            (ExitCode.WRONG, "wrong"),
            (ExitCode.UNDECIDED, "unresolved"),
            (ExitCode.BAD_INPUT, "not checked"),
            (ExitCode.DEFECT, "where gradcheck itself failed"),
        )
        if code in codes
    ]
    return f"{count(len(codes), 'spec')}: {', '.join(parts)}."


# --- the derivation ---------------------------------------------------------------------------------------


def render_explanation(spec: str, explanation: Explanation, view: View) -> str:
    page = Page(view)
    page.line(spec, "bold")
    page.line(explanation.network, indent=INDENT)
    page.line()
    page.line(f"The gradients of layer '{explanation.layer}', by the chain rule:")
    page.line()
    page.table((Column(), Column(rank=1)), _definitions(explanation))
    page.line()
    page.table((Column(), Column(rank=1), Column(), Column(rank=2)), _CHAIN_RULE)
    page.line()
    page.table(_FACTOR_COLUMNS, _factor_rows(explanation.factors))
    page.line()
    page.line(f"{MARKS[explanation.verdict]} {_explained(explanation)}", STYLES[explanation.verdict])
    return page.text


def _definitions(explanation: Explanation) -> list[list[Cell]]:
    notes: list[list[Cell]] = [["", note] for note in explanation.notes]
    return [
        ["z = a⁽ʰ⁾ wᵀ + b", "with a⁽ʰ⁾ the layer's input"],
        [f"a = {explanation.activation}(z)", ""],
        [f"L = c Σₙ {explanation.loss}(aₙ, yₙ)", f"with c = {explanation.coefficient:.6g}"],
        *notes,
    ]


_CHAIN_RULE = (
    ("∂L/∂w", "= ∂L/∂a · ∂a/∂z · ∂z/∂w", "= δᵀ a⁽ʰ⁾", "because ∂z/∂w = a⁽ʰ⁾"),
    ("∂L/∂b", "= ∂L/∂a · ∂a/∂z · ∂z/∂b", "= Σₙ δₙ", "because ∂z/∂b = 1"),
)

GLIMPSE = 3
"""How many of a factor's numbers are shown."""

_FACTOR_COLUMNS = (
    Column("factor"),
    Column("formula", folds=True),
    Column("shape", rank=1, right=True),
    Column("first numbers", rank=4),
    Column("from", rank=2),
    Column("max rel err", rank=3, right=True),
    Column("check"),
)


def _factor_rows(factors: tuple[Factor, ...]) -> list[list[Cell]]:
    """A row per factor, its numbers below each other."""
    glimpses = [[f"{value + 0.0:.3g}" for value in f.comparison.analytic.ravel()[:GLIMPSE]] for f in factors]
    width = max(len(number) for glimpse in glimpses for number in glimpse)
    rows = []
    for factor, glimpse in zip(factors, glimpses, strict=True):
        more = " …" if factor.comparison.entries > len(glimpse) else ""
        rows.append(_factor_row(factor, "  ".join(number.rjust(width) for number in glimpse) + more))
    return rows


def _factor_row(factor: Factor, glimpse: str) -> list[Cell]:
    style = STYLES[factor.verdict]
    return [
        (factor.symbol, style if factor.verdict is not Verdict.AGREES else ""),
        factor.formula,
        shape(factor.comparison.shape),
        glimpse,
        factor.origin,
        (relative(factor.comparison.max_relative_error), style),
        (f"{MARKS[factor.verdict]} {_verdict(factor.comparison)}", style),
    ]


_OWN_FACTORS = (
    " The factors above it are gradcheck's own: to see which of yours is off, put {0}.dL_da, {0}.da_dz and "
    "{0}.delta into the gradient file."
)


def _only_products_given(explanation: Explanation) -> bool:
    """Whether the gradients are the user's, and the factors they are made of are not."""
    *factors, weight, _ = explanation.factors
    return weight.origin != "backprop" and all(factor.origin == "backprop" for factor in factors)


def _explained(explanation: Explanation) -> str:
    """Name the first factor that is off: what follows from it is off as well."""
    if explanation.verdict is Verdict.AGREES:
        return "agrees: every factor, with differences of its own map."
    first = next(factor for factor in explanation.factors if factor.verdict is explanation.verdict)
    worst = first.comparison.worst()[0]
    there = f"at {index(worst.index)} it {_against(worst)}"
    if explanation.verdict is Verdict.WRONG:
        hint = _OWN_FACTORS.format(explanation.layer) if _only_products_given(explanation) else ""
        return f"wrong: {first.symbol} = {first.formula} is the first factor that is off; {there}.{hint}"
    return f"unresolved: {first.symbol} could not be decided; {there}."
