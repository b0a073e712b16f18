"""Batch normalisation with fixed statistics, as in torch's eval mode: ẑ = (z − mean) / √(var + eps).

∂L/∂z = ∂L/∂ẑ / √(var + eps), since mean and variance are running averages, which do not depend on z.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.formulas import Argument, Formulas
from gradcheck_cli.network.step import Arrays, Inputs
from gradcheck_cli.network.steps.linear import Linear, fixed
from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True, eq=False)
class FixedNormalise(Linear):
    """Normalise z, (…, N, channels, *positions) for N samples, by a fixed mean and variance, (channels,).

    positions: the number of position axes.
    """

    mean: Array
    variance: Array
    eps: float
    positions: int = 0
    couples = "nothing"
    exact = False
    formulas = Formulas(
        "ẑ",
        "({x} − mean) / √(var + eps)",
        (Argument("x", "1 / √(var + eps)", "{g} / √(var + eps)"),),
        where="with a fixed mean and var",
    )

    @property
    def label(self) -> str:
        return "batch_norm, fixed"

    def _spread(self, of_channels: Array, z: Array) -> Array:
        return fixed(of_channels, z).reshape(-1, *(1,) * self.positions)

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        (z,) = inputs
        return self.apply(z - self._spread(self.mean, z))

    def apply(self, *inputs: Array) -> Array:
        (z,) = inputs
        scaled: Array = z * self._spread(1.0 / np.sqrt(self.variance + self.eps), z)
        return scaled

    def adjoint(self, delta: Array, features: tuple[Shape, ...]) -> Inputs:
        return (self.apply(delta),)

    def error(
        self, p: Arrays, inputs: Inputs, output: Array, errors: Inputs, arithmetic: Arithmetic
    ) -> Array:
        sizes = np.abs(inputs[0]) + np.abs(self._spread(self.mean, inputs[0]))
        own: Array = arithmetic.eps * (self.apply(sizes) + 4.0 * np.abs(output)) + arithmetic.tiny
        return self.apply(errors[0]) + own
