"""Windows that slide over the position axes of an array, as in convolutions and pooling."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product
from typing import Any

import numpy as np

from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True)
class Windows:
    """The size, stride, padding and dilation of a window, each with one number per position axis."""

    kernel: Shape
    stride: Shape
    padding: Shape
    dilation: Shape

    @cached_property
    def axes(self) -> int:
        """The number of position axes, which are the last axes of an array."""
        return len(self.kernel)

    @cached_property
    def reach(self) -> Shape:
        """The number of positions along each axis that a window extends over, gaps included."""
        return tuple(d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True))

    def out(self, size: Shape) -> Shape:
        """Return the number of windows along each axis of an input of size `size`."""
        along = zip(size, self.padding, self.reach, self.stride, strict=True)
        return tuple((n + 2 * p - r) // s + 1 for n, p, r, s in along)

    def around(self, size: Shape) -> Shape:
        """Return the size along each axis after padding an input of size `size`."""
        return tuple(n + 2 * p for n, p in zip(size, self.padding, strict=True))

    def padded(self, x: Array, around: float = 0.0) -> Array:
        """Return x (…, *size) with padding added around its positions.

        around: the number to pad with.
        """
        if not any(self.padding):
            return x
        before = x.shape[: x.ndim - self.axes]
        padded = np.full((*before, *self.around(x.shape[x.ndim - self.axes :])), around, x.dtype)
        self.cropped(padded)[...] = x  # much faster than np.pad
        return padded

    def cropped(self, padded: Array) -> Array:
        """Undo `padded`: return a view of an array without its padding."""
        sizes = padded.shape[padded.ndim - self.axes :]
        inner: Any = (..., *(slice(p, n - p) for p, n in zip(self.padding, sizes, strict=True)))
        cropped: Array = padded[inner]
        return cropped

    def views(self, padded: Array, out: Shape) -> Iterator[tuple[Shape, Array]]:
        """Yield each position in the kernel, with a writable view of the element there in every window.

        out: the number of windows along each axis.
        """
        for index, at in _slices(self, out):
            yield index, padded[at]

    def elements(self, x: Array) -> Array:
        """Return the elements of every window of x (…, *size): (…, *kernel, *windows along each axis)."""
        padded = self.padded(x)
        before, size = x.shape[: x.ndim - self.axes], padded.shape[x.ndim - self.axes :]
        out = self.out(x.shape[x.ndim - self.axes :])
        if out[-1] < _LONG:
            places = _places(self, size, out)
            flat = padded.reshape(*before, -1)
            return flat.take(places, axis=-1, mode="clip").reshape(*before, *self.kernel, *out)
        result = np.empty((*before, *self.kernel, *out), x.dtype)
        for index, view in self.views(padded, out):
            at: Any = (..., *index, *(slice(None),) * self.axes)
            result[at] = view
        return result


_LONG = 12
"""If a row has at least this many windows, copying rows is faster than picking elements by index."""


@lru_cache(maxsize=64)
def _places(windows: Windows, size: Shape, out: Shape) -> Array:
    """Return the index, in C order, of each element of each window in a padded input of size `size`."""
    numbers = np.arange(math.prod(size)).reshape(size)
    return np.stack([view for _, view in windows.views(numbers, out)]).ravel()


@lru_cache(maxsize=256)
def _slices(windows: Windows, out: Shape) -> tuple[tuple[Shape, Any], ...]:
    """Return each position in the kernel, with the slices that select the element there in every window.

    The result is cached, since building it every time would slow down small convolutions.
    """
    slices = []
    for index in product(*(range(k) for k in windows.kernel)):
        along = zip(index, windows.dilation, windows.stride, out, strict=True)
        slices.append((index, (..., *(slice(i * d, i * d + s * (n - 1) + 1, s) for i, d, s, n in along))))
    return tuple(slices)
