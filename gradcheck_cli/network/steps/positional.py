"""A learned positional embedding: out = x + w. Every unit of every token has a w of its own.

∂L/∂w = Σ over the samples of ∂L/∂out        ∂L/∂x = ∂L/∂out
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gradcheck_cli.network.steps.added import AddParameter
from gradcheck_cli.types import Shape


@dataclass(frozen=True)
class PositionalAdd(AddParameter):
    """A learned positional embedding. Its parameter is `weight`, with the shape of a sample."""

    @classmethod
    def of(cls, features: Shape, **options: Any) -> PositionalAdd:
        return cls(features)

    @property
    def label(self) -> str:
        return "positional"
