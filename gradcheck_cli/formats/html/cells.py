"""A tensor as the cells of a heat map: one cell per entry, or one per block if there are too many entries."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gradcheck_cli.comparison import Comparison
from gradcheck_cli.formats.glyphs import escaped
from gradcheck_cli.formats.matrix import matrix_shape

PAGE = 2**18
"""The largest number of cells on a page, which is about as many as fit on a screen. They take 9 MB."""

STATES = (
    "wrong",
    "unresolved, but in a wrong row, column or tensor",
    "unresolved",
    "agrees, 0 on both sides",
    "agrees along random directions",
    "agrees",
)
"""The possible states of an entry. If several states apply, the first of them is used."""


@dataclass(frozen=True)
class Cells:
    """A grid of rows × columns, in which each cell is a block of entries. The arrays are encoded in base64.

    entry: the flat index of each block's worst entry; empty if each block is one entry.
    analytic, numerical: float64.  error, relative: float32. `relative` is NaN for entries that test nothing.
    state: uint8, the index into `STATES`.
    """

    name: str
    shape: tuple[int, ...]
    rows: int
    columns: int
    block: tuple[int, int]
    entry: str
    analytic: str
    numerical: str
    error: str
    relative: str
    state: str


def cells_of(comparison: Comparison, most: int) -> Cells:
    """Return the entries of a comparison as a grid of at most `most` cells."""
    extent = matrix_shape(comparison.shape)
    block = _block(extent, most)
    entries = _worst_of_blocks(comparison, extent, block)
    relative_error = np.where(comparison.telling, comparison.relative_error, np.nan)
    shrunk = block != (1, 1)
    return Cells(
        name=escaped(comparison.name),
        shape=comparison.shape,
        rows=math.ceil(extent[0] / block[0]),
        columns=math.ceil(extent[1] / block[1]),
        block=block,
        entry=_base64(entries, "<u4") if shrunk else "",
        analytic=_base64(comparison.analytic.ravel()[entries], "<f8"),
        numerical=_base64(comparison.numerical.ravel()[entries], "<f8"),
        error=_base64(comparison.error.ravel()[entries], "<f4"),
        relative=_base64(relative_error.ravel()[entries], "<f4"),
        state=_base64(_state(comparison).ravel()[entries], "u1"),
    )


def most_cells(sizes: Sequence[int]) -> int:
    """Return the number of cells that each tensor may have if all tensors together stay within `PAGE`."""
    left = PAGE
    for i, size in enumerate(sorted(sizes)):
        share = max(1, left // (len(sizes) - i))
        if size > share:
            return share
        left -= size
    return PAGE


def _block(extent: tuple[int, int], most: int) -> tuple[int, int]:
    """Return the size of a block in entries. Blocks are as nearly square as the extent allows."""
    (rows, columns), height, width = extent, 1, 1
    while math.ceil(rows / height) * math.ceil(columns / width) > most:
        if height < min(width, rows) or width >= columns:
            height += 1
        else:
            width += 1
    return height, width


def _worst_of_blocks(
    comparison: Comparison, extent: tuple[int, int], block: tuple[int, int]
) -> NDArray[np.intp]:
    """Return the flat index of each block's worst entry, row by row."""
    if block == (1, 1):
        return np.arange(comparison.entries)
    ranked = comparison.ranked
    row, column = np.divmod(ranked, extent[1])
    cell = row // block[0] * math.ceil(extent[1] / block[1]) + column // block[1]
    _, first = np.unique(cell, return_index=True)
    return ranked[first]


def _state(of: Comparison) -> NDArray[np.intp]:
    """Return the index of each entry's state in `STATES`."""
    holds = [of.wrong, of.suspect & of.unresolved, of.unresolved, of.zero, of.covered & ~of.measured]
    return np.select(holds, range(len(holds)), default=len(holds))


def _base64(values: NDArray[np.generic], dtype: DTypeLike) -> str:
    with np.errstate(over="ignore"):  # an error bar beyond float32 may as well be infinite
        return b64encode(values.astype(dtype).tobytes()).decode("ascii")
