"""Dropout with a fixed mask: out = mask ⊙ x, where the mask holds 0 or 1 / (1 − p).

    ∂L/∂x = mask ⊙ ∂L/∂out

Scaling by 1 / (1 − p) in training is known as inverted dropout.
(N. Srivastava et al., "Dropout", JMLR 15, 2014.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcheck_cli.network.step import Inputs
from gradcheck_cli.network.steps.linear import Linear, fixed
from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True, eq=False)
class Dropout(Linear):
    """Multiply every sample by the same fixed mask, (*features)."""

    mask: Array
    couples = "nothing"
    exact = False

    @classmethod
    def drawn(cls, features: Shape, p: float, seed: int) -> Dropout:
        """Return dropout with a random mask. A feature is dropped with probability p, or divided by 1 − p."""
        kept = np.random.default_rng(seed).random(features) >= p
        return cls(kept / (1.0 - p))

    @classmethod
    def of(cls, features: Shape, **options: Any) -> Dropout:
        return cls.drawn(features, options["dropout"], options["seed"])

    @property
    def label(self) -> str:
        return "dropout"

    @property
    def absolute(self) -> Dropout:
        return Dropout(np.abs(self.mask))

    def apply(self, *inputs: Array) -> Array:
        (x,) = inputs
        masked: Array = x * fixed(self.mask, x)
        return masked

    def adjoint(self, delta: Array, features: tuple[Shape, ...]) -> Inputs:
        return (delta * fixed(self.mask, delta),)
