"""A sweep as a plot for the terminal, with a table of the schemes below it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.text import Text

from gradcheck_cli.formats.sweep.plot import LABEL, Axes, Plot
from gradcheck_cli.formats.text import INDENT, STYLES, Cell, Column, Page
from gradcheck_cli.formats.view import View
from gradcheck_cli.formats.words.numbers import count, listed, relative
from gradcheck_cli.formats.words.verdicts import MARKS
from gradcheck_cli.numerical.schemes import plain_schemes
from gradcheck_cli.sweep.curve import FEWEST, ORDER_WITHIN, Branch, Curve
from gradcheck_cli.sweep.sweep import STEPS, Extrapolated, Sweep
from gradcheck_cli.verdict import Verdict

_PAIRS = (("▸", "▹"), ("◂", "◃"), ("●", "○"), ("◆", "◇"), ("■", "□"), ("▴", "▵"), ("▾", "▿"))

_LETTERS = "BCEFGIJKLMNPQRSTUWYZ"
"""The marks of the schemes that have no marks in `_PAIRS`.

In ASCII, other letters stand for the marks in `_PAIRS`.
"""

_COLORS = ("bright_blue", "cyan", "green", "magenta", "yellow", "bright_green", "bright_cyan")

EXTRAPOLATED, KINK, FLAT = "★", "×", "━"

_OCTAVES, _BOTTOM, _HIGHEST = len(STEPS) - 1, -16, 8


def render(sweep: Sweep, view: View, spec: str) -> str:
    """Return the sweep as text: plot, legend, table and verdict."""
    page, report = Page(view), sweep.report
    page.line(spec, "bold")
    page.line(f"{report.network}; {report.loss_name} {report.loss:.6g}", indent=INDENT)
    page.line(f"{report.source} against each scheme at one step; {_swept(sweep)}", indent=INDENT)
    page.line()
    page.line("relative error", "bold", indent=INDENT)
    page.drawing(list(_plot(sweep, view)))
    page.line()
    for line in _legend(sweep):
        page.line(line, indent=INDENT)
    page.line()
    page.table(_COLUMNS, [*map(_row, sweep.curves), _extrapolated_row(sweep.adaptive)])
    page.line()
    page.line(f"{MARKS[sweep.verdict]} {_sentence(sweep)}", STYLES[sweep.verdict])
    return page.text


def _swept(sweep: Sweep) -> str:
    of = sweep.report.entries
    if sweep.swept == of:
        return f"all {count(of, 'entry')}"
    return f"{sweep.swept:,} of {count(of, 'entry')}, drawn at random, including the worst of each tensor"


# --- the plot ----------------------------------------------------------------------------------------------


def _plot(sweep: Sweep, view: View) -> Iterator[Text]:
    plot = Plot(_axes(sweep, view))
    for curve in sweep.curves:
        for point in curve.points:
            if point.branch is not None:
                plot.put(point.step, point.error, *_mark(curve, point.branch))
    for step in sweep.adaptive.steps:
        plot.put(step, sweep.adaptive.error, EXTRAPOLATED, "bold")
    yield from plot.lines("step")
    best = [
        (curve.best.step, *_mark(curve, Branch.TRUNCATION))
        for curve in sweep.curves
        if curve.best and curve.verdict is not Verdict.WRONG
    ]
    if best:
        yield plot.strip("best", best)
    if kinks := _kinks(sweep):
        yield plot.strip("kinks", [(step, KINK, "red") for step in kinks])


def _axes(sweep: Sweep, view: View) -> Axes:
    """Choose one column per octave and one row per decade, or more if there is room.

    The axis of the errors is the same for every sweep, so that sweeps can be compared. Only if an error is
    larger than the gradient is the axis longer.
    """
    errors = [p.error for curve in sweep.curves for p in curve.points if p.branch is not None]
    top = min(max(0, math.ceil(math.log10(max(errors, default=1.0) or 1.0) - 0.5)), _HIGHEST)
    room = (view.width or _NARROW) - LABEL
    per_octave = min(2, max(1, room // (_OCTAVES + 1)))
    return Axes(_OCTAVES, _BOTTOM, top, per_octave, 1.5 if per_octave > 1 else 1.0, view.ascii)


_NARROW = 80


def glyphs_of(scheme: str) -> tuple[str, str]:
    """Return a scheme's two marks: for points on its truncation branch, and for points in the noise."""
    number = plain_schemes().index(scheme)
    if number < len(_PAIRS):
        return _PAIRS[number]
    letter = _LETTERS[(number - len(_PAIRS)) % len(_LETTERS)]
    return letter, letter.lower()


def _color_of(scheme: str) -> str:
    return _COLORS[plain_schemes().index(scheme) % len(_COLORS)]


def _mark(curve: Curve, branch: Branch) -> tuple[str, str]:
    solid, hollow = glyphs_of(curve.scheme)
    color = _color_of(curve.scheme)
    return {
        Branch.TRUNCATION: (solid, color),
        Branch.NOISE: (hollow, color),
        Branch.FLAT: (FLAT, color),
        Branch.KINK: (KINK, color),
    }[branch]


