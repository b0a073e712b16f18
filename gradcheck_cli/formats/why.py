"""Why a gradient is wrong, in a few lines below the verdict."""

from __future__ import annotations

from gradcheck_cli.diagnose.diagnosis import Answer, Cause, Diagnosis
from gradcheck_cli.formats.text import Cell, Column, Page, count

_MOST_OTHERS = 3
"""So many other explanations are named."""


def tell_why(page: Page, diagnosis: Diagnosis) -> None:
    """The likeliest mistake with its formulas and how well it fits, or what is known without one."""
    if not diagnosis.answers:
        _unknown(page, diagnosis)
        return
    likeliest, *others = diagnosis.answers
    for line in headlines(diagnosis):
        page.line(line, "bold")
    formulas = [row for cause in likeliest.causes for row in _formulas(cause)]
    if formulas:
        page.table((Column(), Column(folds=True), Column(rank=1)), formulas)
    page.item(_evidence(likeliest, diagnosis))
    if others:
        page.item(_others(others))


def headlines(diagnosis: Diagnosis) -> list[str]:
    """The likeliest answer, a sentence for each mistake; nothing if there is none."""
    if not diagnosis.answers:
        return []
    sentences = [cause.sentence for cause in diagnosis.answers[0].causes]
    if len(sentences) == 1:
        return [f"Cause: {sentences[0]}."]
    return [f"Cause {k} of {len(sentences)}: {sentence}." for k, sentence in enumerate(sentences, 1)]


def _formulas(cause: Cause) -> list[list[Cell]]:
    """What the gradient has, and what it should have."""
    if not cause.wrong:
        return []
    factor = f"{cause.factor} of gradcheck explain" if cause.factor else ""
    return [["as it is", (cause.wrong, "red"), factor], ["right", (cause.right, "green"), ""]]


def _evidence(answer: Answer, diagnosis: Diagnosis) -> str:
    both = "together they reproduce" if len(answer.causes) > 1 else "this reproduces"
    alone = (
        " Nothing is known here but arrays: other mistakes may lead to the same."
        if diagnosis.basis == "arrays"
        else ""
    )
    exactly = f"to {answer.apart:.0e} of its largest entry" if answer.apart else "to the last digit"
    return f"{both} every entry {exactly}.{alone}"


def _others(others: list[Answer]) -> str:
    """What would lead to the same gradient on these data."""
    if len(others[0].causes) > 1:
        return f"so {'would' if len(others) > 1 else 'does'} {count(len(others), 'other pair')} of mistakes, on these data."
    named = [answer.causes[0].sentence for answer in others[:_MOST_OTHERS]]
    more = f", or {len(others) - len(named)} more" if len(others) > len(named) else ""
    return f"so would, on these data: {'; or '.join(named)}{more}."


def _unknown(page: Page, diagnosis: Diagnosis) -> None:
    tried = f"none of {count(diagnosis.tried, 'wrong formula')} that were tried reproduces this gradient"
    page.line(f"Cause: not known; {tried}." if diagnosis.tried else "Cause: not known.", "bold")
    for line in diagnosis.observations:
        page.item(f"{line}.")
