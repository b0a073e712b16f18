"""The sum of two values of the same shape, as a residual needs it: each gets ∂L/∂sum unchanged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.step import Arrays, Couples, Inputs, Known, Step, Upstream
from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True)
class Add(Step):
    """x + f."""

    couples: Couples = "nothing"

    @property
    def label(self) -> str:
        return "add"

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        return inputs[0] + inputs[1]

    def vjp(
        self, p: Arrays, inputs: Inputs, output: Array, upstream: Array
    ) -> tuple[Inputs, dict[str, Array]]:
        return (upstream, upstream), {}

    def error(
        self, p: Arrays, inputs: Inputs, output: Array, errors: Inputs, arithmetic: Arithmetic
    ) -> Array:
        return errors[0] + errors[1] + arithmetic.eps * np.abs(output)

    def vjp_error(
        self, p: Arrays, known: Known, upstream: Upstream, arithmetic: Arithmetic
    ) -> tuple[tuple[Upstream, ...], dict[str, Array]]:
        return (upstream, upstream), {}

    def heard(self, p: Arrays, features: tuple[Shape, ...], above: Array) -> tuple[Array, ...]:
        return (above, above)
