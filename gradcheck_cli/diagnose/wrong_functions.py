"""Patterns in the gradients of functions, which need no network to be recognised.

The patterns in `TENSOR_PATTERNS` show in the arrays alone. The other patterns need further evaluations of the
code, by the module `subject/patterns.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from gradcheck_cli.diagnose.families import ENTRIES, FUNCTION, SYMMETRIC, TRANSPOSED
from gradcheck_cli.diagnose.mistake import Spoilt, Wrong, WrongTensor
from gradcheck_cli.diagnose.subsets import numbered
from gradcheck_cli.diagnose.target import Target
from gradcheck_cli.types import Array

# --- verified by further evaluations ------------------------------------------------------------------------

STAIRCASE = Wrong(
    "straight-through estimate",
    FUNCTION,
    "the loss is a staircase in {place}{tensor}: it does not change if an entry changes a little, and it "
    "jumps if the entry changes more. Its derivative is 0 between the jumps. A straight-through gradient, as "
    "for round or sign, differs from that derivative by design",
    "∂L/∂w ≠ 0, as if the steps were a slope",
    "∂L/∂w = 0 between the jumps",
    code="dL_dw = 2 * x.T @ (a - y)",
)

DETACHED = Wrong(
    "detached branch",
    FUNCTION,
    "a branch is detached: without {place}, the gradient of {tensor} is right",
    "∂L/∂w without the detached branch",
    "∂L/∂w through every branch",
    code="gate = torch.sigmoid(h).detach()",
)

PART_OF_SAMPLES = Wrong(
    "part of the samples",
    FUNCTION,
    "the gradient of {tensor} is the sum over {place} only",
    "Σ ∂Lₙ/∂w over some of the samples n",
    "Σ ∂Lₙ/∂w over all samples n",
    code="dL_dw = e[:3] @ x[:3]",
)

PART_OF_OUTPUTS = Wrong(
    "part of the outputs",
    FUNCTION,
    "the gradient of {tensor} lacks the contribution of {place}, as if its upstream gradient were 0",
    "Σ ∂L/∂oₖ · ∂oₖ/∂w over some of the outputs oₖ",
    "Σ ∂L/∂oₖ · ∂oₖ/∂w over all outputs oₖ",
    code="dL_dc = dh / np.cosh(c) ** 2",
)

EARLIER_CALL = Wrong(
    "earlier call",
    FUNCTION,
    "the code uses values that it kept from its first call: the gradient of {tensor} is right for the "
    "arguments of that call, but not for others",
    "∂L/∂w with values of an earlier call",
    "∂L/∂w with values of this call",
    code='dL_dw = kept.setdefault("dL_dw", c / np.cosh(w) ** 2)',
)

ALONG_SYMMETRIC_MOVES = Wrong(
    "right along symmetric moves",
    SYMMETRIC,
    "the gradient of {tensor} is right if {tensor} stays symmetric while it changes, but not entry by "
    "entry{place}",
    "½ (G + Gᵀ), or another gradient with this symmetric part",
    "G, with Gᵢⱼ = ∂L/∂Aᵢⱼ",
    code="dL_dw = dL_ds",
)

ONE_TRIANGLE = ", since the loss depends only on the {} triangle"
"""The words for {place} in `ALONG_SYMMETRIC_MOVES` if the loss ignores one triangle of the matrix."""

OFF_DIAGONAL_TWICE = Wrong(
    "off-diagonal factor",
    SYMMETRIC,
    "off the diagonal, each entry of {tensor}'s gradient is the derivative of the loss as the entry and its "
    "mirror image change together",
    "G + Gᵀ − diag(G)",
    "G, with Gᵢⱼ = ∂L/∂Aᵢⱼ",
    code="dL_dw = dL_dw + dL_dw.T - np.diag(np.diag(dL_dw))",
)

OFF_DIAGONAL_HALF = Wrong(
    "off-diagonal factor",
    SYMMETRIC,
    "off the diagonal, each entry of {tensor}'s gradient is half of what it should be; the diagonal is right",
    "½ (G + diag(G))",
    "G",
    code="dL_dw = np.tril(dL_ds)",
)

# --- verified by dividing the right gradient by a parameter -------------------------------------------------

TRANSPOSED_FACTOR = Wrong(
    "transposed factor",
    TRANSPOSED,
    "a factor is transposed or in the wrong place: {place}",
    "U wᵀ, or another product of the same factors",
    "U w",
    code="dL_dx = dL_da @ w.T",
)

MISSING_CONJUGATE = Wrong(
    "missing conjugate",
    FUNCTION,
    "a complex conjugate seems to be left out or added: {place}",
    "U w, or another gradient with a factor that is not conjugated",
    "U w*, with the complex conjugate w* of w",
    code="dL_dx = upstream * w",
)


def off_diagonal_twice(right: Array) -> Array:
    """Return the gradient with the mirror image of each entry off the diagonal added to that entry."""
    return right + mirrored(right) - _diagonal(right)


def off_diagonal_half(right: Array) -> Array:
    """Return the gradient in which each entry off the diagonal is half of the right one."""
    return 0.5 * (right + _diagonal(right))


def mirrored(matrices: Array) -> Array:
    """Return the transposes of matrices along the last two axes."""
    return np.swapaxes(matrices, -1, -2)


def _diagonal(matrices: Array) -> Array:
    return matrices * np.eye(matrices.shape[-1])


# --- from the arrays alone ----------------------------------------------------------------------------------


def _half_of_a_sum(target: Target, right: Array) -> Spoilt | None:
    """Fit a gradient that becomes right when its own transpose is added to it."""
    found = target.found
    if found.ndim < 2 or found.shape[-1] != found.shape[-2] or found.shape[-1] < 2:
        return None
    if target.same(found, mirrored(found)).all():  # half of the right gradient in every entry
        return None
    return Spoilt(right - mirrored(found))


def _axes_swapped(target: Target, right: Array) -> Spoilt | None:
    """Fit a gradient of more than two axes that has two axes swapped."""
    for one, other in _swappable(right):
        swapped = np.swapaxes(right, one, other)
        if target.matches(swapped):
            return Spoilt(swapped, None, f"{one} and {other}")
    return None


def _swappable(right: Array) -> Iterator[tuple[int, int]]:
    if right.ndim > 2:
        yield from (
            pair
            for pair in combinations(range(right.ndim), 2)
            if right.shape[pair[0]] == right.shape[pair[1]]
        )


def _slice_zero(target: Target, right: Array) -> Spoilt | None:
    """Fit a gradient that is 0 in whole slices along one axis, but not in rows or columns of a matrix."""
    off = ~target.same(target.found, right)
    for axis in range(right.ndim if right.ndim != 2 else 0):
        slices = np.asarray(off.any(axis=tuple(k for k in range(right.ndim) if k != axis)))
        mask = _expanded(slices, axis, right.ndim)
        is_zero = not (target.found * mask).any()
        if 0 < np.count_nonzero(slices) < len(slices) and is_zero and np.count_nonzero(off) > 1:
            return Spoilt(np.where(mask, 0.0, right), None, _slices(slices, axis, right.ndim))
    return None


def _expanded(slices: Array, axis: int, ndim: int) -> Array:
    return slices.reshape(tuple(len(slices) if k == axis else 1 for k in range(ndim)))


def _slices(slices: Array, axis: int, ndim: int) -> str:
    """Name the slices, such as ``entries 3 and 4 of 7`` or ``index 0 of 4 along axis 2``."""
    if ndim == 1:
        return f"{numbered('entry', slices)} of {len(slices)}"
    return f"{numbered('index', slices)} of {len(slices)} along axis {axis}"


def _half(right: Array) -> Array | None:
    square = right.ndim > 1 and right.shape[-1] == right.shape[-2]
    return np.tril(right) + 0.25 * np.triu(right, 1) if square else None


def _swap_axes(right: Array) -> Array | None:
    return next((np.swapaxes(right, *pair) for pair in _swappable(right)), None)


def _zero_last(right: Array) -> Array | None:
    if right.ndim in (0, 2) or right.shape[-1] < 3:
        return None
    wrong = right.copy()
    wrong[..., -2:] = 0.0
    return wrong


TENSOR_PATTERNS: tuple[WrongTensor, ...] = (
    WrongTensor(
        "half of a sum",
        SYMMETRIC,
        "the gradient of {tensor} is one half of a sum: it is right if its own transpose is added",
        "H",
        "H + Hᵀ",
        code="dL_dw = dL_ds",
        fits=_half_of_a_sum,
        plant=_half,
    ),
    WrongTensor(
        "axes swapped",
        TRANSPOSED,
        "the gradient of {tensor} has its axes {place} swapped",
        "∂L/∂w with two axes swapped",
        "as computed",
        code="dL_dw = np.swapaxes(dL_dw, 1, 2)",
        fits=_axes_swapped,
        plant=_swap_axes,
    ),
    WrongTensor(
        "slice of zeros",
        ENTRIES,
        "the gradient of {tensor} is 0 in {place}, and right elsewhere",
        "0",
        "as computed",
        code="dL_dw[..., -1] = 0",
        fits=_slice_zero,
        plant=_zero_last,
    ),
)
"""The patterns that the arrays of one tensor show."""

PATTERNS: tuple[Wrong, ...] = (
    STAIRCASE,
    DETACHED,
    PART_OF_SAMPLES,
    PART_OF_OUTPUTS,
    EARLIER_CALL,
    ALONG_SYMMETRIC_MOVES,
    OFF_DIAGONAL_TWICE,
    OFF_DIAGONAL_HALF,
    TRANSPOSED_FACTOR,
    MISSING_CONJUGATE,
    *TENSOR_PATTERNS,
)
"""All patterns of functions that may be named."""
