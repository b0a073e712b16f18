"""A convolution over sequences (channels, length), like torch.nn.Conv1d.

The formulas and their derivation are those of `Convolution`, with one position axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gradcheck_cli.network.steps.convolution import Convolution
from gradcheck_cli.network.steps.fit import refuse_other_positions, refuse_too_small, refuse_uneven_groups
from gradcheck_cli.types import Shape


@dataclass(frozen=True)
class Conv1d(Convolution):
    """A convolution over sequences.

    The parameters are `weight`, (channels, in / groups, k) for a kernel of length k, and `bias`, (channels,).
    """

    kernel: tuple[int]
    stride: tuple[int] = (1,)
    padding: tuple[int] = (0,)
    dilation: tuple[int] = (1,)

    @classmethod
    def of(cls, features: Shape, **options: Any) -> Conv1d:
        refuse_other_positions(features, 1, "a convolution", "conv1d")
        channels, groups = options["conv1d"], options["groups"]
        refuse_uneven_groups(groups, input_channels=features[0], channels=channels)
        kernel, stride, padding, dilation = (
            (options[key],) for key in ("kernel", "stride", "padding", "dilation")
        )
        step = cls(features[0], channels, kernel, stride, padding, dilation, groups)
        refuse_too_small(step.windows, features, "the kernel", "kernel")
        return step

    @property
    def label(self) -> str:
        return f"conv{self.channels}"
