"""Softmax and log-softmax over the last axis, with a fixed mask of the elements that take part.

    a = softmax(z):        ∂L/∂z = a ⊙ (g − Σ g a)              g = ∂L/∂a, Σ over the row
    a = log_softmax(z):    ∂L/∂z = g − e^a Σ g

An element that is masked out has a = 0 and passes no gradient, as if −∞ were added to its z.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.formulas import Argument, Formulas
from gradcheck_cli.network.functions import row_sums
from gradcheck_cli.network.local_curve import is_near
from gradcheck_cli.network.part import Fixed, Input, Part, Resting, Risen, Valued, only
from gradcheck_cli.network.row_rounding import FUNCTION_ULPS
from gradcheck_cli.network.step import Arrays, Inputs, Known, Sensitivity, Step, Upstream
from gradcheck_cli.types import Array, Shape

_MOST = 30.0
"""If the error of the input is larger than this, nothing is known about the output."""

_ULPS = 8.0
"""The error of a change of the output, in units in the last place of its terms."""


@dataclass(frozen=True, eq=False)
class Softmax(Step):
    """Softmax, aⱼ = e^zⱼ / Σₖ e^zₖ over the last axis. The sum runs over the elements that the mask keeps.

    mask: True for the elements that take part, in a shape that broadcasts to the last axes of a sample. Each
        row keeps at least one element.
    """

    mask: Array
    rises = True
    formulas = Formulas(
        "a",
        "softmax({x})",
        (Argument("x", "{out}ᵢ (1[i=j] − {out}ⱼ)", "{out} ⊙ ({g} − Σⱼ {g}ⱼ {out}ⱼ)"),),
        where="with the softmax over the last axis",
    )

    @classmethod
    def of(cls, features: Shape, **options: Any) -> Softmax:
        return cls.plain()

    @classmethod
    def causal(cls, length: int) -> Softmax:
        """Return a softmax of scores (…, length, length) in which token t attends only to tokens up to t."""
        return cls(np.tri(length, dtype=bool))

    @classmethod
    def plain(cls) -> Softmax:
        """Return a softmax without a mask."""
        return cls(np.array(True))

    @property
    def label(self) -> str:
        return "softmax"

    def kept(self, *inputs: Array) -> Array:
        """Return the mask of the elements of z that take part, in a shape that broadcasts to that of z."""
        return self.mask

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        return _shares(inputs[0], self.kept(*inputs))

    def part(self, p: Arrays, inputs: Sequence[Input], output: Resting) -> Part | None:
        x, *others = inputs
        if not isinstance(x, Part) or any(isinstance(each, Part) for each in others):
            return super().part(p, inputs, output)
        row = x.freed((len(x.fixed) - 1,))
        if not is_near(row.rise):
            return self._far(p, row, others, output)
        a, more = output.at(row.fixed), np.expm1(_from_largest(row.rise, output, row.fixed))
        total = row_sums(a * more)[..., None]  # the addition theorem of the exponential
        more -= total
        more *= a
        more /= 1.0 + total
        return Risen(output, row.fixed, more)

    def _far(self, p: Arrays, row: Part, others: Sequence[Input], output: Resting) -> Part | None:
        """Return the part of the output if a row changes by more than the addition theorem is used for."""
        if others:
            return super().part(p, (row, *others), output)
        return Valued(output, row.fixed, _shares(row.value, row.of(self.mask)))

    def sensitivities(self, p: Arrays, known: Known, above: Sensitivity) -> tuple[Sensitivity, ...]:
        a, a_error, size, error = known.output, known.output_error, above.terms, above.error
        largest = _largest_in_row(a)
        others = a * (1.0 - largest)
        terms = size + _row_sum(a * size)
        of_a = a_error * (1.0 - largest) * terms + others * _row_sum(a_error * size)
        below = Sensitivity(
            _from_others(others * terms, largest),
            _from_others(others * (error + _row_sum(a * error)) + of_a, largest),
        )
        nothing = (Sensitivity(np.zeros_like(x), np.zeros_like(x)) for x in known.inputs[1:])
        return below.rounded(above, _ULPS), *nothing

    def vjp(
        self, p: Arrays, inputs: Inputs, output: Array, upstream: Array
    ) -> tuple[Inputs, dict[str, Array]]:
        return (self._handed(output, upstream),), {}

    def _handed(self, a: Array, g: Array) -> Array:
        return a * (g - _row_sum(g * a))

    def error(
        self, p: Arrays, inputs: Inputs, output: Array, errors: Inputs, arithmetic: Arithmetic
    ) -> Array:
        mask = self.kept(*inputs)
        carried = _carried(output, errors[0], mask)
        own = output * self._own(inputs[0], output, mask, arithmetic)
        bound: Array = carried + own + mask * arithmetic.tiny
        return bound

    def _own(self, z: Array, a: Array, mask: Array, arithmetic: Arithmetic) -> Array:
        """Return a bound on the relative error of the output a for an exact input z."""
        apart = _apart(z, mask)
        own: Array = arithmetic.eps * (apart + _row_sum(a * apart) + 2.0 * FUNCTION_ULPS + _many(z))
        return own

    def vjp_error(
        self, p: Arrays, known: Known, upstream: Upstream, arithmetic: Arithmetic
    ) -> tuple[tuple[Upstream, ...], dict[str, Array]]:
        z, z_error, a, g = known.inputs[0], known.input_errors[0], known.output, upstream.value
        hidden, eps, mask = np.maximum(upstream.hidden, 0.0), arithmetic.eps, self.kept(*known.inputs)
        size, more = np.abs(g) + hidden, hidden + _row_sum(hidden * a) + upstream.error
        # Errors of a that z causes add up to 0 over a row, so that only g − Σ g a counts.
        a_error, centred = _carried(a, z_error, mask), np.abs(g - _row_sum(g * a)) + more
        carried = _of_jacobian(a, upstream.error) + a_error * centred + a * _row_sum(a_error * centred)
        own, inner = self._own(z, a, mask, arithmetic), _row_sum(size * a)
        rounding = own * (size + inner) + _row_sum(own * size * a) + 2.0 * eps * (size + _many(a) * inner)
        handed = self._handed(a, g)
        below = Upstream(handed, carried + a * rounding + arithmetic.tiny, _of_jacobian(a, hidden))
        return (below,), {}

    def masks(self, inputs: Inputs) -> Mapping[str, Array]:
        return {"attn_mask": np.where(self.mask, 0.0, -np.inf)} if self.mask.ndim else {}

    def heard(self, p: Arrays, features: tuple[Shape, ...], above: Array) -> tuple[Array, ...]:
        return (above.any(axis=-1, keepdims=True) & np.broadcast_to(self.mask, features[0]),)


@dataclass(frozen=True)
class LogSoftmax(Step):
    """Log-softmax, aⱼ = zⱼ − log Σₖ e^zₖ over the last axis."""

    rises = True
    formulas = Formulas(
        "a",
        "log softmax({x})",
        (Argument("x", "1[i=j] − softmax({x})ⱼ", "{g} − softmax({x}) Σⱼ {g}ⱼ"),),
        where="with the softmax over the last axis",
    )

    @classmethod
    def of(cls, features: Shape, **options: Any) -> LogSoftmax:
        return cls()

    @property
    def label(self) -> str:
        return "log_softmax"

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        shifted = inputs[0] - inputs[0].real.max(axis=-1, keepdims=True)
        logs: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        return logs

    def part(self, p: Arrays, inputs: Sequence[Input], output: Resting) -> Part | None:
        x = only(inputs)
        row = x.freed((len(x.fixed) - 1,))
        if not is_near(row.rise):
            return Valued(output, row.fixed, self.forward(p, row.value))
        shares = Resting(output.once(np.exp), output.samples).at(row.fixed)
        change = _from_largest(row.rise, output, row.fixed)
        change -= np.log1p(row_sums(shares * np.expm1(change)))[..., None]
        return Risen(output, row.fixed, change)

    def sensitivities(self, p: Arrays, known: Known, above: Sensitivity) -> tuple[Sensitivity, ...]:
        size, error, largest = above.terms, above.error, _largest_in_row(known.output)
        shares, rest = np.exp(known.output) * (1.0 - largest), 1.0 - largest
        of_shares = shares * (known.output_error + FUNCTION_ULPS) * _row_sum(size)
        below = Sensitivity(
            _from_others(rest * size + shares * _row_sum(size), largest),
            _from_others(rest * error + shares * _row_sum(error) + of_shares, largest),
        )
        return (below.rounded(above, _ULPS),)

    def vjp(
        self, p: Arrays, inputs: Inputs, output: Array, upstream: Array
    ) -> tuple[Inputs, dict[str, Array]]:
        return (upstream - np.exp(output) * _row_sum(upstream),), {}

    def error(
        self, p: Arrays, inputs: Inputs, output: Array, errors: Inputs, arithmetic: Arithmetic
    ) -> Array:
        (z,), (z_error,) = inputs, errors
        shares, apart = np.exp(output), _apart(z, np.array(True))
        carried = z_error + _row_sum(shares * z_error)
        own = np.abs(z) + _largest(np.abs(z), np.array(True)) + np.abs(output) + _row_sum(shares * apart)
        bound: Array = carried + arithmetic.eps * (own + FUNCTION_ULPS + _many(z))
        return bound

    def vjp_error(
        self, p: Arrays, known: Known, upstream: Upstream, arithmetic: Arithmetic
    ) -> tuple[tuple[Upstream, ...], dict[str, Array]]:
        shares, hidden = np.exp(known.output), np.maximum(upstream.hidden, 0.0)
        size, count = np.abs(upstream.value) + hidden, upstream.value.shape[-1]
        total = _row_sum(upstream.value)
        total_error = _row_sum(upstream.error) + arithmetic.summed(_row_sum(size), total, count)
        share_error = shares * (known.output_error + FUNCTION_ULPS * arithmetic.eps)
        error = upstream.error + shares * total_error + share_error * (np.abs(total) + total_error)
        own = arithmetic.eps * (size + 2.0 * shares * np.abs(total))
        (handed,), _ = self.vjp(p, known.inputs, known.output, upstream.value)
        below = Upstream(handed, error + own + arithmetic.tiny, hidden + shares * _row_sum(hidden))
        return (below,), {}

    def heard(self, p: Arrays, features: tuple[Shape, ...], above: Array) -> tuple[Array, ...]:
        return (np.broadcast_to(above.any(axis=-1, keepdims=True), features[0]),)


def _carried(a: Array, z_error: Array, mask: Array) -> Array:
    """Return a bound on the error that an error Δz of the input z causes in the output.

    The bound is computed from the largest possible e^Δz.
    """
    off = np.where(mask, np.expm1(np.minimum(z_error, _MOST)), 0.0)
    return _of_jacobian(a, off)


def _shares(z: Array, mask: Array) -> Array:
    """Return the softmax over the last axis, among the elements that the mask keeps."""
    below = np.where(mask, z - _largest(z, mask), 0.0)  # a masked score may be too large for exp
    e = np.exp(below) * mask
    shares: Array = e / e.sum(axis=-1, keepdims=True)
    return shares


def _of_jacobian(a: Array, sizes: Array) -> Array:
    """Return |∂a/∂z| s for sizes s ≥ 0: aⱼ ((1 − aⱼ) sⱼ + Σ aₖ sₖ), where the sum is over k ≠ j."""
    product: Array = a * ((1.0 - 2.0 * a) * sizes + _row_sum(a * sizes))
    return np.maximum(product, 0.0)


def _largest_in_row(a: Array) -> Array:
    """Return an array that is 1 for the first of the largest elements of each row, and 0 for all others."""
    return (np.arange(a.shape[-1]) == a.argmax(axis=-1)[..., None]).astype(a.dtype)


def _from_largest(d: Array, output: Resting, fixed: Fixed) -> Array:
    """Return the changes d of whole rows minus the change of the element with the largest output.

    Softmax does not change if a number is added to a row. Without a change of the largest element, nothing
    cancels, even if this element has nearly all of the sum.
    """
    largest = Resting(output.once(_largest_in_row), output.samples).at(fixed)
    return d - row_sums(d * largest)[..., None]


def _from_others(sizes: Array, largest: Array) -> Array:
    """Return how strongly the losses depend on all elements of each row, if only the others may change.

    A change of the largest element is the opposite change of all others.

    sizes: how strongly the losses depend on the others, and 0 for the largest element.
    """
    return sizes + largest * _row_sum(sizes)


def _row_sum(numbers: Array) -> Array:
    total: Array = numbers.sum(axis=-1, keepdims=True)
    return total


def _largest(z: Array, mask: Array) -> Array:
    """Return, for each row, the largest of the elements that the mask keeps, (…, 1)."""
    largest: Array = np.where(mask, z.real, -np.inf).max(axis=-1, keepdims=True)
    return largest.astype(z.real.dtype, copy=False)


def _apart(z: Array, mask: Array) -> Array:
    """Return the distance of each z from the largest z in its row.

    The distance times ε is the relative error of eᶻ.
    """
    apart: Array = np.where(mask, np.abs(z - _largest(z, mask)), 0.0)
    return apart


def _many(z: Array) -> float:
    """Return a bound on the relative rounding error of a sum of positive terms over a row.

    The bound is in units of machine epsilon.
    """
    count = z.shape[-1]
    return float(max(np.sqrt(count), count / 16.0))
