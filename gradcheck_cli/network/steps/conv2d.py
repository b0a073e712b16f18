"""A two-dimensional convolution, as torch.nn.Conv2d: z[o, p] = Σ over (c, i, j) of w[o, c, i, j] x[…] + b[o].

A patch is what the kernel sees at one position p of the output. With a patch as a row a, this is a dense step
whose weight all positions of all samples share:

    ∂L/∂w = Σ over samples and positions of δ aᵀ        ∂L/∂b = Σ δ
    ∂L/∂x = Σ δ w, each added back at the positions of its patch

Groups split the channels: output group g sees only input group g.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product as pairs_of
from typing import Any

import numpy as np

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.factors import Channels, Factors, Ones, Rows
from gradcheck_cli.network.step import Arrays, Inputs, Known, Step, UnfitError, Upstream, columns
from gradcheck_cli.network.sums import sum_error
from gradcheck_cli.types import Array, Shape

Pair = tuple[int, int]


@dataclass(frozen=True)
class Conv2d(Step):
    """The parameters are `weight` (channels, in / groups, kh, kw) and `bias` (channels,)."""

    inputs: int
    channels: int
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    makes_images: bool = True

    @classmethod
    def of(cls, features: Shape, **options: Any) -> Conv2d:
        if len(features) != 3:
            message = f"a convolution needs images [channels, height, width]; it gets {list(features)}"
            raise UnfitError(message, "conv2d", "give the network inputs: [channels, height, width]")
        channels, groups = options["conv2d"], options["groups"]
        for what, count in (("input channels", features[0]), ("channels", channels)):
            if count % groups:
                raise UnfitError(f"{count} {what} cannot be split into {groups} groups", "groups")
        kernel, stride, padding, dilation = (
            options[key] for key in ("kernel", "stride", "padding", "dilation")
        )
        step = cls(features[0], channels, kernel, stride, padding, dilation, groups)
        if min(step.out(features)) < 1:
            size = " × ".join(str(number) for number in features[1:])
            raise UnfitError(f"the kernel does not fit into images of {size}", "kernel")
        return step

    @property
    def label(self) -> str:
        return f"conv{self.channels}"

    def fans(self, name: str) -> tuple[int, int]:
        area = math.prod(self.kernel)
        return self.inputs // self.groups * area, self.channels * area

    @property
    def shapes(self) -> Mapping[str, Shape]:
        return {
            "weight": (self.channels, self.inputs // self.groups, *self.kernel),
            "bias": (self.channels,),
        }

    def out(self, *features: Shape) -> Shape:
        _, *size = features[0]
        reach = [d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True)]
        return (
            self.channels,
            *(
                (n + 2 * p - r) // s + 1
                for n, p, r, s in zip(size, self.padding, reach, self.stride, strict=True)
            ),
        )

    def multiplications(self, *features: Shape) -> int:
        return math.prod(self.out(*features)) * math.prod(self.shapes["weight"][1:])

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        bias = p["bias"][:, None, None]
        z: Array = self.convolved(inputs[0], p["weight"]) + bias
        return z

    def convolved(self, x: Array, w: Array) -> Array:
        """Return the convolution of x (…, in, height, width) with w, without the bias."""
        rows = self.patches(x)
        kernels = w.reshape(self.groups, self.channels // self.groups, -1)
        z = np.matmul(rows, np.swapaxes(kernels, -1, -2))  # (…, groups, positions, channels of the group)
        size = self.out(x.shape[-3:])[1:]
        return np.swapaxes(z, -1, -2).reshape(*x.shape[:-3], self.channels, *size)

    def patches(self, x: Array) -> Array:
        """Return the patch of every position of the output, (…, groups, positions, in / groups · kh · kw)."""
        windows = np.stack([x_at for _, x_at in self._views(self._padded(x))], axis=-1)
        *leading, channels, height, width, kernel = windows.shape
        windows = windows.reshape(*leading, self.groups, channels // self.groups, height * width, kernel)
        rows = np.swapaxes(windows, -3, -2)
        return rows.reshape(*leading, self.groups, height * width, -1)

    def _padded(self, x: Array) -> Array:
        around = [(0, 0)] * (x.ndim - 2) + [(pad, pad) for pad in self.padding]
        return np.pad(x, around) if any(self.padding) else x

    def _views(self, padded: Array) -> Iterator[tuple[Pair, Array]]:
        """Yield each kernel index, with a writable view of its input at every output position."""
        height, width = self.out(
            (0, *(n - 2 * p for n, p in zip(padded.shape[-2:], self.padding, strict=True)))
        )[1:]
        (sh, sw), (dh, dw) = self.stride, self.dilation
        for i, j in pairs_of(range(self.kernel[0]), range(self.kernel[1])):
            rows = slice(i * dh, i * dh + sh * (height - 1) + 1, sh)
            across = slice(j * dw, j * dw + sw * (width - 1) + 1, sw)
            yield (i, j), padded[..., rows, across]

    def vjp(
        self, p: Arrays, inputs: Inputs, output: Array, upstream: Array
    ) -> tuple[Inputs, dict[str, Array]]:
        gradients = {
            "weight": self.over_rows(upstream, self.patches(inputs[0])),
            "bias": columns(upstream, 0).sum(axis=0),
        }
        return (self.handed_down(upstream, p["weight"], inputs[0].shape),), gradients

    def over_rows(self, delta: Array, rows: Array) -> Array:
        """Return Σ δ aᵀ over the samples and positions, in the shape of the weight."""
        count = len(delta)
        of_groups = delta.reshape(count, self.groups, self.channels // self.groups, -1)
        total = np.tensordot if self.groups == 1 else None
        if total is not None:
            return total(of_groups[:, 0], rows[:, 0], axes=((0, 2), (0, 1))).reshape(self.shapes["weight"])
        return np.einsum("ngop,ngpk->gok", of_groups, rows).reshape(self.shapes["weight"])

    def handed_down(self, delta: Array, w: Array, shape: Shape) -> Array:
        """Return ∂L/∂input (N, in, height, width): each δ w added back at the positions of its patch."""
        count, height, width = len(delta), *delta.shape[-2:]
        of_groups = delta.reshape(count, self.groups, self.channels // self.groups, -1)
        kernels = w.reshape(self.groups, self.channels // self.groups, -1)
        rows = np.matmul(
            np.swapaxes(kernels, -1, -2), of_groups
        )  # (N, groups, in / groups · kernel, positions)
        windows = rows.reshape(count, self.inputs, *self.kernel, height, width)
        padded = np.zeros(
            (*shape[:2], *(n + 2 * pad for n, pad in zip(shape[2:], self.padding, strict=True))), rows.dtype
        )
        for (i, j), there in self._views(padded):
            there += windows[:, :, i, j]
        top, left = self.padding
        return padded[:, :, top : top + shape[2], left : left + shape[3]]

    def error(
        self, p: Arrays, inputs: Inputs, output: Array, errors: Inputs, arithmetic: Arithmetic
    ) -> Array:
        w = np.abs(p["weight"])
        terms = self.convolved(np.abs(inputs[0]), w) + np.abs(p["bias"])[:, None, None]
        carried = self.convolved(errors[0], w) + arithmetic.input_eps * terms
        return carried + arithmetic.summed(terms, output, w[0].size)

    def vjp_error(
        self, p: Arrays, known: Known, upstream: Upstream, arithmetic: Arithmetic
    ) -> tuple[tuple[Upstream, ...], dict[str, Array]]:
        delta, error, hidden = upstream.value, upstream.error, np.maximum(upstream.hidden, 0.0)
        (x,), (x_error,), size = known.inputs, known.input_errors, np.abs(delta) + hidden
        rows, w = self.patches(x), p["weight"]
        of_weight = (
            self.over_rows(error, np.abs(rows))
            + self.over_rows(size + error, self.patches(x_error))
            + arithmetic.summed(
                self.over_rows(size, np.abs(rows)), self.over_rows(delta, rows), len(x) * rows.shape[-2]
            )
            + arithmetic.tiny
        )
        of_bias = sum_error(columns(delta, 0), columns(error, 0), arithmetic) + arithmetic.tiny
        terms, handed = self.handed_down(size, np.abs(w), x.shape), self.handed_down(delta, w, x.shape)
        carried = self.handed_down(error, np.abs(w), x.shape) + arithmetic.input_eps * terms
        count = self.channels // self.groups * w[0, 0].size
        below = Upstream(
            handed,
            carried + arithmetic.summed(terms, handed, count),
            self.handed_down(hidden, np.abs(w), x.shape),
        )
        return (below,), {"weight": of_weight, "bias": of_bias}

    @property
    def has_rows(self) -> bool:
        return self.groups == 1

    def rows(self, x: Array) -> Array | None:
        if not self.has_rows:
            return None
        patches = self.patches(x)
        return patches.reshape(-1, patches.shape[-1])

    def by_row(self, array: Array) -> Array:
        return columns(array, 0)

    def factors(self, name: str, inputs: Inputs) -> Factors | None:
        (x,) = inputs
        channels = Channels(self.out(x.shape[1:]))
        if name == "bias":
            return Ones(channels, self.shapes["bias"])
        patches = np.moveaxis(self.patches(x), 0, 2)  # (groups, positions, N, in / groups · kernel)
        return Rows(patches.reshape(self.groups, -1, patches.shape[-1]), channels, self.shapes["weight"])

    def heard(self, p: Arrays, features: tuple[Shape, ...], above: Array) -> tuple[Array, ...]:
        reached = self.handed_down(
            above[None].astype(float), (p["weight"] != 0).astype(float), (1, *features[0])
        )
        return (reached[0] > 0,)
