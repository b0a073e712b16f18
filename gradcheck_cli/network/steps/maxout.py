"""Maxout: the largest of several affine maps, out_u = max over k of z[u, k], after a dense step z = x wᵀ + b.

    ∂L/∂z[u, k] = ∂L/∂out_u if z[u, k] is the largest piece of unit u, else 0

The pieces z[u, k] of unit u are next to each other in z. So maxout is max pooling over the last axis, with
windows that do not overlap.
(I. Goodfellow et al., "Maxout networks", ICML 2013.)
"""

from __future__ import annotations

from dataclasses import dataclass

from gradcheck_cli.network.formulas import Argument, Formulas
from gradcheck_cli.network.steps.max_pooling import MaxPool


@dataclass(frozen=True)
class Maxout(MaxPool):
    """Map z to the largest piece of every unit.

    The shape goes from (…, N, *positions, units · pieces) to (…, N, *positions, units), for N samples.
    """

    padding: tuple[int] = (0,)
    dilation: tuple[int] = (1,)
    name: str = "maxout"
    formulas = Formulas(
        "out",
        "the largest piece of {x} in each unit",
        (Argument("z", "1 for the largest piece of the unit, else 0", "{g} at the largest piece, else 0"),),
    )

    @classmethod
    def of_pieces(cls, pieces: int) -> Maxout:
        """Return maxout with `pieces` pieces for each unit."""
        return cls((pieces,), (pieces,))

    @property
    def label(self) -> str:
        return f"maxout {self.kernel[0]}"
