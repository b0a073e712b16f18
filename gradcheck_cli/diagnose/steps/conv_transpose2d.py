"""Mistakes in the backward pass of transposed convolutions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradcheck_cli.diagnose.families import BIAS, CONVOLUTION, Family
from gradcheck_cli.diagnose.mistake import Wrong
from gradcheck_cli.diagnose.variant import Of, Variant, Visit, gradient, share
from gradcheck_cli.network.steps.conv2d import Conv2d
from gradcheck_cli.network.steps.conv_transpose2d import ConvTranspose2d
from gradcheck_cli.types import Array


def _down(visit: Visit) -> Conv2d:
    assert isinstance(visit.step, ConvTranspose2d)
    return visit.step.down


def _turned(visit: Visit) -> Array:
    w = visit.p["weight"]
    return _down(visit).convolved(visit.upstream, w[:, :, ::-1, ::-1])


def _without_stride(visit: Visit) -> Array | None:
    """Return ∂L/∂x as if the stride were 1: neighbouring windows of δ start one position apart."""
    down, (x,) = _down(visit), visit.inputs
    if down.stride == (1, 1):
        return None
    plain = replace(down, stride=(1, 1))
    handed = plain.convolved(visit.upstream, visit.p["weight"])
    if any(n > most for n, most in zip(x.shape, handed.shape, strict=True)):
        return None
    return handed[tuple(slice(n) for n in x.shape)]


def _without_padding(visit: Visit) -> Array | None:
    """Return ∂L/∂x computed from windows that start in the corner of δ, as if nothing had been cut off."""
    down, (x,) = _down(visit), visit.inputs
    if not any(down.padding):
        return None
    ends = [(0, 2 * p) for p in down.padding]
    padded = np.pad(visit.upstream, ((0, 0), (0, 0), *ends))
    handed = replace(down, padding=(0, 0)).convolved(padded, visit.p["weight"])
    return handed if handed.shape == x.shape else None


def _turned_gradient(visit: Visit) -> Array:
    turned: Array = visit.right[1]["weight"][:, :, ::-1, ::-1]
    return turned


def _swapped_channels(visit: Visit) -> Array:
    return np.swapaxes(visit.right[1]["weight"], 0, 1)


def _averaged(visit: Visit) -> Array:
    averaged: Array = visit.upstream.sum(axis=0).mean(axis=(1, 2))
    return averaged


_BELOW: tuple[tuple[str, Of, str, str, str], ...] = (
    (
        "kernel not rotated",
        _turned,
        "a transposed convolution passes δ down through the rotated kernel, but needs the unrotated one",
        "∂L/∂x = δ ∗ w, with w rotated by 180°",
        'dL_dx = np.einsum("nohwkl,iokl->nihw", windows(padded, 3, 2), w_up[:, :, ::-1, ::-1])',
    ),
    (
        "stride forgotten on the way down",
        _without_stride,
        "a transposed convolution passes δ down with a stride of 1",
        "∂L/∂x = δ ∗ w, with stride 1",
        'dL_dx = np.einsum("nohwkl,iokl->nihw", windows(padded, 3, 1)[:, :, :3, :3], w_up)',
    ),
    (
        "padding forgotten on the way down",
        _without_padding,
        "a transposed convolution's backward pass ignores the layer's padding",
        "∂L/∂x = δ ∗ w, shifted by the padding",
        (
            "shifted = np.pad(y, ((0, 0), (0, 0), (0, 2), (0, 2)))\n"
            'dL_dx = np.einsum("nohwkl,iokl->nihw", windows(shifted, 3, 2), w_up)'
        ),
    ),
)

_OWN: tuple[tuple[str, Family, str, Of, str, str, str, str], ...] = (
    (
        "kernel's gradient rotated",
        CONVOLUTION,
        "weight",
        _turned_gradient,
        "the kernel's gradient is rotated by 180°",
        "∂L/∂w = Σ x δ, rotated by 180°",
        "∂L/∂w = Σ x δ",
        "dL_dw_up = dL_dw_up[:, :, ::-1, ::-1]",
    ),
    (
        "kernel's channels swapped",
        CONVOLUTION,
        "weight",
        _swapped_channels,
        "the kernel's gradient has the axes [out, in], like a convolution's, not [in, out]",
        "∂L/∂w[o, i] = Σ xᵢ δₒ",
        "∂L/∂w[i, o] = Σ xᵢ δₒ",
        "dL_dw_up = dL_dw_up.swapaxes(0, 1)",
    ),
    (
        "bias averaged over positions",
        BIAS,
        "bias",
        _averaged,
        "the bias's gradient is averaged over the positions, not summed",
        "∂L/∂b = Σₙ mean over positions of δ",
        "∂L/∂b = Σₙ Σ over positions of δ",
        "dL_db_up = y.sum(axis=0).mean(axis=(1, 2))",
    ),
)

CONV_TRANSPOSE2D: tuple[Variant, ...] = (
    *(
        Variant(
            Wrong(kind, CONVOLUTION, f"in {{where}}, {sentence}", wrong, "∂L/∂x = δ ∗ w", "δ", code=code),
            ConvTranspose2d,
            share(of),
        )
        for kind, of, sentence, wrong, code in _BELOW
    ),
    *(
        Variant(
            Wrong(kind, family, f"in {{where}}, {sentence}", wrong, right, f"∂L/∂{name[0]}", code=code),
            ConvTranspose2d,
            gradient(name, of),
        )
        for kind, family, name, of, sentence, wrong, right, code in _OWN
    ),
)
