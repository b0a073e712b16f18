"""Max pooling to an output of fixed size, like torch's adaptive_max_pool1d and adaptive_max_pool2d.

    out[c, p] = the largest x[c, q] of part p
    ∂L/∂x[c, q] = Σ over the parts p in which x[c, q] is the largest of ∂L/∂out[c, p]

The parts are those of adaptive average pooling. Each may have another size, and neighbours may overlap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from gradcheck_cli.network.steps.fit import one_each, refuse_other_positions
from gradcheck_cli.network.steps.max_pooling import Maxima
from gradcheck_cli.network.steps.pooling import parts_of, parts_with_one
from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True)
class AdaptiveMaxPool(Maxima):
    """Map x, (…, N, channels, *positions), to the maxima of parts, (…, N, channels, *size), for N samples.

    size: the number of parts along each position axis.
    """

    size: Shape
    position_axes = 2

    @classmethod
    def of(cls, features: Shape, **options: Any) -> Self:
        key = f"adaptive_max_pool{cls.position_axes}d"
        refuse_other_positions(features, cls.position_axes, "pooling", key)
        return cls(options[key])

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"adaptive_max_pool{self.position_axes}d"

    @property
    def makes_images(self) -> bool:  # type: ignore[override]
        return self.axes == 2

    @property
    def label(self) -> str:
        return "adaptive_max_pool " + "×".join(map(str, self.size))

    def out(self, *features: Shape) -> Shape:
        return (*features[0][: -self.axes], *self.size)

    @property
    def axes(self) -> int:
        return len(self.size)

    def overlapping(self, features: Shape) -> int:
        return parts_with_one(features[-self.axes :], self.size)

    def padded(self, x: Array, around: float) -> Array:
        return x.copy()

    def cropped(self, padded: Array) -> Array:
        return padded

    def parts(self, size: Shape) -> Iterator[tuple[Any, Any]]:
        for index, window, _ in parts_of(size, self.size):
            yield index, window

    def _kernel(self, size: Shape) -> Shape:
        """Return the size of the largest part along each axis."""
        return tuple(min(n, -(-n // parts) + 1) for n, parts in zip(size, self.size, strict=True))

    def _views(self, x: Array, around: float = -np.inf) -> Array:
        before, size = x.shape[: -self.axes], x.shape[-self.axes :]
        views = np.full((*before, *self.size, *self._kernel(size)), around, x.dtype)
        for index, window in self.parts(size):
            views[(*index, *_within(window))] = x[window]
        return views.reshape(*before, *self.size, -1)

    def _spread(self, shares: Callable[[int], Array], shape: Shape) -> Array:
        before, size = shape[: -self.axes], shape[-self.axes :]
        kernel = self._kernel(size)
        each = np.stack([shares(k) for k in range(math.prod(kernel))], axis=-1)
        each = each.reshape(*before, *self.size, *kernel)
        spread = np.zeros(shape, each.dtype)
        for index, window in self.parts(size):
            spread[window] += each[(*index, *_within(window))]
        return spread


@dataclass(frozen=True)
class AdaptiveMaxPool1d(AdaptiveMaxPool):
    """Map sequences (…, N, channels, length) to the maxima of their parts, (…, N, channels, size)."""

    position_axes = 1

    @classmethod
    def of(cls, features: Shape, **options: Any) -> Self:
        return super().of(features, **one_each(options))


def _within(window: tuple[Any, ...]) -> tuple[slice, ...]:
    """Return the places of a window's elements in an array that has room for the largest window."""
    return tuple(slice(part.stop - part.start) for part in window[1:])
