"""A two-dimensional convolution, like torch.nn.Conv2d.

The formulas and their derivation are those of `Convolution`, with positions (row, column).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gradcheck_cli.network.step import UnfitError
from gradcheck_cli.network.steps.convolution import Convolution
from gradcheck_cli.types import Shape

Pair = tuple[int, int]


@dataclass(frozen=True)
class Conv2d(Convolution):
    """A convolution over images.

    The parameters are `weight` (channels, in / groups, kh, kw) and `bias` (channels,).
    """

    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    makes_images: bool = True

    @classmethod
    def of(cls, features: Shape, **options: Any) -> Conv2d:
        if len(features) != 3:
            message = f"a convolution needs images [channels, height, width]; it gets {list(features)}"
            raise UnfitError(message, "conv2d", "give the network inputs: [channels, height, width]")
        channels, groups = options["conv2d"], options["groups"]
        for what, count in (("input channels", features[0]), ("channels", channels)):
            if count % groups:
                raise UnfitError(f"{count} {what} cannot be split into {groups} groups", "groups")
        kernel, stride, padding, dilation = (
            options[key] for key in ("kernel", "stride", "padding", "dilation")
        )
        step = cls(features[0], channels, kernel, stride, padding, dilation, groups)
        if min(step.out(features)) < 1:
            size = " × ".join(str(number) for number in features[1:])
            raise UnfitError(f"the kernel does not fit into images of {size}", "kernel")
        return step

    @property
    def label(self) -> str:
        return f"conv{self.channels}"
