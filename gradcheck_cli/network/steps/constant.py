"""A step that outputs a constant c, such as the initial state of a recurrent layer: out = c and ∂L/∂x = 0."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.formulas import Argument, Formulas
from gradcheck_cli.network.step import Arrays, Inputs
from gradcheck_cli.network.steps.linear import Linear, fixed
from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True, eq=False)
class Constant(Linear):
    """Output the array `value` for every sample.

    The step uses its input only to find the number of samples.

    axes: the number of axes of one sample of the input.
    """

    value: Array
    axes: int
    couples = "nothing"
    formulas = Formulas("out", "the initial state", (Argument("x", "0", "0"),))

    @property
    def label(self) -> str:
        return "constant"

    def out(self, *features: Shape) -> Shape:
        return self.value.shape

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        return self.apply(*inputs) + fixed(self.value, inputs[0])

    def apply(self, *inputs: Array) -> Array:
        (x,) = inputs
        return np.zeros((*x.shape[: x.ndim - self.axes], *self.value.shape), x.dtype)

    def adjoint(self, delta: Array, features: tuple[Shape, ...]) -> Inputs:
        return (np.zeros((len(delta), *features[0]), delta.dtype),)

    def error(
        self, p: Arrays, inputs: Inputs, output: Array, errors: Inputs, arithmetic: Arithmetic
    ) -> Array:
        bound: Array = arithmetic.eps * np.abs(output)
        return bound
