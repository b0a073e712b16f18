"""Explain why a gradient is wrong: mistakes that would lead to the gradient, and other known facts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradcheck_cli.formats.pages import page_of
from gradcheck_cli.formats.words.numbers import count

if TYPE_CHECKING:
    from gradcheck_cli.diagnose.diagnosis import Answer, Diagnosis


@dataclass(frozen=True)
class Said:
    """A sentence, and the items of the list that follows it."""

    text: str
    items: tuple[str, ...] = ()


OTHERS = 3
"""The number of other explanations that are given in full."""


def diagnosed(diagnosis: Diagnosis | None) -> Iterator[Said]:
    """Yield reasons why a gradient is wrong: mistakes that would lead to the gradient, and other facts."""
    if diagnosis is None:
        return
    if diagnosis.places:
        yield Said(f"Where: {' '.join(f'{sentence}.' for sentence in diagnosis.places)}")
    if diagnosis.trials:
        yield Said(f"Why: {' '.join(f'{sentence}.' for sentence in diagnosis.trials)}")
    if diagnosis.answers:
        likeliest, *others = diagnosis.answers
        explained = (*_formulas(likeliest, diagnosis.basis), REPRODUCED[diagnosis.basis])
        yield Said(f"Why: {_both(likeliest)}", explained if _explains(likeliest) else ())
        if others:
            yield Said("Other mistakes would give the same gradient on these data:", tuple(_told(others)))
    yield from besides(diagnosis)


def _explains(answer: Answer) -> bool:
    """Return whether the answer names a mistake, or only says which entries are wrong."""
    return any(cause.wrong or not cause.right for cause in answer.causes)


def _both(answer: Answer) -> str:
    both = "Two mistakes at once. " if len(answer.causes) > 1 else ""
    return both + " ".join(cause.sentence for cause in answer.causes)


def _formulas(answer: Answer, basis: str) -> Iterator[str]:
    of_a_network = basis == "network"  # only networks have a derivation
    for cause in answer.causes:
        if cause.wrong:
            pointed = of_a_network and cause.factor
            factor = f"   (see {cause.factor} in gradcheck explain)" if pointed else ""
            yield f"wrong: {cause.wrong}{factor}"
        if cause.right:
            yield f"right: {cause.right}"
        if page := page_of(cause.kind):
            yield f"see {page}"


REPRODUCED = {
    "network": "This explanation reproduces every entry, up to rounding.",
    "arrays": "This explanation reproduces everything that was measured, within the error bars.",
    "two sources": "This explanation reproduces everything that was compared, within rounding.",
    "further runs": "Further runs of your code confirm this explanation.",
    "a layer": "This explanation reproduces everything that was measured, within the error bars.",
    "another network": "This explanation reproduces everything that was measured, within the error bars.",
}
"""Sentences that say how well an answer explains the gradient, by the kind of diagnosis.

The sentences contain no numbers, since numbers would vary between processors.
"""


def _told(others: Sequence[Answer]) -> Iterator[str]:
    for answer in others[:OTHERS]:
        yield _both(answer)
    if len(others) > OTHERS:
        yield f"{len(others) - OTHERS:,} more"


def besides(diagnosis: Diagnosis) -> Iterator[Said]:
    """Yield the facts that are known besides the answers. If there are no answers, yield all known facts."""
    explained = any(map(_explains, diagnosis.answers))
    if diagnosis.basis in ("arrays", "a layer", "two sources") and explained:
        yield Said("Other mistakes can lead to the same arrays.")
    if diagnosis.basis == "another network" and diagnosis.answers:
        yield Said(
            "The network section describes a different loss, so it cannot help to find the mistake. Other "
            "mistakes can lead to the same arrays."
        )
    if not diagnosis.answers and diagnosis.tried:
        yield Said(
            f"Why: unknown. gradcheck tried {count(diagnosis.tried, 'wrong formula')}, but none reproduces "
            "this gradient."
        )
    if diagnosis.observations:
        yield Said("What is known:", diagnosis.observations)
    if diagnosis.trials or diagnosis.places:
        return
    if diagnosis.may_tap and not explained:
        yield Said(TAPS_TELL_MORE)
    if diagnosis.basis == "arrays":
        yield Said(NETWORK_TELLS_MORE)


TAPS_TELL_MORE = (
    "To see between which lines the mistake is, mark intermediate results of the forward pass with "
    'h = tap("h", h), and return their gradients as well.'
)

NETWORK_TELLS_MORE = (
    "If the code is a network, describe it in the spec, so that gradcheck can look for the "
    "wrong formula. Add network: {inputs: N, layers: [{units: N, activation: NAME}, …], loss: NAME}. Under "
    "'gradients', add names: {YOURS: hidden1.weight, …} and, if your weights are [in, out], layout: in_out."
)
