"""Products of small matrices and outer products, in blocks for which BLAS and numpy are fastest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from gradcheck_cli.types import Array

_SMALL_PRODUCT = 10**6
"""OpenBLAS is twice as fast for products with fewer multiplications, since it does not pack the matrices."""

_OUTER_BLOCK = 4096
"""The number of elements in a block of an outer product; such a block stays in the cache."""


@contextmanager
def short_inner_loops() -> Iterator[None]:
    """Use a small numpy buffer, which makes broadcasting along rows two to three times as fast."""
    size = np.setbufsize(64)
    try:
        yield
    finally:
        np.setbufsize(size)


def outer(columns: Array, rows: Array) -> Array:
    """Return the outer products columns[j] ⊗ rows[j] for all j, as one array.

    Each product is computed as a product of two-column matrices, since BLAS is faster at that than
    broadcasting.
    """
    (count, samples), width = columns.shape, rows.shape[1]
    left, right = np.zeros((count, samples, 2)), np.zeros((count, 2, width))
    left[:, :, 0], right[:, 0] = columns, rows
    result = np.empty((count, samples, width))
    block = max(8, _OUTER_BLOCK // width)
    whole = samples - samples % block if block < samples else 0
    if whole:
        in_blocks = (count, whole // block, block, -1)
        part = result[:, :whole]
        for j in range(count):
            np.matmul(left[j, :whole].reshape(*in_blocks[1:]), right[j], out=part[j].reshape(*in_blocks[1:]))
    if whole < samples:
        np.matmul(left[:, whole:], right, out=result[:, whole:])
    return result


def product(a: Array, w: Array) -> Array:
    """Return the matrix product a w over the last axis of `a`, in blocks too small for BLAS to pack."""
    rows, width = a.size // a.shape[-1], w.shape[1]
    flat = a.reshape(rows, -1)
    result = np.empty((rows, width))
    block = _SMALL_PRODUCT // w.size
    whole = rows - rows % block if 32 <= block < rows else 0
    if whole:
        np.matmul(
            flat[:whole].reshape(whole // block, block, -1), w, out=result[:whole].reshape(-1, block, width)
        )
    if whole < rows:
        np.matmul(flat[whole:], w, out=result[whole:])
    return result.reshape(*a.shape[:-1], width)
