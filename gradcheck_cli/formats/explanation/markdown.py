"""A derivation as GitHub's Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from gradcheck_cli.explain.explain import Derivation, Explanation
from gradcheck_cli.formats.explanation.table import FACTOR_COLUMNS, factor_rows
from gradcheck_cli.formats.markdown import blocks, fenced, plain_text, table
from gradcheck_cli.formats.view import View
from gradcheck_cli.formats.words.derivation import chain_rule, definitions, derives, explained, notes
from gradcheck_cli.formats.words.verdicts import MARKS


def render(explanation: Explanation, view: View, spec: str) -> str:
    """Return the derivation with its formulas and a table of factors for each layer."""
    return blocks(
        f"### {MARKS[explanation.verdict]} {plain_text(spec)}",
        plain_text(explanation.network),
        *(block for derivation in explanation.layers for block in _derivation(explanation, derivation)),
        f"**{plain_text(explained(explanation))}**",
        *map(plain_text, notes(explanation)),
    )


def _derivation(explanation: Explanation, derivation: Derivation) -> Iterator[str]:
    formulas = [f"{formula}  {remark}".strip() for formula, remark in definitions(explanation, derivation)]
    yield plain_text(derives(derivation))
    yield fenced("\n".join([*formulas, "", *("  ".join(parts) for parts in chain_rule(derivation))]))
    yield table(FACTOR_COLUMNS, factor_rows(derivation.factors))
