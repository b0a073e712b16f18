"""The text of a derivation by the chain rule: definitions, steps, and the first wrong factor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gradcheck_cli.formats.words.numbers import index, listed
from gradcheck_cli.formats.words.tensors import against
from gradcheck_cli.verdict import Verdict

if TYPE_CHECKING:
    from gradcheck_cli.explain.explain import Derivation, Explanation, Factor


def derives(derivation: Derivation) -> str:
    """Return the heading of a layer's derivation."""
    return f"The gradients of layer '{derivation.layer}', by the chain rule:"


def definitions(explanation: Explanation, derivation: Derivation) -> list[tuple[str, str]]:
    """Return the formulas to differentiate, each with a remark."""
    normed = derivation.normalised
    return [
        ("z = a⁽ʰ⁾ wᵀ + b", "with a⁽ʰ⁾ the layer's input"),
        *([("y = γ ẑ + β", "with ẑ = (z − mean z) / √(var z + eps) over the samples")] if normed else []),
        (f"a = {derivation.activation}({'y' if normed else 'z'})", _becomes(derivation)),
        *([] if derivation.above else _loss(explanation)),
    ]


def _becomes(derivation: Derivation) -> str:
    return f"the input of layer {derivation.above}" if derivation.above else ""


def _loss(explanation: Explanation) -> Iterator[tuple[str, str]]:
    yield f"L = c Σₙ {explanation.loss}(aₙ, yₙ)", f"with c = {explanation.coefficient:.6g}"
    yield from (("", note) for note in explanation.notes)


def chain_rule(derivation: Derivation) -> list[tuple[str, str, str, str]]:
    """Return the steps from ∂L/∂a to the gradients, one row per step."""
    return list(_chain_rule(derivation))


def _chain_rule(derivation: Derivation) -> Iterator[tuple[str, str, str, str]]:
    """Yield the steps. Below the output layer, the step from the layer above comes first."""
    if derivation.above:
        through = "= ∂L/∂z · ∂z/∂a"
        yield "∂L/∂a", through, "= δ w", f"with z, δ and w of layer {derivation.above}"
    delta = "∂L/∂a · ∂a/∂y · ∂y/∂z" if derivation.normalised else "∂L/∂a · ∂a/∂z"
    yield "∂L/∂w", f"= {delta} · ∂z/∂w", "= δᵀ a⁽ʰ⁾", "because ∂z/∂w = a⁽ʰ⁾"
    yield "∂L/∂b", f"= {delta} · ∂z/∂b", "= Σₙ δₙ", "because ∂z/∂b = 1"
    if derivation.normalised:
        yield "∂L/∂γ", "= ∂L/∂a · ∂a/∂y · ∂y/∂γ", "= Σₙ ∂L/∂yₙ ẑₙ", "because ∂y/∂γ = ẑ"
        yield "∂L/∂β", "= ∂L/∂a · ∂a/∂y · ∂y/∂β", "= Σₙ ∂L/∂yₙ", "because ∂y/∂β = 1"


def notes(explanation: Explanation) -> Iterator[str]:
    """Yield reasons why the derivation may not describe the author's network, one sentence each."""
    for line in explanation.unusual:
        yield f"Note: {line}."


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
    if not unseen:
        return f"{what} is the first wrong factor; {there}."
    return f"{what} is wrong; {there}. {_gradchecks_own(unseen)}"


def _gradchecks_own(unseen: Sequence[Factor]) -> str:
    """Say that a wrong factor in the user's file may come from an earlier factor that the file lacks."""
    symbols, names = (listed([f.symbol for f in unseen]), listed([f.comparison.name for f in unseen]))
    are = "is" if len(unseen) == 1 else "are"
    return (
        f"The mistake may also be in an earlier factor of yours: {symbols} above {are} gradcheck's own. "
        f"To see which of yours is wrong, put {names} into the gradient file."
    )
