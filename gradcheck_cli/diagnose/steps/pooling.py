"""Mistakes in the backward pass of average pooling."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from gradcheck_cli.diagnose.families import POOLING as POOLING_FAMILY
from gradcheck_cli.diagnose.variant import Variant, Visit, share, variant
from gradcheck_cli.network.steps.pooling import AdaptiveAvgPool, AvgPool, Mean
from gradcheck_cli.types import Array

_RIGHT = "∂L/∂x = Σ δ / n over the windows that hold x"


def _not_divided(visit: Visit) -> Array | None:
    step = visit.step
    assert isinstance(step, AvgPool)
    return math.prod(step.kernel) * visit.right[0][0]


def _of_mean(visit: Visit) -> Array | None:
    (handed,), count = visit.right[0], visit.inputs[0].size / visit.output.size
    return handed * count


def _without_stride(visit: Visit) -> Array | None:
    """Return ∂L/∂x computed as if the stride were 1; None if the stride is 1."""
    step = visit.step
    assert isinstance(step, AvgPool)
    plain, features = replace(step, stride=(1,) * len(step.stride)), visit.inputs[0].shape[1:]
    if plain == step:
        return None
    size = plain.out(features)
    delta = np.zeros((len(visit.upstream), *size))
    delta[tuple(slice(n) for n in visit.upstream.shape)] = visit.upstream
    return plain.adjoint(delta, (features,))[0]


def _first_of_window(visit: Visit) -> Array | None:
    """Return ∂L/∂x with the whole gradient of each window assigned to the window's first input.

    Returns None if the input is padded.
    """
    step, (x,) = visit.step, visit.inputs
    assert isinstance(step, AvgPool)
    if any(step.padding):
        return None
    handed = np.zeros(x.shape)
    along = zip(visit.upstream.shape[-len(step.kernel) :], step.stride, strict=True)
    first: Any = (..., *(slice(0, s * (n - 1) + 1, s) for n, s in along))
    handed[first] = visit.upstream
    return handed


def _overwritten(visit: Visit) -> Array | None:
    """Return ∂L/∂x as if overlapping windows overwrote each other. The last window's share remains."""
    step, (x,), delta = visit.step, visit.inputs, visit.upstream
    assert isinstance(step, AvgPool)
    axes = len(step.kernel)
    handed = np.zeros((*x.shape[:-axes], *step.windows.around(x.shape[-axes:])))
    for index in product(*(range(n) for n in delta.shape[-axes:])):
        along = zip(index, step.stride, step.kernel, strict=True)
        window: Any = (..., *(slice(i * s, i * s + k) for i, s, k in along))
        at: Any = (..., *index)
        shared = delta[at] / math.prod(step.kernel)
        handed[window] = shared.reshape(*x.shape[:-axes], *(1,) * axes)
    return step.windows.cropped(handed)


POOLING: tuple[Variant, ...] = (
    *(
        variant(
            kind,
            "average not divided in backward",
            POOLING_FAMILY,
            share(of),
            "the average's backward pass does not divide by the number of terms",
            "∂L/∂x = Σ δ",
            _RIGHT,
            code="dL_dmean = y[..., None, None] * np.ones((3, 3))",
        )
        for kind, of in ((AvgPool, _not_divided), (AdaptiveAvgPool, _of_mean), (Mean, _of_mean))
    ),
    variant(
        AvgPool,
        "stride forgotten on the way down",
        POOLING_FAMILY,
        share(_without_stride),
        "the gradient of pooling is passed down with a stride of 1",
        "∂L/∂x = Σ δ / n, with stride 1",
        _RIGHT,
        code="dL_dz = added_back(dL_dmean, 1, z.shape)",
    ),
    variant(
        AvgPool,
        "gradient to the first value in a window",
        POOLING_FAMILY,
        share(_first_of_window),
        "the gradient of pooling goes only to the first value in each window",
        "∂L/∂x = δ at the first number of a window, else 0",
        _RIGHT,
        code="dL_dmean = y[..., None, None] * (np.arange(9) == 0).reshape(3, 3)",
    ),
    variant(
        AvgPool,
        "windows overwritten",
        POOLING_FAMILY,
        share(_overwritten),
        "overlapping windows overwrite each other's gradient (= instead of +=)",
        "∂L/∂x = δ / n of the last window",
        _RIGHT,
        code=(
            "dL_dz = np.zeros_like(z)\n"
            "for r, c in np.ndindex(2, 2):\n"
            "    dL_dz[:, :, 2 * r : 2 * r + 3, 2 * c : 2 * c + 3] = dL_dmean[:, :, r, c]"
        ),
    ),
)
