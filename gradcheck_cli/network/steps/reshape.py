"""Flatten each sample to one row, in C order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.formulas import Argument, Formulas
from gradcheck_cli.network.part import Input, Part, Resting, only, reshaped
from gradcheck_cli.network.step import Arrays, Couples, Inputs, Known, Sensitivity, Step, Upstream
from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True)
class Flatten(Step):
    """Flatten N samples, (…, N, *features), to one row each, (…, N, numbers)."""

    axes: int
    formulas = Formulas("out", "flatten({all})", (Argument("x", "1", "{g}, reshaped back"),), moves=True)

    @classmethod
    def of(cls, features: Shape, **options: Any) -> Flatten:
        return cls(len(features))

    couples: Couples = "nothing"
    is_affine = True
    rises = True

    def out(self, *features: Shape) -> Shape:
        return (math.prod(features[0]),)

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        (x,) = inputs
        return x.reshape(*x.shape[: x.ndim - self.axes], -1)

    def part(self, p: Arrays, inputs: Sequence[Input], output: Resting) -> Part | None:
        return reshaped(only(inputs), output)

    def sensitivities(self, p: Arrays, known: Known, above: Sensitivity) -> tuple[Sensitivity, ...]:
        return (above.reshape(*known.inputs[0].shape),)

    def vjp(
        self, p: Arrays, inputs: Inputs, output: Array, upstream: Array
    ) -> tuple[Inputs, dict[str, Array]]:
        return (upstream.reshape(inputs[0].shape),), {}

    def error(
        self, p: Arrays, inputs: Inputs, output: Array, errors: Inputs, arithmetic: Arithmetic
    ) -> Array:
        return errors[0].reshape(output.shape)

    def vjp_error(
        self, p: Arrays, known: Known, upstream: Upstream, arithmetic: Arithmetic
    ) -> tuple[tuple[Upstream, ...], dict[str, Array]]:
        shape = known.inputs[0].shape
        parts = (upstream.value, upstream.error, upstream.hidden)
        return (Upstream(*(each.reshape(shape) for each in parts)),), {}

    def heard(self, p: Arrays, features: tuple[Shape, ...], above: Array) -> tuple[Array, ...]:
        return (above.reshape(features[0]),)
