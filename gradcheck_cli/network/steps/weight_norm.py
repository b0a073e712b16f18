"""A dense step with weight normalisation, like torch.nn.utils.weight_norm: w = g v / ‖v‖, row by row.

    ∂L/∂g = Σ over the row of ∂L/∂w v / ‖v‖
    ∂L/∂v = g / ‖v‖ (∂L/∂w − v / ‖v‖ · ∂L/∂g)        the part along v drops out, as ‖v‖ depends on v, too

The output is not affine in v, and the factors of g depend on v, so g and v are perturbed entry by entry.
(T. Salimans and D. P. Kingma, "Weight normalization", NeurIPS 2016.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.factors import Factors
from gradcheck_cli.network.step import Arrays, Inputs, Known, Step, Upstream
from gradcheck_cli.network.steps.dense import Dense, product
from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True)
class WeightNormDense(Step):
    """A dense step with weight normalisation.

    The parameters are `weight_g` (units, 1), `weight_v` (units, inputs) and `bias` (units,).
    """

    inputs: int
    units: int

    @property
    def dense(self) -> Dense:
        """The dense step whose weight is w itself."""
        return Dense(self.inputs, self.units)

    @property
    def label(self) -> str:
        return f"{self.units}, weight_norm"

    @property
    def shapes(self) -> Mapping[str, Shape]:
        of_dense = self.dense.shapes
        return {"weight_g": (self.units, 1), "weight_v": of_dense["weight"], "bias": of_dense["bias"]}

    def out(self, *features: Shape) -> Shape:
        return self.dense.out(*features)

    def _dense(self, p: Arrays) -> dict[str, Array]:
        """Return the parameters of the dense step whose weight is w itself."""
        return {"weight": p["weight_g"] * _direction(p["weight_v"]), "bias": p["bias"]}

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        return self.dense.forward(self._dense(p), *inputs)

    def vjp(
        self, p: Arrays, inputs: Inputs, output: Array, upstream: Array
    ) -> tuple[Inputs, dict[str, Array]]:
        below, of = self.dense.vjp(self._dense(p), inputs, output, upstream)
        direction = _direction(p["weight_v"])
        of_g = (of["weight"] * direction).sum(axis=-1, keepdims=True)
        of_v = p["weight_g"] / _norm(p["weight_v"]) * (of["weight"] - direction * of_g)
        return below, {"weight_g": of_g, "weight_v": of_v, "bias": of["bias"]}

    def _of_w(self, arithmetic: Arithmetic) -> float:
        """Return a bound on the relative error of the weight w."""
        return (4.0 + self.inputs / 16.0) * (arithmetic.eps + arithmetic.input_eps)

    def error(
        self, p: Arrays, inputs: Inputs, output: Array, errors: Inputs, arithmetic: Arithmetic
    ) -> Array:
        own = self._dense(p)
        terms = product(np.abs(inputs[0]), np.abs(own["weight"]))
        return self.dense.error(own, inputs, output, errors, arithmetic) + self._of_w(arithmetic) * terms

    def vjp_error(
        self, p: Arrays, known: Known, upstream: Upstream, arithmetic: Arithmetic
    ) -> tuple[tuple[Upstream, ...], dict[str, Array]]:
        own, size = self._dense(p), np.abs(upstream.value) + np.maximum(upstream.hidden, 0.0)
        (below,), bounds = self.dense.vjp_error(own, known, upstream, arithmetic)
        of_w = self._of_w(arithmetic) * product(size, np.abs(own["weight"]).T)
        _, of = self.dense.vjp(own, known.inputs, known.output, upstream.value)
        split = self._split(p, of["weight"], bounds["weight"], arithmetic)
        handed = Upstream(below.value, below.error + of_w, below.hidden)
        return (handed,), {**split, "bias": bounds["bias"]}

    def _split(self, p: Arrays, dL_dw: Array, error: Array, arithmetic: Arithmetic) -> dict[str, Array]:
        """Return bounds on the errors of ∂L/∂g and ∂L/∂v, given `error`, the bound on that of ∂L/∂w."""
        size, along = np.abs(dL_dw), np.abs(_direction(p["weight_v"]))
        relative = 2.0 * self._of_w(arithmetic)
        of_g = ((error + relative * size) * along).sum(axis=-1, keepdims=True)
        terms = size + along * (size * along).sum(axis=-1, keepdims=True)
        of_v = np.abs(p["weight_g"]) / _norm(p["weight_v"]) * (error + along * of_g + relative * terms)
        return {"weight_g": of_g + arithmetic.tiny, "weight_v": of_v + arithmetic.tiny}

    def factors(self, name: str, inputs: Inputs) -> Factors | None:
        return self.dense.factors(name, inputs) if name == "bias" else None

    def heard(self, p: Arrays, features: tuple[Shape, ...], above: Array) -> tuple[Array, ...]:
        return self.dense.heard(self._dense(p), features, above)


def _norm(v: Array) -> Array:
    norm: Array = np.sqrt((v * v).sum(axis=-1, keepdims=True))
    return norm


def _direction(v: Array) -> Array:
    direction: Array = v / _norm(v)
    return direction
