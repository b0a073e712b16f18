"""Finished gradients that are transposed, permuted, set to 0 or clipped."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gradcheck_cli.diagnose.families import ENTRIES, TRANSPOSED
from gradcheck_cli.diagnose.mistake import Spoilt, WrongTensor
from gradcheck_cli.diagnose.target import Target
from gradcheck_cli.diagnose.wrong_entries import ENTRY_MISTAKES, ZEROED_MISTAKES, Fits, tensor_row
from gradcheck_cli.diagnose.wrong_precision import PRECISION_MISTAKES
from gradcheck_cli.types import Array


def _plainly(change: Callable[[Array], Array | None]) -> tuple[Fits, Callable[[Array], Array | None]]:
    """Return a function that fits a change without an unknown, and a function that plants the change."""

    def fits(target: Target, right: Array) -> Spoilt | None:
        changed = change(right)
        return None if changed is None else Spoilt(changed)

    return fits, change


def _transpose(right: Array) -> Array | None:
    square = right.ndim == 2 and right.shape[0] == right.shape[1]
    return right.T if square else None


def _reshaped(right: Array) -> Array | None:
    """Return the transposed gradient, which is [in, out], reshaped to [out, in].

    Returns None if the gradient is square or a vector.
    """
    return right.T.reshape(right.shape) if _is_oblong(right) else None


def _reshaped_of_in_out(right: Array) -> Array | None:
    """Return the gradient, which is [out, in], reshaped to [in, out] and then transposed.

    Returns None if the gradient is square or a vector.
    """
    return right.reshape(right.shape[::-1]).T if _is_oblong(right) else None


def _is_oblong(right: Array) -> bool:
    return right.ndim == 2 and right.shape[0] != right.shape[1] and min(right.shape) > 1


def _zero(right: Array) -> Array | None:
    return np.zeros_like(right) if right.any() else None


def _is_zero(target: Target, right: Array) -> Spoilt | None:
    """Return a `Spoilt` gradient of 0 if the author's gradient is exactly 0; otherwise None.

    A sum whose terms cancel is hardly ever exactly 0.
    """
    return None if target.found.any() else Spoilt(np.zeros_like(right))


def _is_nearly_zero(target: Target, right: Array) -> Spoilt | None:
    """Return the author's gradient as `Spoilt` if it is 0 only up to rounding; otherwise None.

    A sum whose terms cancel is such a gradient.
    """
    return Spoilt(target.found) if target.is_nothing and target.found.any() else None


# --- permuted ----------------------------------------------------------------------------------------------


def _permuted(axis: int) -> Fits:
    """Return a `Fits` function that recognises rows (axis 0) or columns (axis 1) in the wrong order.

    In each gradient, the rows or columns are sorted by a weighted sum of their entries, and then matched in
    that order. The weights follow no pattern, because plain sums would all be 0 if Σⱼ δⱼ is 0.
    """

    def fits(target: Target, right: Array) -> Spoilt | None:
        found = target.found
        if axis >= right.ndim or right.shape[axis] < 2:
            return None
        a, b = np.moveaxis(found, axis, 0), np.moveaxis(right, axis, 0)
        order = np.empty(len(a), dtype=np.intp)
        order[_sorted_lines(a)] = _sorted_lines(b)
        if (order == np.arange(len(order))).all():
            return None
        return Spoilt(np.moveaxis(b[order], 0, axis))

    return fits


def _sorted_lines(lines: Array) -> Array:
    flat = lines.reshape(len(lines), -1)
    return np.argsort(flat @ np.cos(np.square(1.0 + np.arange(flat.shape[1]))))


def _rolled(axis: int) -> Callable[[Array], Array | None]:
    return lambda right: np.roll(right, 1, axis=axis) if right.ndim > 1 and right.shape[axis] > 1 else None


# --- clipped -----------------------------------------------------------------------------------------------


def _clipped(target: Target, right: Array) -> Spoilt | None:
    found = target.found
    limit = float(np.abs(found).max())
    beyond = np.count_nonzero(np.abs(right) > limit * (1.0 + 1e-6))
    if target.is_nothing or beyond < 2:  # any smaller value of a single entry looks clipped
        return None
    return Spoilt(np.clip(right, -limit, limit), limit)


def _clip(right: Array) -> Array | None:
    limit = 0.5 * float(np.abs(right).max(initial=0.0))
    return np.clip(right, -limit, limit) if np.count_nonzero(np.abs(right) > limit) > 1 else None


ZERO = tensor_row(
    "gradient zero",
    ENTRIES,
    "the gradient of {tensor} is 0 throughout",
    "0",
    _is_zero,
    _zero,
    code="dL_dw = np.zeros_like(w)",
)
"""The mistake of a gradient that is exactly 0.

Such a gradient was probably never computed. So this mistake ranks above a sum whose terms cancel.
"""

_ASYMMETRIC = "a weight whose gradient is not symmetric"

TENSOR_MISTAKES: tuple[WrongTensor, ...] = (
    tensor_row(
        "transposed gradient",
        TRANSPOSED,
        "the gradient of {tensor} is transposed",
        "(∂L/∂w)ᵀ",
        *_plainly(_transpose),
        code="dL_dw = dL_dw.T",
        shown_by=_ASYMMETRIC,
    ),
    *(
        tensor_row(
            "transposed gradient",
            TRANSPOSED,
            "the gradient of {tensor} is reshaped instead of transposed",
            "∂L/∂w reshaped",
            *_plainly(change),
            shown_by=_ASYMMETRIC,
        )
        for change in (_reshaped, _reshaped_of_in_out)
    ),
    ZERO,
    tensor_row(
        "absolute value",
        ENTRIES,
        "the gradient of {tensor} has lost its signs",
        "|∂L/∂w|",
        *_plainly(lambda right: np.abs(right) if (right < 0).any() else None),
        code="dL_dw = np.abs(dL_dw)",
    ),
    *ZEROED_MISTAKES,
    tensor_row(
        "rows permuted",
        ENTRIES,
        "the rows of {tensor}'s gradient are in the wrong order",
        "∂L/∂w with rows permuted",
        _permuted(0),
        _rolled(0),
        code="dL_dw = dL_dw[::-1]",
    ),
    tensor_row(
        "columns permuted",
        ENTRIES,
        "the columns of {tensor}'s gradient are in the wrong order",
        "∂L/∂w with columns permuted",
        _permuted(1),
        _rolled(1),
        code="dL_dw = dL_dw[:, ::-1]",
    ),
    tensor_row(
        "clipped",
        ENTRIES,
        "the gradient of {tensor} is clipped to ± {value}",
        "clip(∂L/∂w, ± {value})",
        _clipped,
        _clip,
        "limit",
        "dL_dw = np.clip(dL_dw, -0.02, 0.02)",
    ),
    *ENTRY_MISTAKES,
    tensor_row(
        "gradient zero",
        ENTRIES,
        "the gradient of {tensor} is 0 up to rounding",
        "0, up to rounding",
        _is_nearly_zero,
        lambda right: 1e-18 * right if right.any() else None,
        describes=True,
    ),
    *PRECISION_MISTAKES,
)
