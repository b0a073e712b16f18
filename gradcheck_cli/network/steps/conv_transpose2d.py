"""A transposed convolution, like torch.nn.ConvTranspose2d: the map from δ to ∂L/∂input of a convolution.

Every input x[i, p] adds w[i, o, k] x[i, p] to channel o of the output at position s p + d k, with stride s
and dilation d:

    z[o, q] = Σ over (i, k) of w[i, o, k] x[i, p] + b[o],   summed where s p + d k − padding = q
    ∂L/∂w[i, o, k] = Σ over samples and p of x[i, p] δ[o, s p + d k − padding]        ∂L/∂b = Σ δ
    ∂L/∂x[i, p] = Σ over (o, k) of w[i, o, k] δ[o, s p + d k − padding],   a convolution of δ = ∂L/∂z with w

So z and all gradients can be computed by one convolution with the same weight, from the output's channels to
the input's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.factors import Channels, Factors, InputUnits, Ones, Spread
from gradcheck_cli.network.formulas import Argument, Formulas
from gradcheck_cli.network.part import Input, Part, Resting, Risen, only
from gradcheck_cli.network.step import Arrays, Inputs, Known, Step, UnfitError, Upstream, columns
from gradcheck_cli.network.steps.conv2d import Conv2d, Pair
from gradcheck_cli.network.steps.fit import refuse_other_positions, refuse_uneven_groups
from gradcheck_cli.network.sums import sum_error
from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True)
class ConvTranspose2d(Step):
    """A transposed convolution over images.

    The parameters are `weight`, (in, channels / groups, *kernel), and `bias`, (channels,).

    output_padding: the numbers of rows and columns to add at the end of the output; each is less than the
        stride or the dilation.
    """

    inputs: int
    channels: int
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    output_padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    makes_images: bool = True
    is_affine = True
    rises = True
    formulas = Formulas(
        "z",
        "{weight} ∗ᵀ {x} + {bias}",
        (Argument("a⁽ʰ⁾", "{weight}, at the output positions to which it contributes", "{weight} ∗ {g}"),),
        {
            "weight": Argument(
                "w",
                "{x}, at the output positions to which each entry of w contributes it",
                "{x}ᵀ times the patches of {g}",
            ),
            "bias": Argument("b", "1", "Σₙ {g}ₙ"),
        },
        "with ∗ᵀ: every value in a⁽ʰ⁾ adds its multiple of the kernel to z",
    )

    @classmethod
    def of(cls, features: Shape, **options: Any) -> ConvTranspose2d:
        refuse_other_positions(features, 2, "a transposed convolution", "conv_transpose2d")
        channels, groups = options["conv_transpose2d"], options["groups"]
        refuse_uneven_groups(groups, input_channels=features[0], channels=channels)
        keys = ("kernel", "stride", "padding", "output_padding", "dilation", "groups")
        step = cls(features[0], channels, **{key: options[key] for key in keys})
        ends = zip(step.output_padding, step.stride, step.dilation, strict=True)
        if any(more >= max(s, d) for more, s, d in ends):
            raise UnfitError("output_padding must be less than the stride or the dilation", "output_padding")
        if min(step.out(features)) < 1:
            raise UnfitError("the padding cuts off the whole output", "padding")
        return step

    @property
    def down(self) -> Conv2d:
        """The convolution from the output to the input, with the same weight."""
        shape = (self.kernel, self.stride, self.padding, self.dilation)
        return Conv2d(self.channels, self.inputs, *shape, self.groups)

    @property
    def label(self) -> str:
        return f"conv_transpose{self.channels}"

    @property
    def shapes(self) -> Mapping[str, Shape]:
        return {"weight": self.down.shapes["weight"], "bias": (self.channels,)}

    def fans(self, name: str) -> tuple[int, int]:
        return self.down.fans("weight")[0], self.down.fans("weight")[1]

    def out(self, *features: Shape) -> Shape:
        along = zip(features[0][1:], self.stride, self.padding, self.down.windows.reach, strict=True)
        ends = zip(along, self.output_padding, strict=True)
        return (self.channels, *((n - 1) * s - 2 * p + r + more for (n, s, p, r), more in ends))

    def multiplications(self, *features: Shape) -> int:
        return math.prod(features[0]) * math.prod(self.shapes["weight"][1:])

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        z: Array = self._spread(inputs[0], p["weight"]) + p["bias"][:, None, None]
        return z

    def part(self, p: Arrays, inputs: Sequence[Input], output: Resting) -> Part | None:
        x = only(inputs)
        channel = x.fixed[0]
        if channel is None or self.groups > 1:
            return Risen(output, output.all, self._spread(x.whole_rise, p["weight"]))
        rise = x.freed((1, 2)).rise  # of one channel, (B, *size)
        kernels = p["weight"].reshape(self.inputs, -1).take(channel, axis=0)  # of each copy's channel
        terms = kernels[:, :, None] * rise.reshape(len(rise), 1, -1)
        windows = terms.reshape(len(rise), self.channels, *self.kernel, *rise.shape[1:])
        return Risen(output, output.all, self.down.added_back(windows, output.features[1:]))

    def sizes_below(self, p: Arrays, features: tuple[Shape, ...], sizes: Array) -> tuple[Array, ...]:
        return (self.down.convolved(sizes, np.abs(p["weight"])),)

    def _spread(self, x: Array, w: Array) -> Array:
        """Return the output z without the bias."""
        out = self.out(x.shape[-3:])
        flat = x.reshape(-1, *x.shape[-3:])
        z = self.down.handed_down(flat, w, (len(flat), *out))
        return z.reshape(*x.shape[:-3], *out)

    def vjp(
        self, p: Arrays, inputs: Inputs, output: Array, upstream: Array
    ) -> tuple[Inputs, dict[str, Array]]:
        gradients = {
            "weight": self._of_weight(inputs[0], upstream),
            "bias": columns(upstream, 0).sum(axis=0),
        }
        return (self.down.convolved(upstream, p["weight"]),), gradients

    def _of_weight(self, x: Array, delta: Array) -> Array:
        return self.down.over_rows(x, self.down.patches(delta))

    def error(
        self, p: Arrays, inputs: Inputs, output: Array, errors: Inputs, arithmetic: Arithmetic
    ) -> Array:
        w = np.abs(p["weight"])
        terms = self._spread(np.abs(inputs[0]), w) + np.abs(p["bias"])[:, None, None]
        carried = self._spread(errors[0], w) + arithmetic.input_eps * terms
        return carried + arithmetic.summed(terms, output, w[:, 0].size // self.groups) + arithmetic.tiny

    def vjp_error(
        self, p: Arrays, known: Known, upstream: Upstream, arithmetic: Arithmetic
    ) -> tuple[tuple[Upstream, ...], dict[str, Array]]:
        delta, error, hidden = upstream.value, upstream.error, np.maximum(upstream.hidden, 0.0)
        (x,), (x_error,), size = known.inputs, known.input_errors, np.abs(delta) + hidden
        terms, total = self._of_weight(np.abs(x), size), self._of_weight(x, delta)
        carried = self._of_weight(np.abs(x), error) + self._of_weight(x_error, size + error)
        bounds = {
            "weight": carried + arithmetic.summed(terms, total, x[:, 0].size) + arithmetic.tiny,
            "bias": sum_error(columns(delta, 0), columns(error, 0), arithmetic) + arithmetic.tiny,
        }
        return (self._below(p["weight"], delta, error, hidden, arithmetic),), bounds

    def _below(self, w: Array, delta: Array, error: Array, hidden: Array, arithmetic: Arithmetic) -> Upstream:
        convolved, at_most = self.down.convolved, np.abs(w)
        handed, terms = convolved(delta, w), convolved(np.abs(delta) + hidden, at_most)
        carried = convolved(error, at_most) + arithmetic.input_eps * terms
        own = arithmetic.summed(terms, handed, w[0].size) + arithmetic.tiny
        return Upstream(handed, carried + own, convolved(hidden, at_most))

    def factors(self, name: str, inputs: Inputs) -> Factors | None:
        (x,) = inputs
        out = self.out(x.shape[1:])
        if name == "bias":
            return Ones(Channels(out), self.shapes["bias"])
        every = np.arange(self.inputs)
        return Spread(self._taken(x), InputUnits(out, self.groups, self.inputs), self.shapes["weight"], every)

    def _taken(self, x: Array) -> Array:
        """Return the inputs that each position of the output depends on, with 0 in place of missing inputs.

        The shape is (groups, positions · N, in / groups · kernel), for N samples.
        """
        windows, size = self.down.windows, self.out(x.shape[1:])[1:]
        taken = np.zeros((*x.shape[:2], *self.kernel, *windows.around(size)), x.dtype)
        for index, there in windows.views(taken, x.shape[2:]):
            there[:, :, index[0], index[1]] = x
        taken = windows.cropped(taken).reshape(len(x), self.groups, -1, math.prod(size))
        return np.transpose(taken, (1, 3, 0, 2)).reshape(self.groups, -1, taken.shape[2])

    def heard(self, p: Arrays, features: tuple[Shape, ...], above: Array) -> tuple[Array, ...]:
        reached = self.down.convolved(above[None].astype(float), (p["weight"] != 0).astype(float))
        return (reached[0] > 0,)
