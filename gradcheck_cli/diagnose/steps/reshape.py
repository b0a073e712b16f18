"""Mistakes in the backward pass of flatten."""

from __future__ import annotations

import numpy as np

from gradcheck_cli.diagnose.families import RESHAPE
from gradcheck_cli.diagnose.mistake import Wrong
from gradcheck_cli.diagnose.variant import Of, Variant, Visit, share
from gradcheck_cli.network.steps.reshape import Flatten
from gradcheck_cli.types import Array


def _in_order(order: tuple[int, ...]) -> Of:
    """Return a function that reshapes δ as if the image's axes had been permuted before it was flattened."""

    def of(visit: Visit) -> Array | None:
        shape = visit.inputs[0].shape
        if len(shape) != 1 + len(order):
            return None
        axes = (0, *(1 + axis for axis in order))
        moved = visit.upstream.reshape([shape[axis] for axis in axes])
        return np.transpose(moved, np.argsort(axes))

    return of


def _wrong(order: str, code: str) -> Wrong:
    return Wrong(
        "flattened in another order",
        RESHAPE,
        f"flatten in {{where}} reshapes its gradient to {order}, not to [channels, height, width]",
        f"∂L/∂a⁽ʰ⁾ = ∂L/∂(flat) reshaped as {order}",
        "∂L/∂a⁽ʰ⁾ = ∂L/∂(flat) reshaped as [channels, height, width]",
        "δ",
        code=f"dL_da_k = (delta @ w).reshape(N, 3, 3, 3).transpose({code})",
    )


_STEPS = Wrong(
    "flattened in another order",
    RESHAPE,
    "flatten in {where} reshapes its gradient to [features, steps], not to [steps, features]",
    "∂L/∂a⁽ʰ⁾ = ∂L/∂(flat) reshaped as [features, steps]",
    "∂L/∂a⁽ʰ⁾ = ∂L/∂(flat) reshaped as [steps, features]",
    "δ",
)

FLATTEN = (
    Variant(_STEPS, Flatten, share(_in_order((1, 0)))),
    Variant(_wrong("[height, width, channels]", "0, 3, 1, 2"), Flatten, share(_in_order((1, 2, 0)))),
    Variant(_wrong("[channels, width, height]", "0, 1, 3, 2"), Flatten, share(_in_order((0, 2, 1)))),
    Variant(_wrong("[width, height, channels]", "0, 3, 2, 1"), Flatten, share(_in_order((2, 1, 0)))),
)
