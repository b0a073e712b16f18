"""Say which undecided gradients agree once the code computes them in float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from gradcheck_cli.arrays.shapes import listed
from gradcheck_cli.code.failures import RefusedError, may_fail
from gradcheck_cli.code.function import Function
from gradcheck_cli.comparison import Comparison
from gradcheck_cli.types import Array
from gradcheck_cli.verdict import default_rtol

_PRECISE = 1e-3
"""A numerical value tells something if its error bar is at most this share of it."""

_AGREE = (
    "in float64, the gradient of {} agrees. It is undecided only because rounding in a narrower type may "
    "change it as much as a mistake would. Let the code run in float64 to check it, as with module.double()"
)


def notes_on_float64(function: Function, unresolved: Sequence[Comparison]) -> Iterator[str]:
    """Yield a note, without its full stop, on the unresolved tensors whose float64 gradient agrees."""
    if function.kernels:
        return
    try:
        with may_fail(Exception):
            wide = function.wide_gradients()
    except RefusedError:
        return
    if wide is None or not wide.throughout:
        return
    if names := [c.name for c in unresolved if _agrees(c, wide.gradients[c.name])]:
        yield _AGREE.format(listed(names))


def _agrees(comparison: Comparison, wide: Array) -> bool:
    """Return whether all undecided entries agree if the gradient is `wide`, as computed in float64."""
    at = comparison.unresolved
    if not at.any():
        return False
    found, bar = comparison.numerical[at], comparison.bar[at]
    off, size = np.abs(wide[at] - found), np.abs(found)
    return bool((off <= default_rtol(wide.dtype) * size + bar).all() and (bar <= _PRECISE * size).all())
