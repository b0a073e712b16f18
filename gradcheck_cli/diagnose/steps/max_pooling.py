"""Mistakes in the backward pass of max pooling and of maxout, which takes the largest piece of each unit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from gradcheck_cli.diagnose.families import POOLING
from gradcheck_cli.diagnose.mistake import Wrong
from gradcheck_cli.diagnose.variant import Of, Variant, Visit, share
from gradcheck_cli.network.steps.adaptive_max_pool import AdaptiveMaxPool
from gradcheck_cli.network.steps.max_pool1d import MaxPool1d
from gradcheck_cli.network.steps.max_pool2d import MaxPool2d
from gradcheck_cli.network.steps.max_pooling import Maxima, MaxPool
from gradcheck_cli.network.steps.maxout import Maxout
from gradcheck_cli.types import Array


def _pool(visit: Visit) -> Maxima:
    assert isinstance(visit.step, Maxima)
    return visit.step


Shares = Callable[[Array, tuple[int, ...]], Array]
"""A function that takes a window and its axes, and returns each value's share of the gradient."""


def _spread(shares: Shares, added: bool = True) -> Of:
    """Return a function that computes ∂L/∂x by giving every value in a window a share of δ.

    shares: a function that returns the shares of the values in a window.
    added: whether the shares from overlapping windows add up. If not, the last window's share remains.
    """

    def of(visit: Visit) -> Array:
        pool = _pool(visit)
        axes = tuple(range(-pool.axes, 0))
        x = pool.padded(visit.inputs[0], -np.inf)
        handed = np.zeros_like(x)
        for at, window in pool.parts(visit.inputs[0].shape[-pool.axes :]):
            delta = np.expand_dims(visit.upstream[at], axes)
            gets = shares(x[window], axes)
            kept = handed[window]
            handed[window] = kept + gets * delta if added else np.where(gets > 0, gets * delta, kept)
        return pool.cropped(handed)

    return of


def _overwritten(visit: Visit) -> Array:
    """Return ∂L/∂x as if each window overwrote all values in it, also those that are not the largest."""
    pool = _pool(visit)
    axes = tuple(range(-pool.axes, 0))
    x = pool.padded(visit.inputs[0], -np.inf)
    handed = np.zeros_like(x)
    for at, window in pool.parts(visit.inputs[0].shape[-pool.axes :]):
        handed[window] = _largest(x[window], axes) * np.expand_dims(visit.upstream[at], axes)
    return pool.cropped(handed)


def _equally(x: Array, axes: tuple[int, ...]) -> Array:
    return np.ones_like(x) / math.prod(x.shape[axis] for axis in axes)


def _largest(x: Array, axes: tuple[int, ...]) -> Array:
    return (x == x.max(axis=axes, keepdims=True)).astype(float)


def _smallest(x: Array, axes: tuple[int, ...]) -> Array:
    return _largest(np.where(np.isfinite(x), -x, -np.inf), axes)


def _only_largest(x: Array, axes: tuple[int, ...]) -> Array:
    largest = _largest(x, axes)
    return largest * (largest.sum(axis=axes, keepdims=True) == 1)


def _first_place(x: Array, axes: tuple[int, ...]) -> Array:
    mask = np.zeros_like(x)
    first: Any = (..., *(0,) * len(axes))
    mask[first] = 1.0
    return mask


def _without_stride(visit: Visit) -> Array | None:
    """Return ∂L/∂x computed with a stride of 1, so that neighbouring windows start one position apart.

    Returns None if the stride is 1 already, or if the pooling has no stride.
    """
    step = visit.step
    if not isinstance(step, MaxPool) or set(step.stride) == {1}:
        return None
    plain = replace(step, stride=(1,) * len(step.stride))
    z = plain.forward({}, visit.inputs[0])
    delta = np.zeros_like(z)
    delta[tuple(slice(n) for n in visit.upstream.shape)] = visit.upstream
    return plain.vjp({}, visit.inputs, z, delta)[0][0]


