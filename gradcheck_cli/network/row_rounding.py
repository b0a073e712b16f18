"""Bound the rounding errors of single activations and losses, and of their derivatives.

The default bounds work for any row of `ACTIVATIONS` and `LOSSES`. The arguments are nudged by their errors,
and the change of the result is observed. The rounding error of the function itself is observed in float32.
Both parts of a bound are absolute values, so no bound can be negative. Functions that allow tighter bounds,
or that couple many outputs, have a class of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from gradcheck_cli.network.functions import softmax
from gradcheck_cli.types import Array

FUNCTION_ULPS = 4.0
"""The error assumed for the result of an elementary function, in units in the last place (ulps)."""

_MOST_NUDGES = 32
"""The largest number of groups into which the elements of a coupled row are split.

Each group is nudged on its own. If a group holds several elements, their nudges have random signs.
"""

_SAMPLES = 4
_APART = 2.0**-10
"""The relative distance between the points where rounding is observed.

The distance is large enough for the rounding errors at these points to be independent.
"""

Function = Callable[..., Any]


class ActivationRow(Protocol):
    """The fields of a row of `ACTIVATIONS` that rounding analysis needs."""

    @property
    def value(self) -> Function: ...

    @property
    def derivative(self) -> Function: ...

    @property
    def pieces(self) -> Function | None: ...

    @property
    def coupled(self) -> bool: ...

    @property
    def bounded(self) -> bool: ...

    @property
    def absolute(self) -> Function | None: ...

    def vjp(self, z: Array, dL_da: Array) -> Array:
        """Return δ = ∂L/∂z = ∂L/∂a · ∂a/∂z."""


class ActivationRounding:
    """Bounds on the rounding errors of an activation, found by nudging its argument z, (…, units).

    z_error: a bound on the error of z.
    """

    def value(self, row: ActivationRow, z: Array, z_error: Array) -> Array:
        """Return a bound on the error that the error of z causes in a = φ(z), without using φ'."""
        return largest_change(row.value, z, z_error, row.coupled)

    def own_value(self, row: ActivationRow, z: Array) -> Array:
        """Return a bound on the rounding error of the activation φ at an exact z, without using φ'.

        The bound is in units of machine epsilon.
        """
        return _own(row.value, z)

    def derivative(self, row: ActivationRow, z: Array, z_error: Array, eps: float) -> Array:
        """Return a bound on the error of ∂a/∂z, with the shape of ∂a/∂z."""
        carried = largest_change(row.derivative, z, z_error, row.coupled, row.pieces)
        error = carried + eps * _own(row.derivative, z)
        # The error of a (1 − a) and the like is the rounding error of numbers near 1.
        error = error + eps if row.bounded else error
        if row.absolute is None:
            return error
        absolute = row.absolute(z)
        return error + eps * (absolute[..., None] if row.coupled else absolute)

    def delta(
        self, row: ActivationRow, z: Array, z_error: Array, dL_da: Array, dL_da_error: Array, eps: float
    ) -> Array:
        """Return a bound on the error of δ = ∂L/∂a · ∂a/∂z, (…, units)."""
        size = np.abs(dL_da)
        if not row.coupled:
            slope = np.abs(row.derivative(z))
            return dL_da_error * slope + size * (self.derivative(row, z, z_error, eps) + eps * slope)
        carried = largest_change(lambda moved: row.vjp(moved, dL_da), z, z_error, True, row.pieces)
        terms = (FUNCTION_ULPS + np.sqrt(z.shape[-1])) * self.at_most(row, z, size)
        own = np.maximum(terms, _own(lambda z: row.vjp(z, dL_da.astype(z.dtype)), z))
        absolute = (1.0 if row.bounded else 0.0) + (0.0 if row.absolute is None else row.absolute(z))
        return self.at_most(row, z, dL_da_error) + carried + eps * (own + _row_sum(size * absolute))

    def at_most(self, row: ActivationRow, z: Array, sizes: Array) -> Array:
        """Return the largest possible |∂L/∂zⱼ| if |∂L/∂aᵢ| is at most sizesᵢ: Σᵢ sizesᵢ |∂aᵢ/∂zⱼ|."""
        slopes = np.abs(row.derivative(z))
        if not row.coupled:
            return sizes * slopes
        largest: Array = np.einsum("...i,...ij->...j", sizes, slopes)
        return largest


