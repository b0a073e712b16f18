"""An offset s = 0 that is added to a value v, out = v + s, so that perturbing s gives ∂L/∂v.

∂L/∂s = ∂L/∂v = ∂L/∂out        because ∂out/∂s = 1
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.factors import Factors
from gradcheck_cli.network.formulas import Argument, Formulas
from gradcheck_cli.network.part import Input, Part, Resting, only
from gradcheck_cli.network.step import Arrays, Inputs, Known, Sensitivity, Step, Upstream
from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True)
class Shift(Step):
    """Add an offset to a value.

    The offset is the parameter `shift`, with the shape of the whole value, (N, *features), for N samples.
    """

    shape: Shape
    couples = "nothing"
    is_affine = True
    rises = True
    formulas = Formulas(
        "out", "{x} + {shift}", (Argument("x", "1", "{g}"),), {"shift": Argument("s", "1", "{g}")}
    )

    @property
    def shapes(self) -> Mapping[str, Shape]:
        return {"shift": self.shape}

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        total: Array = inputs[0] + p["shift"]
        return total

    def part(self, p: Arrays, inputs: Sequence[Input], output: Resting) -> Part | None:
        x = only(inputs)
        return x.placed(output, x.fixed)  # the shift is 0

    def sensitivities(self, p: Arrays, known: Known, above: Sensitivity) -> tuple[Sensitivity, ...]:
        return (above,)

    def vjp(
        self, p: Arrays, inputs: Inputs, output: Array, upstream: Array
    ) -> tuple[Inputs, dict[str, Array]]:
        return (upstream,), {"shift": upstream}

    def error(
        self, p: Arrays, inputs: Inputs, output: Array, errors: Inputs, arithmetic: Arithmetic
    ) -> Array:
        return errors[0]  # adding 0 is exact

    def error_if_moved(self, p: Arrays, inputs: Inputs, output: Array, arithmetic: Arithmetic) -> Array:
        bound: Array = arithmetic.eps * np.abs(output)
        return bound

    def vjp_error(
        self, p: Arrays, known: Known, upstream: Upstream, arithmetic: Arithmetic
    ) -> tuple[tuple[Upstream, ...], dict[str, Array]]:
        return (upstream,), {"shift": upstream.error}

    def factors(self, name: str, inputs: Inputs) -> Factors | None:
        return Single(self.shape, np.arange(self.shape[0]))

    def heard(self, p: Arrays, features: tuple[Shape, ...], above: Array) -> tuple[Array, ...]:
        return (above,)


@dataclass(frozen=True)
class Single:
    """Factors of a shift. Each entry is added to only one element of the value, so a gradient is not a sum.

    shape: the shape of the value, (N, *features), for N samples.
    samples: the indices of the samples whose entries count.
    """

    shape: Shape
    samples: Array

    def sums(self, d: Array) -> Array:
        return d.T.reshape(self.shape)[self.samples]

    def sizes(self, u: Array) -> Array:
        return self.sums(u)

    def squares(self, u: Array) -> Array:
        return self.sums(u)

    def reach(self) -> Array:
        return np.ones((len(self.samples), *self.shape[1:]))

    def least(self, numbers: Array) -> Array:
        features = numbers.reshape(self.shape[1:])
        return np.broadcast_to(features, (len(self.samples), *features.shape))

    def feeding(self, entries: Array) -> Array:
        return np.asarray(entries.any(axis=0)).ravel()

    def of(self, units: Array) -> Array:
        return np.arange(math.prod(self.shape[1:]))

    def only(self, units: Array) -> Single:
        return replace(self, samples=self.samples[units])
