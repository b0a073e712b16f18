"""Compare the gradients from two runs of backward whose upstreams differ in a known way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from gradcheck_cli.arrays.shapes import listed
from gradcheck_cli.types import Array

Gradients = Mapping[str, Array]

FACTOR = -0.5
"""The factor by which the loss is multiplied to see whether the gradients scale with it.

Its absolute value is a power of two, so it scales gradients without rounding.
"""

_ROUNDINGS = 64.0
"""The largest difference that rounding may cause between two memory layouts, in units of machine epsilon.

Another layout may change the order in which sums are computed, and therefore the rounding of the sums.
"""

_UNDERFLOWS = 8.0

MISREADS = (
    "reads its upstream gradient as if it were contiguous: the same upstream gradient in another memory "
    "layout gives a different gradient of {}"
)
DOES_NOT_ADD = (
    "is not linear in its upstream gradient: for the sum of two upstream gradients, the gradient of {} is "
    "not the sum of the two gradients"
)
_TIMES = f"with the loss multiplied by {FACTOR:g}, the gradient of {{}}"
_IGNORES = f"does not use its upstream gradient: {_TIMES} stays the same"
_SQUARES = f"uses its upstream gradient twice: {_TIMES} is {FACTOR**2:g} times what it was"
_DISTORTS = f"is not linear in its upstream gradient: {_TIMES} is not {FACTOR:g} times what it was"


def disproportion(first: Gradients, second: Gradients, differ: Sequence[str]) -> str:
    """Return a phrase for the fault of a backward function whose gradients do not scale with the loss.

    first: the gradients before the loss was multiplied by `FACTOR`.
    second: the gradients after the loss was multiplied by `FACTOR`.
    differ: the names of the gradients that do not scale.
    """
    for factor, sentence in ((1.0, _IGNORES), (FACTOR**2, _SQUARES)):
        if not set(differ) & set(not_in_proportion(first, second, factor)):
            return sentence.format(listed(differ))
    return _DISTORTS.format(listed(differ))


def not_in_proportion(first: Gradients, second: Gradients, factor: float) -> tuple[str, ...]:
    """Return the names of the tensors whose gradient in `second` is not `factor` times that in `first`.

    The tolerance leaves room for races between threads.
    """
    return tuple(name for name in first if not _is_multiple(first[name], second[name], factor))


def _is_multiple(first: Array, second: Array, factor: float) -> bool:
    kind = np.finfo(first.dtype)
    expected = factor * first.astype(np.float64)
    apart = 1e3 * float(kind.eps) * np.abs(expected).max(initial=0.0)
    with np.errstate(invalid="ignore"):
        off = np.abs(second.astype(np.float64) - expected)
    same = np.isnan(expected) & np.isnan(second) | (expected == second)
    return bool((same | (off <= apart + _UNDERFLOWS * float(kind.smallest_subnormal))).all())


def apart_by_more_than_rounding(first: Gradients, second: Gradients, eps: float) -> tuple[str, ...]:
    """Return the names of gradients that differ between two runs by more than rounding can explain.

    The difference must affect more than the last half of a gradient's digits. It must also exceed the
    rounding error of the largest gradient.

    eps: the machine epsilon of the gradients.
    """
    largest = max((_largest(array) for array in first.values()), default=0.0)
    return tuple(
        name
        for name, array in first.items()
        if not np.array_equal(array, second[name], equal_nan=True)
        and not _largest(array.astype(np.float64) - second[name])
        <= max(np.sqrt(eps) * _largest(array), _ROUNDINGS * eps * largest)
    )


def _largest(array: Array) -> float:
    """Return the largest absolute value in the array; NaN if any entry is NaN, 0 if the array is empty."""
    return float(np.abs(array).max(initial=0.0))
