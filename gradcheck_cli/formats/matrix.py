"""A tensor of any shape as a matrix, for pictures of its entries."""

from __future__ import annotations

import math
from collections.abc import Sequence


def matrix_shape(shape: Sequence[int]) -> tuple[int, int]:
    """Return the number of rows and columns of a tensor when it is drawn as a matrix.

    A vector becomes one row. In other tensors, all axes but the first are joined into columns.
    """
    return (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))
