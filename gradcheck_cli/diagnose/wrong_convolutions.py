"""Mistakes that only convolutions can have: in the kernel, padding or stride, or in the bias's sum.

Here δ and ∂L/∂input are (N, channels, *positions), for N samples, and w is (channels, in, *kernel).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from gradcheck_cli.diagnose.families import BIAS, CONVOLUTION
from gradcheck_cli.diagnose.mistake import Mistake
from gradcheck_cli.diagnose.rows import matrix
from gradcheck_cli.diagnose.site import Part, Site
from gradcheck_cli.diagnose.wrong_sums import Of, sum_row
from gradcheck_cli.network.steps.convolution import Convolution
from gradcheck_cli.types import Array, Shape

_DOWN = "dL_da_h = spread(parts, {stride}, 7)[:, :, {cut}, {cut}]"


def _turned(w: Array) -> Array:
    return np.flip(w, axis=tuple(range(2, w.ndim)))


# --- the gradient passed down ------------------------------------------------------------------------------

HandDown = Callable[[Convolution, Array, Array, Shape], Array | None]
"""A function that takes the step, δ, w and the input's shape, and returns a wrong ∂L/∂input.

It returns None if the mistake makes no difference.
"""


def _below(of: HandDown) -> Of:
    def step(site: Site) -> Array | None:
        layer = site.layer
        if not isinstance(layer.step, Convolution):
            return None
        w = site.problem.parameters[layer.weight]
        result = of(layer.step, site.image(site.delta), w, (site.samples, *layer.features))
        return None if result is None else site.activity.to_layer_below(site.i, result)

    return step


def _not_turned(step: Convolution, delta: Array, w: Array, shape: Shape) -> Array | None:
    return step.handed_down(delta, _turned(w), shape) if math.prod(step.kernel) > 1 else None


def _not_cut(step: Convolution, delta: Array, w: Array, shape: Shape) -> Array | None:
    if not any(step.padding):
        return None
    return _padded(step, delta, w, shape)[_box((0,) * (len(shape) - 2), shape[2:])]


def _without_stride(step: Convolution, delta: Array, w: Array, shape: Shape) -> Array | None:
    if set(step.stride) == {1}:
        return None
    padded = _padded(_unit_stride(step), delta, w, shape)
    return padded[_box(step.padding, shape[2:])]


def _packed(step: Convolution, delta: Array, w: Array, shape: Shape) -> Array | None:
    """Return ∂L/∂input as if the stride were 1: a smaller image at the top left, with zeros elsewhere.

    Returns None if the stride is 1.
    """
    if set(step.stride) == {1}:
        return None
    along = zip(delta.shape[2:], step.dilation, step.kernel, step.padding, strict=True)
    size = tuple(n + d * (k - 1) - 2 * p for n, d, k, p in along)
    image = np.zeros(shape)
    image[_box((0,) * len(size), size)] = _unit_stride(step).handed_down(delta, w, (*shape[:2], *size))
    return image


def _padded(step: Convolution, delta: Array, w: Array, shape: Shape) -> Array:
    """Return ∂L/∂(padded input), which is 0 at positions that no patch covers."""
    along = zip(step.stride, delta.shape[2:], step.dilation, step.kernel, strict=True)
    reach = tuple(s * (n - 1) + d * (k - 1) + 1 for s, n, d, k in along)
    padded = np.zeros((*shape[:2], *(n + 2 * p for n, p in zip(shape[2:], step.padding, strict=True))))
    reached = replace(step, padding=(0,) * len(reach)).handed_down(delta, w, (*shape[:2], *reach))
    padded[_box((0,) * len(reach), reach)] = reached
    return padded


def _unit_stride(step: Convolution) -> Convolution:
    return replace(step, stride=(1,) * len(step.stride))


def _box(start: Shape, size: Shape) -> tuple[slice, ...]:
    """Return the index of a box of positions in all samples and channels. The box begins at `start`."""
    positions = (slice(first, first + n) for first, n in zip(start, size, strict=True))
    return (slice(None), slice(None), *positions)


# --- the kernel's gradient ---------------------------------------------------------------------------------


def _turned_gradient(site: Site) -> Array | None:
    step = site.layer.step
    if not isinstance(step, Convolution) or math.prod(step.kernel) == 1:
        return None
    return matrix(_turned(site.dL_dw.reshape(step.shapes["weight"])))


# --- the bias's sum ----------------------------------------------------------------------------------------


def _bias(of: Callable[[Array], Array | None]) -> Of:
    """Return a step that computes a wrong sum of δ. The step applies only if δ has several positions."""

    def step(site: Site) -> Array | None:
        if not isinstance(site.layer.step, Convolution) or math.prod(site.layer.out[1:]) == 1:
            return None
        return of(site.image(site.delta))

    return step


def _at(position: int) -> Of:
    return _bias(lambda delta: delta.reshape(*delta.shape[:2], -1)[:, :, position].sum(axis=0))


def _over(axes: tuple[int, ...]) -> Of:
    return _bias(lambda delta: delta.sum(axis=axes) if len(axes) == delta.ndim - 1 else None)


_AXES: tuple[tuple[tuple[int, ...], str, str], ...] = (
    ((0, 1, 2), "samples, channels and rows", "∂L/∂b = Σ δ over n, c, y"),
    ((0, 1, 3), "samples, channels and columns", "∂L/∂b = Σ δ over n, c, x"),
    ((1, 2, 3), "channels, rows and columns", "∂L/∂b = Σ δ over c, y, x"),
    ((0, 1), "samples and channels", "∂L/∂b = Σ δ over n, c"),
    ((1, 2), "channels and positions", "∂L/∂b = Σ δ over c, x"),
)
"""The axes over which δ may be summed for a bias by mistake, with the axes' names and the wrong formula.

