"""The result as a table with a row per tensor and a few sentences, for people."""

from __future__ import annotations

import numpy as np

from gradcheck_cli.compare import Comparison, Entry, Verdict
from gradcheck_cli.errors import ExitCode
from gradcheck_cli.explain import Explanation, Factor
from gradcheck_cli.formats import View
from gradcheck_cli.formats.text import (
    MARKS,
    STYLES,
    Cell,
    Column,
    Page,
    count,
    index,
    measured,
    number,
    relative,
    shape,
)
from gradcheck_cli.report import Outcome, Report, Run


def render(run: Run, view: View) -> str:
    page = Page(view)
    for i, outcome in enumerate(run.outcomes):
        if i and view.level >= 0:
            page.line()
        if outcome.report is None:
            page.line(f"✗ {outcome.spec}: not checked, see the errors", "bold red")
        elif view.level < 0:
            page.line(f"{outcome.spec}: {_sentence(outcome.report)}", STYLES[outcome.report.verdict])
        else:
            _report(page, outcome, outcome.report)
    if len(run.outcomes) > 1 and view.level >= 0:
        page.line()
        page.line(_summary(run))
    return page.text


def _report(page: Page, outcome: Outcome, report: Report) -> None:
    page.line(outcome.spec, "bold")
    page.line(f"  {report.network}, loss {report.loss:.6g}")
    page.line(f"  gradients: {report.source}; reference: {_reference(report)}")
    page.line()
    page.table(_TENSOR_COLUMNS, [_tensor_row(comparison) for comparison in report.comparisons])
    page.line()
    page.line(f"{MARKS[report.verdict]} {_sentence(report)}", STYLES[report.verdict])
    page.line(_caught(report))
    if report.unexercised:
        page.line("Not exercised by these data and parameters:")
        for line in report.unexercised:
            page.item(line)
    if page.view.show:
        page.line()
        page.table(_ENTRY_COLUMNS, [_entry_row(name, entry) for name, entry in report.worst(page.view.show)])
    if page.view.level > 0:
        _details(page, outcome, report)


_TENSOR_COLUMNS = (
    Column("tensor"),
    Column("shape", keep=4, right=True),
    Column("entries", keep=6, right=True),
    Column("max rel err", right=True),
    Column("median", keep=5, right=True),
    Column("worst entry", keep=1),
    Column("analytic", keep=2, right=True),
    Column("numerical ± error", keep=3),
    Column("verdict"),
)


def _tensor_row(comparison: Comparison) -> list[Cell]:
    worst = comparison.worst()[0]
    return [
        comparison.name,
        shape(comparison.shape),
        f"{comparison.entries:,}",
        (relative(comparison.max_relative_error), STYLES[comparison.verdict]),
        relative(comparison.median_relative_error),
        index(worst.index),
        number(worst.analytic),
        measured(worst.numerical, worst.error),
        (_verdict(comparison), STYLES[comparison.verdict]),
    ]


def _verdict(comparison: Comparison) -> str:
    if comparison.verdict is Verdict.WRONG:
        return f"{comparison.verdict} ({np.count_nonzero(comparison.wrong):,})"
    unresolved = np.count_nonzero(comparison.unresolved)
    if comparison.verdict is Verdict.UNRESOLVED or unresolved:
        return f"{comparison.verdict} ({unresolved:,} unresolved)".replace("unresolved (", "(", 1)
    return str(comparison.verdict)


_ENTRY_COLUMNS = (
    Column("entry"),
    Column("rel err", right=True),
    Column("analytic", keep=1, right=True),
    Column("numerical ± error", keep=2),
    Column("verdict"),
)


def _entry_row(name: str, entry: Entry) -> list[Cell]:
    return [
        f"{name}{index(entry.index)}",
        (relative(entry.relative_error), STYLES[entry.verdict]),
        number(entry.analytic),
        measured(entry.numerical, entry.error),
        (str(entry.verdict), STYLES[entry.verdict]),
    ]


