"""Pooling layers."""

from __future__ import annotations

from typing import ClassVar

from gradcheck_cli.network.step import Step
from gradcheck_cli.network.steps.adaptive_max_pool import AdaptiveMaxPool, AdaptiveMaxPool1d
from gradcheck_cli.network.steps.max_pool1d import MaxPool1d
from gradcheck_cli.network.steps.max_pool2d import MaxPool2d
from gradcheck_cli.network.steps.pooling import AdaptiveAvgPool, AdaptiveAvgPool1d, AvgPool, AvgPool1d
from gradcheck_cli.spec.layers.item import LayerItem, Padding, Pair
from gradcheck_cli.spec.model import Index, Size


class MaxPool2dSpec(LayerItem):
    """Max pooling: the largest entry in each window of an image, like torch.nn.MaxPool2d.

    max_pool2d: The size of the window, as a number or [height, width].
    stride: The distance between neighbouring windows. By default, the size of the window.
    padding: The number of positions added on each side. An added position is never the maximum.
    dilation: The distance between neighbouring entries of a window.
    """

    kind: ClassVar[str] = "max_pool2d"
    step: ClassVar[type[Step]] = MaxPool2d

    max_pool2d: Pair
    stride: Pair | None = None
    padding: Padding = (0, 0)
    dilation: Pair = (1, 1)


class MaxPool1dSpec(LayerItem):
    """Max pooling over a sequence [channels, length], like torch.nn.MaxPool1d.

    max_pool1d: The length of the window.
    stride: The distance between neighbouring windows. By default, the length of the window.
    padding: The number of positions added on each side. An added position is never the maximum.
    dilation: The distance between neighbouring entries of a window.
    """

    kind: ClassVar[str] = "max_pool1d"
    step: ClassVar[type[Step]] = MaxPool1d

    max_pool1d: Size
    stride: Size | None = None
    padding: Index = 0
    dilation: Size = 1


class AvgPool1dSpec(LayerItem):
    """Average pooling over a sequence [channels, length], like torch.nn.AvgPool1d.

    avg_pool1d: The length of the window.
    stride: The distance between neighbouring windows. By default, the length of the window.
    padding: The number of zeros added on each side.
    count_include_pad: Whether the mean also counts the zeros of the padding.
    """

    kind: ClassVar[str] = "avg_pool1d"
    step: ClassVar[type[Step]] = AvgPool1d

    avg_pool1d: Size
    stride: Size | None = None
    padding: Index = 0
    count_include_pad: bool = True


class AdaptiveAvgPool1dSpec(LayerItem):
    """Average pooling of a sequence [channels, length] to a fixed length, like torch.nn.AdaptiveAvgPool1d.

    adaptive_avg_pool1d: The length of the output. 1 is global average pooling.
    """

    kind: ClassVar[str] = "adaptive_avg_pool1d"
    step: ClassVar[type[Step]] = AdaptiveAvgPool1d

    adaptive_avg_pool1d: Size


class AvgPool2dSpec(LayerItem):
    """Average pooling: the mean of each window of an image, like torch.nn.AvgPool2d.

    avg_pool2d: The size of the window, as a number or [height, width].
    stride: The distance between neighbouring windows. By default, the size of the window.
    padding: The number of zeros added on each side.
    count_include_pad: Whether the mean also counts the zeros of the padding.
    """

    kind: ClassVar[str] = "avg_pool2d"
    step: ClassVar[type[Step]] = AvgPool

    avg_pool2d: Pair
    stride: Pair | None = None
    padding: Padding = (0, 0)
    count_include_pad: bool = True


class AdaptiveAvgPool2dSpec(LayerItem):
    """Average pooling to an output of fixed size, like torch.nn.AdaptiveAvgPool2d.

    adaptive_avg_pool2d: The size of the output, as a number or [height, width]. 1 is global average pooling.
    """

    kind: ClassVar[str] = "adaptive_avg_pool2d"
    step: ClassVar[type[Step]] = AdaptiveAvgPool

    adaptive_avg_pool2d: Pair


class AdaptiveMaxPool1dSpec(LayerItem):
    """Max pooling of a sequence [channels, length] to a fixed length, like torch.nn.AdaptiveMaxPool1d.

    adaptive_max_pool1d: The length of the output. 1 is global max pooling.
    """

    kind: ClassVar[str] = "adaptive_max_pool1d"
    step: ClassVar[type[Step]] = AdaptiveMaxPool1d

    adaptive_max_pool1d: Size


class AdaptiveMaxPool2dSpec(LayerItem):
    """Max pooling to an output of fixed size, like torch.nn.AdaptiveMaxPool2d.

    adaptive_max_pool2d: The size of the output, as a number or [height, width]. 1 is global max pooling.
    """

    kind: ClassVar[str] = "adaptive_max_pool2d"
    step: ClassVar[type[Step]] = AdaptiveMaxPool

    adaptive_max_pool2d: Pair