Such a sum has the bias's shape only if the axis that is left is as long as the channel axis.
"""

_BIASES: tuple[tuple[str, Of, str, str, str], ...] = (
    (
        "bias averaged over positions",
        _bias(lambda delta: delta.sum(axis=0).reshape(delta.shape[1], -1).mean(axis=1)),
        "the bias's gradient is averaged over the positions, not summed",
        "∂L/∂b = Σₙ mean over positions of δ",
        "dL_db_k = delta_k.sum(axis=0).mean(axis=(1, 2))",
    ),
    (
        "bias gradient from one position",
        _at(0),
        "the bias's gradient is summed over the samples at the first position only",
        "∂L/∂b = Σₙ δₙ at the first position",
        "dL_db_k = delta_k[:, :, 0, 0].sum(axis=0)",
    ),
    (
        "bias gradient from one position",
        _at(-1),
        "the bias's gradient is summed over the samples at the last position only",
        "∂L/∂b = Σₙ δₙ at the last position",
        "dL_db_k = delta_k[:, :, -1, -1].sum(axis=0)",
    ),
    *(
        (
            "bias summed over the wrong axes",
            _over(axes),
            f"the bias's gradient is summed over {words}, not over samples and positions",
            wrong,
            f"dL_db_k = delta_k.sum(axis={axes})" if 0 in axes and len(axes) == 3 else "",
        )
        for axes, words, wrong in _AXES
    ),
)

# --- the table ---------------------------------------------------------------------------------------------

CONVOLUTION_MISTAKES: tuple[Mistake, ...] = (
    sum_row(
        Part.BELOW,
        "kernel not rotated",
        CONVOLUTION,
        _below(_not_turned),
        "δ is passed down through a wrongly rotated kernel: a full convolution must rotate it by 180°, "
        "but a sum over windows must not",
        "∂L/∂a⁽ʰ⁾ = δ w, with w rotated by 180°",
        'parts = np.einsum("nohw,ocij->nchwij", delta_k, w_k[:, :, ::-1, ::-1])',
    ),
    sum_row(
        Part.BELOW,
        "padding not cut off",
        CONVOLUTION,
        _below(_not_cut),
        "the gradient passed down keeps the padding: it is the top left part of the padded image",
        "∂L/∂a⁽ʰ⁾ = δ w, shifted by the padding",
        _DOWN.format(stride=2, cut=":-2"),
    ),
    sum_row(
        Part.BELOW,
        "stride forgotten on the way down",
        CONVOLUTION,
        _below(_without_stride),
        "δ is passed down with a stride of 1",
        "∂L/∂a⁽ʰ⁾ = δ w, with stride 1",
        _DOWN.format(stride=1, cut="1:-1"),
    ),
    sum_row(
        Part.BELOW,
        "stride forgotten on the way down",
        CONVOLUTION,
        _below(_packed),
        "δ is passed down with a stride of 1, into the top left of the image",
        "∂L/∂a⁽ʰ⁾ = δ w, with stride 1, then zeros",
    ),
    sum_row(
        Part.WEIGHT,
        "kernel's gradient rotated",
        CONVOLUTION,
        _turned_gradient,
        "the kernel's gradient is rotated by 180°",
        "∂L/∂w = δᵀ a⁽ʰ⁾, rotated by 180°",
        "dL_dw_k = dL_dw_k[:, :, ::-1, ::-1]",
    ),
    *(
        sum_row(Part.BIAS, kind, BIAS, step, sentence, wrong, code)
        for kind, step, sentence, wrong, code in _BIASES
    ),
)
