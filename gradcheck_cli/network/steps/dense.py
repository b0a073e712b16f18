"""A dense step: z = a wᵀ + b, with w (out, in) and b (out,).

    ∂L/∂w = δᵀ a        because ∂z/∂w = a
    ∂L/∂b = Σ δ          because ∂z/∂b = 1
    ∂L/∂a = δ w

Here δ = ∂L/∂z. If an input (…, in) has position axes before its last axis, each position is a separate row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.factors import Channels, Factors, Ones, Rows
from gradcheck_cli.network.formulas import Argument, Formulas
from gradcheck_cli.network.known import is_exact
from gradcheck_cli.network.part import Input, Part, Resting, Risen, only
from gradcheck_cli.network.step import Arrays, Inputs, Known, SeparatelyRounded, Step, Upstream
from gradcheck_cli.network.sums import sum_error
from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True)
class Dense(SeparatelyRounded, Step):
    """A dense step.

    The parameters are `weight`, (units, inputs), and, unless `bias` is False, `bias`, (units,).
    """

    inputs: int
    units: int
    bias: bool = True
    channel = -1
    is_affine = True
    rises = True

    @property
    def formulas(self) -> Formulas:  # type: ignore[override]
        weight = Argument("w", "{x}", "{g}ᵀ {x}")
        of_x = (Argument("a⁽ʰ⁾", "{weight}", "{g} {weight}"),)
        where = "with a⁽ʰ⁾ the layer's input"
        if not self.bias:
            return Formulas("z", "{x} {weight}ᵀ", of_x, {"weight": weight}, where)
        bias = Argument("b", "1", "Σₙ {g}ₙ")
        return Formulas("z", "{x} {weight}ᵀ + {bias}", of_x, {"weight": weight, "bias": bias}, where)

    @classmethod
    def of(cls, features: Shape, **options: Any) -> Dense:
        return cls(features[-1], options["units"], options.get("bias", True))

    @property
    def label(self) -> str:
        return str(self.units)

    @property
    def shapes(self) -> Mapping[str, Shape]:
        return self._own({"weight": (self.units, self.inputs), "bias": (self.units,)})

    def out(self, *features: Shape) -> Shape:
        return (*features[0][:-1], self.units)

    def multiplications(self, *features: Shape) -> int:
        return math.prod(features[0]) * self.units

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        z = product(inputs[0], p["weight"])
        if not self.bias:
            return z
        in_place = np.result_type(z, p["bias"]) == z.dtype
        return np.add(z, p["bias"], out=z if in_place else None)

    def part(self, p: Arrays, inputs: Sequence[Input], output: Resting) -> Part | None:
        x = only(inputs)
        *positions, unit = x.fixed
        if unit is None:
            return Risen(output, x.fixed, product(x.rise, p["weight"]))
        rise = x.rise
        rows = p["weight"].T.take(unit, axis=0).reshape(len(unit), *(1,) * (rise.ndim - 1), -1)
        return Risen(output, (*positions, None), rows * rise[..., None])

    def sizes_below(self, p: Arrays, features: tuple[Shape, ...], sizes: Array) -> tuple[Array, ...]:
        return (sizes @ np.abs(p["weight"]),)

    def vjp(
        self, p: Arrays, inputs: Inputs, output: Array, upstream: Array
    ) -> tuple[Inputs, dict[str, Array]]:
        handed = (_rows(upstream) @ p["weight"]).reshape(inputs[0].shape)
        return (handed,), self.gradients(p, inputs, output, upstream)

    def gradients(self, p: Arrays, inputs: Inputs, output: Array, upstream: Array) -> dict[str, Array]:
        rows = _rows(upstream)
        return self._own({"weight": rows.T @ _rows(inputs[0]), "bias": rows.sum(axis=0)})

    def own_error(self, p: Arrays, inputs: Inputs, output: Array, arithmetic: Arithmetic) -> Array:
        terms = product(np.abs(inputs[0]), np.abs(p["weight"])) + np.abs(self._bias(p))
        return arithmetic.input_eps * terms + arithmetic.summed(terms, output, self.inputs)

    def carried(
        self, p: Arrays, inputs: Inputs, output: Array, errors: Inputs, arithmetic: Arithmetic
    ) -> Array:
        return np.zeros(1) if is_exact(errors[0]) else product(errors[0], np.abs(p["weight"]))

    def vjp_error(
        self, p: Arrays, known: Known, upstream: Upstream, arithmetic: Arithmetic
    ) -> tuple[tuple[Upstream, ...], dict[str, Array]]:
        delta, error, hidden = _rows(upstream.value), _rows(upstream.error), _hidden(upstream)
        size, w, w_size = np.abs(delta) + hidden, p["weight"], np.abs(p["weight"])
        handed = delta @ w
        handed_error = (error + (arithmetic.input_eps + arithmetic.eps) * size) @ w_size
        handed_error += arithmetic.accumulated(handed, self.units)
        shape = known.inputs[0].shape
        below = (handed, handed_error, hidden @ w_size if hidden.any() else np.zeros(handed.shape))
        gradients = self.gradient_errors(p, known, upstream, arithmetic)
        return (Upstream(*(each.reshape(shape) for each in below)),), gradients

    def gradient_errors(
        self, p: Arrays, known: Known, upstream: Upstream, arithmetic: Arithmetic
    ) -> dict[str, Array]:
        delta, error = _rows(upstream.value), _rows(upstream.error)
        a, size = _rows(known.inputs[0]), np.abs(delta) + _hidden(upstream)
        of_weight = (error + arithmetic.eps * size).T @ np.abs(a) + arithmetic.tiny
        of_weight += arithmetic.accumulated(delta.T @ a, len(delta))
        if not is_exact(known.input_errors[0]):
            of_weight += (size + error).T @ _rows(known.input_errors[0])
        of_bias = sum_error(delta, error, arithmetic) + arithmetic.tiny
        return self._own({"weight": of_weight, "bias": of_bias})

    def _own(self, of_each: dict[str, Any]) -> dict[str, Any]:
        """If the step has a bias, return `of_each`; otherwise, only the entry for the weight."""
        return of_each if self.bias else {"weight": of_each["weight"]}

    def _bias(self, p: Arrays) -> Array:
        return p["bias"] if self.bias else np.zeros(self.units, p["weight"].dtype)

    @property
    def has_rows(self) -> bool:
        return True

    def rows(self, x: Array) -> Array | None:
        return _rows(x)

    def factors(self, name: str, inputs: Inputs) -> Factors | None:
        (a,) = inputs
        positions = a.shape[1:-1]
        channels = Channels((*positions, self.units), len(positions))
        if name == "bias":
            return Ones(channels, self.shapes["bias"])
        rows = np.moveaxis(a, 0, -2).reshape(1, -1, self.inputs)  # positions first, then samples
        return Rows(rows, channels, self.shapes["weight"])

    def with_entries(
        self, p: Arrays, name: str, which: Array, to: Array, inputs: Inputs, output: Array
    ) -> Array:
        moved = np.repeat(output[None].astype(to.dtype, copy=False), len(which), axis=0)
        rows, bias, units = self._moved(p, name, which, to)
        a = inputs[0].reshape(-1, self.inputs)
        column = product(rows, a) + bias[:, None]  # (B, rows): no other unit changes
        moved[np.arange(len(which)), ..., units] = column.reshape(len(which), *output.shape[:-1])
        return moved

    def each_with_entries(
        self, p: Arrays, name: str, which: Array, to: Array, inputs: Sequence[Inputs]
    ) -> Array:
        x = np.stack([a for (a,) in inputs])
        moved = self.forward(p, x)
        rows, bias, units = self._moved(p, name, which, to)
        column = np.matmul(x.reshape(len(x), -1, self.inputs), rows[..., None])[..., 0] + bias[:, None]
        moved[np.arange(len(which)), ..., units] = column.reshape(moved.shape[:-1])
        return moved

    def _moved(self, p: Arrays, name: str, which: Array, to: Array) -> tuple[Array, Array, Array]:
        """Return the weights, (B, inputs), the biases, (B,), and the indices of B units, each perturbed.

        For unit b, entry which[b] of parameter `name` is set to to[b].
        """
        units = which if name == "bias" else which // self.inputs
        rows, bias = p["weight"][units].astype(to.dtype, copy=False), self._bias(p)[units]
        if name == "bias":
            return rows, to, units
        rows[np.arange(len(which)), which % self.inputs] = to
        return rows, bias, units

    def heard(self, p: Arrays, features: tuple[Shape, ...], above: Array) -> tuple[Array, ...]:
        rows = above.reshape(-1, self.units)
        return (((p["weight"] != 0).T @ rows.T).T.reshape(features[0]),)


def _rows(array: Array) -> Array:
    return array.reshape(-1, array.shape[-1])


def _hidden(upstream: Upstream) -> Array:
    return np.maximum(_rows(upstream.hidden), 0.0)


def product(a: Array, w: Array) -> Array:
    """Return the product a wᵀ over the last axis of `a`, computed as a single matrix product.

    If only `a` is complex, its real and imaginary parts are multiplied separately. Otherwise, numpy would
    make a complex copy of w, and multiply by zeros.
    """
    rows = a.reshape(-1, a.shape[-1])
    if np.iscomplexobj(a) and not np.iscomplexobj(w):
        result = rows.real @ w.T + 1j * (rows.imag @ w.T)
    else:
        result = rows @ w.T
    return result.reshape(*a.shape[:-1], -1)
