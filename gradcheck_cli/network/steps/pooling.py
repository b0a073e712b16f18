"""Average pooling, like torch's avg_pool1d and avg_pool2d, adaptive pooling, and the mean over positions.

    z[c, p] = Σ over the window at p of x[c, q] / n
    ∂L/∂x[c, q] = Σ over the windows p that hold q of δ[c, p] / n

Here n is the size of the window, and δ = ∂L/∂z. If windows overlap, their shares of ∂L/∂x add up. If
`count_include_pad` is off, n counts only the elements of a window that are not padding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import product
from typing import Any, Self

import numpy as np

from gradcheck_cli.network.formulas import Argument, Formulas
from gradcheck_cli.network.part import Input, Part, Resting, Risen, only, taken
from gradcheck_cli.network.step import Arrays, Inputs
from gradcheck_cli.network.steps.fit import (
    axis_of,
    one_each,
    refuse_other_positions,
    refuse_too_small,
    refuse_wide_padding,
)
from gradcheck_cli.network.steps.linear import Linear, fixed
from gradcheck_cli.network.windows import Windows
from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True)
class AvgPool(Linear):
    """The mean of every window over the last axes of x (…, channels, *positions)."""

    kernel: Shape
    stride: Shape
    padding: Shape
    count_include_pad: bool = True
    exact = False
    position_axes = 2
    formulas = Formulas(
        "out",
        "the mean {x} of each window",
        (Argument("x", "1/m in the window, else 0", "Σ {g} / m over the windows that hold x"),),
        where="with m numbers in a window",
    )

    @classmethod
    def of(cls, features: Shape, **options: Any) -> Self:
        key = f"avg_pool{cls.position_axes}d"
        refuse_other_positions(features, cls.position_axes, "pooling", key)
        kernel = options[key]
        step = cls(kernel, options["stride"] or kernel, options["padding"], options["count_include_pad"])
        refuse_wide_padding(step.windows)
        refuse_too_small(step.windows, features, "the window", key)
        return step

    @property
    def makes_images(self) -> bool:  # type: ignore[override]
        return len(self.kernel) == 2

    @property
    def label(self) -> str:
        return f"avg_pool {self.kernel[0]}"

    @cached_property
    def windows(self) -> Windows:
        return Windows(self.kernel, self.stride, self.padding, (1,) * len(self.kernel))

    def out(self, *features: Shape) -> Shape:
        axes = len(self.kernel)
        return (*features[0][:-axes], *self.windows.out(features[0][-axes:]))

    def counts(self, features: tuple[Shape, ...]) -> tuple[int, int]:
        overlapping = (math.ceil(k / s) for k, s in zip(self.kernel, self.stride, strict=True))
        return math.prod(self.kernel), math.prod(overlapping)

    def _sums(self, x: Array) -> Array:
        size = self.windows.out(x.shape[x.ndim - self.windows.axes :])
        views = self.windows.views(self.windows.padded(x), size)
        return reduce(np.add, (view for _, view in views))

    def _share(self, size: Shape) -> Array:
        """Return 1 / n for every window, where n is the number of elements in the window's mean."""
        if self.count_include_pad:
            return np.array(1.0 / math.prod(self.kernel))
        share: Array = 1.0 / self._sums(np.ones(size))
        return share

    def apply(self, *inputs: Array) -> Array:
        (x,) = inputs
        share = self._share(x.shape[x.ndim - self.windows.axes :])
        means: Array = self._sums(x) * fixed(share, x)
        return means

    def part(self, p: Arrays, inputs: Sequence[Input], output: Resting) -> Part | None:
        x, axes = only(inputs), len(self.kernel)
        at = [index for index in x.fixed[-axes:] if index is not None]
        if not at:
            return Risen(output, x.fixed, self.apply(x.rise))
        if len(at) < axes or self.kernel != self.stride or any(self.padding):
            return super().part(p, inputs, output)
        places = np.stack([index // k for index, k in zip(at, self.kernel, strict=True)])
        last = np.array(output.features[-axes:])[:, None] - 1
        # Numbers after the last window are in no window.
        inside = np.all(places <= last, axis=0, keepdims=True)[0]
        fixed = (*x.fixed[:-axes], *np.minimum(places, last))
        means = Risen(x.rest, x.fixed, x.rise / math.prod(self.kernel))
        return taken(means, inside, output, fixed)

    def adjoint(self, delta: Array, features: tuple[Shape, ...]) -> Inputs:
        axes, windows = self.windows.axes, self.windows
        *before, size = *features[0][:-axes], features[0][-axes:]
        shared = delta * fixed(self._share(size), delta)
        padded = np.zeros((len(delta), *before, *windows.around(size)), delta.dtype)
        for _, there in windows.views(padded, delta.shape[-axes:]):
            there += shared
        return (windows.cropped(padded),)


@dataclass(frozen=True)
class AvgPool1d(AvgPool):
    """The mean of every window of sequences (…, channels, length)."""

    position_axes = 1

    @classmethod
    def of(cls, features: Shape, **options: Any) -> Self:
        return super().of(features, **one_each(options))


def parts_of(size: Shape, parts: Shape) -> Iterator[tuple[Any, Any, int]]:
    """Yield the index of each part along the last axes of an array, the part's slices, and its size.

    On an axis of n numbers, part i of k starts at ⌊i n / k⌋ and ends before ⌈(i + 1) n / k⌉.

    size: the sizes of these axes.  parts: the number of parts along each of them.
    """
    for index in product(*(range(k) for k in parts)):
        along = zip(index, size, parts, strict=True)
        part = tuple(slice(i * n // k, -(-(i + 1) * n // k)) for i, n, k in along)
        yield (..., *index), (..., *part), math.prod(each.stop - each.start for each in part)


def parts_with_one(size: Shape, parts: Shape) -> int:
    """Return a bound on the number of parts that any one number belongs to."""
    return math.prod(1 if n % k == 0 else math.ceil(k / n) + 1 for n, k in zip(size, parts, strict=True))


@dataclass(frozen=True)
class AdaptiveAvgPool(Linear):
    """The mean of each part of x, like torch's adaptive_avg_pool. `size` is the number of parts per axis.

    The parts may overlap (see `parts_of`). With a size of 1 along each axis, this is global average pooling.
    """

    size: Shape
    exact = False
    position_axes = 2
    formulas = Formulas(
        "out",
        "the mean {x} of each part",
        (Argument("x", "1/m in the part, else 0", "Σ {g} / m over the parts that hold x"),),
        where="with m numbers in a part",
    )

    @classmethod
    def of(cls, features: Shape, **options: Any) -> Self:
        key = f"adaptive_avg_pool{cls.position_axes}d"
        refuse_other_positions(features, cls.position_axes, "pooling", key)
        return cls(options[key])

    @property
    def makes_images(self) -> bool:  # type: ignore[override]
        return len(self.size) == 2

    @property
    def label(self) -> str:
        return "adaptive_avg_pool " + "×".join(map(str, self.size))

    def out(self, *features: Shape) -> Shape:
        return (*features[0][: -len(self.size)], *self.size)

    def counts(self, features: tuple[Shape, ...]) -> tuple[int, int]:
        size = features[0][-len(self.size) :]
        most = math.prod(math.ceil(n / parts) + 1 for n, parts in zip(size, self.size, strict=True))
        return most, parts_with_one(size, self.size)

    def apply(self, *inputs: Array) -> Array:
        (x,) = inputs
        axes = len(self.size)
        means = np.empty((*x.shape[:-axes], *self.size), x.dtype)
        for index, window, _ in parts_of(x.shape[-axes:], self.size):
            means[index] = x[window].mean(axis=tuple(range(-axes, 0)))
        return means

    def adjoint(self, delta: Array, features: tuple[Shape, ...]) -> Inputs:
        axes = len(self.size)
        handed = np.zeros((len(delta), *features[0]), delta.dtype)
        for index, window, count in parts_of(features[0][-axes:], self.size):
            handed[window] += delta[index].reshape(*delta.shape[:-axes], *(1,) * axes) / count
        return (handed,)


@dataclass(frozen=True)
class AdaptiveAvgPool1d(AdaptiveAvgPool):
    """The mean of each part of sequences (…, channels, length)."""

    position_axes = 1

    @classmethod
    def of(cls, features: Shape, **options: Any) -> Self:
        return super().of(features, **one_each(options))


@dataclass(frozen=True)
class Mean(Linear):
    """The mean over one axis of each sample, such as the axis of a sequence's tokens.

    axes: the number of axes of a sample.
    """

    axes: int
    axis: int = 0
    exact = False
    formulas = Formulas(
        "out",
        "the mean of {x} over one axis",
        (Argument("x", "1/m", "{g} / m, the same for all m numbers"),),
        where="with m numbers along the axis",
    )

    @classmethod
    def of(cls, features: Shape, **options: Any) -> Mean:
        return cls(len(features), axis_of(features, options["dim"], "mean"))

    @property
    def label(self) -> str:
        return f"mean over axis {self.axis}"

    def out(self, *features: Shape) -> Shape:
        return (*features[0][: self.axis], *features[0][self.axis + 1 :])

    def counts(self, features: tuple[Shape, ...]) -> tuple[int, int]:
        return features[0][self.axis], 1

    def apply(self, *inputs: Array) -> Array:
        mean: Array = inputs[0].mean(axis=self.axis - self.axes)
        return mean

    def part(self, p: Arrays, inputs: Sequence[Input], output: Resting) -> Part | None:
        x = only(inputs)
        fixed = (*x.fixed[: self.axis], *x.fixed[self.axis + 1 :])
        if x.fixed[self.axis] is None:
            return Risen(output, fixed, x.rise.mean(axis=x.along(self.axis)))
        return Risen(output, fixed, x.rise / x.rest.features[self.axis])

    def adjoint(self, delta: Array, features: tuple[Shape, ...]) -> Inputs:
        each = np.expand_dims(delta / features[0][self.axis], 1 + self.axis)
        return (np.broadcast_to(each, (len(delta), *features[0])),)
