"""Two-dimensional max pooling, like torch.nn.MaxPool2d: the largest element of each window of an image.

The formulas and the kinks are those of `MaxPool`, with two position axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gradcheck_cli.network.steps.max_pooling import MaxPool
from gradcheck_cli.types import Shape

Pair = tuple[int, int]


@dataclass(frozen=True)
class MaxPool2d(MaxPool):
    """Map N images, (…, N, channels, height, width), to the maxima of windows, (…, N, channels, *windows)."""

    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    name: str = "max_pool2d"
    makes_images: bool = True

    @classmethod
    def of(cls, features: Shape, **options: Any) -> MaxPool2d:
        return cls.pooling(features, "max_pool2d", 2, **options)