class SoftmaxRounding(ActivationRounding):
    """Bounds on the rounding errors of softmax.

    The relative error of an output is a difference of two errors of z. `delta` and `at_most` do not build the
    Jacobian.
    """

    def value(self, row: ActivationRow, z: Array, z_error: Array) -> Array:
        return row.value(z) * 2.0 * z_error.max(axis=-1, keepdims=True)

    def own_value(self, row: ActivationRow, z: Array) -> Array:
        return FUNCTION_ULPS * np.abs(row.value(z))

    def derivative(self, row: ActivationRow, z: Array, z_error: Array, eps: float) -> Array:
        a, a_error = self._with_error(z, z_error, eps)
        return (np.eye(a.shape[-1]) + a[..., None, :]) * a_error[..., :, None] + a[..., :, None] * (
            a_error[..., None, :] + eps
        )

    def delta(
        self, row: ActivationRow, z: Array, z_error: Array, dL_da: Array, dL_da_error: Array, eps: float
    ) -> Array:
        a, a_error = self._with_error(z, z_error, eps)
        size = np.abs(dL_da)
        inner = _row_sum(size * a)
        carried = _row_sum(dL_da_error * a + size * a_error)
        return a * (dL_da_error + carried + 2 * eps * (size + inner)) + a_error * (size + inner)

    def at_most(self, row: ActivationRow, z: Array, sizes: Array) -> Array:
        a = row.value(z)
        largest: Array = np.maximum(sizes, a * (sizes + _row_sum(sizes * a)))
        return largest  # as for all bounded activations, even small results have errors of numbers near 1

    @staticmethod
    def _with_error(z: Array, z_error: Array, eps: float) -> tuple[Array, Array]:
        a = softmax(z)
        return a, a * (2.0 * z_error.max(axis=-1, keepdims=True) + FUNCTION_ULPS * eps)


class LossRow(Protocol):
    """The fields of a row of `LOSSES` that rounding analysis needs."""

    @property
    def value(self) -> Function: ...

    @property
    def gradient(self) -> Function: ...

    @property
    def pieces(self) -> Function | None: ...

    @property
    def sides(self) -> tuple[float, ...]: ...

    @property
    def margin(self) -> Function | None: ...

    @property
    def alone(self) -> bool: ...


class LossRounding:
    """Bounds on the rounding errors of a loss, found by nudging the network's C outputs `a`, (…, C).

    a_error: a bound on the error of the outputs.
    """

    def value(self, row: LossRow, a: Array, a_error: Array, target: Array) -> tuple[Array, Array, Array]:
        """Return three arrays: ℓ, a bound on the error in ℓ due to `a_error`, and the size of ℓ's terms.

        Each result has the shape (…). The size of the terms is the sum of their absolute values.
        """
        if not row.alone:
            value = row.value(a, target)
            carried = largest_change(lambda moved: np.real(row.value(moved, target)), a, a_error, True)
            return value, carried, np.abs(np.real(value))
        # nudge every output's own term, so that the changes cannot cancel
        column = np.broadcast_to(target, a.shape).reshape(-1, 1)
        terms = row.value(a.reshape(-1, 1), column).reshape(a.shape)
        nudged = row.value((a + a_error).reshape(-1, 1), column).reshape(a.shape)
        carried, size = np.abs(np.real(nudged - terms)), np.abs(np.real(terms))
        return terms.sum(axis=-1), carried.sum(axis=-1), size.sum(axis=-1)

    def gradient(self, row: LossRow, a: Array, a_error: Array, target: Array, eps: float) -> Array:
        """Return a bound on the error of the loss's gradient ∂ℓ/∂a, with the shape of the gradient."""
        size = np.abs(row.gradient(a, target))
        rounding = size + np.abs(a) + np.abs(target)
        if not row.alone:  # the subtracted terms may be as large as the largest of the row
            largest = np.maximum(size, np.abs(target)).max(axis=-1, keepdims=True)
            rounding = FUNCTION_ULPS * (rounding + largest)
        pieces = row.pieces if len(row.sides) > 1 else None
        own_side = pieces and (lambda moved: pieces(moved, target))
        carried = largest_change(
            lambda moved: row.gradient(moved, target), a, a_error, not row.alone, own_side
        )
        return carried + eps * rounding

    def on_kink(self, row: LossRow, a: Array, reach: Array, target: Array, eps: float) -> Array:
        """Return a mask of the outputs that an error of ± reach may move across a kink.

        The mask has the shape (N, C), for N samples and C outputs.
        """
        assert row.pieces is not None
        result: Array = row.pieces(a - reach, target) != row.pieces(a + reach, target)
        return result


