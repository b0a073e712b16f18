"""A parameter w that is added to every sample: out = x + w. The shape of w is that of one sample.

∂L/∂w = Σ over the samples of ∂L/∂out        ∂L/∂x = ∂L/∂out
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.factors import Channels, Factors, Ones
from gradcheck_cli.network.formulas import Argument, Formulas
from gradcheck_cli.network.part import Input, Part, Resting, Risen, only
from gradcheck_cli.network.step import Arrays, Inputs, Known, Sensitivity, Step, Upstream
from gradcheck_cli.network.sums import sum_error
from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True)
class AddParameter(Step):
    """Add a parameter, `weight`, to every sample."""

    shape: Shape
    couples = "nothing"
    is_affine = True
    rises = True
    formulas = Formulas(
        "out", "{x} + {weight}", (Argument("x", "1", "{g}"),), {"weight": Argument("w", "1", "Σₙ {g}ₙ")}
    )

    @property
    def shapes(self) -> Mapping[str, Shape]:
        return {"weight": self.shape}

    def centre(self, name: str) -> None:
        return None

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        total: Array = inputs[0] + p["weight"]
        return total

    def part(self, p: Arrays, inputs: Sequence[Input], output: Resting) -> Part | None:
        x = only(inputs)
        return Risen(output, x.fixed, x.rise)

    def sensitivities(self, p: Arrays, known: Known, above: Sensitivity) -> tuple[Sensitivity, ...]:
        return (above,)  # nothing is rounded

    def vjp(
        self, p: Arrays, inputs: Inputs, output: Array, upstream: Array
    ) -> tuple[Inputs, dict[str, Array]]:
        return (upstream,), {"weight": upstream.sum(axis=0)}

    def error(
        self, p: Arrays, inputs: Inputs, output: Array, errors: Inputs, arithmetic: Arithmetic
    ) -> Array:
        held = arithmetic.input_eps * np.abs(p["weight"])
        bound: Array = errors[0] + held + arithmetic.eps * np.abs(output)
        return bound

    def vjp_error(
        self, p: Arrays, known: Known, upstream: Upstream, arithmetic: Arithmetic
    ) -> tuple[tuple[Upstream, ...], dict[str, Array]]:
        return (upstream,), {
            "weight": sum_error(upstream.value, upstream.error, arithmetic) + arithmetic.tiny
        }

    def factors(self, name: str, inputs: Inputs) -> Factors | None:
        return Ones(Channels((math.prod(self.shape),)), self.shape)

    def heard(self, p: Arrays, features: tuple[Shape, ...], above: Array) -> tuple[Array, ...]:
        return (above,)
