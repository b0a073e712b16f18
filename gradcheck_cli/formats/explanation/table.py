"""A derivation as text for people: formulas, and a table of factors for each layer."""

from __future__ import annotations

from itertools import repeat

from gradcheck_cli.explain.derivation import Derivation, Explanation, Factor
from gradcheck_cli.formats.text import INDENT, STYLES, Cell, Column, Page
from gradcheck_cli.formats.view import View
from gradcheck_cli.formats.words.derivation import (
    chain_rule,
    definitions,
    derives,
    explained,
    in_brief,
    notes,
    preamble,
    shows_more,
    worked,
)
from gradcheck_cli.formats.words.numbers import relative, shape
from gradcheck_cli.formats.words.tensors import tensor_verdict
from gradcheck_cli.formats.words.verdicts import MARKS
from gradcheck_cli.verdict import Verdict


def render(explanation: Explanation, view: View, spec: str) -> str:
    """Return the derivation of each layer as text: its formulas and a table of its factors."""
    page = Page(view)
    page.line(spec, "bold")
    page.line(explanation.network, indent=INDENT)
    page.line()
    if not explanation.whole:
        _loss(page, explanation)
    for derivation in explanation.layers:
        if derivation.layer == explanation.whole:
            _whole(page, explanation, derivation)
        else:
            _brief(page, derivation)
    if not explanation.whole:
        page.line(shows_more(explanation))
        page.line()
    page.line(f"{MARKS[explanation.verdict]} {explained(explanation)}", STYLES[explanation.verdict])
    for note in notes(explanation):
        page.line(note)
    return page.text


def _loss(page: Page, explanation: Explanation) -> None:
    for line in preamble(explanation):
        page.line(line)
    page.line()


def _brief(page: Page, derivation: Derivation) -> None:
    """Add a layer in a few lines: its formulas, its gradients, and every factor that does not agree."""
    shapes, formulas = in_brief(derivation)
    page.line(shapes)
    page.line(formulas, indent=INDENT)
    page.table(BRIEF_COLUMNS, brief_rows(derivation.factors))
    page.line()


def _whole(page: Page, explanation: Explanation, derivation: Derivation) -> None:
    page.line(derives(derivation))
    page.line()
    rows = definitions(explanation, derivation)
    formulas = [row for row in rows if row[0]]
    shown = page.table((Column(folds=True), Column(rank=1)), formulas)
    for formula, remark in rows:
        if remark and (not formula or len(shown) == 1):  # the remark did not fit next to its formula
            page.line(remark, indent=INDENT)
    page.line()
    page.table((Column(), Column(rank=1), Column(folds=True), Column(rank=2)), chain_rule(derivation))
    page.line()
    page.table(*factor_table(derivation.factors))
    page.line()
    for entry in derivation.worked:
        page.line(worked(entry))
        page.line()


BRIEF_COLUMNS = (
    Column(),
    Column(folds=True, widest=40),
    Column(right=True, rank=2),
    Column(right=True, rank=1),
    Column(),
)


def brief_rows(factors: tuple[Factor, ...]) -> list[list[Cell]]:
    """Return a row for each gradient of a layer, and for every other factor that does not agree."""
    shown = (f for f in factors if f.is_gradient or f.verdict is not Verdict.AGREES)
    return [
        [symbol, f"= {formula}", size, error, check]
        for symbol, formula, size, _, _, error, check in map(_factor_row, shown, repeat(""))
    ]


GLIMPSE = 3
"""The number of a factor's elements to show."""

_COLUMNS = (
    Column("factor"),
    Column("formula", folds=True, widest=40),
    Column("shape", rank=1, right=True),
    Column("first numbers", rank=2),
    Column("from", rank=3),
    Column("rel error", rank=4, right=True),
    Column("check"),
)


def factor_table(factors: tuple[Factor, ...]) -> tuple[list[Column], list[list[Cell]]]:
    """Return the columns of the table of factors, and one row per factor.

    Each row shows the first elements of its factor, aligned with the elements in the other rows.

    The column *from* is left out if all factors come from the same place.
    """
    glimpses = [[f"{value + 0.0:.3g}" for value in f.comparison.analytic.ravel()[:GLIMPSE]] for f in factors]
    width = max(len(number) for glimpse in glimpses for number in glimpse)
    rows = []
    for factor, glimpse in zip(factors, glimpses, strict=True):
        more = " …" if factor.comparison.entries > len(glimpse) else ""
        rows.append(_factor_row(factor, " ".join(number.rjust(width) for number in glimpse) + more))
    mixed = len({factor.origin for factor in factors}) > 1
    shown = [i for i, column in enumerate(_COLUMNS) if mixed or column.heading != "from"]
    return [_COLUMNS[i] for i in shown], [[row[i] for i in shown] for row in rows]


def _factor_row(factor: Factor, glimpse: str) -> list[Cell]:
    style = STYLES[factor.verdict]
    return [
        (factor.symbol, style if factor.verdict is not Verdict.AGREES else ""),
        factor.formula,
        shape(factor.comparison.shape),
        glimpse,
        factor.origin,
        (relative(factor.comparison.max_relative_error), style),
        (f"{MARKS[factor.verdict]} {tensor_verdict(factor.comparison)}", style),
    ]