@dataclass(frozen=True)
class CoupledRounding(LossRounding):
    """Bounds for losses that couple the outputs of a sample and have at most one kink per sample.

    The gradient is a difference of terms that may cancel. So the bound for all of a sample's entries is the
    largest error observed in any of them in float32.

    absolute: the size of the terms that are subtracted in the gradient, such as the 1 of e^a − 1.
    near_one: whether ℓ is a difference of numbers near 1. Otherwise, ℓ is a difference of numbers about as
        large as the outputs.
    """

    absolute: float = 0.0
    near_one: bool = True

    def value(self, row: LossRow, a: Array, a_error: Array, target: Array) -> tuple[Array, Array, Array]:
        value, carried, size = super().value(row, a, a_error, target)
        return value, carried, size + (a.shape[-1] if self.near_one else np.abs(a).sum(axis=-1))

    def gradient(self, row: LossRow, a: Array, a_error: Array, target: Array, eps: float) -> Array:
        pieces = row.pieces
        own_side = pieces and (lambda moved: pieces(moved, target))
        carried = largest_change(lambda moved: row.gradient(moved, target), a, a_error, True, own_side)
        own = _own(lambda near: row.gradient(near, target.astype(near.dtype)), a)
        return carried + eps * (own.max(axis=-1, keepdims=True) + self.absolute)

    def on_kink(self, row: LossRow, a: Array, reach: Array, target: Array, eps: float) -> Array:
        margin = row.margin
        assert margin is not None
        off = largest_change(lambda moved: margin(moved, target), a, reach, True) + 2.0 * eps
        mask = np.zeros(a.shape, dtype=bool)
        mask[..., 0] = np.abs(margin(a, target)) <= off
        return mask


@dataclass(frozen=True)
class RoundingOfPositions(LossRounding):
    """Bounds for a loss that is a sum over positions. The bounds of the positions are added up.

    row: the loss of one position.
    axes: the position axes of an array that has already been summed over the outputs.
    """

    row: Any
    axes: tuple[int, ...]

    def value(self, row: LossRow, a: Array, a_error: Array, target: Array) -> tuple[Array, Array, Array]:
        each = self.row.rounding.value(self.row, a, a_error, target)
        value, carried, size = (part.sum(axis=self.axes) for part in each)
        return value, carried, size

    def gradient(self, row: LossRow, a: Array, a_error: Array, target: Array, eps: float) -> Array:
        error: Array = self.row.rounding.gradient(self.row, a, a_error, target, eps)
        return error

    def on_kink(self, row: LossRow, a: Array, reach: Array, target: Array, eps: float) -> Array:
        mask: Array = self.row.rounding.on_kink(self.row, a, reach, target, eps)
        return mask


class AgainstTheLabelRounding(LossRounding):
    """Bounds for a loss that falls if the labelled output rises, and rises if any other output rises.

    The error of such a loss is largest if the labelled output is too small and all other outputs are too
    large.
    """

    def value(self, row: LossRow, a: Array, a_error: Array, target: Array) -> tuple[Array, Array, Array]:
        against = np.where(target >= target.max(axis=-1, keepdims=True), -a_error, a_error)
        value = row.value(a, target)
        carried = np.abs(np.real(row.value(a + against, target) - value))
        return value, carried, np.abs(np.real(value))

    def on_kink(self, row: LossRow, a: Array, reach: Array, target: Array, eps: float) -> Array:
        largest = reach.max(axis=-1, keepdims=True) + 2.0 * eps
        against = largest * np.where(target > 0, -1.0, 1.0)  # margins grow as the labelled output falls
        return super().on_kink(row, a, against, target, eps)


