"""Mistakes specific to strides, grouped convolutions and overlapping windows.

The other mistakes in convolutions are in `dense.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from gradcheck_cli.diagnose.families import CONVOLUTION
from gradcheck_cli.diagnose.mistake import Wrong
from gradcheck_cli.diagnose.variant import Backward, Handed, Of, Variant, Visit, gradient, share
from gradcheck_cli.network.steps.convolution import Convolution
from gradcheck_cli.types import Array, Shape

Mixed = Callable[[Array, int], Array]
"""A function that takes images and a number of groups, and puts the channels into the wrong groups.

The images are (N, channels, *positions), for N samples.
"""


Strides = Callable[[Shape], Shape]
"""A function that takes the strides along all axes, and returns the wrong ones."""


def _interleaved(x: Array, groups: int) -> Array:
    order = np.arange(x.shape[1]).reshape(-1, groups).T.ravel()
    return x[:, order]


def _next(x: Array, groups: int) -> Array:
    return np.roll(x, -(x.shape[1] // groups), axis=1)


def _first(x: Array, groups: int) -> Array:
    return np.concatenate([x[:, : x.shape[1] // groups]] * groups, axis=1)


_MIXES: tuple[tuple[Mixed, str, str, str], ...] = (
    (
        _interleaved,
        "interleaved channels instead of a block of channels",
        "k::2",
        "[0, 2, 1, 3]",
    ),
    (_next, "the input channels of the next group", "groups[1 - k]", "[2, 3, 0, 1]"),
    (_first, "the input channels of the first group", ":2", "[0, 1, 0, 1]"),
)


def _weight(mixed: Mixed) -> Of:
    def of(visit: Visit) -> Array | None:
        step = visit.step
        if not isinstance(step, Convolution) or step.groups == 1:
            return None
        return step.over_rows(visit.upstream, step.patches(mixed(visit.inputs[0], step.groups)))

    return of


def _below(mixed: Mixed) -> Of:
    def of(visit: Visit) -> Array | None:
        step = visit.step
        is_grouped = isinstance(step, Convolution) and step.groups > 1
        return mixed(visit.right[0][0], step.groups) if is_grouped else None  # type: ignore[attr-defined]

    return of


def _with_next_kernels(visit: Visit) -> Array | None:
    step = visit.step
    if not isinstance(step, Convolution) or step.groups == 1:
        return None
    w = np.roll(visit.p["weight"], -(step.channels // step.groups), axis=0)
    return step.handed_down(visit.upstream, w, visit.inputs[0].shape)


def _overwritten(order: Callable[[list[Shape]], list[Shape]], by_channel: bool = False) -> Of:
    """Return a function that computes ∂L/∂x as if overlapping windows overwrote each other.

    order: a function that sorts the positions of a kernel. If windows overlap, the contribution of the last
        position remains.
    by_channel: whether the channels of the output also overwrite each other. If so, the last channel remains.
    """

    def of(visit: Visit) -> Array | None:
        step, delta, w = visit.step, visit.upstream, visit.p["weight"]
        if not isinstance(step, Convolution):
            return None
        if by_channel:
            last = (
                np.arange(step.channels) % (step.channels // step.groups) == step.channels // step.groups - 1
            )
            delta = delta * last.reshape(-1, *(1,) * step.windows.axes)
        image = np.zeros(visit.inputs[0].shape)
        for index in order(list(np.ndindex(*step.kernel))):
            one = np.zeros_like(w)
            one.reshape(*w.shape[:2], -1)[:, :, np.ravel_multi_index(index, step.kernel)] = 1.0
            reached = step.handed_down(np.ones_like(delta), one, image.shape) > 0
            image = np.where(reached, step.handed_down(delta, one * w, image.shape), image)
        return image

    return of


_OVERWRITTEN = Wrong(
    "windows overwritten",
    CONVOLUTION,
    "in {where}, overlapping windows overwrite each other's gradient (= instead of +=)",
    "∂L/∂a⁽ʰ⁾ = δ w of the last window",
    "∂L/∂a⁽ʰ⁾ = Σ δ w over all windows",
    "δ",
    code=(
        "dL_da_h = np.zeros((N, 2, 7, 7))\n"
        "for i, j in np.ndindex(3, 3):\n"
        "    dL_da_h[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] = parts[:, :, i, j]\n"
        "dL_da_h = dL_da_h[:, :, 1:-1, 1:-1]"
    ),
)


def _wrong(sentence: str, wrong: str, right: str, factor: str, code: str) -> Wrong:
    return Wrong("groups confused", CONVOLUTION, f"in {{where}}, {sentence}", wrong, right, factor, code=code)


_EACH = "for k, group in enumerate(groups)"


def _rows() -> Iterator[Variant]:
    for mixed, which, part, channels in _MIXES:
        of_weight = _wrong(
            f"for each group, the kernel's gradient uses {which}",
            "∂L/∂w = δᵀ a⁽ʰ⁾, a⁽ʰ⁾ of other channels",
            "∂L/∂w = δᵀ a⁽ʰ⁾",
            "∂L/∂w",
            f"parts = [np.einsum(FOR_W, y[:, group], seen[:, {part}]) {_EACH}]\n"
            "dL_dw_g = np.concatenate(parts)",
        )
        below = _wrong(
            f"each group's channels get the gradient that belongs to {which}",
            "∂L/∂a⁽ʰ⁾ = δ w, for other channels",
            "∂L/∂a⁽ʰ⁾ = δ w",
            "δ",
            f"dL_dx = dL_dx[:, {channels}]",
        )
        yield Variant(of_weight, Convolution, gradient("weight", _weight(mixed)))
        yield Variant(below, Convolution, share(_below(mixed)))
    kernels = _wrong(
        "each group passes its gradient down through the kernels of the next group",
        "∂L/∂a⁽ʰ⁾ = δ w of another group",
        "∂L/∂a⁽ʰ⁾ = δ w",
        "δ",
        f"back = [np.einsum(BACK, y[:, group], w_g[groups[1 - k]]) {_EACH}]",
    )
    yield Variant(kernels, Convolution, share(_with_next_kernels))


# --- stride ------------------------------------------------------------------------------------------------


def _in_small_steps(visit: Visit, strides: Strides) -> Handed | None:
    """Return the result of the `vjp` for other strides, with δ in the first windows and 0 in all others.

    Returns None if `strides` changes nothing, or if there are too few windows.
    """
    step, delta, (x,) = visit.step, visit.upstream, visit.inputs
    assert isinstance(step, Convolution)
    plain = replace(step, stride=strides(step.stride))
    size = plain.out(x.shape[1:])
    if plain == step or any(n > most for n, most in zip(delta.shape[1:], size, strict=True)):
        return None
    upstream = np.zeros((len(x), *size))
    upstream[tuple(slice(n) for n in delta.shape)] = delta
    return plain.vjp(visit.p, (x,), upstream, upstream)


def _everywhere(strides: Strides) -> Backward:
    return lambda visit, _: _in_small_steps(visit, strides)


def _in_weight(strides: Strides) -> Backward:
    def of(visit: Visit) -> Array | None:
        handed = _in_small_steps(visit, strides)
        return None if handed is None else handed[1]["weight"]

    return gradient("weight", of)


def _on_the_way_down(strides: Strides) -> Backward:
    def of(visit: Visit) -> Array | None:
        handed = _in_small_steps(visit, strides)
        return None if handed is None else handed[0][0]

    return share(of)


def _all_1(stride: Shape) -> Shape:
    return (1,) * len(stride)


def _1_along(axis: int) -> Strides:
    """Return a function that sets the stride along one axis to 1, if another axis has a larger stride."""

    def strides(stride: Shape) -> Shape:
        changed = tuple(1 if k == axis else size for k, size in enumerate(stride))
        return stride if set(changed) == {1} else changed

    return strides


_ONE_AXIS: tuple[tuple[Callable[[Strides], Backward], str, str, str, Sequence[str]], ...] = (
    (_everywhere, "the whole backward pass uses", "∂L/∂w and ∂L/∂a⁽ʰ⁾", "δ", ("", "")),
    (
        _in_weight,
        "the kernel's gradient uses",
        "∂L/∂w = δᵀ a⁽ʰ⁾",
        "∂L/∂w",
        tuple(
            f'near = windows(a_h, 1)[:, :, {taken}]\ndL_dw_k = np.einsum("nohw,nchwij->ocij", delta_k, near)'
            for taken in (":3, ::2", "::2, :3")
        ),
    ),
    (
        _on_the_way_down,
        "δ is passed down with",
        "∂L/∂a⁽ʰ⁾ = δ w",
        "δ",
        tuple(
            "dL_da_h = np.zeros((N, 2, 7, 7))\n"
            "for i, j in np.ndindex(3, 3):\n"
            f"    dL_da_h[:, :, {rows}, {columns}] += parts[:, :, i, j]\n"
            "dL_da_h = dL_da_h[:, :, 1:-1, 1:-1]"
            for rows, columns in (
                ("i : i + 3", "2 * j : 2 * j + 3"),
                ("2 * i : 2 * i + 3", "j : j + 3"),
            )
        ),
    ),
)
"""The gradients in which the stride may be wrong along one axis, with the code for each axis."""


def _along_one_axis() -> Iterator[Variant]:
    for made, sentence, formula, factor, codes in _ONE_AXIS:
        for axis, (name, code) in enumerate(zip(("first", "last"), codes, strict=True)):
            wrong = Wrong(
                "stride forgotten along one axis",
                CONVOLUTION,
                f"in {{where}}, {sentence} a stride of 1 along the {name} axis of the images",
                f"{formula}, with stride 1 along the {name} axis",
                f"{formula}, with the strides of the forward pass",
                factor,
                code=code,
            )
            yield Variant(wrong, Convolution, made(_1_along(axis)))


_STRIDE = (
    Variant(
        Wrong(
            "stride forgotten in backward",
            CONVOLUTION,
            "in {where}, the whole backward pass uses windows with a stride of 1",
            "∂L/∂w and ∂L/∂a⁽ʰ⁾ from windows with stride 1",
            "∂L/∂w and ∂L/∂a⁽ʰ⁾ from the windows of the forward pass",
            "δ",
        ),
        Convolution,
        _everywhere(_all_1),
    ),
    Variant(
        Wrong(
            "stride forgotten in backward",
            CONVOLUTION,
            "in {where}, the kernel's gradient uses windows with a stride of 1",
            "∂L/∂w = δᵀ a⁽ʰ⁾, a⁽ʰ⁾ from windows with stride 1",
            "∂L/∂w = δᵀ a⁽ʰ⁾",
            "∂L/∂w",
            code=(
                "near = windows(a_h, 1)[:, :, :3, :3]\n"
                'dL_dw_k = np.einsum("nohw,nchwij->ocij", delta_k, near)'
            ),
        ),
        Convolution,
        _in_weight(_all_1),
    ),
    *_along_one_axis(),
)


def _reversed_channels(visit: Visit) -> Array | None:
    """Return ∂L/∂a⁽ʰ⁾ with the channels of δ in reverse order."""
    reordered = visit.upstream[:, ::-1]
    return visit.step.vjp(visit.p, visit.inputs, visit.output, reordered)[0][0]


_CHANNELS = Wrong(
    "channels in another order",
    CONVOLUTION,
    "in {where}, δ is passed down with its channels in reverse order",
    "∂L/∂a⁽ʰ⁾ = δ w, with the channels of δ in reverse order",
    "∂L/∂a⁽ʰ⁾ = δ w",
    "δ",
    code='parts = np.einsum("nohw,ocij->nchwij", delta_k[:, ::-1], w_k)',
)

CONV2D = (
    *_STRIDE,
    Variant(_CHANNELS, Convolution, share(_reversed_channels)),
    Variant(_OVERWRITTEN, Convolution, share(_overwritten(lambda kernel: kernel[::-1], by_channel=True))),
    Variant(_OVERWRITTEN, Convolution, share(_overwritten(lambda kernel: kernel[::-1]))),
    Variant(_OVERWRITTEN, Convolution, share(_overwritten(lambda kernel: kernel))),
    *_rows(),
)
