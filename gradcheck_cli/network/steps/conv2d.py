"""A two-dimensional convolution, like torch.nn.Conv2d.

The formulas and their derivation are those of `Convolution`, with positions (row, column).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gradcheck_cli.network.steps.convolution import Convolution
from gradcheck_cli.network.steps.fit import refuse_other_positions, refuse_too_small, refuse_uneven_groups
from gradcheck_cli.types import Shape

Pair = tuple[int, int]


@dataclass(frozen=True)
class Conv2d(Convolution):
    """A convolution over images.

    The parameters are `weight`, (channels, in / groups, *kernel), and `bias`, (channels,).
    """

    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    makes_images: bool = True

    @classmethod
    def of(cls, features: Shape, **options: Any) -> Conv2d:
        refuse_other_positions(features, 2, "a convolution", "conv2d")
        channels, groups = options["conv2d"], options["groups"]
        refuse_uneven_groups(groups, input_channels=features[0], channels=channels)
        kernel, stride, padding, dilation = (
            options[key] for key in ("kernel", "stride", "padding", "dilation")
        )
        step = cls(features[0], channels, kernel, stride, padding, dilation, groups)
        refuse_too_small(step.windows, features, "the kernel", "kernel")
        return step

    @property
    def label(self) -> str:
        return f"conv{self.channels}"