def _kinks(sweep: Sweep) -> set[float]:
    return {point.step for curve in sweep.curves for point in curve.on(Branch.KINK)}


def _legend(sweep: Sweep) -> Iterator[str]:
    marks = [f"{''.join(glyphs_of(curve.scheme))} {curve.scheme}" for curve in sweep.curves]
    yield "  ".join([*marks, f"{EXTRAPOLATED} adaptive"])
    met = {point.branch for curve in sweep.curves for point in curve.points}
    yield "; ".join(text for branch, text in _MEANINGS.items() if branch in met)


_MEANINGS = {
    Branch.TRUNCATION: "solid: truncation error, falls as a power of the step",
    Branch.NOISE: "hollow: rounding noise, rises as 1/step",
    Branch.FLAT: f"{FLAT} flat: the error of the gradient itself",
    Branch.KINK: f"{KINK} the step crosses a kink",
}


# --- a row per scheme --------------------------------------------------------------------------------------


_COLUMNS = (
    Column("scheme"),
    Column("order", right=True),
    Column("expected", rank=2, right=True),
    Column("truncation", rank=3),
    Column("best step", rank=1, right=True),
    Column("error there", right=True),
    Column("verdict", folds=True),
)


def _row(curve: Curve) -> list[Cell]:
    best = None if curve.verdict is Verdict.WRONG else curve.best
    error = best.error if best else curve.flat
    return [
        (f"{glyphs_of(curve.scheme)[0]} {curve.scheme}", _color_of(curve.scheme)),
        "–" if curve.order is None else f"{curve.order:.2f}",
        str(curve.expected),
        _range([point.step for point in curve.on(Branch.TRUNCATION)]),
        f"{best.step:.1e}" if best else "–",
        "–" if error is None else relative(error),
        (f"{MARKS[curve.verdict]} {_found(curve)}", STYLES[curve.verdict]),
    ]


def _range(steps: list[float]) -> str:
    return f"{max(steps):.0e} … {min(steps):.0e}" if steps else "–"


def _extrapolated_row(of: Extrapolated) -> list[Cell]:
    unknown = f"; {count(of.unknown, 'entry')} on kinks left out" if of.unknown else ""
    return [
        (f"{EXTRAPOLATED} adaptive", "bold"),
        "",
        "",
        "",
        "",
        relative(of.error),
        f"extrapolated, {max(of.steps):.0e} … {min(of.steps):.0e}{unknown}",
    ]


def _found(curve: Curve) -> str:
    """Return a few words that say what the curve shows."""
    if curve.verdict is Verdict.WRONG:
        return "order 0: does not fall" if curve.order is None else f"stays at {relative(curve.flat or 0)}"
    if curve.verdict is Verdict.UNRESOLVED:
        return f"undecided: {_why_not(curve)}"
    assert curve.order is not None
    better = curve.order > curve.expected + ORDER_WITHIN
    order = (
        f"order {curve.order:.1f}, better than {curve.expected}"
        if better
        else f"order {curve.expected}, as expected"
    )
    return f"{order}, down to {relative(curve.flat)}" if curve.flat is not None else order


def _why_not(curve: Curve) -> str:
    if curve.order is not None:
        return f"order {curve.order:.1f}, not {curve.expected}"
    if curve.on(Branch.KINK):
        return "kinks interfere"
    falling = len(curve.on(Branch.TRUNCATION))
    if falling < FEWEST:
        return "too few steps" if falling else "only rounding noise"
    return "no straight line"


def _sentence(sweep: Sweep) -> str:
    shown = [curve for curve in sweep.curves if curve.verdict is Verdict.WRONG]
    wrong = f"{sweep.report.wrong:,} of {count(sweep.report.entries, 'entry')}"
    if sweep.verdict is Verdict.WRONG and shown:
        level = min(curve.flat for curve in shown if curve.flat is not None)
        return (
            f"wrong: a relative error of {relative(level)} remains at every step; "
            f"gradcheck check finds {wrong} wrong."
        )
    if sweep.verdict is Verdict.WRONG:
        return (
            f"wrong: gradcheck check finds {wrong} wrong. The curves do not show the error: it is too "
            "small to stand out among all swept entries (sweep fewer with --only), or kinks interfere."
        )
    if sweep.verdict is Verdict.AGREES:
        right = [curve.scheme for curve in sweep.curves if curve.verdict is Verdict.AGREES]
        return f"agrees: the error falls with the step as expected, for {listed(right)}."
    if sweep.report.verdict is not Verdict.AGREES:
        return "unresolved: gradcheck check could decide too few of these entries."
    if shown:
        return "unresolved: an error remains. A kink or the undecided entries may explain it."
    return "unresolved: `gradcheck check` finds no mistake, but no curve falls at the order of its scheme."