_ROWS: tuple[tuple[str, Of, str, str, str], ...] = (
    (
        "gradient to every value in a window",
        _spread(lambda x, _: np.ones_like(x)),
        "{pooling}'s gradient goes to every value in a window, not only to the largest",
        "∂L/∂x = Σ δ over the windows that hold x",
        "largest = np.ones_like(seen)\ndL_dz = added_back(largest * y[..., None, None], 2, z.shape)",
    ),
    (
        "gradient to every value in a window",
        _spread(_equally),
        "{pooling}'s gradient is shared among all values in a window, as in average pooling",
        "∂L/∂x = Σ δ / n over the windows that hold x",
        "shares = np.ones_like(seen) / 9\ndL_dz = added_back(shares * y[..., None, None], 2, z.shape)",
    ),
    (
        "gradient to every tie",
        _spread(_largest),
        "{pooling}'s gradient goes to every value that ties for the largest",
        "∂L/∂x = Σ δ where x equals the largest",
        "gets = (seen == a[:, :, None]).astype(float)",
    ),
    (
        "gradient to no tie",
        _spread(_only_largest),
        "{pooling}'s gradient is lost if several values tie for the largest",
        "∂L/∂x = Σ δ where x alone is the largest",
        "gets = gets * ((seen == a[:, :, None]).sum(axis=2, keepdims=True) == 1)",
    ),
    (
        "gradient to the first value in a window",
        _spread(_first_place),
        "{pooling}'s gradient goes to the first value in a window, not to the largest",
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
        "overlapping windows of {pooling} overwrite each other's gradient (= instead of +=)",
        "∂L/∂x = δ of the last window in which x is the largest",
        (
            "dL_dz = np.zeros_like(z)\n"
            "for r, c in np.ndindex(2, 2):\n"
            "    here = dL_dz[:, :, 2 * r : 2 * r + 3, 2 * c : 2 * c + 3]\n"
            "    np.copyto(here, y[:, :, r, c, None, None], where=largest[:, :, r, c])"
        ),
    ),
    (
        "windows overwritten",
        _overwritten,
        "a window of {pooling} overwrites the whole gradient of the windows before it (= instead of +=)",
        "∂L/∂x = δ of the last window if x is the largest in it, else 0",
        "",
    ),
    (
        "stride forgotten on the way down",
        _without_stride,
        "{pooling}'s gradient is passed down with a stride of 1",
        "∂L/∂x = Σ δ, with stride 1",
        (
            "near = windows(z, 3, 1)[:, :, :2, :2]\n"
            "found = near == near.max(axis=(4, 5), keepdims=True)\n"
            "dL_dz = added_back(found * y[..., None, None], 1, z.shape)"
        ),
    ),
    (
        "gradient to the smallest value",
        _spread(_smallest),
        "{pooling}'s gradient goes to the smallest value in a window",
        "∂L/∂x = Σ δ where x is the smallest",
        (
            "smallest = seen == seen.min(axis=(4, 5), keepdims=True)\n"
            "dL_dz = added_back(smallest * y[..., None, None], 2, z.shape)"
        ),
    ),
)

_NO_STRIDE = frozenset({"stride forgotten on the way down"})
_NO_OVERLAP = _NO_STRIDE | {"windows overwritten"}
"""The kinds of mistakes that maxout cannot have, because no two of its units share a piece."""


def _rows(
    step: type[Maxima], pooling: str, window: str, without: frozenset[str] = frozenset()
) -> Iterator[Variant]:
    """Yield the mistakes of one kind of step.

    pooling: the words for the step.
    window: the words for one of the step's windows.
    without: the kinds of mistakes that the step cannot have.
    """
    for kind, of, sentence, wrong, code in _ROWS:
        if kind not in without:
            words = sentence.replace("{pooling}", pooling).replace("a window", window)
            right = "∂L/∂x = Σ δ where x is the largest"
            told = Wrong(kind, POOLING, f"in {{where}}, {words}", wrong, right, "δ", code=code)
            yield Variant(told, step, share(of))


MAX_POOLING = (
    *_rows(MaxPool2d, "max pooling", "a window"),
    *_rows(MaxPool1d, "max pooling", "a window"),
    *_rows(AdaptiveMaxPool, "adaptive max pooling", "a part", _NO_STRIDE),
    *_rows(Maxout, "maxout", "a unit", _NO_OVERLAP),
)
