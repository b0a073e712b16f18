"""Pooling layers."""

from __future__ import annotations

from typing import ClassVar

from gradcheck_cli.spec.layers.item import LayerItem, Padding, Pair


class MaxPool2dSpec(LayerItem):
    """The largest number of every window of an image, as torch.nn.MaxPool2d.

    max_pool2d: The size of the window, a number or [height, width].
    stride: The distance between two windows. By default the size of the window.
    padding: The number of positions added on each side, which are never the largest.
    dilation: The distance between two numbers of a window.
    """

    kind: ClassVar[str] = "max_pool2d"

    max_pool2d: Pair
    stride: Pair | None = None
    padding: Padding = (0, 0)
    dilation: Pair = (1, 1)
