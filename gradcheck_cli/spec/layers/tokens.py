"""Layers for tokens and their positions."""

from __future__ import annotations

from typing import ClassVar, Literal

from gradcheck_cli.network.builder import Builder
from gradcheck_cli.network.graph import INPUT
from gradcheck_cli.network.step import UnfitError
from gradcheck_cli.spec.layers.item import LayerItem
from gradcheck_cli.spec.model import Index, Size


class EmbeddingSpec(LayerItem):
    """A vector for every token, as torch.nn.Embedding. It comes first: x holds tokens, from 0.

    embedding: The number of tokens.
    embedding_dim: The length of a token's vector.
    padding_idx: A token whose vector is not trained: its gradient is 0.
    """

    kind: ClassVar[str] = "embedding"

    embedding: Size
    embedding_dim: Size
    padding_idx: Index | None = None

    def build(self, builder: Builder, value: int) -> int:
        if value != INPUT:
            raise UnfitError("an embedding takes the tokens of x, so it comes first", "embedding")
        return super().build(builder, value)


class PositionalEmbeddingSpec(LayerItem):
    """A learned vector for every position, added to the input: x + weight.

    positional_embedding: Always true. The weight has the shape of a sample, [steps, features].
    """

    kind: ClassVar[str] = "positional_embedding"

    positional_embedding: Literal[True] = True
