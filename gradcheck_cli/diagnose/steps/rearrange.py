"""Mistakes in the backward pass of steps that rearrange, select or repeat entries."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from gradcheck_cli.diagnose.families import LOOPS, RESHAPE
from gradcheck_cli.diagnose.variant import Backward, Handed, Variant, Visit, share, variant
from gradcheck_cli.network.steps.rearrange import Concatenate, Permute, Repeat, Select, Stack
from gradcheck_cli.types import Array


def _not_permuted(visit: Visit) -> Array | None:
    return visit.upstream.reshape(visit.inputs[0].shape)


def _permuted_again(visit: Visit) -> Array | None:
    assert isinstance(visit.step, Permute)
    return np.transpose(visit.upstream, (0, *(1 + axis for axis in visit.step.order)))


def _at(index: int) -> Variant:
    def of(visit: Visit) -> Array | None:
        assert isinstance(visit.step, Select)
        return replace(visit.step, index=index).adjoint(visit.upstream, (visit.inputs[0].shape[1:],))[0]

    which = "the first" if index == 0 else "the last"
    return variant(
        Select,
        "gradient to another index",
        RESHAPE,
        share(of),
        f"the gradient of the selected index goes to {which} index of the axis",
        f"∂L/∂x = g at {which} index, else 0",
        "∂L/∂x = g at the selected index, else 0",
        f"dL_dsteps = np.zeros((N, 3, 2))\ndL_dsteps[:, {index}] = y",
    )


def _to_all(visit: Visit) -> Array | None:
    assert isinstance(visit.step, Select)
    x = visit.inputs[0]
    return np.broadcast_to(np.expand_dims(visit.upstream, 1 + visit.step.axis), x.shape) + 0.0


def _as_tiled(visit: Visit) -> Array:
    """Return ∂L/∂x with the copies summed as if numpy.tile had made them, not numpy.repeat."""
    assert isinstance(visit.step, Repeat)
    shape, axis, times = visit.upstream.shape, 1 + visit.step.axis, visit.step.times
    copies = visit.upstream.reshape(*shape[:axis], times, shape[axis] // times, *shape[axis + 1 :])
    summed: Array = copies.sum(axis=axis)
    return summed


def _first_copy(visit: Visit) -> Array | None:
    """Return ∂L/∂x computed from only the first copy of each entry."""
    assert isinstance(visit.step, Repeat)
    step, axis = visit.step, 1 + visit.step.axis
    some = np.zeros_like(visit.upstream)
    first = (*(slice(None),) * axis, slice(None, None, step.times))
    some[first] = visit.upstream[first]
    return step.adjoint(some, (visit.inputs[0].shape[1:],))[0]


def _to_last_step(visit: Visit, _: float) -> Handed | None:
    """Keep the gradient of a loop's last output, and set the gradients of all other outputs to 0."""
    *before, last = visit.right[0]
    return (*(np.zeros_like(each) for each in before), last), {}


def _steps_shifted(by: int) -> Backward:
    def backward(visit: Visit, _: float) -> Handed | None:
        shares = visit.right[0]
        nothing = (np.zeros_like(shares[0]),)
        return (nothing + shares[:-1] if by > 0 else shares[1:] + nothing), {}

    return backward


def _cut_in_reverse(slots: Collection[int]) -> Backward:
    """Return a `vjp` that cuts the gradient of joined values as if they were joined in the reverse order.

    slots: the values that get a wrong part; all others get the correct part.
    """

    def backward(visit: Visit, _: float) -> Handed | None:
        step = visit.step
        assert isinstance(step, Concatenate)
        if len(visit.inputs) != 2:
            return None
        sizes = tuple(x.shape[1:] for x in visit.inputs)
        parts = step.adjoint(visit.upstream, sizes[::-1])[::-1]
        pairs = enumerate(zip(visit.right[0], parts, strict=True))
        return tuple(wrong if slot in slots else right for slot, (right, wrong) in pairs), {}

    return backward


_CUTS: tuple[tuple[Collection[int], str, str], ...] = (
    ((0, 1), "two joined values", "forth, back = y[:, :, 2:], y[:, :, :2]"),
    ((0,), "the first of two joined values", "forth, back = y[:, :, 2:], y[:, :, 2:]"),
    ((1,), "the second of two joined values", "forth, back = y[:, :, :2], y[:, :, :2]"),
)

REARRANGE: tuple[Variant, ...] = (
    variant(
        Permute,
        "axes not permuted back",
        RESHAPE,
        share(_not_permuted),
        "a gradient is reshaped, but its axes should be permuted back",
        "∂L/∂x = g reshaped",
        "∂L/∂x = g with its axes permuted back",
        code="dL_dv_joined = dL_dv.reshape(N, T, -1)",
    ),
    variant(
        Permute,
        "axes not permuted back",
        RESHAPE,
        share(_permuted_again),
        "a gradient's axes are permuted as in the forward pass instead of back",
        "∂L/∂x = g permuted again",
        "∂L/∂x = g with its axes permuted back",
    ),
    _at(0),
    _at(-1),
    variant(
        Select,
        "gradient to every index",
        RESHAPE,
        share(_to_all),
        "the gradient of the selected index goes to every index of the axis",
        "∂L/∂x = g at every index",
        "∂L/∂x = g at the selected index, else 0",
        code="dL_dsteps = np.repeat(y[:, None], 3, axis=1)",
    ),
    variant(
        Repeat,
        "copies of another head",
        RESHAPE,
        share(_as_tiled),
        "the gradients of the copies are summed as if numpy.tile, which repeats the whole axis, had made the "
        "copies, but numpy.repeat, which repeats each index, made them",
        "∂L/∂x[h] = Σ g over k at the index k n + h",
        "∂L/∂x[h] = Σ g over the copies of h",
        code="shared_k = dL_dk.reshape(N, 2, 2, T, -1).sum(axis=1)",
    ),
    variant(
        Repeat,
        "one copy counts",
        RESHAPE,
        share(_first_copy),
        "only the first copy of a repeated value contributes to the value's gradient",
        "∂L/∂x = g of the first copy",
        "∂L/∂x = Σ g over the copies",
        code="shared_k = dL_dk[:, ::2]",
    ),
    variant(
        Stack,
        "gradients of earlier outputs lost",
        LOOPS,
        _to_last_step,
        "only the last time step gets the gradient of its output; the other outputs' gradients are not added",
        "∂L/∂hₜ = carried back from t + 1",
        "∂L/∂hₜ = carried back from t + 1, + ∂L/∂outₜ",
        code="dL_da_t = dL_dh + (y[:, t] if t == T - 1 else 0)",
    ),
    *(
        variant(
            Stack,
            "upstream of another step",
            LOOPS,
            _steps_shifted(by),
            f"every time step gets the output's gradient from the step {which} it",
            f"∂L/∂hₜ = … + ∂L/∂out at t {sign} 1",
            "∂L/∂hₜ = … + ∂L/∂outₜ",
            f"dL_da_t = dL_dh + (y[:, t {'-+'[by < 0]} 1] if 0 <= t {'-+'[by < 0]} 1 < T else 0)",
        )
        for by, which, sign in ((1, "before", "−"), (-1, "after", "+"))
    ),
    *(
        variant(
            Concatenate,
            "joined values cut in another order",
            RESHAPE,
            _cut_in_reverse(slots),
            f"the gradient of {what} is cut as if they were joined in the reverse order",
            "∂L/∂a, ∂L/∂b = g cut as [b, a]",
            "∂L/∂a, ∂L/∂b = g cut as [a, b]",
            code,
        )
        for slots, what, code in _CUTS
    ),
)
