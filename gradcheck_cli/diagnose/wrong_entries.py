"""Finished gradients in which a few entries, rows, columns or units are wrong or 0."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from gradcheck_cli.diagnose.families import ENTRIES, Family
from gradcheck_cli.diagnose.mistake import Spoilt, WrongTensor
from gradcheck_cli.diagnose.subsets import numbered
from gradcheck_cli.diagnose.target import Target
from gradcheck_cli.types import Array

Fits = Callable[[Target, Array], Spoilt | None]
"""A function that takes a target and the right gradient, and returns the spoilt one if it fits, else None."""

UNIT_ZEROED = "unit zeroed"
"""The kind of mistake that sets all gradients of some units to 0."""

ROW = "row"
"""The kind of mistake that is confined to one row of a gradient."""

_MOST_ENTRIES = 3
"""The largest number of wrong entries that are listed one by one."""


def tensor_row(
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
    """Return a table row for a mistake in one finished gradient."""
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


def _ratio(found: Array, right: Array) -> float | None:
    """Return the ratio found / right if it is the same in all entries, else None."""
    with np.errstate(all="ignore"):
        ratios = found / right
        spread = np.ptp(ratios)
    return float(ratios.flat[0]) if np.isfinite(spread) and spread <= 1e-6 * np.abs(ratios).max() else None


def _only(target: Target, right: Array, mask: Array, place: str) -> Spoilt:
    found, ratio = target.found, _ratio(target.found[mask], right[mask])
    if target.same(np.zeros_like(right), right)[mask].all():
        place = f"{place}, where it should be 0"
    return Spoilt(np.where(mask, found, right), ratio, place)


def _single(target: Target, right: Array) -> Spoilt | None:
    found = target.found
    off = ~target.same(found, right)
    if not 0 < np.count_nonzero(off) <= min(_MOST_ENTRIES, found.size // 2) or _is_a_line(off):
        return None
    entries = ", ".join(str([int(i) for i in index]) for index in np.argwhere(off))
    one = np.count_nonzero(off) == 1
    return _only(target, right, off, f"entry {entries}" if one else f"entries {entries}")


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
        place = _named_lines(kind, lines)
        factors = [_ratio(found.take(i, axis), right.take(i, axis)) for i in np.flatnonzero(lines)]
        told = [f"{factor:.4g}" for factor in factors if factor is not None]
        if 1 < len(told) == len(factors) and len(set(told)) > 1:
            place = f"{place}, which are {', '.join(told)} times what they should be"
        return _only(target, right, mask, place)

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


ZEROED_MISTAKES: tuple[WrongTensor, ...] = (
    replace(
        tensor_row(
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
    tensor_row(
        ROW,
        ENTRIES,
        "the gradient of {tensor} is 0 in {place}",
        "0",
        _zeroed(0, "row"),
        _spoil_line(0, 0.0),
        code="dL_dw[0] = 0",
    ),
    tensor_row(
        "column",
        ENTRIES,
        "the gradient of {tensor} is 0 in {place}",
        "0",
        _zeroed(1, "column"),
        _spoil_line(1, 0.0),
        code="dL_dw[:, 0] = 0",
    ),
)


ENTRY_MISTAKES: tuple[WrongTensor, ...] = (
    tensor_row(
        "single entries",
        ENTRIES,
        "the gradient of {tensor} is right except for {place}",
        "",
        _single,
        _spoil_one,
        code="dL_dw[0, 1] *= 1.5",
        describes=True,
    ),
    tensor_row(
        ROW,
        ENTRIES,
        "the gradient of {tensor} is right except for {place}",
        "",
        _lines(0, "row"),
        _spoil_line(0, 1.5),
        describes=True,
    ),
    tensor_row(
        "column",
        ENTRIES,
        "the gradient of {tensor} is right except for {place}",
        "",
        _lines(1, "column"),
        _spoil_line(1, 1.5),
        describes=True,
    ),
)
