"""A convolution over any number of position axes: z = w ∗ x + b.

    z[o, p] = Σ over (c, k) of w[o, c, k] x[c, s p + d k] + b[o]

Here s is the stride and d the dilation, and the positions of x include the padding. A patch is the part of x
under the kernel at one position p of the output. With each patch as a row of inputs `a`, the convolution is a
dense step, and all positions of all samples share its weight:

    ∂L/∂w = Σ over samples and positions of δ aᵀ        ∂L/∂b = Σ δ        δ = ∂L/∂z
    ∂L/∂x = Σ δ w, each added back at the positions of its patch

Groups split the channels: each group of output channels depends only on the same group of input channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.factors import Channels, Factors, Ones, Rows
from gradcheck_cli.network.formulas import Argument, Formulas
from gradcheck_cli.network.known import is_exact
from gradcheck_cli.network.part import Input, Part, Resting, Risen, only
from gradcheck_cli.network.step import Arrays, Inputs, Known, SeparatelyRounded, Step, Upstream, columns
from gradcheck_cli.network.sums import sum_error
from gradcheck_cli.network.windows import Windows
from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True)
class Convolution(SeparatelyRounded, Step):
    """A convolution over any number of position axes.

    The parameters are `weight`, (channels, in / groups, *kernel), and `bias`, (channels,).
    """

    inputs: int
    channels: int
    kernel: Shape
    stride: Shape
    padding: Shape
    dilation: Shape
    groups: int = 1
    is_affine = True
    rises = True
    formulas = Formulas(
        "z",
        "{x} {weight}ᵀ + {bias}",
        (Argument("a⁽ʰ⁾", "{weight}", "{g} {weight}, each row added back at the positions of its patch"),),
        {
            "weight": Argument("w", "{x}", "{g}ᵀ {x}"),
            "bias": Argument("b", "1", "Σₙ {g}ₙ"),
        },
        "with a row of a⁽ʰ⁾ for each patch that the kernel sees",
    )

    @cached_property
    def windows(self) -> Windows:
        return Windows(self.kernel, self.stride, self.padding, self.dilation)

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
        return (self.channels, *self.windows.out(features[0][1:]))

    def multiplications(self, *features: Shape) -> int:
        return math.prod(self.out(*features)) * math.prod(self.shapes["weight"][1:])

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        z: Array = self.convolved(inputs[0], p["weight"]) + self._spread(p["bias"])
        return z

    def part(self, p: Arrays, inputs: Sequence[Input], output: Resting) -> Part | None:
        x = only(inputs)
        channel = x.fixed[0]
        if channel is None or self.groups > 1:
            return Risen(output, output.all, self.convolved(x.whole_rise, p["weight"]))
        rise = x.freed(range(1, len(x.fixed))).rise  # of one channel, (B, *size)
        of_inputs = p["weight"].reshape(self.channels, self.inputs, -1).swapaxes(0, 1)
        kernels = of_inputs.take(channel, axis=0)  # of each copy's channel, (B, channels, kernel)
        elements = self.windows.elements(rise).reshape(len(rise), kernels.shape[-1], -1)
        return Risen(output, output.all, np.matmul(kernels, elements).reshape(-1, *output.features))

    def sizes_below(self, p: Arrays, features: tuple[Shape, ...], sizes: Array) -> tuple[Array, ...]:
        return (self.handed_down(sizes, np.abs(p["weight"]), (len(sizes), *features[0])),)

    def _spread(self, bias: Array) -> Array:
        return bias.reshape(-1, *(1,) * self.windows.axes)

    def convolved(self, x: Array, w: Array) -> Array:
        """Return the convolution of x, (…, in, *size), with w, without the bias."""
        size = self.windows.out(x.shape[x.ndim - self.windows.axes :])
        return self.over_patches(np.swapaxes(self._columns(x), -1, -2), w, size)

    def over_patches(self, rows: Array, w: Array, size: Shape) -> Array:
        """Return the convolution without the bias, computed from its patches.

        rows: one patch for each position of the output, as `patches` returns them.
        size: the output's length along each position axis.
        """
        kernels = w.reshape(self.groups, self.channels // self.groups, -1)
        z = np.matmul(kernels, np.swapaxes(rows, -1, -2))  # (…, groups, channels of the group, positions)
        return z.reshape(*rows.shape[:-3], self.channels, *size)

    def patches(self, x: Array) -> Array:
        """Return the patch of every position of the output, (…, groups, positions, in / groups · kernel)."""
        return np.ascontiguousarray(np.swapaxes(self._columns(x), -1, -2))

    def _columns(self, x: Array) -> Array:
        """Return the patches as columns, (…, groups, in / groups · kernel, positions)."""
        axes, count = self.windows.axes, math.prod(self.kernel)
        *leading, channels = x.shape[: x.ndim - axes]
        elements = self.windows.elements(x)
        positions = math.prod(elements.shape[-axes:])
        return elements.reshape(*leading, self.groups, channels // self.groups * count, positions)

    def vjp(
        self, p: Arrays, inputs: Inputs, output: Array, upstream: Array
    ) -> tuple[Inputs, dict[str, Array]]:
        gradients = {
            "weight": self.over_rows(upstream, self.patches(inputs[0])),
            "bias": columns(upstream, 0).sum(axis=0),
        }
        return (self.handed_down(upstream, p["weight"], inputs[0].shape),), gradients

    def over_rows(self, delta: Array, rows: Array) -> Array:
        """Return ∂L/∂w = Σ δ aᵀ, summed over all samples and positions.

        delta: δ = ∂L/∂z.
        rows: the patches, which are the rows a.
        """
        count = len(delta)
        of_groups = delta.reshape(count, self.groups, self.channels // self.groups, -1)
        total = np.tensordot if self.groups == 1 else None
        if total is not None:
            return total(of_groups[:, 0], rows[:, 0], axes=((0, 2), (0, 1))).reshape(self.shapes["weight"])
        return np.einsum("ngop,ngpk->gok", of_groups, rows).reshape(self.shapes["weight"])

    def handed_down(self, delta: Array, w: Array, shape: Shape) -> Array:
        """Return ∂L/∂input, (N, in, *size), for N samples.

        Each δ w, with δ = ∂L/∂z, is added back at the positions of its patch.

        delta: δ.
        w: the weight.
        shape: the shape of the input.
        """
        count, size = len(delta), delta.shape[2:]
        of_groups = delta.reshape(count, self.groups, self.channels // self.groups, -1)
        kernels = w.reshape(self.groups, self.channels // self.groups, -1)
        rows = np.matmul(
            np.swapaxes(kernels, -1, -2), of_groups
        )  # (N, groups, in / groups · kernel, positions)
        return self.added_back(rows.reshape(count, self.inputs, *self.kernel, *size), shape[2:])

    def added_back(self, patches: Array, size: Shape) -> Array:
        """Return an input, (N, in, *size), to which every patch is added at its positions.

        patches: (N, in, *kernel, *positions of the output).
        """
        padded = np.zeros((*patches.shape[:2], *self.windows.around(size)), patches.dtype)
        for index, there in self.windows.views(padded, patches.shape[2 + self.windows.axes :]):
            at: Any = (slice(None), slice(None), *index)
            there += patches[at]
        return self.windows.cropped(padded)

    def own_error(self, p: Arrays, inputs: Inputs, output: Array, arithmetic: Arithmetic) -> Array:
        w = np.abs(p["weight"])
        terms = self.convolved(np.abs(inputs[0]), w) + np.abs(self._spread(p["bias"]))
        return arithmetic.input_eps * terms + arithmetic.summed(terms, output, w[0].size)

    def carried(
        self, p: Arrays, inputs: Inputs, output: Array, errors: Inputs, arithmetic: Arithmetic
    ) -> Array:
        return np.zeros(1) if is_exact(errors[0]) else self.convolved(errors[0], np.abs(p["weight"]))

    def vjp_error(
        self, p: Arrays, known: Known, upstream: Upstream, arithmetic: Arithmetic
    ) -> tuple[tuple[Upstream, ...], dict[str, Array]]:
        delta, error, hidden = upstream.value, upstream.error, np.maximum(upstream.hidden, 0.0)
        (x,), (x_error,), size = known.inputs, known.input_errors, np.abs(delta) + hidden
        rows, w, w_size = self.patches(x), p["weight"], np.abs(p["weight"])
        of_weight = self.over_rows(error + arithmetic.eps * size, np.abs(rows)) + arithmetic.tiny
        of_weight += arithmetic.accumulated(self.over_rows(delta, rows), len(x) * rows.shape[-2])
        if not is_exact(x_error):
            of_weight += self.over_rows(size + error, self.patches(x_error))
        of_bias = sum_error(columns(delta, 0), columns(error, 0), arithmetic) + arithmetic.tiny
        handed = self.handed_down(delta, w, x.shape)
        terms = error + (arithmetic.input_eps + arithmetic.eps) * size
        handed_error = self.handed_down(terms, w_size, x.shape)
        handed_error += arithmetic.accumulated(handed, self.channels // self.groups * w[0, 0].size)
        may_hide = self.handed_down(hidden, w_size, x.shape) if hidden.any() else np.zeros(x.shape)
        return (Upstream(handed, handed_error, may_hide),), {"weight": of_weight, "bias": of_bias}

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

    def with_entries(
        self, p: Arrays, name: str, which: Array, to: Array, inputs: Inputs, output: Array
    ) -> Array:
        if self.groups > 1:
            return super().with_entries(p, name, which, to, inputs, output)
        units = which if name == "bias" else which // p["weight"][0].size
        moved = np.repeat(output[None].astype(to.dtype, copy=False), len(which), axis=0)
        moved[np.arange(len(which)), :, units] = self._channels_with(p, name, which, to, inputs[0])
        return moved  # no other channel changes

    def units_with_entries(
        self, p: Arrays, name: str, which: Array, to: Array, inputs: Inputs, output: Array, axis: int
    ) -> Array:
        if self.groups > 1:
            return super().units_with_entries(p, name, which, to, inputs, output, axis)
        return self._channels_with(p, name, which, to, inputs[0])

    def _channels_with(self, p: Arrays, name: str, which: Array, to: Array, x: Array) -> Array:
        """Return the channel that each entry affects, (B, N, *size), after the entry is set to `to`."""
        units = which if name == "bias" else which // p["weight"][0].size
        bias, kernels = p["bias"][units], p["weight"][units].reshape(len(which), -1)
        kernels = kernels.astype(to.dtype, copy=False)
        if name == "bias":
            bias = to
        else:
            kernels[np.arange(len(which)), which % kernels.shape[1]] = to
        columns = self._columns(x)[:, 0]
        z = np.matmul(kernels, columns.swapaxes(0, 1).reshape(kernels.shape[1], -1)) + bias[:, None]
        size = self.windows.out(x.shape[x.ndim - self.windows.axes :])
        return z.reshape(len(which), len(x), *size)

    def heard(self, p: Arrays, features: tuple[Shape, ...], above: Array) -> tuple[Array, ...]:
        reached = self.handed_down(
            above[None].astype(float), (p["weight"] != 0).astype(float), (1, *features[0])
        )
        return (reached[0] > 0,)
