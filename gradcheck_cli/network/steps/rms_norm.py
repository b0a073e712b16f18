"""RMS normalisation as two steps: x̂ = x / √(mean x² + eps) over the last axes, and y = w ⊙ x̂.

    ∂L/∂x = (g − x̂ mean(g x̂)) / √(mean x² + eps), g = ∂L/∂x̂        the root depends on x, too
    ∂L/∂w = Σ ∂L/∂y x̂        ∂L/∂x̂ = w ∂L/∂y

(B. Zhang and R. Sennrich, "Root mean square layer normalization", NeurIPS 2019; like torch.nn.RMSNorm, whose
default eps is the machine epsilon of x.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.factors import Channels, Factors, Ones, Own
from gradcheck_cli.network.formulas import Argument, Formulas
from gradcheck_cli.network.part import Input, Part, Resting, Risen, only
from gradcheck_cli.network.step import Arrays, Inputs, Known, Sensitivity, Step, Upstream
from gradcheck_cli.network.steps.norm_errors import carried, projected
from gradcheck_cli.network.steps.norm_rises import AtRest, Rows
from gradcheck_cli.network.sums import sum_error
from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True)
class RootMeanSquare(Step):
    """Divide x by its root mean square over the last `axes` axes of each sample."""

    eps: float
    axes: int = 1
    rises = True
    formulas = Formulas(
        "x̂",
        "{x} / √(mean {x}² + eps)",
        (
            Argument(
                "x",
                "(1[i=j] − {out}ᵢ {out}ⱼ / m) / √(mean {x}² + eps)",
                "({g} − {out} mean({g} {out})) / √(mean {x}² + eps)",
            ),
        ),
        where="with the mean over the last axes of each sample",
    )

    @property
    def label(self) -> str:
        return "rms_norm"

    def _mean(self, array: Array) -> Array:
        mean: Array = array.mean(axis=tuple(range(-self.axes, 0)), keepdims=True)
        return mean

    def _root(self, x: Array) -> Array:
        root: Array = np.sqrt(self._mean(x * x) + self.eps)
        return root

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        (x,) = inputs
        normalised: Array = x / self._root(x)
        return normalised

    def part(self, p: Arrays, inputs: Sequence[Input], output: Resting) -> Part | None:
        x = only(inputs)
        rows, inverse = self._rows(output.features), x.rest.once(self._inverse)
        risen = rows.part(x, output, output.once(self._in_rows), inverse)
        return risen or super().part(p, inputs, output)

    def _rows(self, features: Shape) -> Rows:
        return Rows(math.prod(features[-self.axes :]), centred=False)

    def _inverse(self, x: Array) -> Array:
        """Return 1 / √(mean x² + eps) for every row, in the shape of `_in_rows` without its last axis."""
        return (1.0 / self._root(x)).reshape(x.shape[: -self.axes])

    def sensitivities(self, p: Arrays, known: Known, above: Sensitivity) -> tuple[Sensitivity, ...]:
        (x,), (error,), rows = known.inputs, known.input_errors, self._in_rows
        at_rest = AtRest(rows(known.output), rows(error), self._inverse(x)[..., None], self.eps)
        own = Sensitivity(rows(above.terms), rows(above.error))
        return (self._rows(x.shape[1:]).sensitivity(at_rest, own).reshape(*x.shape),)

    def vjp(
        self, p: Arrays, inputs: Inputs, output: Array, upstream: Array
    ) -> tuple[Inputs, dict[str, Array]]:
        handed: Array = (upstream - output * self._mean(upstream * output)) / self._root(inputs[0])
        return (handed,), {}

    def _of_root(self, x: Array, x_error: Array, root: Array, eps: float) -> Array:
        """Return a bound on the relative error of the root mean square."""
        many = math.prod(x.shape[-self.axes :]) / 32.0
        carried: Array = self._mean(np.abs(x) * x_error) / root**2 + (3.0 + many) * eps
        return carried

    def error(
        self, p: Arrays, inputs: Inputs, output: Array, errors: Inputs, arithmetic: Arithmetic
    ) -> Array:
        (x,), (x_error,) = inputs, errors
        root, eps = self._root(x), arithmetic.eps
        own = self._of_root(x, np.zeros_like(x_error), root, eps) + eps
        rows, m = self._in_rows, math.prod(x.shape[-self.axes :])
        of_x = carried(rows(x_error), rows(output), rows(root), m, centred=False).reshape(x.shape)
        bound: Array = of_x + np.abs(output) * own + arithmetic.tiny
        return bound

    def _in_rows(self, array: Array) -> Array:
        """Reshape an array so that its last axis has the entries of one mean, (…, m)."""
        return array.reshape(*array.shape[: -self.axes], -1)

    def vjp_error(
        self, p: Arrays, known: Known, upstream: Upstream, arithmetic: Arithmetic
    ) -> tuple[tuple[Upstream, ...], dict[str, Array]]:
        (x,), (x_error,), mean, eps = known.inputs, known.input_errors, self._mean, arithmetic.eps
        hidden, x_hat, root = np.maximum(upstream.hidden, 0.0), np.abs(known.output), self._root(x)
        size, many = np.abs(upstream.value) + hidden, 2.0 + math.prod(x.shape[-self.axes :]) / 16.0
        along = mean(size * x_hat)
        along_error = mean((size + upstream.error) * known.output_error) + eps * many * along
        m = math.prod(x.shape[-self.axes :])
        of_g = projected(self._in_rows(upstream.error), self._in_rows(known.output), m, centred=False)
        error = of_g.reshape(x.shape) + x_hat * along_error
        signed = np.abs(mean(upstream.value * known.output)) + mean(hidden * x_hat)
        error = error + known.output_error * (signed + mean(upstream.error * x_hat) + along_error)
        error = error + eps * (size + 2.0 * x_hat * along)
        (handed,), _ = self.vjp(p, known.inputs, known.output, upstream.value)
        of_root = self._of_root(x, x_error, root, eps)
        error = error / root * (1.0 + of_root) + np.abs(handed) * of_root + arithmetic.tiny
        return (Upstream(handed, error, (hidden + x_hat * mean(hidden * x_hat)) / root),), {}

    def heard(self, p: Arrays, features: tuple[Shape, ...], above: Array) -> tuple[Array, ...]:
        over = tuple(range(-self.axes, 0))
        return (np.broadcast_to(above.any(axis=over, keepdims=True), features[0]),)


@dataclass(frozen=True)
class Gain(Step):
    """The scale y = w ⊙ x̂. Its parameter w is `weight`, with the shape of the last axes of a sample."""

    shape: Shape
    couples = "nothing"
    rises = True
    formulas = Formulas(
        "y",
        "{weight} {x}",
        (Argument("x̂", "{weight}", "{weight} {g}"),),
        {"weight": Argument("w", "{x}", "Σₙ {g}ₙ {x}ₙ")},
    )

    @property
    def shapes(self) -> Mapping[str, Shape]:
        return {"weight": self.shape}

    def centre(self, name: str) -> float:
        return 1.0

    def _rows(self, array: Array) -> Array:
        return array.reshape(-1, *self.shape)

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        y: Array = p["weight"] * inputs[0]
        return y

    def part(self, p: Arrays, inputs: Sequence[Input], output: Resting) -> Part | None:
        x = only(inputs)
        return Risen(output, x.fixed, x.of(p["weight"]) * x.rise)

    def sizes_below(self, p: Arrays, features: tuple[Shape, ...], sizes: Array) -> tuple[Array, ...]:
        return (np.abs(p["weight"]) * sizes,)

    def vjp(
        self, p: Arrays, inputs: Inputs, output: Array, upstream: Array
    ) -> tuple[Inputs, dict[str, Array]]:
        return (p["weight"] * upstream,), {"weight": self._rows(upstream * inputs[0]).sum(axis=0)}

    def error(
        self, p: Arrays, inputs: Inputs, output: Array, errors: Inputs, arithmetic: Arithmetic
    ) -> Array:
        held = arithmetic.eps + arithmetic.input_eps
        bound: Array = np.abs(p["weight"]) * errors[0] + held * np.abs(output) + arithmetic.tiny
        return bound

    def vjp_error(
        self, p: Arrays, known: Known, upstream: Upstream, arithmetic: Arithmetic
    ) -> tuple[tuple[Upstream, ...], dict[str, Array]]:
        hidden, size, handed = (
            np.maximum(upstream.hidden, 0.0),
            np.abs(p["weight"]),
            p["weight"] * upstream.value,
        )
        held = (arithmetic.eps + arithmetic.input_eps) * np.abs(handed)
        below = Upstream(handed, size * upstream.error + held + arithmetic.tiny, size * hidden)
        parts = (upstream.value, upstream.error, known.inputs[0], known.input_errors[0], hidden)
        g, error, x_hat, x_hat_error, more = (self._rows(each) for each in parts)
        bound = sum_error(g, error, arithmetic, x_hat, x_hat_error) + (more * x_hat_error).sum(axis=0)
        return (below,), {"weight": bound + arithmetic.tiny}

    def factors(self, name: str, inputs: Inputs) -> Factors | None:
        (x_hat,) = inputs
        entries = math.prod(self.shape)
        before = math.prod(x_hat.shape[1:]) // entries
        ones = Ones(Channels((before, entries), 1), self.shape)
        return Own(np.moveaxis(x_hat, 0, -1).reshape(-1, len(x_hat)), ones)

    def heard(self, p: Arrays, features: tuple[Shape, ...], above: Array) -> tuple[Array, ...]:
        return (above,)
