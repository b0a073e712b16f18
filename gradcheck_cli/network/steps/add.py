"""The sum of several values, as in a residual layer: out = a + b + …, so ∂L/∂a = ∂L/∂b = … = ∂L/∂out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from gradcheck_cli.network.formulas import Argument, Formulas
from gradcheck_cli.network.part import Input, Part, Resting, Risen, Valued, together
from gradcheck_cli.network.step import Arrays, Inputs
from gradcheck_cli.network.steps.linear import Linear
from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True)
class Add(Linear):
    """Add up inputs of the same shape."""

    couples = "nothing"
    exact = False
    formulas = Formulas(
        "out", "{all}", (Argument("x", "1", "{g}"), Argument("f(x)", "1", "{g}")), joint=" + "
    )

    @property
    def label(self) -> str:
        return "+"

    def counts(self, features: tuple[Shape, ...]) -> tuple[int, int]:
        return len(features), 1

    def apply(self, *inputs: Array) -> Array:
        return reduce(np.add, inputs)

    def part(self, p: Arrays, inputs: Sequence[Input], output: Resting) -> Part | None:
        parts = [each for each in inputs if isinstance(each, Part)]
        fixed, freed = together(parts)
        if len(parts) == len(inputs) and all(isinstance(each, Valued) for each in parts):
            return Valued(output, fixed, self.apply(*(each.value for each in freed)))
        return Risen(output, fixed, self.apply(*(each.rise for each in freed)))

    def adjoint(self, delta: Array, features: tuple[Shape, ...]) -> Inputs:
        return (delta,) * len(features)
