"""The penalties on parameters, one row each, with the value and the derivative next to each other.

A penalty is a sum of one term per parameter entry, so both functions work entry by entry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from gradcheck_cli.types import Array


@dataclass(frozen=True)
class Penalty:
    """A penalty on parameters: value(w, λ) and derivative(w, λ), both in w's shape.

    name: what a spec calls it.

    For penalties with a kink at 0, as in |w|, pieces(w) is the sign of each entry, and branch(w, sign, λ) is
    the value on the side with this sign, extended past the kink.
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
