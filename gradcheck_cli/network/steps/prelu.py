"""PReLU, like torch.nn.PReLU: a = max(z, 0) + w min(z, 0), with one slope w per channel, or a single one.

    ∂L/∂w = Σ ∂L/∂a min(z, 0) over the samples and positions of the channel
    ∂L/∂z = ∂L/∂a for z > 0, and w ∂L/∂a for z ≤ 0 (0 counts as negative, as in torch)

(K. He et al., "Delving deep into rectifiers", ICCV 2015.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.factors import Channels, Factors, Ones, Own
from gradcheck_cli.network.formulas import Argument, Formulas
from gradcheck_cli.network.part import Input, Part, Resting, Risen, Valued, only
from gradcheck_cli.network.step import Arrays, Inputs, Known, Sensitivity, Step, UnfitError, Upstream
from gradcheck_cli.network.sums import sum_error
from gradcheck_cli.types import Array, Shape

SAFETY = 3.0
"""An element counts as being on the kink at 0 if its size is below this many times its rounding bound."""


@dataclass(frozen=True)
class PReLU(Step):
    """PReLU with the parameter `weight`, (slopes,).

    slopes: the number of channels, or 1 if all channels share a slope.
    positions: the number of position axes after the channels.
    init: the slope that training starts with.
    """

    slopes: int
    positions: int = 0
    init: float = 0.25
    couples = "nothing"
    has_pieces = True
    rises = True
    formulas = Formulas(
        "a",
        "max({x}, 0) + {weight} min({x}, 0)",
        (Argument("x", "1 if {x} > 0, else {weight}", "{g} if {x} > 0, else {weight} {g}"),),
        {"weight": Argument("w", "min({x}, 0)", "Σₙ {g}ₙ min({x}ₙ, 0)")},
    )

    @classmethod
    def of(cls, features: Shape, **options: Any) -> PReLU:
        slopes = options["num_parameters"]
        if slopes not in (1, features[0]):
            message = f"num_parameters is {slopes}; the input {list(features)} has {features[0]} channels"
            raise UnfitError(message, "num_parameters", f"give 1 or {features[0]}")
        return cls(slopes, len(features) - 1, options["init"])

    @property
    def label(self) -> str:
        return "prelu"

    @property
    def shapes(self) -> Mapping[str, Shape]:
        return {"weight": (self.slopes,)}

    def centre(self, name: str) -> float:
        return self.init

    def _spread(self, weight: Array) -> Array:
        return weight if len(weight) == 1 else weight.reshape(-1, *(1,) * self.positions)

    def pieces(self, x: Array) -> Array:
        right: Array = x.real > 0
        return right

    def branch(self, p: Arrays, x: Array, pieces: Array) -> Array:
        return np.where(pieces, x, self._spread(p["weight"]) * x)

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        return self.branch(p, inputs[0], self.pieces(inputs[0]))

    def part(self, p: Arrays, inputs: Sequence[Input], output: Resting) -> Part | None:
        x = only(inputs)
        slope, moved = x.of(self._spread(p["weight"])), x.value
        value = np.where(moved > 0, moved, slope * moved)
        if isinstance(x, Valued):
            return Valued(output, x.fixed, value)
        z = x.rest.at(x.fixed)
        rise = np.where(z > 0, 1.0, slope) * x.rise
        stays = (z > 0) == (moved > 0)
        return Risen(output, x.fixed, np.where(stays, rise, value - output.at(x.fixed)))

    def sensitivities(self, p: Arrays, known: Known, above: Sensitivity) -> tuple[Sensitivity, ...]:
        slopes = np.where(known.inputs[0] > 0, 1.0, self._spread(p["weight"]))
        return (above.times(slopes, np.zeros(1)),)

    def vjp(
        self, p: Arrays, inputs: Inputs, output: Array, upstream: Array
    ) -> tuple[Inputs, dict[str, Array]]:
        (z,) = inputs
        handed = np.where(z > 0, upstream, self._spread(p["weight"]) * upstream)
        return (handed,), {"weight": self._rows(upstream * np.minimum(z, 0.0)).sum(axis=0)}

    def _rows(self, array: Array) -> Array:
        """Reshape an array of N samples, (N, channels, *positions), to (rows, slopes)."""
        if self.slopes == 1:
            return array.reshape(-1, 1)
        channels: Array = np.moveaxis(array, array.ndim - 1 - self.positions, -1)
        return channels.reshape(-1, self.slopes)

    def error(
        self, p: Arrays, inputs: Inputs, output: Array, errors: Inputs, arithmetic: Arithmetic
    ) -> Array:
        (z,), (z_error,) = inputs, errors
        slope = np.abs(self._spread(p["weight"]))
        steepest = np.where(z - z_error > 0, 1.0, np.where(z + z_error > 0, np.maximum(slope, 1.0), slope))
        held = arithmetic.eps + arithmetic.input_eps
        return z_error * steepest + np.where(z > 0, 0.0, held * np.abs(output)) + arithmetic.tiny

    def vjp_error(
        self, p: Arrays, known: Known, upstream: Upstream, arithmetic: Arithmetic
    ) -> tuple[tuple[Upstream, ...], dict[str, Array]]:
        (z,), (z_error,) = known.inputs, known.input_errors
        hidden, slope = np.maximum(upstream.hidden, 0.0), np.abs(self._spread(p["weight"]))
        (handed,), _ = self.vjp(p, known.inputs, known.output, upstream.value)
        near = np.abs(z) <= SAFETY * z_error
        steepest = np.where(near, np.maximum(slope, 1.0), np.where(z > 0, 1.0, slope))
        other_side = (np.abs(upstream.value) + hidden) * steepest - np.abs(handed)
        error = upstream.error * steepest + 2.0 * arithmetic.eps * np.abs(handed) + arithmetic.tiny
        return (Upstream(handed, error, other_side),), {
            "weight": self._of_weight(known, upstream, arithmetic)
        }

    def _of_weight(self, known: Known, upstream: Upstream, arithmetic: Arithmetic) -> Array:
        (z,), (z_error,) = known.inputs, known.input_errors
        left, left_error = np.minimum(z, 0.0), np.where(z - z_error > 0, 0.0, z_error)
        rows = (self._rows(each) for each in (upstream.value, upstream.error, left, left_error))
        delta, error, factor, factor_error = rows
        hidden = self._rows(np.maximum(upstream.hidden, 0.0) * left_error).sum(axis=0)
        return sum_error(delta, error, arithmetic, factor, factor_error) + hidden + arithmetic.tiny

    def factors(self, name: str, inputs: Inputs) -> Factors | None:
        (z,) = inputs
        left = np.moveaxis(np.minimum(z, 0.0), 0, -1).reshape(-1, len(z))
        if self.slopes == 1:
            return Own(left, Ones(Channels((1, len(left))), self.shapes[name]))
        return Own(left, Ones(Channels(z.shape[1:], z.ndim - 2 - self.positions), self.shapes[name]))

    def heard(self, p: Arrays, features: tuple[Shape, ...], above: Array) -> tuple[Array, ...]:
        return (above,)
