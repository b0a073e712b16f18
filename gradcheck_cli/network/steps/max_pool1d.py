"""Max pooling of sequences, like torch.nn.MaxPool1d: the largest element of each window of a sequence.

The formulas and the kinks are those of `MaxPool`, with one position axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gradcheck_cli.network.steps.fit import one_each
from gradcheck_cli.network.steps.max_pooling import MaxPool
from gradcheck_cli.types import Shape


@dataclass(frozen=True)
class MaxPool1d(MaxPool):
    """Map N sequences, (…, N, channels, length), to the maxima of windows, (…, N, channels, windows)."""

    padding: tuple[int] = (0,)
    dilation: tuple[int] = (1,)
    name: str = "max_pool1d"

    @classmethod
    def of(cls, features: Shape, **options: Any) -> MaxPool1d:
        return cls.pooling(features, "max_pool1d", 1, **one_each(options))
