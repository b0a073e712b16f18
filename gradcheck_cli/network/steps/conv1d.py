"""A convolution over sequences (channels, length), like torch.nn.Conv1d.

The formulas and their derivation are those of `Convolution`, with one position axis.
"""

from __future__ import annotations

from dataclasses import dataclass

from gradcheck_cli.network.steps.convolution import Convolution


@dataclass(frozen=True)
class Conv1d(Convolution):
    """A convolution over sequences.

    The parameters are `weight` (channels, in / groups, k) and `bias` (channels,).
    """

    kernel: tuple[int]
    stride: tuple[int] = (1,)
    padding: tuple[int] = (0,)
    dilation: tuple[int] = (1,)

    @property
    def label(self) -> str:
        return f"conv{self.channels}"
