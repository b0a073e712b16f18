"""Dropout with a fixed mask: out = mask ⊙ x, where the mask holds 0 or 1 / (1 − p).

    ∂L/∂x = mask ⊙ ∂L/∂out

Here p is the probability of dropping an element. Scaling by 1 / (1 − p) in training is known as inverted
dropout. `Dropout` has one mask for all samples; `SampleDropout` has a mask for each sample.
(N. Srivastava et al., "Dropout", JMLR 15, 2014.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.formulas import Argument, Formulas
from gradcheck_cli.network.part import Input, Part, Resting
from gradcheck_cli.network.step import Arrays, Inputs, Known, Sensitivity, Step, Upstream
from gradcheck_cli.network.steps.gates import Multiply
from gradcheck_cli.network.steps.linear import Linear, fixed
from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True, eq=False)
class Dropout(Linear):
    """Multiply every sample by the same fixed mask, (*features)."""

    mask: Array
    couples = "nothing"
    exact = False
    formulas = Formulas(
        "out",
        "mask ⊙ {x}",
        (Argument("x", "mask", "mask ⊙ {g}"),),
        where="with a fixed mask of 0 or 1 / (1 − p)",
    )

    @classmethod
    def drawn(cls, features: Shape, p: float, seed: int) -> Dropout:
        """Return dropout with a random mask.

        A feature is dropped with probability p; otherwise, it is divided by 1 − p.
        """
        kept = np.random.default_rng(seed).random(features) >= p
        return cls(kept / (1.0 - p))

    @classmethod
    def of(cls, features: Shape, **options: Any) -> Dropout:
        return cls.drawn(features, options["dropout"], options["seed"])

    @property
    def label(self) -> str:
        return "dropout"

    @property
    def absolute(self) -> Dropout:
        return Dropout(np.abs(self.mask))

    def apply(self, *inputs: Array) -> Array:
        (x,) = inputs
        masked: Array = x * fixed(self.mask, x)
        return masked

    def masks(self, inputs: Inputs) -> Mapping[str, Array]:
        return {"mask": self.mask}

    def adjoint(self, delta: Array, features: tuple[Shape, ...]) -> Inputs:
        return (delta * fixed(self.mask, delta),)


@dataclass(frozen=True)
class SampleDropout(Step):
    """Multiply x by `scale` and by the second input, the mask of each sample.

    The mask is 1 for an element that is kept, and 0 for any other element.
    """

    scale: float = 1.0
    couples = "nothing"
    rises = True
    formulas = Formulas(
        "out",
        "c {y} ⊙ {x}",
        (Argument("x", "c {y}", "c {y} ⊙ {g}"), Argument("mask", "c {x}", "c {x} ⊙ {g}")),
        where="with c = 1 / (1 − p), or 1 if the dropout is not inverted",
    )

    @property
    def label(self) -> str:
        return "dropout"

    def _factors(self, inputs: Inputs) -> Inputs:
        x, mask = inputs
        return x, mask * self.scale

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        x, mask = self._factors(inputs)
        masked: Array = x * mask
        return masked

    def part(self, p: Arrays, inputs: Sequence[Input], output: Resting) -> Part | None:
        product = Multiply().part(p, inputs, output)
        return product and product.placed(output, product.fixed, lambda held: self.scale * held)

    def sensitivities(self, p: Arrays, known: Known, above: Sensitivity) -> tuple[Sensitivity, ...]:
        (x, mask), (x_error, mask_error), c = known.inputs, known.input_errors, self.scale
        return above.times(c * mask, c * mask_error), above.times(c * x, c * x_error)

    def masks(self, inputs: Inputs) -> Mapping[str, Array]:
        return {"mask": inputs[1] * self.scale}

    def vjp(
        self, p: Arrays, inputs: Inputs, output: Array, upstream: Array
    ) -> tuple[Inputs, dict[str, Array]]:
        (of_x, of_mask), _ = Multiply().vjp(p, self._factors(inputs), output, upstream)
        return (of_x, of_mask * self.scale), {}

    def error(
        self, p: Arrays, inputs: Inputs, output: Array, errors: Inputs, arithmetic: Arithmetic
    ) -> Array:
        product = Multiply().error(p, self._factors(inputs), output, self._factors(errors), arithmetic)
        bound: Array = product + arithmetic.eps * np.abs(output)
        return bound

    def vjp_error(
        self, p: Arrays, known: Known, upstream: Upstream, arithmetic: Arithmetic
    ) -> tuple[tuple[Upstream, ...], dict[str, Array]]:
        errors = self._factors(known.input_errors)
        factors = replace(known, inputs=self._factors(known.inputs), input_errors=errors)
        (of_x, of_mask), _ = Multiply().vjp_error(p, factors, upstream, arithmetic)
        scaled = (self.scale * each for each in (of_mask.value, of_mask.error, of_mask.hidden))
        return (_rounded(of_x, arithmetic), _rounded(Upstream(*scaled), arithmetic)), {}

    def heard(self, p: Arrays, features: tuple[Shape, ...], above: Array) -> tuple[Array, ...]:
        return above, above


def _rounded(handed: Upstream, arithmetic: Arithmetic) -> Upstream:
    """Return a gradient with the error of one more multiplication added to its error bound."""
    return replace(handed, error=handed.error + arithmetic.eps * np.abs(handed.value) + arithmetic.tiny)
