"""A derivation as text for people: formulas, and a table of factors for each layer."""

from __future__ import annotations

from gradcheck_cli.explain.explain import Derivation, Explanation, Factor
from gradcheck_cli.formats.text import INDENT, STYLES, Cell, Column, Page
from gradcheck_cli.formats.view import View
from gradcheck_cli.formats.words.derivation import chain_rule, definitions, derives, explained, notes
from gradcheck_cli.formats.words.numbers import relative, shape
from gradcheck_cli.formats.words.tensors import tensor_verdict
from gradcheck_cli.formats.words.verdicts import MARKS
from gradcheck_cli.verdict import Verdict


def render(explanation: Explanation, view: View, spec: str) -> str:
    """Return the derivation as formulas, with a table of factors for each layer."""
    page = Page(view)
    page.line(spec, "bold")
    page.line(explanation.network, indent=INDENT)
    page.line()
    for derivation in explanation.layers:
        _derivation(page, explanation, derivation)
    page.line(f"{MARKS[explanation.verdict]} {explained(explanation)}", STYLES[explanation.verdict])
    for note in notes(explanation):
        page.line(note)
    return page.text


def _derivation(page: Page, explanation: Explanation, derivation: Derivation) -> None:
    page.line(derives(derivation))
    page.line()
    rows = definitions(explanation, derivation)
    formulas = [row for row in rows if row[0]]
    shown = page.table((Column(), Column(rank=1)), formulas)
    for formula, remark in rows:
        if remark and (not formula or len(shown) == 1):  # the remark did not fit next to its formula
            page.line(remark, indent=INDENT)
    page.line()
    page.table((Column(), Column(rank=1), Column(), Column(rank=2)), chain_rule(derivation))
    page.line()
    page.table(FACTOR_COLUMNS, factor_rows(derivation.factors))
    page.line()


GLIMPSE = 3
"""The number of elements of a factor that are shown."""

FACTOR_COLUMNS = (
    Column("factor"),
    Column("formula", folds=True),
    Column("shape", rank=1, right=True),
    Column("first numbers", rank=2),
    Column("from", rank=4),
    Column("rel error", rank=3, right=True),
    Column("check"),
)


def factor_rows(factors: tuple[Factor, ...]) -> list[list[Cell]]:
    """Return one row per factor, with its first elements in columns."""
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
        (f"{MARKS[factor.verdict]} {tensor_verdict(factor.comparison)}", style),
    ]
