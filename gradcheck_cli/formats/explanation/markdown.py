"""A derivation as GitHub's Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from gradcheck_cli.explain.derivation import Derivation, Explanation
from gradcheck_cli.formats.explanation.table import (
    BRIEF_COLUMNS,
    brief_rows,
    factor_table,
)
from gradcheck_cli.formats.markdown import blocks, fenced, plain_text, table
from gradcheck_cli.formats.view import View
from gradcheck_cli.formats.words.derivation import (
    chain_rule,
    definitions,
    derives,
    explained,
    in_brief,
    notes,
    preamble,
    worked,
)
from gradcheck_cli.formats.words.verdicts import MARKS


def render(explanation: Explanation, view: View, spec: str) -> str:
    """Return the derivation of each layer: its formulas and a table of its factors.

    If no layer is chosen to be shown in full, all layers are shown in brief.
    """
    return blocks(
        f"### {MARKS[explanation.verdict]} {plain_text(spec)}",
        plain_text(explanation.network),
        *([] if explanation.whole else map(plain_text, preamble(explanation))),
        *(block for derivation in explanation.layers for block in _blocks(explanation, derivation)),
        f"**{plain_text(explained(explanation))}**",
        *map(plain_text, notes(explanation)),
    )


def _blocks(explanation: Explanation, derivation: Derivation) -> Iterator[str]:
    of_layer = _whole if derivation.layer == explanation.whole else _brief
    return of_layer(explanation, derivation)


def _whole(explanation: Explanation, derivation: Derivation) -> Iterator[str]:
    formulas = [f"{formula}  {remark}".strip() for formula, remark in definitions(explanation, derivation)]
    yield plain_text(derives(derivation))
    yield fenced("\n".join([*formulas, "", *("  ".join(parts) for parts in chain_rule(derivation))]))
    yield table(*factor_table(derivation.factors))
    yield from (plain_text(worked(entry)) for entry in derivation.worked)


def _brief(explanation: Explanation, derivation: Derivation) -> Iterator[str]:
    yield from map(plain_text, in_brief(derivation))
    yield table(BRIEF_COLUMNS, brief_rows(derivation.factors))
