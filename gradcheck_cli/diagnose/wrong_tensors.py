"""Finished gradients that are transposed, permuted, set to 0, clipped, or wrong in a few entries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from gradcheck_cli.diagnose.families import ENTRIES, TRANSPOSED, Family
from gradcheck_cli.diagnose.mistake import Spoilt, WrongTensor
from gradcheck_cli.diagnose.subsets import numbered
from gradcheck_cli.diagnose.target import Target
from gradcheck_cli.diagnose.wrong_precision import PRECISION_MISTAKES
from gradcheck_cli.types import Array

Fits = Callable[[Target, Array], Spoilt | None]

UNIT_ZEROED = "unit zeroed"
"""The kind of mistake that sets all gradients of some units to 0."""

_MOST_ENTRIES = 3
"""The largest number of wrong entries that are listed one by one."""


def _row(
    kind: str,
    family: Family,
    sentence: str,
    wrong: str,
    fits: Fits,
    plant: Callable[[Array], Array | None],
    unknown: str = "",
    code: str = "",
    shown_by: str = "",
    describes: bool = False,
) -> WrongTensor:
    return WrongTensor(
        kind,
        family,
        sentence,
        wrong,
        "as computed",
        "",
        unknown,
        code,
        shown_by=shown_by,
        describes=describes,
        fits=fits,
        plant=plant,
    )


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


# --- a few entries -----------------------------------------------------------------------------------------


def _ratio(found: Array, right: Array) -> float | None:
    """Return the ratio found / right if it is the same in all entries, else None."""
    with np.errstate(all="ignore"):
        ratios = found / right
    spread = np.ptp(ratios)
    return float(ratios.flat[0]) if np.isfinite(spread) and spread <= 1e-6 * np.abs(ratios).max() else None


def _only(found: Array, right: Array, mask: Array, place: str) -> Spoilt:
    return Spoilt(np.where(mask, found, right), _ratio(found[mask], right[mask]), place)


def _single(target: Target, right: Array) -> Spoilt | None:
    found = target.found
    off = ~target.same(found, right)
    if not 0 < np.count_nonzero(off) <= min(_MOST_ENTRIES, found.size // 2) or _is_a_line(off):
        return None
    entries = ", ".join(str([int(i) for i in index]) for index in np.argwhere(off))
    return _only(
        found, right, off, f"entry {entries}" if np.count_nonzero(off) == 1 else f"entries {entries}"
    )


def _is_a_line(off: Array) -> bool:
    """Return whether the wrong entries are exactly some whole rows or some whole columns."""
    if off.ndim < 2:
        return False
    whole = (off.all(axis=axis).sum() * off.shape[axis] for axis in (0, 1) if off.shape[axis] > 1)
    return any(covered == np.count_nonzero(off) for covered in whole)


def _lines(axis: int, kind: str) -> Fits:
    """Return a `Fits` function that recognises wrong rows (axis 0) or columns (axis 1).

    Wrong lines are recognised only if at least half of the rows or columns are correct.
    """

    def fits(target: Target, right: Array) -> Spoilt | None:
        found = target.found
        if found.ndim != 2 or found.shape[1 - axis] < 2:
            return None
        off = ~target.same(found, right)
        lines = np.asarray(off.any(axis=1 - axis))
        if not 0 < np.count_nonzero(lines) <= len(lines) // 2 or off.sum() < 2:
            return None
        mask = np.broadcast_to(np.expand_dims(lines, 1 - axis), found.shape)
        return _only(found, right, mask, _named_lines(kind, lines))

    return fits


def _named_lines(kind: str, lines: Array) -> str:
    which = [str(i) for i in np.flatnonzero(lines)]
    return f"{kind} {which[0]}" if len(which) == 1 else f"{kind}s {', '.join(which)}"


def _zeroed(axis: int, kind: str) -> Fits:
    """Return a `Fits` function that recognises rows (axis 0) or columns (axis 1) of zeros.

    If the bias of a unit also has a gradient of 0, the unit's row is left to `_unit_zeroed`.
    """

    def fits(target: Target, right: Array) -> Spoilt | None:
        found = target.found
        if found.ndim != 2:
            return None
        others = 1 - axis
        lines = np.asarray(np.logical_and((found == 0).all(axis=others), (right != 0).any(axis=others)))
        if axis == 0 and target.silent is not None:
            lines &= ~target.silent
        if not lines.any() or lines.all():
            return None
        mask = np.broadcast_to(np.expand_dims(lines, others), found.shape)
        return Spoilt(np.where(mask, 0.0, right), None, _named_lines(kind, lines))

    return fits


def _unit_zeroed(target: Target, right: Array) -> Spoilt | None:
    """Return the correct gradient as `Spoilt`, with 0 in all silent units; None if no unit is silent.

    A unit is silent if the gradients of its weights and its bias are all exactly 0.
    """
    silent = target.silent
    if silent is None or silent.all() or not (right[silent] != 0).any():
        return None
    wrong = right.copy()
    wrong[silent] = 0.0
    return Spoilt(wrong, None, numbered("unit", silent))


def _spoil_one(right: Array) -> Array | None:
    if right.size < 3 or not right.any():
        return None
    wrong = right.copy()
    wrong.flat[np.abs(wrong).argmax()] *= 1.001
    return wrong


def _spoil_line(axis: int, factor: float) -> Callable[[Array], Array | None]:
    def plant(right: Array) -> Array | None:
        if right.ndim < 2 or right.shape[axis] < 3 or right.shape[1 - axis] < 2:
            return None
        wrong = right.copy()
        lines = np.moveaxis(wrong, axis, 0)
        lines[np.abs(lines).sum(axis=1).argmax()] *= factor
        return wrong

    return plant


def _zero_unit(right: Array) -> Array | None:
    if len(right) < 2 or not right.any():
        return None
    wrong = right.copy()
    wrong[np.abs(wrong).reshape(len(wrong), -1).sum(axis=1).argmax()] = 0.0
    return wrong


# --- clipped -----------------------------------------------------------------------------------------------


def _clipped(target: Target, right: Array) -> Spoilt | None:
    found = target.found
    limit = float(np.abs(found).max())
    beyond = (np.abs(right) > limit * (1.0 + 1e-6)).any()
    if target.is_nothing or not beyond:
        return None
    return Spoilt(np.clip(right, -limit, limit), limit)


def _clip(right: Array) -> Array | None:
    limit = 0.5 * float(np.abs(right).max(initial=0.0))
    return np.clip(right, -limit, limit) if np.count_nonzero(np.abs(right) > limit) > 1 else None


ZERO = _row(
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
    _row(
        "transposed gradient",
        TRANSPOSED,
        "the gradient of {tensor} is transposed",
        "(∂L/∂w)ᵀ",
        *_plainly(_transpose),
        code="dL_dw = dL_dw.T",
        shown_by=_ASYMMETRIC,
    ),
    *(
        _row(
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
    _row(
        "absolute value",
        ENTRIES,
        "the gradient of {tensor} has lost its signs",
        "|∂L/∂w|",
        *_plainly(lambda right: np.abs(right) if (right < 0).any() else None),
        code="dL_dw = np.abs(dL_dw)",
    ),
    replace(
        _row(
            UNIT_ZEROED,
            ENTRIES,
            "the gradient of {tensor} is 0 in {place}",
            "0",
            _unit_zeroed,
            _zero_unit,
            code="delta_h[:, 0] = 0",
        ),
        of_units=True,
    ),
    _row(
        "row",
        ENTRIES,
        "the gradient of {tensor} is 0 in {place}",
        "0",
        _zeroed(0, "row"),
        _spoil_line(0, 0.0),
        code="dL_dw[0] = 0",
    ),
    _row(
        "column",
        ENTRIES,
        "the gradient of {tensor} is 0 in {place}",
        "0",
        _zeroed(1, "column"),
        _spoil_line(1, 0.0),
        code="dL_dw[:, 0] = 0",
    ),
    _row(
        "rows permuted",
        ENTRIES,
        "the rows of {tensor}'s gradient are in the wrong order",
        "∂L/∂w with rows permuted",
        _permuted(0),
        _rolled(0),
        code="dL_dw = dL_dw[::-1]",
    ),
    _row(
        "columns permuted",
        ENTRIES,
        "the columns of {tensor}'s gradient are in the wrong order",
        "∂L/∂w with columns permuted",
        _permuted(1),
        _rolled(1),
        code="dL_dw = dL_dw[:, ::-1]",
    ),
    _row(
        "clipped",
        ENTRIES,
        "the gradient of {tensor} is clipped to ± {value}",
        "clip(∂L/∂w, ± {value})",
        _clipped,
        _clip,
        "limit",
        "dL_dw = np.clip(dL_dw, -0.02, 0.02)",
    ),
    _row(
        "single entries",
        ENTRIES,
        "the gradient of {tensor} is right except for {place}",
        "",
        _single,
        _spoil_one,
        code="dL_dw[0, 1] *= 1.5",
        describes=True,
    ),
    _row(
        "row",
        ENTRIES,
        "the gradient of {tensor} is right except for {place}",
        "",
        _lines(0, "row"),
        _spoil_line(0, 1.5),
        describes=True,
    ),
    _row(
        "column",
        ENTRIES,
        "the gradient of {tensor} is right except for {place}",
        "",
        _lines(1, "column"),
        _spoil_line(1, 1.5),
        describes=True,
    ),
    _row(
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
