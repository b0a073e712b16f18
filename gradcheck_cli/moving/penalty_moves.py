"""Perturb the entries of a parameter and evaluate only the penalties on that parameter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from gradcheck_cli.network.penalties import PENALTIES
from gradcheck_cli.numerical.objective import ALONE, Moved, Spread
from gradcheck_cli.types import Array

_UNDERFLOW = float(np.finfo(np.float64).tiny / np.finfo(np.float64).eps)
"""The largest error that underflow may cause, in units of machine epsilon."""


@dataclass(frozen=True)
class PenaltyMoves:
    """Perturbs every entry of one parameter, and evaluates only its penalty terms.

    penalties: the strength of each penalty, by the penalty's name.
    sign: the sign that a convention assigns to 0; None without a convention.
    """

    parameter: Array
    penalties: Mapping[str, float]
    sign: float | None = None
    rest: ClassVar[None] = None
    exact: ClassVar[bool] = True
    spread: Spread = ALONE

    @cached_property
    def position(self) -> Array:
        return self.parameter.ravel()

    @cached_property
    def unit(self) -> Array:
        size = np.abs(self.position)
        return np.where(size > 0, size, 1.0)

    @property
    def batch(self) -> int:
        return 2**18

    def move(self, which: Array, to: Array) -> Moved:
        crossed = np.zeros(len(which), dtype=bool)
        here = self.position[which]
        kept = (here == 0) & (self.sign is not None)
        losses: Any = 0.0
        for name, strength in self.penalties.items():
            penalty = PENALTIES[name]
            term = penalty.value(to, strength)
            if penalty.pieces and penalty.branch:
                crossed |= (penalty.pieces(to) != penalty.pieces(here)) & ~kept
                term = np.where(kept, penalty.branch(to, self.sign or 0.0, strength), term)
            losses = losses + term
        rounding = 2.0 * np.abs(np.real(losses)) + _UNDERFLOW
        # Both penalties are functions of |w|. At w = 0, their two sides round alike and cancel exactly.
        return Moved(losses, np.where(here == 0, 0.0, rounding), crossed)
