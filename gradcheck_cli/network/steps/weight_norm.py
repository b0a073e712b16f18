"""Weight normalisation, like torch.nn.utils.weight_norm: a dense step or a convolution with w = g v / ‖v‖.

The norm is over all axes of v except the first, so each row of a dense weight and each kernel has a g of its
own.

    ∂L/∂g = Σ over the row of ∂L/∂w v / ‖v‖
    ∂L/∂v = g / ‖v‖ (∂L/∂w − v / ‖v‖ · ∂L/∂g)        the part along v drops out, as ‖v‖ depends on v, too

The output is not affine in v, and the factor of g depends on v, so g and v are perturbed entry by entry.
(T. Salimans and D. P. Kingma, "Weight normalization", NeurIPS 2016.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from gradcheck_cli.network.arithmetic import FLOAT64, Arithmetic
from gradcheck_cli.network.factors import Factors
from gradcheck_cli.network.formulas import Argument, Formulas
from gradcheck_cli.network.part import Input, Part, Resting
from gradcheck_cli.network.step import Arrays, Inputs, Known, Sensitivity, Step, Upstream
from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True)
class WeightNorm(Step):
    """A step with a normalised weight and, if the plain step has one, a bias.

    The parameters are `weight_g`, (units, 1, …), `weight_v`, with the shape of the weight, and `bias`.

    plain: the same step without the normalisation; its parameter is the weight w itself.
    """

    plain: Step

    @property
    def formulas(self) -> Formulas:  # type: ignore[override]
        of_x = (Argument("a⁽ʰ⁾", "g v / ‖v‖", "{g} (g v / ‖v‖)"),)
        of = {
            "weight_g": Argument("g", "{x} v / ‖v‖", "Σ over each row of {g}ᵀ {x} v / ‖v‖"),
            "weight_v": Argument(
                "v",
                "{x} (1 − v vᵀ / ‖v‖²) g / ‖v‖",
                "g / ‖v‖ ({g}ᵀ {x} − v / ‖v‖ ∂L/∂g)",
            ),
        }
        where = "with a⁽ʰ⁾ the layer's input, or its patches"
        if "bias" not in self.plain.shapes:
            return Formulas("z", "{x} (g v / ‖v‖)ᵀ", of_x, of, where)
        bias = {"bias": Argument("b", "1", "Σₙ {g}ₙ")}
        return Formulas("z", "{x} (g v / ‖v‖)ᵀ + {bias}", of_x, of | bias, where)

    @property
    def channel(self) -> int:  # type: ignore[override]
        return self.plain.channel

    @property
    def makes_images(self) -> bool:  # type: ignore[override]
        return self.plain.makes_images

    @property
    def label(self) -> str:
        return f"{self.plain.label}, weight_norm"

    @property
    def shapes(self) -> Mapping[str, Shape]:
        weight = self.plain.shapes["weight"]
        own = {"weight_g": (weight[0], *(1,) * (len(weight) - 1)), "weight_v": weight}
        return {**own, **_bias_of(self.plain.shapes)}

    def fans(self, name: str) -> tuple[int, int]:
        return self.plain.fans("bias" if name == "bias" else "weight")

    def centre(self, name: str) -> float | None:
        return {"weight_g": 1.0, "weight_v": None, "bias": 0.0}[name]

    def out(self, *features: Shape) -> Shape:
        return self.plain.out(*features)

    def multiplications(self, *features: Shape) -> int:
        return self.plain.multiplications(*features)

    def own(self, p: Arrays) -> dict[str, Array]:
        """Return the parameters of the plain step: w = g v / ‖v‖ and the bias, if there is one."""
        return {"weight": p["weight_g"] * direction(p["weight_v"]), **_bias_of(p)}

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        return self.plain.forward(self.own(p), *inputs)

    @property
    def is_affine(self) -> bool:  # type: ignore[override]
        return self.plain.is_affine

    @property
    def rises(self) -> bool:  # type: ignore[override]
        return self.plain.rises

    def part(self, p: Arrays, inputs: Sequence[Input], output: Resting) -> Part | None:
        return self.plain.part(self.own(p), inputs, output)

    def sizes_below(self, p: Arrays, features: tuple[Shape, ...], sizes: Array) -> tuple[Array, ...]:
        return self.plain.sizes_below(self.own(p), features, sizes)

    def sensitivities(self, p: Arrays, known: Known, above: Sensitivity) -> tuple[Sensitivity, ...]:
        below = self.plain.sensitivities(self.own(p), known, above)
        of_w = self._of_w(p, FLOAT64) / FLOAT64.eps
        return tuple(each.rounded(above, of_w) for each in below)

    def vjp(
        self, p: Arrays, inputs: Inputs, output: Array, upstream: Array
    ) -> tuple[Inputs, dict[str, Array]]:
        below, of = self.plain.vjp(self.own(p), inputs, output, upstream)
        along = direction(p["weight_v"])
        of_g = row_sums(of["weight"] * along)
        of_v = p["weight_g"] / norm(p["weight_v"]) * (of["weight"] - along * of_g)
        return below, {"weight_g": of_g, "weight_v": of_v, **_bias_of(of)}

    def _of_w(self, p: Arrays, arithmetic: Arithmetic) -> float:
        """Return a bound on the relative error of the weight w."""
        return (4.0 + p["weight_v"][0].size / 16.0) * (arithmetic.eps + arithmetic.input_eps)

    def error(
        self, p: Arrays, inputs: Inputs, output: Array, errors: Inputs, arithmetic: Arithmetic
    ) -> Array:
        own = self.own(p)
        no_bias = {name: np.zeros_like(bias) for name, bias in _bias_of(own).items()}
        sizes = {"weight": np.abs(own["weight"]), **no_bias}
        terms = self.plain.forward(sizes, *(np.abs(x) for x in inputs))
        return self.plain.error(own, inputs, output, errors, arithmetic) + self._of_w(p, arithmetic) * terms

    def vjp_error(
        self, p: Arrays, known: Known, upstream: Upstream, arithmetic: Arithmetic
    ) -> tuple[tuple[Upstream, ...], dict[str, Array]]:
        own, size = self.own(p), np.abs(upstream.value) + np.maximum(upstream.hidden, 0.0)
        (below,), bounds = self.plain.vjp_error(own, known, upstream, arithmetic)
        sizes = {**own, "weight": np.abs(own["weight"])}
        (terms,), _ = self.plain.vjp(sizes, known.inputs, known.output, size)
        _, of = self.plain.vjp(own, known.inputs, known.output, upstream.value)
        split = self._split(p, of["weight"], bounds["weight"], arithmetic)
        handed = Upstream(below.value, below.error + self._of_w(p, arithmetic) * terms, below.hidden)
        return (handed,), {**split, **_bias_of(bounds)}

    def _split(self, p: Arrays, dL_dw: Array, error: Array, arithmetic: Arithmetic) -> dict[str, Array]:
        """Return bounds on the errors of ∂L/∂g and ∂L/∂v.

        error: a bound on the error of ∂L/∂w.
        """
        size, along = np.abs(dL_dw), np.abs(direction(p["weight_v"]))
        relative = 2.0 * self._of_w(p, arithmetic)
        of_g = row_sums((error + relative * size) * along)
        terms = size + along * row_sums(size * along)
        of_v = np.abs(p["weight_g"]) / norm(p["weight_v"]) * (error + along * of_g + relative * terms)
        return {"weight_g": of_g + arithmetic.tiny, "weight_v": of_v + arithmetic.tiny}

    def factors(self, name: str, inputs: Inputs) -> Factors | None:
        return self.plain.factors(name, inputs) if name == "bias" else None

    def by_row(self, array: Array) -> Array:
        return self.plain.by_row(array)

    def heard(self, p: Arrays, features: tuple[Shape, ...], above: Array) -> tuple[Array, ...]:
        return self.plain.heard(self.own(p), features, above)


T = TypeVar("T")


def _bias_of(each: Mapping[str, T]) -> dict[str, T]:
    """Return the entry for the bias; empty if there is none."""
    return {"bias": each["bias"]} if "bias" in each else {}


def row_sums(array: Array) -> Array:
    """Return the sum over all axes except the first. Each summed axis is kept with a length of 1."""
    total: Array = array.sum(axis=tuple(range(1, array.ndim)), keepdims=True)
    return total


def norm(v: Array) -> Array:
    """Return ‖v‖ for every row of v, (units, 1, …)."""
    root: Array = np.sqrt(row_sums(v * v))
    return root


def direction(v: Array) -> Array:
    """Return v / ‖v‖ for every row of v."""
    along: Array = v / norm(v)
    return along
