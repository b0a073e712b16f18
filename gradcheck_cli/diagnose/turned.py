"""Swap the words "row" and "column" in a diagnosis if the author's file stores every weight as [in, out]."""

from __future__ import annotations

import re
from dataclasses import replace

from gradcheck_cli.diagnose.diagnosis import Answer, Cause, Diagnosis
from gradcheck_cli.diagnose.families import BIAS, EMBEDDING, LOOPS, SOFTMAX

_OTHER = {"row": "column", "column": "row", "Row": "Column", "Column": "Row"}

ROWS_OF_OTHERS = frozenset(family.name for family in (BIAS, EMBEDDING, LOOPS, SOFTMAX))
"""The families of mistakes in which "row" means a row of an image, of scores or of a table of tokens."""

_NOTE = " (Rows and columns are counted as in the file, [in, out].)"


def turned(diagnosis: Diagnosis) -> Diagnosis:
    """Return the diagnosis with the words "row" and "column" swapped."""
    return replace(
        diagnosis,
        answers=tuple(_answer(answer) for answer in diagnosis.answers),
        observations=tuple(_noted(text) for text in diagnosis.observations),
    )


def _answer(answer: Answer) -> Answer:
    return replace(answer, causes=tuple(_cause(cause) for cause in answer.causes))


def _cause(cause: Cause) -> Cause:
    if cause.family in ROWS_OF_OTHERS:
        return cause
    return replace(
        cause,
        kind=_swapped(cause.kind),
        sentence=_noted(cause.sentence),
        wrong=_swapped(cause.wrong),
        right=_swapped(cause.right),
    )


def _noted(text: str) -> str:
    swapped = _swapped(text)
    return swapped if swapped == text else swapped + _NOTE


def _swapped(text: str) -> str:
    return re.sub(r"\b([Rr]ow|[Cc]olumn)(?=s?\b)", lambda found: _OTHER[found[1]], text)
