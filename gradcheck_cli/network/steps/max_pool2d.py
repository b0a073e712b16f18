"""Two-dimensional max pooling, like torch.nn.MaxPool2d: the largest element of each window of an image.

    ∂L/∂x = Σ ∂L/∂out over the windows in which x is the largest

If several elements of a window tie for the largest, the result has a kink. The piece that a window is on is
the index of its largest element. In a tie, the first one gets ∂L/∂out, as in PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.step import Arrays, Inputs, Known, Sides, Step, Upstream
from gradcheck_cli.network.steps.fit import (
    refuse_other_positions,
    refuse_too_small,
    refuse_wide_padding,
)
from gradcheck_cli.network.windows import Windows
from gradcheck_cli.types import Array, Shape

Pair = tuple[int, int]

SAFETY = 3.0
"""An element may be the largest if errors of up to this many times its rounding bound could make it so."""


@dataclass(frozen=True)
class MaxPool2d(Step):
    """Map images (…, N, channels, height, width) to the maxima of windows, (…, N, channels, *windows)."""

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    name: str = "max_pool2d"
    has_pieces: bool = True
    makes_images: bool = True

    @classmethod
    def of(cls, features: Shape, **options: Any) -> MaxPool2d:
        refuse_other_positions(features, 2, "pooling", "max_pool2d")
        kernel, padding, dilation = options["max_pool2d"], options["padding"], options["dilation"]
        windows = Windows(kernel, options["stride"] or kernel, padding, dilation)
        refuse_wide_padding(windows)
        refuse_too_small(windows, features, "the window", "max_pool2d")
        return cls(kernel, options["stride"] or kernel, padding, dilation)

    @property
    def label(self) -> str:
        return "max_pool" + "×".join(map(str, dict.fromkeys(self.kernel)))

    def out(self, *features: Shape) -> Shape:
        channels, *size = features[0]
        reach = [d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True)]
        sizes = zip(size, self.padding, reach, self.stride, strict=True)
        return (channels, *((n + 2 * p - r) // s + 1 for n, p, r, s in sizes))

    def _windows(self, x: Array, around: float = -np.inf) -> Array:
        """Return the elements of each window, (…, channels, *windows, kernel)."""
        size = self.out(x.shape[-3:])[1:]
        padded = self._padded(x, around)
        return np.stack([padded[..., rows, across] for rows, across in self._slices(size)], axis=-1)

    def _padded(self, x: Array, around: float) -> Array:
        if not any(self.padding):
            return x
        width = [(0, 0)] * (x.ndim - 2) + [(pad, pad) for pad in self.padding]
        return np.pad(x, width, constant_values=around)

    def _slices(self, size: tuple[int, ...]) -> list[tuple[slice, slice]]:
        """Return, for each place in a window, the slices of a padded image that hold it for all windows."""
        (height, width), (sh, sw), (dh, dw) = size, self.stride, self.dilation
        return [
            (
                slice(i * dh, i * dh + sh * (height - 1) + 1, sh),
                slice(j * dw, j * dw + sw * (width - 1) + 1, sw),
            )
            for i, j in product(range(self.kernel[0]), range(self.kernel[1]))
        ]

    def _spread(self, shares: Callable[[int], Array], shape: Shape) -> Array:
        """Return, for each element, the sum of its shares from all windows, (N, channels, height, width).

        shares: returns the shares of the elements at one place in a window, for all windows.
        """
        (top, left), (height, width) = self.padding, shape[-2:]
        first = shares(0)
        padded = np.zeros((*shape[:-2], height + 2 * top, width + 2 * left), first.dtype)
        for k, (rows, across) in enumerate(self._slices(first.shape[-2:])):
            padded[..., rows, across] += shares(k)
        return padded[..., top : top + height, left : left + width]

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        (x,) = inputs
        if np.iscomplexobj(x):
            return self.branch(p, x, self.pieces(x))
        largest: Array = self._windows(x).max(axis=-1)
        return largest

    def pieces(self, x: Array) -> Array:
        largest: Array = self._windows(x.real).argmax(axis=-1)
        return largest

    def branch(self, p: Arrays, x: Array, pieces: Array) -> Array:
        picked: Array = np.take_along_axis(self._windows(x), pieces[..., None], axis=-1)[..., 0]
        return picked

    def sides(self, x: Array, reach: Array) -> Sides:
        windows, reaches = self._windows(x), self._windows(reach, 0.0)
        candidates = self._candidates(windows, reaches)
        count = windows.shape[-1]
        last: Array = count - 1 - candidates[..., ::-1].argmax(axis=-1)
        of_tied = np.where(candidates, reaches, 0.0).max(axis=-1)
        more = bool((candidates.sum(axis=-1) > 2).any())
        return Sides(candidates.argmax(axis=-1), last, of_tied, more)

    def _candidates(self, windows: Array, reaches: Array) -> Array:
        """Return a mask of the elements of each window that may be the largest.

        reaches: bounds on the errors of the elements.
        """
        highest = (windows - reaches).max(axis=-1, keepdims=True)
        marked: Array = windows + reaches >= highest
        return marked

    def vjp(
        self, p: Arrays, inputs: Inputs, output: Array, upstream: Array
    ) -> tuple[Inputs, dict[str, Array]]:
        pieces = self.pieces(inputs[0])
        return (self._handed(pieces, upstream, inputs[0].shape),), {}

    def _handed(self, pieces: Array, upstream: Array, shape: Shape) -> Array:
        return self._spread(lambda k: upstream * (pieces == k), shape)

    def error(
        self, p: Arrays, inputs: Inputs, output: Array, errors: Inputs, arithmetic: Arithmetic
    ) -> Array:
        windows, reaches = self._windows(inputs[0]), self._windows(errors[0], 0.0)
        most: Array = np.where(self._candidates(windows, reaches), reaches, 0.0).max(axis=-1)
        return most

    def vjp_error(
        self, p: Arrays, known: Known, upstream: Upstream, arithmetic: Arithmetic
    ) -> tuple[tuple[Upstream, ...], dict[str, Array]]:
        (x,), (x_error,) = known.inputs, known.input_errors
        pieces, g = self.pieces(x), upstream.value
        handed, size = self._handed(pieces, g, x.shape), self._handed(pieces, np.abs(g), x.shape)
        count = self.kernel[0] * self.kernel[1]
        error = self._handed(pieces, upstream.error, x.shape) + arithmetic.summed(size, handed, count)
        may_be = self._candidates(self._windows(x), self._windows(SAFETY * x_error, 0.0))
        most = np.abs(g) + upstream.hidden
        hidden = self._spread(lambda k: most * may_be[..., k], x.shape) - np.abs(handed)
        return (Upstream(handed, error + arithmetic.tiny, hidden),), {}

    def heard(self, p: Arrays, features: tuple[Shape, ...], above: Array) -> tuple[Array, ...]:
        return (self._spread(lambda _: above, features[0]),)
