"""The text of a derivation by the chain rule: definitions, steps, and the first wrong factor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gradcheck_cli.formats.words.numbers import index, listed, shape
from gradcheck_cli.formats.words.tensors import against
from gradcheck_cli.verdict import Verdict

if TYPE_CHECKING:
    from gradcheck_cli.explain.derivation import Derivation, Explanation, Factor, Worked


def derives(derivation: Derivation) -> str:
    """Return the heading of a layer's derivation."""
    return f"The gradients of layer '{derivation.layer}', by the chain rule:"


def definitions(explanation: Explanation, derivation: Derivation) -> list[tuple[str, str]]:
    """Return the formulas to differentiate, each with a remark."""
    rows = [(f"{each.symbol} = {each.formula}", each.where) for each in derivation.definitions]
    if derivation.above and not rows[-1][1]:
        rows[-1] = rows[-1][0], f"the input of layer {derivation.above}"
    return [*rows, *([] if derivation.above else _loss(explanation, derivation.definitions[-1].symbol))]


def _loss(explanation: Explanation, output: str) -> Iterator[tuple[str, str]]:
    weight = "wₙ " if explanation.has_weights else ""
    yield f"L = c Σₙ {weight}{explanation.loss}({output}ₙ, yₙ)", f"with c = {explanation.coefficient:.6g}"
    yield from (("", note) for note in explanation.notes)


def in_brief(derivation: Derivation) -> tuple[str, str]:
    """Return a line with the layer's name and shapes, and a line with its formulas.

    If the formulas do not fit on one line, only the last of them is shown.
    """
    formulas = [f"{each.symbol} = {each.formula}" for each in derivation.definitions]
    together = ", ".join(formulas)
    shapes = f"{derivation.layer}: {shape(derivation.takes)} → {shape(derivation.gives)}"
    return shapes, together if len(together) <= _LONG else formulas[-1]


_LONG = 70
"""The largest total length of formulas that fit on one line."""


def chain_rule(derivation: Derivation) -> list[tuple[str, str, str, str]]:
    """Return the steps from ∂L/∂output to the gradients, one row per step."""
    return [
        (
            link.symbol,
            f"= {link.through}",
            f"= {link.formula}",
            f"because {link.because}",
        )
        for link in derivation.chain
    ]


def worked(entry: Worked) -> str:
    """Return the computation of one entry of a gradient in numbers."""
    products = " + ".join(_product(*term) for term in entry.terms) or "0"
    more = f" + … ({entry.count} products)" if entry.count > len(entry.terms) else ""
    penalty = f" + penalty {entry.penalty:.4g}" if entry.penalty else ""
    sums = f"= {entry.through} = {products}{more}{penalty} = {entry.total:.4g}"
    given = f"; {entry.origin} has {entry.analytic:.4g}" if entry.given else ""
    return f"{entry.symbol}{index(entry.index)} {sums}; finite differences give {entry.numerical:.4g}{given}."


def _product(g: float, local: float) -> str:
    return f"{_factor(g)} · {_factor(local)}"


def _factor(value: float) -> str:
    return f"({value:.3g})" if value < 0 else f"{value:.3g}"


def notes(explanation: Explanation) -> Iterator[str]:
    """Yield reasons why the derivation may not describe the author's network. Each reason is one sentence."""
    for line in explanation.unusual:
        yield f"Note: {line}."


def shows_more(explanation: Explanation) -> str:
    """Return a sentence that says how to see all steps of one layer."""
    return f"To see the steps of one layer: --layer {explanation.layers[0].layer}"


def preamble(explanation: Explanation) -> Iterator[str]:
    """Yield lines about the derivation: the loss, its other terms, and where the gradients come from."""
    last = explanation.layers[0]
    if not last.above:
        formula, where = next(_loss(explanation, last.definitions[-1].symbol))
        yield f"{formula}, {where}"
        yield from explanation.notes
    for origin in dict.fromkeys(factor.origin for factor in explanation.factors if factor.given):
        yield f"The gradients of the parameters come from {origin}."


def explained(explanation: Explanation) -> str:
    """Return the verdict: the first wrong factor, and any earlier factors that the user's file lacks."""
    if explanation.verdict is Verdict.AGREES:
        return "agrees: every factor matches the differences of its own step."
    derivation, first = next(
        (derivation, factor)
        for derivation in explanation.layers
        for factor in derivation.factors
        if factor.verdict is explanation.verdict
    )
    where = f" of layer {derivation.layer}" if len(explanation.layers) > 1 else ""
    worst = first.comparison.worst()[0]
    there = f"at {index(worst.index)} it {against(worst)}"
    if explanation.verdict is Verdict.UNRESOLVED:
        return f"unresolved: {first.symbol}{where} could not be decided; {there}."
    what = f"wrong: {first.symbol} = {first.formula}{where}"
    unseen = derivation.unseen(first) if first.given else ()
    if unseen:
        return f"{what} is wrong; {there}. {_gradchecks_own(unseen)}"
    if first.given and derivation.rests_on_others(first):
        return f"{what} is wrong; {there}. {_NONE_OF_YOURS}"
    return f"{what} is the first wrong factor; {there}."


_NONE_OF_YOURS = "The factors above are gradcheck's own, so an earlier step of yours may be wrong, too."
"""The text about a wrong gradient if a file cannot hold the layer's other factors."""


def _gradchecks_own(unseen: Sequence[Factor]) -> str:
    """Return a sentence: the wrong factor may come from an earlier factor that the user's file lacks."""
    symbols, names = (listed([f.symbol for f in unseen]), listed([f.comparison.name for f in unseen]))
    are = "is" if len(unseen) == 1 else "are"
    return (
        f"One of your earlier factors may also be to blame: {symbols} above {are} gradcheck's own. "
        f"To check yours, put {names} into the gradient file."
    )
