"""How strongly the losses depend on a value, with a bound on the rounding error of slopes from exact changes.

A step that `rises` computes the change of its output from changes of its inputs (`Step.part`). Such a change
is rounded by a few units in the last place of its terms. It also depends on the inputs and the output at
rest, whose rounding errors make the slope that of a slightly different point. Both kinds of errors are
proportional to the change, so a bound holds for every length. Only sizes are bounded here; no derivative is
computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradcheck_cli.network.arithmetic import FLOAT64
from gradcheck_cli.types import Array

PRODUCT_ULPS = 2.0
"""The error of a product or a sum of products, in units in the last place of its terms."""

UNDERFLOW = FLOAT64.tiny / FLOAT64.eps
"""The error of a slope whose change underflows, in units of machine epsilon, for steps of at least 2⁻⁵⁰."""


@dataclass(frozen=True)
class Sensitivity:
    """How strongly the losses depend on the elements of one value, (N, *features), for N samples.

    terms: the size of the terms that the change of a loss is summed from, per change of the element.
    error: a bound on the rounding error of the slope, in units of machine epsilon.
    """

    terms: Array
    error: Array

    def __add__(self, other: Sensitivity) -> Sensitivity:
        return Sensitivity(self.terms + other.terms, self.error + other.error)

    def reshape(self, *shape: int) -> Sensitivity:
        return Sensitivity(self.terms.reshape(shape), self.error.reshape(shape))

    def times(self, factor: Array, error: Array) -> Sensitivity:
        """Return the sensitivity to an input that an elementwise product multiplies by a factor.

        error: a bound on the rounding error of the factor, in units of machine epsilon.
        """
        size = np.abs(factor)
        return Sensitivity(self.terms * size, self.error * size + self.terms * error).rounded(self)

    def rounded(self, above: Sensitivity, ulps: float = PRODUCT_ULPS) -> Sensitivity:
        """Return a copy whose error includes that of the change itself, `ulps` of its terms, and underflow.

        above: the sensitivity to the output of the step that computes the change.
        """
        axes = tuple(range(1, above.terms.ndim))
        lost = UNDERFLOW * above.terms.sum(axis=axes).reshape(-1, *(1,) * (self.terms.ndim - 1))
        return Sensitivity(self.terms, self.error + ulps * self.terms + np.where(self.terms > 0, lost, 0.0))
