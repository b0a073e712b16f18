"""A fixed array m that is added to every sample, such as a mask of attention scores: out = x + m.

∂L/∂x = ∂L/∂out        because ∂out/∂x = 1
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.formulas import Argument, Formulas
from gradcheck_cli.network.part import Input, Part, Resting, Risen, only
from gradcheck_cli.network.step import Arrays, Inputs
from gradcheck_cli.network.steps.linear import Linear, fixed
from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True, eq=False)
class Offset(Linear):
    """Add the array `value`, which broadcasts to a sample."""

    value: Array
    couples = "nothing"
    formulas = Formulas("out", "{x} + mask", (Argument("x", "1", "{g}"),))

    @property
    def label(self) -> str:
        return "+ mask"

    def apply(self, *inputs: Array) -> Array:
        return inputs[0]

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        total: Array = inputs[0] + fixed(self.value, inputs[0])
        return total

    def part(self, p: Arrays, inputs: Sequence[Input], output: Resting) -> Part | None:
        x = only(inputs)
        return Risen(output, x.fixed, x.rise)

    def masks(self, inputs: Inputs) -> Mapping[str, Array]:
        return {"attn_mask": self.value}

    def adjoint(self, delta: Array, features: tuple[Shape, ...]) -> Inputs:
        return (delta,)

    def error(
        self, p: Arrays, inputs: Inputs, output: Array, errors: Inputs, arithmetic: Arithmetic
    ) -> Array:
        bound: Array = errors[0] + arithmetic.eps * (np.abs(self.value) + np.abs(output))
        return bound
