"""Convolutions over images and sequences, and their transpose."""

from __future__ import annotations

from typing import ClassVar

from gradcheck_cli.network.step import Step
from gradcheck_cli.network.steps.conv1d import Conv1d
from gradcheck_cli.network.steps.conv2d import Conv2d
from gradcheck_cli.network.steps.conv_transpose2d import ConvTranspose2d
from gradcheck_cli.spec.layers.item import Padding, Pair
from gradcheck_cli.spec.layers.parametric import ParametricLayer
from gradcheck_cli.spec.model import Index, Size


class Conv2dSpec(ParametricLayer):
    """A convolution over images [channels, height, width], like torch.nn.Conv2d.

    conv2d: The number of output channels.
    kernel: The size of the kernel, as a number or [height, width].
    stride: The distance between neighbouring positions of the kernel.
    padding: The number of zeros added on each side.
    dilation: The distance between neighbouring entries of the kernel.
    groups: The number of groups of channels. Each group of outputs depends on one group of inputs.
    """

    kind: ClassVar[str] = "conv2d"
    step: ClassVar[type[Step]] = Conv2d

    conv2d: Size
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Padding = (0, 0)
    dilation: Pair = (1, 1)
    groups: Size = 1


class Conv1dSpec(ParametricLayer):
    """A convolution over sequences [channels, length], like torch.nn.Conv1d.

    conv1d: The number of output channels.
    kernel: The length of the kernel.
    stride: The distance between neighbouring positions of the kernel.
    padding: The number of zeros added on each side.
    dilation: The distance between neighbouring entries of the kernel.
    groups: The number of groups of channels. Each group of outputs depends on one group of inputs.
    """

    kind: ClassVar[str] = "conv1d"
    step: ClassVar[type[Step]] = Conv1d

    conv1d: Size
    kernel: Size
    stride: Size = 1
    padding: Index = 0
    dilation: Size = 1
    groups: Size = 1


class ConvTranspose2dSpec(ParametricLayer):
    """A transposed convolution over images [channels, height, width], like torch.nn.ConvTranspose2d.

    conv_transpose2d: The number of output channels.
    kernel: The size of the kernel, as a number or [height, width].
    stride: The distance, in the output, between the windows of neighbouring inputs.
    padding: The number of rows and columns cut off from each side of the output.
    output_padding: The number of rows and columns added at the bottom and right of the output.
    dilation: The distance between neighbouring entries of the kernel.
    groups: The number of groups of channels. Each group of outputs depends on one group of inputs.
    """

    kind: ClassVar[str] = "conv_transpose2d"
    step: ClassVar[type[Step]] = ConvTranspose2d

    conv_transpose2d: Size
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Padding = (0, 0)
    output_padding: Padding = (0, 0)
    dilation: Pair = (1, 1)
    groups: Size = 1
