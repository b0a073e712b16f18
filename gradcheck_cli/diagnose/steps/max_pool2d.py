"""Mistakes in the backward pass of max pooling."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from gradcheck_cli.diagnose.families import POOLING
from gradcheck_cli.diagnose.mistake import Wrong
from gradcheck_cli.diagnose.variant import Of, Variant, Visit, share
from gradcheck_cli.network.steps.max_pool2d import MaxPool2d
from gradcheck_cli.types import Array


def _pool(visit: Visit) -> MaxPool2d:
    assert isinstance(visit.step, MaxPool2d)
    return visit.step


def _padded(visit: Visit, value: float) -> Array:
    top, left = _pool(visit).padding
    around = ((0, 0), (0, 0), (top, top), (left, left))
    return np.pad(visit.inputs[0], around, constant_values=value)


def _cropped(visit: Visit, padded: Array) -> Array:
    (top, left), (*_, height, width) = _pool(visit).padding, visit.inputs[0].shape
    return padded[..., top : top + height, left : left + width]


def _windows(visit: Visit) -> Iterator[tuple[Any, Any]]:
    """Yield the index of each output, and the index of its window in the padded input."""
    step = _pool(visit)
    for i, j in product(*(range(n) for n in visit.upstream.shape[2:])):
        (sh, sw), (dh, dw), (kh, kw) = step.stride, step.dilation, step.kernel
        rows = slice(i * sh, i * sh + dh * (kh - 1) + 1, dh)
        yield (..., i, j), (..., rows, slice(j * sw, j * sw + dw * (kw - 1) + 1, dw))


def _spread(shares: Any, added: bool = True) -> Of:
    """Return a function that computes ∂L/∂x by sharing each δ among the inputs in its window.

    shares: returns the share of each input of a window.
    added: whether the contributions of overlapping windows are added; otherwise, the last one remains.
    """

    def of(visit: Visit) -> Array:
        x, handed = _padded(visit, -np.inf), np.zeros_like(_padded(visit, 0.0))
        for at, window in _windows(visit):
            delta = visit.upstream[at][..., None, None]
            gets = shares(x[window])
            handed[window] = (
                handed[window] + gets * delta if added else np.where(gets > 0, gets * delta, handed[window])
            )
        return _cropped(visit, handed)

    return of


def _largest(x: Array) -> Array:
    return (x == x.max(axis=(-2, -1), keepdims=True)).astype(float)


def _only_largest(x: Array) -> Array:
    largest = _largest(x)
    return largest * (largest.sum(axis=(-2, -1), keepdims=True) == 1)


def _first_place(x: Array) -> Array:
    mask = np.zeros_like(x)
    mask[..., 0, 0] = 1.0
    return mask


def _without_stride(visit: Visit) -> Array | None:
    """Return ∂L/∂x computed as if the stride were 1; None if it is 1."""
    step = _pool(visit)
    if step.stride == (1, 1):
        return None
    plain = replace(step, stride=(1, 1))
    z = plain.forward({}, visit.inputs[0])
    delta = np.zeros_like(z)
    delta[tuple(slice(n) for n in visit.upstream.shape)] = visit.upstream
    return plain.vjp({}, visit.inputs, z, delta)[0][0]


_ROWS: tuple[tuple[str, Of, str, str, str], ...] = (
    (
        "gradient to every number of a window",
        _spread(np.ones_like),
        "max pooling's gradient goes to every value in a window, not only to the largest",
        "∂L/∂x = Σ δ over the windows that hold x",
        ("largest = np.ones_like(seen)\ndL_dz = added_back(largest * y[..., None, None], 2, z.shape)"),
    ),
    (
        "gradient to every number of a window",
        _spread(lambda x: np.ones_like(x) / math.prod(x.shape[-2:])),
        "max pooling's gradient is shared among all values in a window, as in average pooling",
        "∂L/∂x = Σ δ / n over the windows that hold x",
        ("shares = np.ones_like(seen) / 9\ndL_dz = added_back(shares * y[..., None, None], 2, z.shape)"),
    ),
    (
        "gradient to every tie",
        _spread(_largest),
        "max pooling's gradient goes to every value that ties for the largest",
        "∂L/∂x = Σ δ where x equals the largest",
        "gets = (seen == a[:, :, None]).astype(float)",
    ),
    (
        "gradient to no tie",
        _spread(_only_largest),
        "max pooling's gradient is lost if several values tie for the largest",
        "∂L/∂x = Σ δ where x alone is the largest",
        "gets = gets * ((seen == a[:, :, None]).sum(axis=2, keepdims=True) == 1)",
    ),
    (
        "gradient to the first of a window",
        _spread(_first_place),
        "max pooling's gradient goes to the first value in a window, not to the largest",
        "∂L/∂x = δ at the first place of a window, else 0",
        (
            "first = np.zeros_like(seen)\n"
            "first[..., 0, 0] = 1\n"
            "dL_dz = added_back(first * y[..., None, None], 2, z.shape)"
        ),
    ),
    (
        "windows overwritten",
        _spread(_largest, added=False),
        "overlapping windows of max pooling overwrite each other's gradient: = instead of +=",
        "∂L/∂x = δ of the last window in which x is the largest",
        (
            "dL_dz = np.zeros_like(z)\n"
            "for r, c in np.ndindex(2, 2):\n"
            "    here = dL_dz[:, :, 2 * r : 2 * r + 3, 2 * c : 2 * c + 3]\n"
            "    np.copyto(here, y[:, :, r, c, None, None], where=largest[:, :, r, c])"
        ),
    ),
    (
        "stride forgotten on the way down",
        _without_stride,
        "max pooling's gradient is passed down with a stride of 1",
        "∂L/∂x = Σ δ, with stride 1",
        (
            "near = windows(z, 3, 1)[:, :, :2, :2]\n"
            "found = near == near.max(axis=(4, 5), keepdims=True)\n"
            "dL_dz = added_back(found * y[..., None, None], 1, z.shape)"
        ),
    ),
    (
        "gradient of the smallest",
        _spread(lambda x: _largest(np.where(np.isfinite(x), -x, -np.inf))),
        "max pooling's gradient goes to the smallest value in a window",
        "∂L/∂x = Σ δ where x is the smallest",
        (
            "smallest = seen == seen.min(axis=(4, 5), keepdims=True)\n"
            "dL_dz = added_back(smallest * y[..., None, None], 2, z.shape)"
        ),
    ),
)

MAX_POOL2D = tuple(
    Variant(
        Wrong(
            kind,
            POOLING,
            f"in {{where}} {sentence}",
            wrong,
            "∂L/∂x = Σ δ where x is the largest",
            "δ",
            code=code,
        ),
        MaxPool2d,
        share(of),
    )
    for kind, of, sentence, wrong, code in _ROWS
)