class CrossEntropyRounding(AgainstTheLabelRounding):
    """Bounds for cross-entropy, whose gradient is softmax(a) · Σ target − target."""

    def value(self, row: LossRow, a: Array, a_error: Array, target: Array) -> tuple[Array, Array, Array]:
        value, carried, size = super().value(row, a, a_error, target)
        spread = np.count_nonzero(target, axis=-1) > 1  # the loss may rise or fall with each output
        at_most = target.sum(axis=-1) * a_error.max(axis=-1) + (target * a_error).sum(axis=-1)
        return value, np.where(spread, at_most, carried), size

    def gradient(self, row: LossRow, a: Array, a_error: Array, target: Array, eps: float) -> Array:
        total = target.sum(axis=-1, keepdims=True)
        p = softmax(a) * total
        off = 2.0 * a_error.max(axis=-1, keepdims=True) + FUNCTION_ULPS * eps
        return p * off + 2 * eps * (p + np.abs(target) + eps * total)


class HingeRounding(AgainstTheLabelRounding):
    """Bounds for the hinge loss, whose gradient consists of whole numbers and is exact."""

    def gradient(self, row: LossRow, a: Array, a_error: Array, target: Array, eps: float) -> Array:
        return np.zeros_like(a)  # the gradient holds whole numbers


NUDGED_ACTIVATION = ActivationRounding()
NUDGED_LOSS = LossRounding()


def _own(function: Function, at: Array) -> Array:
    """Return a bound on the rounding error of `function` at an exact argument, in units of machine epsilon.

    The bound is twice the largest error observed in float32 at arguments nearby, and at least `FUNCTION_ULPS`
    units in the last place.
    """
    own: Array = FUNCTION_ULPS * np.abs(function(at))
    narrow = np.finfo(np.float32)
    rng = np.random.default_rng(0)
    for _ in range(_SAMPLES):
        near = (np.real(at) * (1.0 + _APART * rng.uniform(-1.0, 1.0, at.shape))).astype(np.float32)
        with np.errstate(all="ignore"):  # an overflow in float32 shows nothing
            off = np.abs(function(near) - function(near.astype(np.float64))) - narrow.tiny
        seen = np.where(np.isfinite(off), np.maximum(off, 0.0), 0.0) / narrow.eps
        own = np.maximum(own, 2.0 * seen)
    return own


def _row_sum(numbers: Array) -> Array:
    total: Array = numbers.sum(axis=-1, keepdims=True)
    return total


def _nudges(by: Array, coupled: bool) -> Iterator[Array]:
    """Yield the nudges of an argument, which are applied one at a time.

    In a coupled row, each nudge changes one group of elements. Otherwise, a single nudge changes all
    elements.
    """
    if not coupled:
        yield by
        return
    width = by.shape[-1]
    groups = min(width, _MOST_NUDGES)
    signed = by * np.random.default_rng(0).choice([-1.0, 1.0], width)
    for group in range(groups):
        yield np.where(np.arange(width) % groups == group, signed, 0.0)


def largest_change(
    function: Function,
    at: Array,
    by: Array,
    coupled: bool,
    pieces: Function | None = None,
    here: Array | None = None,
) -> Array:
    """Return the largest change of `function` if its argument changes by up to ± `by`.

    If a nudge crosses to another smooth piece, the change counts as 0.

    coupled: whether each result depends on the whole row.
    here: the result at the unchanged argument, if it is known already.
    """
    here = function(at) if here is None else here
    total = np.zeros(here.shape)
    for nudge in _nudges(by, coupled):
        changes = [np.zeros(here.shape)]
        for moved in (at - nudge, at + nudge):
            change = np.abs(function(moved) - here)
            if pieces is not None:
                change = np.where(_same_pieces(pieces, at, moved, coupled, here.ndim), change, 0.0)
            changes.append(change)
        total = total + np.maximum.reduce(changes)
    return total


def _same_pieces(pieces: Function, at: Array, moved: Array, coupled: bool, axes: int) -> Array:
    """Return a mask of the results whose arguments stay on the same smooth piece.

    In a coupled row, all arguments of the row have to stay on their pieces.

    axes: the number of axes of the results.
    """
    same = np.equal(pieces(moved), pieces(at))
    if not coupled:
        return same
    whole = np.all(same, axis=-1)
    return np.asarray(whole).reshape(*whole.shape, *(1,) * (axes - whole.ndim))
