"""The table of activations: one row per activation, with its value next to its derivative.

To add an activation, add its row; the spec, the command line and the tests read the table.

Every function in the table takes z of shape (…, units). `value` must also accept a complex z, for the complex
step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

from gradcheck_cli.network.activation_rises import (
    ELU_RISE,
    GELU_RISE,
    LINEAR,
    SIGMOID_RISE,
    SILU_RISE,
    SOFTPLUS_RISE,
    TANH_RISE,
)
from gradcheck_cli.network.functions import (
    GELU_CUBE,
    GELU_SCALE,
    in_blocks,
    in_sigmoid_of_gelu,
    normal_cdf,
    normal_pdf,
    sigmoid,
    sigmoid_slope,
    softmax,
    softplus,
)
from gradcheck_cli.network.rise import Rise
from gradcheck_cli.network.row_rounding import (
    CLOSE_ACTIVATION,
    NUDGED_ACTIVATION,
    ActivationRounding,
    SoftmaxRounding,
)
from gradcheck_cli.network.rows import bound
from gradcheck_cli.types import Array

Function = Callable[..., Array]


_CLOSE = 2.0**-40
"""The distance from a kink at which slopes are compared."""

_ALIKE = 1e-9
"""Slopes that differ by less than this share of their size count as equal. Tolerances are far larger."""


@dataclass(frozen=True)
class Activation:
    """An activation a = φ(z) with its derivative and its smooth pieces.

    name:       the activation's name in a spec.
    value:      φ(z), with the shape of z.
    derivative: ∂a/∂z: φ'(z), with the shape of z; for a coupled activation, the Jacobian, (…, units, units).
    pieces:     for a φ with kinks, the smooth piece that each z is on, as a number or a truth value.
    branch:     for a φ with kinks, a function that computes φ(z) from given smooth pieces, even for a z on
                another piece. The result has the shape of z.
    in_place:   a function that overwrites a real z with φ(z); None if that would not be faster.
    coupled:    whether each output a depends on the whole row of z, as in softmax.
    bounded:    whether common code computes φ' from `a`, as `a (1 − a)` or `1 − a²`. The error of such a φ'
                is the rounding error of numbers near 1, even if φ' is small.
    absolute:   the size of the terms that cancel in common formulas for a small φ(z), such as 1 + erf. The
                sizes have the shape of z.
    shares:     whether every output a is between 0 and 1, like a probability.
    flat_left:  whether φ is constant to the left of its kink.
    keeps:      whether φ(z) = z.
    slow:       whether a smooth φ takes much longer to evaluate than a polynomial of degree 6.
    rounding:   bounds on the rounding errors of value and derivative; the default works for any φ.
    rise:       the change of φ(z) after a change of z, without cancellation; None if no formula is known. A φ
                with kinks gives the change on the piece that z is on.
    options:    the names and defaults of φ's options, such as a slope.
    formula:    the derivative as a textbook writes it.
    """

    name: str
    value: Function
    derivative: Function
    pieces: Function | None = None
    branch: Function | None = None
    in_place: Callable[[Array], Array] | None = None
    coupled: bool = False
    bounded: bool = False
    absolute: Callable[[Array], Array] | None = None
    shares: bool = False
    flat_left: bool = False
    keeps: bool = False
    slow: bool = False
    rounding: ActivationRounding = NUDGED_ACTIVATION
    rise: Rise | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    formula: str = "φ'(z)"

    @property
    def settings(self) -> tuple[str, ...]:
        """The keys that a spec may set for this activation."""
        return tuple(self.options)

    def with_options(self, **given: Any) -> Activation:
        """Return a copy with the given options bound to its functions. `value` then takes only z."""
        options = {**self.options, **given}
        functions = bound(self, options, "value", "derivative", "pieces", "branch")
        return replace(self, **functions, rise=self.rise and self.rise.with_options(options))

    @property
    def turns(self) -> bool:
        """Whether the slopes of φ on the two sides of its kink at 0 differ, as they do for relu."""
        if self.branch is None:
            return False
        values = self.branch(np.array([-_CLOSE, _CLOSE]), np.array([False, True]))
        left, right = values / [-_CLOSE, _CLOSE]
        return bool(abs(right - left) > _ALIKE * max(abs(left), abs(right)))

    def overwrite(self, z: Array) -> Array:
        """Return the activation φ(z) of a real array z. The result may overwrite z."""
        return self.value(z) if self.in_place is None else self.in_place(z)

    def vjp(self, z: Array, dL_da: Array) -> Array:
        """Return δ = ∂L/∂z = ∂L/∂a · ∂a/∂z, (…, units)."""
        if not self.coupled:
            return dL_da * self.derivative(z)
        return np.einsum("...i,...ij->...j", dL_da, self.derivative(z))


def _right_of_zero(z: Array, **_: Any) -> Array:
    return z.real > 0


def _leaky_relu_branch(z: Array, right: Array, negative_slope: float) -> Array:
    return np.where(right, z, negative_slope * z)


def _leaky_relu(z: Array, negative_slope: float) -> Array:
    return _leaky_relu_branch(z, z.real > 0, negative_slope)


def _leaky_relu_derivative(z: Array, negative_slope: float) -> Array:
    return np.where(z > 0, 1.0, negative_slope).astype(z.dtype)


def _elu_branch(z: Array, right: Array, alpha: float) -> Array:
    return np.where(right, z, alpha * np.expm1(np.where(right, 0.0, z)))


def _elu(z: Array, alpha: float) -> Array:
    return _elu_branch(z, z.real > 0, alpha)


def _elu_derivative(z: Array, alpha: float) -> Array:
    return np.where(z > 0, 1.0, alpha * np.exp(np.minimum(z, 0.0))).astype(z.dtype)


@lru_cache(maxsize=8)
def _zeros(shape: tuple[int, ...]) -> Array:
    return np.zeros(shape)


def _relu_in_place(z: Array) -> Array:
    """Apply relu to an array in place.

    `np.maximum` is three times as fast with an array of zeros as with the scalar 0.0.
    """
    result: Array = np.maximum(z, _zeros(z.shape), out=z)
    return result


def _gelu(z: Array, approximate: str) -> Array:
    if approximate == "none":
        return in_blocks(lambda part: part * normal_cdf(part), z)
    return z * sigmoid(in_sigmoid_of_gelu(z))


def _gelu_derivative(z: Array, approximate: str) -> Array:
    if approximate == "none":
        return normal_cdf(z) + z * normal_pdf(z)
    u = in_sigmoid_of_gelu(z)
    s, r = sigmoid(u), sigmoid(-u)
    return s + z * s * r * 2.0 * GELU_SCALE * (1.0 + 3.0 * GELU_CUBE * z * z)


def _softmax_jacobian(z: Array) -> Array:
    """Return the Jacobian of softmax, ∂aᵢ/∂zⱼ = aᵢ (1[i=j] − aⱼ), (…, units, units)."""
    a = softmax(z)
    diagonal = np.eye(a.shape[-1], dtype=a.dtype) * a[..., None, :]
    return diagonal - a[..., :, None] * a[..., None, :]


@dataclass(frozen=True)
class SoftmaxActivation(Activation):
    """The activation softmax, aⱼ = e^zⱼ / Σₖ e^zₖ."""

    def vjp(self, z: Array, dL_da: Array) -> Array:
        """Return δ = ∂L/∂z, where δⱼ = aⱼ (∂L/∂aⱼ − Σᵢ ∂L/∂aᵢ aᵢ).

        This is the product of ∂L/∂a with softmax's Jacobian, computed without building the Jacobian.
        """
        a = softmax(z)
        return a * (dL_da - (dL_da * a).sum(axis=-1, keepdims=True))


_ROWS: tuple[Activation, ...] = (
    Activation(
        "identity",
        lambda z: z,
        np.ones_like,
        rise=LINEAR.with_options({"negative_slope": 1.0}),
        keeps=True,
        formula="1",
    ),
    Activation(
        "sigmoid",
        sigmoid,
        sigmoid_slope,
        in_place=lambda z: sigmoid(z, out=z),
        bounded=True,
        shares=True,
        rounding=CLOSE_ACTIVATION,
        rise=SIGMOID_RISE,
        formula="a (1 − a)",
    ),
    # 1 − tanh²(z) = 4 σ(2z) σ(−2z), which keeps its digits where tanh is near ±1.
    Activation(
        "tanh",
        np.tanh,
        lambda z: 4.0 * sigmoid_slope(2.0 * z),
        in_place=lambda z: np.tanh(z, out=z),
        bounded=True,
        rounding=CLOSE_ACTIVATION,
        rise=TANH_RISE,
        formula="1 − a²",
    ),
    Activation(
        "relu",
        lambda z: np.where(z.real > 0, z, 0.0).astype(z.dtype, copy=False),
        lambda z: (z > 0).astype(z.dtype),
        pieces=_right_of_zero,
        branch=lambda z, right: np.where(right, z, 0.0),
        in_place=_relu_in_place,
        flat_left=True,
        rise=LINEAR.with_options({"negative_slope": 0.0}),
        formula="1 if z > 0, else 0",
    ),
    Activation(
        "leaky_relu",
        _leaky_relu,
        _leaky_relu_derivative,
        pieces=_right_of_zero,
        branch=_leaky_relu_branch,
        rise=LINEAR,
        options={"negative_slope": 0.01},
        formula="1 if z > 0, else negative_slope",
    ),
    Activation(
        "elu",
        _elu,
        _elu_derivative,
        pieces=_right_of_zero,
        branch=_elu_branch,
        absolute=lambda z: (z < 0).astype(float),  # at 0 itself, eᶻ − 1 is exactly 0
        rise=ELU_RISE,
        options={"alpha": 1.0},
        formula="1 if z > 0, else alpha eᶻ",
    ),
    Activation(
        "gelu",
        _gelu,
        _gelu_derivative,
        bounded=True,
        absolute=np.abs,
        slow=True,
        rise=GELU_RISE,
        options={"approximate": "none"},
        formula="Φ(z) + z Φ'(z)",
    ),
    Activation(
        "silu",
        lambda z: z * sigmoid(z),
        lambda z: sigmoid(z) + z * sigmoid(z) * sigmoid(-z),
        bounded=True,
        rise=SILU_RISE,
        formula="σ(z) + a (1 − σ(z))",
    ),
    Activation(
        "softplus", softplus, sigmoid, absolute=np.ones_like, slow=True, rise=SOFTPLUS_RISE, formula="σ(z)"
    ),
    SoftmaxActivation(
        "softmax",
        softmax,
        _softmax_jacobian,
        coupled=True,
        bounded=True,
        shares=True,
        rounding=SoftmaxRounding(),
        formula="aᵢ (1[i=j] − aⱼ)",
    ),
)

ACTIVATIONS: Mapping[str, Activation] = {row.name: row for row in _ROWS}
