"""The building blocks of gates: the complement 1 − x and the product a ⊙ b.

(1 − x):   ∂L/∂x = −∂L/∂out
(a ⊙ b):   ∂L/∂a = ∂L/∂out ⊙ b      ∂L/∂b = ∂L/∂out ⊙ a
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.formulas import Argument, Formulas
from gradcheck_cli.network.part import Input, Part, Resting, Risen, Valued, only, together
from gradcheck_cli.network.step import Arrays, Inputs, Known, Sensitivity, Step, Upstream
from gradcheck_cli.network.steps.linear import Linear
from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True)
class Complement(Linear):
    """The complement 1 − x of a gate x."""

    sign: float = -1.0
    couples = "nothing"
    exact = False
    formulas = Formulas("out", "(1 − {x})", (Argument("x", "−1", "−{g}"),))

    @property
    def label(self) -> str:
        return "1 − x"

    @property
    def absolute(self) -> Complement:
        return Complement(abs(self.sign))

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        return self.apply(*inputs) + 1

    def part(self, p: Arrays, inputs: Sequence[Input], output: Resting) -> Part | None:
        x = only(inputs)
        return Risen(output, x.fixed, self.sign * x.rise)

    def apply(self, *inputs: Array) -> Array:
        scaled: Array = self.sign * inputs[0]
        return scaled

    def adjoint(self, delta: Array, features: tuple[Shape, ...]) -> Inputs:
        return (self.sign * delta,)


@dataclass(frozen=True)
class Multiply(Step):
    """The product a ⊙ b of two inputs of the same shape."""

    couples = "nothing"
    rises = True
    formulas = Formulas(
        "out", "{x} ⊙ {y}", (Argument("a", "{y}", "{g} ⊙ {y}"), Argument("b", "{x}", "{g} ⊙ {x}"))
    )

    @property
    def label(self) -> str:
        return "a ⊙ b"

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        a, b = inputs
        product: Array = a * b
        return product

    def part(self, p: Arrays, inputs: Sequence[Input], output: Resting) -> Part | None:
        a, b = inputs
        if isinstance(a, Part) and isinstance(b, Part):
            return self._both(a, b, output)
        x, other = (a, b) if isinstance(a, Part) else (b, a)
        assert isinstance(x, Part)
        assert isinstance(other, Resting)
        return Risen(output, x.fixed, x.rise * other.at(x.fixed))

    def _both(self, a: Part, b: Part, output: Resting) -> Part:
        """Return the part of the output if both inputs are perturbed."""
        fixed, (a, b) = together((a, b))
        if isinstance(a, Valued) and isinstance(b, Valued):
            return Valued(output, fixed, a.value * b.value)
        rise = a.rise * b.rest.at(fixed)
        rise += a.value * b.rise
        return Risen(output, fixed, rise)

    def sensitivities(self, p: Arrays, known: Known, above: Sensitivity) -> tuple[Sensitivity, ...]:
        (a, b), (a_error, b_error) = known.inputs, known.input_errors
        return above.times(b, b_error), above.times(a, a_error)

    def vjp(
        self, p: Arrays, inputs: Inputs, output: Array, upstream: Array
    ) -> tuple[Inputs, dict[str, Array]]:
        a, b = inputs
        return (upstream * b, upstream * a), {}

    def error(
        self, p: Arrays, inputs: Inputs, output: Array, errors: Inputs, arithmetic: Arithmetic
    ) -> Array:
        (a, b), (a_error, b_error) = inputs, errors
        carried = a_error * (np.abs(b) + b_error) + np.abs(a) * b_error
        bound: Array = carried + arithmetic.eps * np.abs(output) + arithmetic.tiny
        return bound

    def vjp_error(
        self, p: Arrays, known: Known, upstream: Upstream, arithmetic: Arithmetic
    ) -> tuple[tuple[Upstream, ...], dict[str, Array]]:
        (a, b), (a_error, b_error) = known.inputs, known.input_errors
        below = _times(upstream, b, b_error, arithmetic), _times(upstream, a, a_error, arithmetic)
        return below, {}

    def heard(self, p: Arrays, features: tuple[Shape, ...], above: Array) -> tuple[Array, ...]:
        return above, above


def _times(upstream: Upstream, by: Array, by_error: Array, arithmetic: Arithmetic) -> Upstream:
    """Return δ ⊙ by, with a bound on its error, for the upstream gradient δ."""
    hidden, size = np.maximum(upstream.hidden, 0.0), np.abs(by)
    handed = upstream.value * by
    carried = upstream.error * (size + by_error) + (np.abs(upstream.value) + hidden) * by_error
    error = carried + arithmetic.eps * np.abs(handed) + arithmetic.tiny
    return Upstream(handed, error, hidden * size)
