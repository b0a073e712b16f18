"""The table of penalties on parameters: one row per penalty, with its value next to its derivative.

A penalty is a sum with one term per parameter entry, so both functions work entry by entry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from gradcheck_cli.types import Array


@dataclass(frozen=True)
class Penalty:
    """A penalty on a parameter w with strength λ.

    name: the penalty's name in a spec.
    value: a function value(w, λ) that returns the term of each entry, in w's shape.
    derivative: a function derivative(w, λ) that returns the derivative of each term, in w's shape.
    pieces: for a penalty with a kink at 0, such as |w|, a function pieces(w) that returns the sign of each
        entry.
    branch: for a penalty with a kink, a function branch(w, sign, λ) that returns the value on the side with
        the given sign, extended past the kink.
    """

    name: str
    value: Callable[[Array, float], Array]
    derivative: Callable[[Array, float], Array]
    pieces: Callable[[Array], Array] | None = None
    branch: Callable[[Array, float, float], Array] | None = None


_ROWS: tuple[Penalty, ...] = (
    Penalty("l2", lambda w, strength: 0.5 * strength * w * w, lambda w, strength: strength * w),
    Penalty(
        "l1",
        lambda w, strength: strength * np.where(w.real < 0, -w, w),
        lambda w, strength: strength * np.sign(w),
        pieces=lambda w: np.sign(w.real),
        branch=lambda w, sign, strength: strength * sign * w,
    ),
)

PENALTIES: Mapping[str, Penalty] = {row.name: row for row in _ROWS}
