"""Maxout: the largest of several affine maps, out_u = max over k of z[u, k], with z = x wᵀ + b below it.

    ∂L/∂z[u, k] = ∂L/∂out_u if z[u, k] is the largest of its unit, else 0

The pieces of unit u are the numbers u k to u k + k − 1 of z, next to each other, so this is max pooling over
the last axis, with windows that do not overlap.
(I. Goodfellow et al., "Maxout networks", ICML 2013.)
"""

from __future__ import annotations

from dataclasses import dataclass

from gradcheck_cli.network.formulas import Argument, Formulas
from gradcheck_cli.network.steps.max_pooling import MaxPool


@dataclass(frozen=True)
class Maxout(MaxPool):
    """Map z (…, N, *positions, units · pieces) to the largest piece of every unit, (…, *positions, units)."""

    padding: tuple[int] = (0,)
    dilation: tuple[int] = (1,)
    name: str = "maxout"
    formulas = Formulas(
        "out",
        "the largest piece of {x} of each unit",
        (Argument("z", "1 for the largest piece of the unit, else 0", "{g} at the largest piece, else 0"),),
    )

    @classmethod
    def of_pieces(cls, pieces: int) -> Maxout:
        """Return maxout over this many pieces for each unit."""
        return cls((pieces,), (pieces,))

    @property
    def label(self) -> str:
        return f"maxout {self.kernel[0]}"
