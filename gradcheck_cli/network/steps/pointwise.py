"""An activation as a step: a = φ(y), elementwise or, if φ is coupled, over the last axis."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from gradcheck_cli.network.activations import Activation, SoftmaxActivation
from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.formulas import Argument, Formulas
from gradcheck_cli.network.local_curve import LocalCurve
from gradcheck_cli.network.part import Input, Part, Resting, Risen, elementwise, only
from gradcheck_cli.network.step import (
    Arrays,
    Couples,
    Inputs,
    Known,
    Sensitivity,
    SeparatelyRounded,
    Step,
    Upstream,
)
from gradcheck_cli.network.steps.softmax import Softmax
from gradcheck_cli.types import Array, Shape

_A, _Z = (re.compile(rf"(?<![A-Za-z]){letter}(?![A-Za-z])") for letter in "az")
"""Patterns that match the output a and the input z in a derivative's formula, but not letters in words."""

SAFETY = 3.0
"""An element counts as being on a kink if its distance to the kink is below this many rounding bounds."""


_SOFTMAX = Softmax.plain()
"""The step that computes the changes of softmax, for the activation, too."""


@dataclass(frozen=True)
class Pointwise(SeparatelyRounded, Step):
    """An activation as a step: a row of `ACTIVATIONS`."""

    row: Activation
    is_activation: bool = True

    @property
    def formulas(self) -> Formulas:  # type: ignore[override]
        local = _Z.sub("{x}", _A.sub("{out}", self.row.formula))
        return Formulas("a", f"{self.row.name}({{all}})", (Argument("z", local, "{g} · {local}"),))

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.row.name

    @property
    def is_affine(self) -> bool:  # type: ignore[override]
        return self.row.keeps

    @property
    def has_pieces(self) -> bool:  # type: ignore[override]
        return self.row.pieces is not None

    @property
    def turns(self) -> bool:  # type: ignore[override]
        return self.row.turns

    @property
    def flat_below(self) -> bool:  # type: ignore[override]
        return self.row.flat_left

    @property
    def rises(self) -> bool:  # type: ignore[override]
        return isinstance(self.row, SoftmaxActivation)

    def pieces(self, x: Array) -> Array:
        assert self.row.pieces is not None
        return self.row.pieces(x)

    def branch(self, p: Arrays, x: Array, pieces: Array) -> Array:
        assert self.row.branch is not None
        return self.row.branch(x, pieces)

    @property
    def couples(self) -> Couples:  # type: ignore[override]
        return "row" if self.row.coupled else "nothing"

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        return self.row.value(inputs[0])

    def part(self, p: Arrays, inputs: Sequence[Input], output: Resting) -> Part | None:
        x = only(inputs)
        if self.row.keeps:
            return x.placed(output, x.fixed)
        if self.row.slow:
            return Risen(output, x.fixed, self._rise(x, output.value))
        if isinstance(self.row, SoftmaxActivation):
            return _SOFTMAX.part(p, inputs, output)
        row = x.freed((len(x.fixed) - 1,)) if self.row.coupled else x
        return elementwise(self.row.value, [row], output)

    def sensitivities(self, p: Arrays, known: Known, above: Sensitivity) -> tuple[Sensitivity, ...]:
        assert isinstance(self.row, SoftmaxActivation), "others change by their `Rise`"
        return _SOFTMAX.sensitivities(p, known, above)

    def _rise(self, x: Part, output: Array) -> Array:
        """Return the rise of the part. Changes too long for the curve are evaluated by the function itself.

        output: the unperturbed output of N samples.
        """
        in_turns = x.rest.takes_turns and len(x.free) == len(x.fixed)  # then nothing needs to be gathered
        shape = (-1, *x.rest.value.shape) if in_turns else x.rise.shape
        pick = _same_for_all if in_turns else partial(_gathered, x)

        def exact(copies: slice, far: Array) -> Array:
            before = np.broadcast_to(pick(output, copies), far.shape)
            return self.row.value(x.value.reshape(shape)[copies][far]) - before[far]

        rise = x.rest.once(self._curve).rise(pick, x.rise.reshape(shape), exact)
        return rise.reshape(x.rise.shape)

    def _curve(self, z: Array) -> LocalCurve:
        return LocalCurve.of(self.row.value, z)

    def vjp(
        self, p: Arrays, inputs: Inputs, output: Array, upstream: Array
    ) -> tuple[Inputs, dict[str, Array]]:
        return (self.row.vjp(inputs[0], upstream),), {}

    def carried(
        self, p: Arrays, inputs: Inputs, output: Array, errors: Inputs, arithmetic: Arithmetic
    ) -> Array:
        carried: Array = self.row.rounding.value(self.row, inputs[0], errors[0], output) + arithmetic.tiny
        return carried

    def own_error(self, p: Arrays, inputs: Inputs, output: Array, arithmetic: Arithmetic) -> Array:
        (y,) = inputs
        own = self.row.rounding.own_value(self.row, y, output)
        if self.row.absolute is not None and arithmetic.others_formulas:
            own = own + self.row.absolute(y)
        bound: Array = arithmetic.eps * own
        return bound

    def vjp_error(
        self, p: Arrays, known: Known, upstream: Upstream, arithmetic: Arithmetic
    ) -> tuple[tuple[Upstream, ...], dict[str, Array]]:
        (y,), (y_error,), row = known.inputs, known.input_errors, self.row
        delta = row.vjp(y, upstream.value)
        # A rounding error that one side of a kink multiplies by 0 may count on the other side.
        at_most = self._at_most(y, y_error)
        hidden = at_most(np.abs(upstream.value) + upstream.hidden) - np.abs(delta)
        error = row.rounding.delta(row, y, y_error, upstream.value, upstream.error, arithmetic.eps)
        error = np.maximum(error + arithmetic.tiny, at_most(upstream.error))
        return (Upstream(delta, error, hidden),), {}

    def _at_most(self, y: Array, y_error: Array) -> Callable[[Array], Array]:
        """Return a function of sizes: the largest |∂L/∂z| for |∂L/∂a| up to these sizes.

        The largest is taken over both sides of each kink that z may cross.

        y, y_error: the argument z of the activation, and a bound on its error.
        """
        # A z of exactly 0 is on the kink even without an error: code may take either slope.
        reach = SAFETY * y_error + np.finfo(np.float64).tiny if self.row.pieces else None
        sides = [y] if reach is None else [y, y - reach, y + reach]
        if not self.row.coupled:
            steepest = np.maximum.reduce([np.abs(self.row.derivative(z)) for z in sides])
            return lambda sizes: sizes * steepest
        of_side = self.row.rounding.at_most
        return lambda sizes: np.maximum.reduce([of_side(self.row, z, sizes) for z in sides])

    def heard(self, p: Arrays, features: tuple[Shape, ...], above: Array) -> tuple[Array, ...]:
        return super().heard(p, features, above) if self.row.coupled else (above,)


def _same_for_all(array: Array, copies: slice) -> Array:
    return array


def _gathered(x: Part, array: Array, copies: slice) -> Array:
    """Return the elements of an array, (N, *features), at the position of a part in some of its copies."""
    at = tuple(None if index is None else index[copies] for index in x.fixed)
    return Resting(array, x.rest.samples[copies]).at(at)