def _sentence(report: Report) -> str:
    """The verdict and what it rests on, in one sentence."""
    tally = f"{report.agree:,} agree, {report.wrong:,} wrong, {report.unresolved:,} unresolved"
    zeros = f"; {report.zero:,} are zero on both sides" if report.zero else ""
    entries = f"of {count(report.entries, 'entry')} {tally}{zeros}."
    if report.verdict is Verdict.WRONG:
        tensors = [c.name for c in report.comparisons if c.verdict is Verdict.WRONG]
        name, worst = report.worst(1)[0]
        where = f"{', '.join(tensors)}; the worst entry is {name}{index(worst.index)}"
        return f"wrong: {where}; {entries}"
    if report.verdict is Verdict.UNRESOLVED:
        if report.entries == report.zero:
            return (
                f"unresolved: every gradient is zero on both sides, so nothing was put to the test; {entries}"
            )
        return f"unresolved: nothing wrong was found, but too little could be decided; {entries}"
    return f"agrees: {entries}"


def _caught(report: Report) -> str:
    resolution = report.resolution
    if resolution is None or np.isinf(resolution.smallest):
        return "No error in a single entry, however large, would have been caught."
    return (
        f"A single entry off by a relative {resolution.smallest:.1e} would have been caught at best, "
        f"{_share(resolution.median)} in the median entry, {_share(resolution.largest)} in the hardest."
    )


def _share(value: float) -> str:
    return "no error" if np.isinf(value) else f"{value:.1e}"


def _reference(report: Report) -> str:
    way = "unit differences" if report.differences == "units" else "literal differences"
    return f"{report.scheme} {way}"


def _details(page: Page, outcome: Outcome, report: Report) -> None:
    page.line()
    for name, rtol in report.rtol.items():
        page.item(f"rtol for {name}: {rtol:.3g}")
    if report.witness:
        page.item(
            f"witness: {count(report.witness.entries, 'entry')} drawn at random and moved literally; from the unit "
            f"differences they are at most {report.witness.largest:.2g} of their error bars away"
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
            (ExitCode.DEFECT, "not to be trusted"),
        )
        if code in codes
    ]
    return f"{count(len(codes), 'spec')}: {', '.join(parts)}."


# --- the derivation ---------------------------------------------------------------------------------------


def render_explanation(spec: str, explanation: Explanation, view: View) -> str:
    page = Page(view)
    page.line(spec, "bold")
    page.line(f"  {explanation.network}")
    page.line()
    page.line(f"The output layer '{explanation.layer}':  z = a⁽ʰ⁾ wᵀ + b,  a = {explanation.activation}(z)")
    page.line(f"The loss:  L = c · Σₙ {explanation.loss}(aₙ, yₙ)  with c = {explanation.coefficient:.6g}")
    page.line()
    page.line("  ∂L/∂w = ∂L/∂a · ∂a/∂z · ∂z/∂w = δᵀ a⁽ʰ⁾     because ∂z/∂w = a⁽ʰ⁾")
    page.line("  ∂L/∂b = ∂L/∂a · ∂a/∂z · ∂z/∂b = Σₙ δₙ        because ∂z/∂b = 1")
    page.line()
    page.table(_FACTOR_COLUMNS, [_factor_row(factor) for factor in explanation.factors])
    page.line()
    page.line(f"{MARKS[explanation.verdict]} {_explained(explanation)}", STYLES[explanation.verdict])
    return page.text


_FACTOR_COLUMNS = (
    Column("factor"),
    Column("formula"),
    Column("shape", keep=2, right=True),
    Column("first numbers", keep=4),
    Column("from", keep=3),
    Column("max rel err", keep=1, right=True),
    Column("check"),
)


def _factor_row(factor: Factor) -> list[Cell]:
    numbers = factor.comparison.analytic.ravel()
    glimpse = "  ".join(f"{value:+.4g}" for value in numbers[:3]) + ("  …" if len(numbers) > 3 else "")
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


def _explained(explanation: Explanation) -> str:
    """Name the first factor that is off: what follows from it is off as well."""
    if explanation.verdict is Verdict.AGREES:
        return "every factor agrees with differences of its own map."
    first = next(factor for factor in explanation.factors if factor.verdict is explanation.verdict)
    worst = first.comparison.worst()[0]
    there = f"at {index(worst.index)} it is {number(worst.analytic)}"
    if explanation.verdict is Verdict.WRONG:
        return (
            f"wrong: {first.symbol} = {first.formula} is the first factor that is off; {there}, "
            f"differences say {measured(worst.numerical, worst.error)}."
        )
    return f"unresolved: {first.symbol} could not be decided; {there}."
