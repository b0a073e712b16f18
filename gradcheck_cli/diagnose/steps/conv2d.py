"""Mistakes specific to grouped convolutions and to overlapping windows; `dense.py` has the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from gradcheck_cli.diagnose.families import CONVOLUTION
from gradcheck_cli.diagnose.mistake import Wrong
from gradcheck_cli.diagnose.variant import Of, Variant, Visit, gradient, share
from gradcheck_cli.network.steps.conv2d import Conv2d, Pair
from gradcheck_cli.types import Array

Mixed = Callable[[Array, int], Array]
"""A function that puts the channels of images (N, channels, height, width) into the wrong groups.

It takes the images and the number of groups.
"""


def _interleaved(x: Array, groups: int) -> Array:
    order = np.arange(x.shape[1]).reshape(-1, groups).T.ravel()
    return x[:, order]


def _next(x: Array, groups: int) -> Array:
    return np.roll(x, -(x.shape[1] // groups), axis=1)


def _first(x: Array, groups: int) -> Array:
    return np.concatenate([x[:, : x.shape[1] // groups]] * groups, axis=1)


_MIXES: tuple[tuple[Mixed, str], ...] = (
    (_interleaved, "interleaved channels, not a block of channels"),
    (_next, "the input channels of the next group"),
    (_first, "the input channels of the first group"),
)


def _weight(mixed: Mixed) -> Of:
    def of(visit: Visit) -> Array | None:
        step = visit.step
        if not isinstance(step, Conv2d) or step.groups == 1:
            return None
        return step.over_rows(visit.upstream, step.patches(mixed(visit.inputs[0], step.groups)))

    return of


def _below(mixed: Mixed) -> Of:
    def of(visit: Visit) -> Array | None:
        step = visit.step
        is_grouped = isinstance(step, Conv2d) and step.groups > 1
        return mixed(visit.right[0][0], step.groups) if is_grouped else None  # type: ignore[attr-defined]

    return of


def _with_next_kernels(visit: Visit) -> Array | None:
    step = visit.step
    if not isinstance(step, Conv2d) or step.groups == 1:
        return None
    w = np.roll(visit.p["weight"], -(step.channels // step.groups), axis=0)
    return step.handed_down(visit.upstream, w, visit.inputs[0].shape)


def _overwritten(order: Callable[[list[Pair]], list[Pair]]) -> Of:
    """Return a function that computes ∂L/∂x with overlapping windows overwriting each other.

    order: sorts the positions of a kernel; where windows overlap, the contribution of the last one remains.
    """

    def of(visit: Visit) -> Array | None:
        step, delta, w = visit.step, visit.upstream, visit.p["weight"]
        if not isinstance(step, Conv2d):
            return None
        image = np.zeros(visit.inputs[0].shape)
        for i, j in order(list(np.ndindex(*step.kernel))):
            one = np.zeros_like(w)
            one[:, :, i, j] = 1.0
            reached = step.handed_down(np.ones_like(delta), one, image.shape) > 0
            image = np.where(reached, step.handed_down(delta, one * w, image.shape), image)
        return image

    return of


_OVERWRITTEN = Wrong(
    "windows overwritten",
    CONVOLUTION,
    "in {where} overlapping windows overwrite each other's gradient: = instead of +=",
    "∂L/∂a⁽ʰ⁾ = δ w of the last window",
    "∂L/∂a⁽ʰ⁾ = Σ δ w over all windows",
    "δ",
)


def _wrong(sentence: str, wrong: str, right: str, factor: str) -> Wrong:
    return Wrong("groups confused", CONVOLUTION, f"in {{where}} {sentence}", wrong, right, factor)


def _rows() -> Iterator[Variant]:
    for mixed, which in _MIXES:
        of_weight = _wrong(
            f"for each group, the kernel's gradient uses {which}",
            "∂L/∂w = δᵀ a⁽ʰ⁾, a⁽ʰ⁾ of other channels",
            "∂L/∂w = δᵀ a⁽ʰ⁾",
            "∂L/∂w",
        )
        below = _wrong(
            f"each group's channels get the gradient of {which}",
            "∂L/∂a⁽ʰ⁾ = δ w, for other channels",
            "∂L/∂a⁽ʰ⁾ = δ w",
            "δ",
        )
        yield Variant(of_weight, Conv2d, gradient("weight", _weight(mixed)))
        yield Variant(below, Conv2d, share(_below(mixed)))
    kernels = _wrong(
        "each group passes its gradient down through the kernels of the next group",
        "∂L/∂a⁽ʰ⁾ = δ w of another group",
        "∂L/∂a⁽ʰ⁾ = δ w",
        "δ",
    )
    yield Variant(kernels, Conv2d, share(_with_next_kernels))


CONV2D = (
    Variant(_OVERWRITTEN, Conv2d, share(_overwritten(lambda kernel: kernel[::-1]))),
    Variant(_OVERWRITTEN, Conv2d, share(_overwritten(lambda kernel: kernel))),
    *_rows(),
)
