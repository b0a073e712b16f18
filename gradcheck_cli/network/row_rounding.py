"""Bound the rounding errors of single activations, and of their derivatives.

The default bounds work for any row of `ACTIVATIONS`. The arguments are nudged by their errors, and the
change of the result is observed. The rounding error of the function itself is observed in float32. Both parts
of a bound are absolute values, so no bound can be negative. Functions that allow tighter bounds, or that
couple many outputs, have a class of their own. The bounds of losses are in `loss_functions.rounding`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce
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

_BLOCK = 2**14
"""The number of elements to nudge at once."""

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

    z_error: a bound on the error of z.  a: φ(z).
    """

    def value(self, row: ActivationRow, z: Array, z_error: Array, a: Array) -> Array:
        """Return a bound on the error that the error of z causes in a = φ(z), without using φ'."""
        return largest_change(row.value, z, z_error, row.coupled, here=a)

    def own_value(self, row: ActivationRow, z: Array, a: Array) -> Array:
        """Return a bound on the rounding error of the activation φ at an exact z, without using φ'.

        The bound is in units of machine epsilon.
        """
        return own_rounding(row.value, z)

    def derivative(self, row: ActivationRow, z: Array, z_error: Array, eps: float) -> Array:
        """Return a bound on the error of ∂a/∂z, with the shape of ∂a/∂z."""
        return self._of_slope(row, z, row.derivative(z), z_error, eps)

    def own_slope(self, row: ActivationRow, z: Array, slope: Array) -> Array:
        """Return a bound on the rounding error of ∂a/∂z at an exact z, in units of machine epsilon.

        slope: ∂a/∂z.
        """
        return own_rounding(row.derivative, z)

    def _of_slope(self, row: ActivationRow, z: Array, slope: Array, z_error: Array, eps: float) -> Array:
        carried = largest_change(row.derivative, z, z_error, row.coupled, row.pieces, slope)
        error = carried + eps * self.own_slope(row, z, slope)
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
            slope = row.derivative(z)
            error = self._of_slope(row, z, slope, z_error, eps) + eps * np.abs(slope)
            return dL_da_error * np.abs(slope) + size * error
        carried = largest_change(lambda moved: row.vjp(moved, dL_da), z, z_error, True, row.pieces)
        terms = (FUNCTION_ULPS + np.sqrt(z.shape[-1])) * self.at_most(row, z, size)
        own = np.maximum(terms, own_rounding(lambda z: row.vjp(z, dL_da.astype(z.dtype)), z))
        absolute = (1.0 if row.bounded else 0.0) + (0.0 if row.absolute is None else row.absolute(z))
        return self.at_most(row, z, dL_da_error) + carried + eps * (own + _row_sum(size * absolute))

    def at_most(self, row: ActivationRow, z: Array, sizes: Array) -> Array:
        """Return the largest possible |∂L/∂zⱼ| if |∂L/∂aᵢ| is at most sizesᵢ: Σᵢ sizesᵢ |∂aᵢ/∂zⱼ|."""
        slopes = np.abs(row.derivative(z))
        if not row.coupled:
            return sizes * slopes
        largest: Array = np.einsum("...i,...ij->...j", sizes, slopes)
        return largest


class CloseRounding(ActivationRounding):
    """Bounds for an activation that is exact to a few units in the last place, such as tanh.

    The same holds for its slope.
    """

    def own_value(self, row: ActivationRow, z: Array, a: Array) -> Array:
        return FUNCTION_ULPS * np.abs(a)

    def own_slope(self, row: ActivationRow, z: Array, slope: Array) -> Array:
        return FUNCTION_ULPS * np.abs(slope)


class SoftmaxRounding(CloseRounding):
    """Bounds on the rounding errors of softmax.

    The relative error of an output is a difference of two errors of z. `delta` and `at_most` do not build the
    Jacobian.
    """

    def value(self, row: ActivationRow, z: Array, z_error: Array, a: Array) -> Array:
        return a * 2.0 * z_error.max(axis=-1, keepdims=True)

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


NUDGED_ACTIVATION = ActivationRounding()
CLOSE_ACTIVATION = CloseRounding()


def own_rounding(function: Function, at: Array) -> Array:
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
    """Yield blocks of nudges of an argument, (K, *shape of the argument), which are applied one at a time.

    In a coupled row, each nudge changes one group of elements. Otherwise, a single nudge changes all
    elements.
    """
    if not coupled:
        yield by[None]
        return
    width = by.shape[-1]
    groups, fitting = min(width, _MOST_NUDGES), max(1, _BLOCK // max(1, by.size))
    signed = by * np.random.default_rng(0).choice([-1.0, 1.0], width)
    group = np.arange(groups).reshape(-1, *(1,) * by.ndim)
    for start in range(0, groups, fitting):
        yield np.where(np.arange(width) % groups == group[start : start + fitting], signed, 0.0)


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
    for nudges in _nudges(by, coupled):
        changes = [np.zeros(1)]
        for moved in (at - nudges, at + nudges):
            change = np.abs(function(moved) - here)
            if pieces is not None:
                change = np.where(_same_pieces(pieces, at, moved, coupled, change.ndim), change, 0.0)
            changes.append(change)
        total = total + reduce(np.maximum, changes).sum(axis=0)
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
