"""Describe where a tensor's gradient is wrong: in rows, in columns, in a few entries, or where it is 0."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from gradcheck_cli.diagnose.subsets import MOST_NAMED, listed, numbered
from gradcheck_cli.diagnose.target import Target
from gradcheck_cli.types import Array


def entries_off(targets: Mapping[str, Target], others: Mapping[str, Target]) -> Iterator[str]:
    """Yield sentences that say which part of each partly wrong tensor is wrong.

    A sentence names each tensor that seems to have lost its decimals. If any tensor is 0 in every wrong
    entry, a last sentence names all such tensors.

    others: the tensors to search for errors at the same indices.
    """
    told: set[str] = set()
    for name, target in targets.items():
        off = _off(target)
        if off.any() and not off.all() and name not in told:
            also = _off_alike(name, off, others)
            told.update(also)
            yield from _lines_or_entries(name, off, also)
    for name, target in targets.items():
        if _is_cut_off(target):
            yield f"the gradient of {name} holds whole numbers only, as an array of integers does"
    silent = [name for name, target in targets.items() if _is_zero_where_off(target)]
    if silent:
        yield f"the gradient of {listed(silent)} is 0 wherever it is wrong"


def _is_cut_off(target: Target) -> bool:
    """Return whether the gradient may be the correct one without its decimals."""
    found = target.found
    if target.is_right or not found.any() or not target.finite.all():
        return False
    return bool((found == np.rint(found)).all() and (np.abs(found - target.right) <= 1.0).all())


def _is_zero_where_off(target: Target) -> bool:
    off = _off(target)
    return bool(np.count_nonzero(off) > 1 and not (off.all() or target.found[off].any()))


def _off(target: Target) -> Array:
    return ~target.same(target.found, target.right)


def _lines_or_entries(name: str, off: Array, also: Sequence[str]) -> Iterator[str]:
    axis = _axis(off)
    few = np.count_nonzero(off) <= MOST_NAMED
    if axis is not None and not (few and (off != _whole(off, axis)).any()):
        same = f", and so are the entries of {listed(also)} with the same indices" if also else ""
        lines = _lines(off, axis)
        yield f"in {name}, only {_called(lines, axis, off.ndim)} {_are(lines)} wrong{same}"
    elif few:
        yield f"in {name}, only {_entries(off)} of {off.size:,} {_are(off)} wrong"


def _are(mask: Array) -> str:
    return "is" if np.count_nonzero(mask) == 1 else "are"


def _axis(off: Array) -> int | None:
    """Return the first axis along which only some rows or columns are wrong; None if no axis qualifies."""
    axes = range(off.ndim if off.ndim > 1 else 0)
    return next((axis for axis in axes if not _lines(off, axis).all()), None)


def _lines(off: Array, axis: int) -> Array:
    """Return, for each row (axis 0) or column (axis 1), whether it has a wrong entry."""
    return np.asarray(off.any(axis=tuple(k for k in range(off.ndim) if k != axis)))


def _whole(off: Array, axis: int) -> Array:
    """Return a mask of all entries in the rows or columns that have a wrong entry."""
    others = tuple(k for k in range(off.ndim) if k != axis)
    return np.broadcast_to(np.expand_dims(_lines(off, axis), others), off.shape)


def _called(lines: Array, axis: int, ndim: int) -> str:
    """Name rows or columns, such as ``columns 0 and 3 of 9`` or ``indices 0 and 3 of 9 along axis 1``."""
    noun, where = (("row", "column")[axis], "") if ndim == 2 else ("index", f" along axis {axis}")
    return f"{numbered(noun, lines)} of {len(lines)}{where}"


def _entries(off: Array) -> str:
    """Name the wrong entries, such as ``entries 1, 3 and 4`` or ``entry [0, 2]``."""
    if off.ndim == 1:
        return numbered("entry", off)
    which = ["[" + ", ".join(map(str, index)) + "]" for index in np.argwhere(off)]
    return f"entr{'y' if len(which) == 1 else 'ies'} {listed(which)}"


def _off_alike(name: str, off: Array, others: Mapping[str, Target]) -> list[str]:
    """Return the names of the vectors that are wrong at the same indices as the wrong rows or columns.

    Such vectors show what the rows or columns stand for, such as units.
    """
    axis = _axis(off)
    if axis is None:
        return []
    lines = _lines(off, axis)
    return [
        other
        for other, target in others.items()
        if other != name and target.right.shape == lines.shape and (_off(target) == lines).all()
    ]
