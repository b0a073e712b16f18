"""Rounding error in sums over rows."""

from __future__ import annotations

import numpy as np

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.types import Array


def sum_error(
    delta: Array,
    error: Array,
    arithmetic: Arithmetic,
    factor: Array | None = None,
    factor_error: Array | None = None,
) -> Array:
    """Return a bound on the error of the sum of δ f over the rows, (units,).

    delta: δ, (rows, units).
    error: a bound on the error of δ.
    factor: f, (rows, units); by default, an exact 1.
    factor_error: a bound on the error of f.
    """
    if factor is None or factor_error is None:
        factor, factor_error = np.ones_like(delta), np.zeros_like(delta)
    terms = delta * factor
    carried = (error * np.abs(factor) + (np.abs(delta) + error) * factor_error).sum(axis=0)
    total: Array = carried + arithmetic.summed(np.abs(terms).sum(axis=0), terms.sum(axis=0), len(terms))
    return total
