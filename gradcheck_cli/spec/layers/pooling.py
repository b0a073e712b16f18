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


class AvgPool2dSpec(LayerItem):
    """The mean of every window of an image, as torch.nn.AvgPool2d.

    avg_pool2d: The size of the window, a number or [height, width].
    stride: The distance between two windows. By default the size of the window.
    padding: The number of zeros added on each side.
    count_include_pad: Divide by the size of the window. If false, the padding does not count.
    """

    kind: ClassVar[str] = "avg_pool2d"

    avg_pool2d: Pair
    stride: Pair | None = None
    padding: Padding = (0, 0)
    count_include_pad: bool = True


class AdaptiveAvgPool2dSpec(LayerItem):
    """The means of parts of an image, as torch.nn.AdaptiveAvgPool2d.

    adaptive_avg_pool2d: The size of the output, a number or [height, width]. 1 is global average pooling.
    """

    kind: ClassVar[str] = "adaptive_avg_pool2d"

    adaptive_avg_pool2d: Pair
