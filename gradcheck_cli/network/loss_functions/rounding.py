"""Bound the rounding errors of single losses, and of their gradients.

The default bounds work for any row of `LOSSES`, as in `network.row_rounding`. Losses that allow tighter
bounds, or that couple many outputs, have a class of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from gradcheck_cli.network.functions import sigmoid, softmax
from gradcheck_cli.network.row_rounding import FUNCTION_ULPS, largest_change, own_rounding
from gradcheck_cli.types import Array

Function = Callable[..., Any]

_MANY = 1000.0
"""The error of 1 − p is a small share of it if 1 − p is at least this many times machine epsilon."""


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

    def steady(self, a: Array, eps: float) -> bool:
        """Return whether rounding errors observed at nearby points tell how large the error may be."""
        return True

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
        own = own_rounding(lambda near: row.gradient(near, target.astype(near.dtype)), a)
        return carried + eps * (own.max(axis=-1, keepdims=True) + self.absolute)

    def on_kink(self, row: LossRow, a: Array, reach: Array, target: Array, eps: float) -> Array:
        margin = row.margin
        assert margin is not None
        off = largest_change(lambda moved: margin(moved, target), a, reach, True) + 2.0 * eps
        mask = np.zeros(a.shape, dtype=bool)
        mask[..., 0] = np.abs(margin(a, target)) <= off
        return mask


class DiceRounding(CoupledRounding):
    """Bounds for the dice loss. Its gradient has the factor p (1 − p), and 1 − p has the error of p.

    The other factors of an entry are at most 2 / (Σ p + Σ y), for probabilities p and targets y up to 1. If p
    is within a few ε of 1, the error of 1 − p is anything from nothing to all of it.
    """

    def steady(self, a: Array, eps: float) -> bool:
        return bool((sigmoid(-a) >= _MANY * eps).all())

    def gradient(self, row: LossRow, a: Array, a_error: Array, target: Array, eps: float) -> Array:
        p = sigmoid(a)
        size = (p + target).sum(axis=-1, keepdims=True)
        of_slope = 2.0 * p / np.maximum(size, np.finfo(np.float64).tiny)
        return super().gradient(row, a, a_error, target, eps) + eps * of_slope


@dataclass(frozen=True)
class RoundingOfPositions(LossRounding):
    """Bounds for a loss that is a sum over positions. The bounds of the positions are added up.

    row: the loss of one position.
    axes: the position axes of an array that has already been summed over the outputs.
    """

    row: Any
    axes: tuple[int, ...]

    def steady(self, a: Array, eps: float) -> bool:
        return bool(self.row.rounding.steady(a, eps))

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


@dataclass(frozen=True)
class RoundingOfWeighted(LossRounding):
    """Bounds for a loss whose target has one more column, the weight of each sample.

    row: the loss without weights.
    """

    row: Any

    def steady(self, a: Array, eps: float) -> bool:
        return bool(self.row.rounding.steady(a, eps))

    def value(self, row: LossRow, a: Array, a_error: Array, target: Array) -> tuple[Array, Array, Array]:
        each = self.row.rounding.value(self.row, a, a_error, target[..., :-1])
        value, carried, size = (target[..., -1] * part for part in each)
        return value, carried, size

    def gradient(self, row: LossRow, a: Array, a_error: Array, target: Array, eps: float) -> Array:
        plain, weight = target[..., :-1], target[..., -1:]
        error: Array = self.row.rounding.gradient(self.row, a, a_error, plain, eps)
        return weight * (error + eps * np.abs(self.row.gradient(a, plain)))

    def on_kink(self, row: LossRow, a: Array, reach: Array, target: Array, eps: float) -> Array:
        mask: Array = self.row.rounding.on_kink(self.row, a, reach, target[..., :-1], eps)
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
        if (spread := np.count_nonzero(target, axis=-1) > 1).any():  # an output may raise or lower the loss
            at_most = target.sum(axis=-1) * a_error.max(axis=-1) + (target * a_error).sum(axis=-1)
            carried = np.where(spread, at_most, carried)
        return value, carried, size

    def gradient(self, row: LossRow, a: Array, a_error: Array, target: Array, eps: float) -> Array:
        total = target.sum(axis=-1, keepdims=True)
        p = softmax(a) * total
        off = 2.0 * a_error.max(axis=-1, keepdims=True) + FUNCTION_ULPS * eps
        return p * off + 2 * eps * (p + np.abs(target) + eps * total)


class HingeRounding(AgainstTheLabelRounding):
    """Bounds for the hinge loss, whose gradient consists of whole numbers and is exact."""

    def gradient(self, row: LossRow, a: Array, a_error: Array, target: Array, eps: float) -> Array:
        return np.zeros_like(a)  # the gradient holds whole numbers


NUDGED_LOSS = LossRounding()
