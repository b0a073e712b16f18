"""Embedding layers for tokens and positions."""

from __future__ import annotations

from typing import ClassVar, Literal

from gradcheck_cli.network.builder import Builder
from gradcheck_cli.network.graph import INPUT
from gradcheck_cli.network.step import Step, UnfitError
from gradcheck_cli.network.steps.embedding import Embedding
from gradcheck_cli.network.steps.positional import PositionalAdd
from gradcheck_cli.network.steps.rotary import Rotary
from gradcheck_cli.spec.layers.item import LayerItem
from gradcheck_cli.spec.model import Index, Positive, Size


class EmbeddingSpec(LayerItem):
    """A learned vector for each token, like torch.nn.Embedding.

    An embedding must be the first layer. The inputs x are then token indices, counted from 0.

    embedding: The number of different tokens.
    embedding_dim: The length of each token's vector.
    padding_idx: A token whose vector is not trained, so that its gradient is 0.
    """

    kind: ClassVar[str] = "embedding"
    step: ClassVar[type[Step]] = Embedding

    embedding: Size
    embedding_dim: Size
    padding_idx: Index | None = None

    def build(self, builder: Builder, value: int) -> int:
        if value != INPUT:
            raise UnfitError("an embedding takes the tokens of x, so it must come first", "embedding")
        return super().build(builder, value)


class PositionalEmbeddingSpec(LayerItem):
    """A learned vector for each position, added to the input: x + weight.

    positional_embedding: Always true. The weight has the shape of a sample, [steps, features].
    """

    kind: ClassVar[str] = "positional_embedding"
    step: ClassVar[type[Step]] = PositionalAdd

    positional_embedding: Literal[True] = True


class RotarySpec(LayerItem):
    """A rotary embedding, as in RoFormer: pair i of token t is rotated by the angle t · base^(−2i / d).

    rotary: Always true. The last two axes of a sample are [tokens, d], with d even.
    base: The base of the angles.
    interleaved: Whether a pair consists of neighbouring entries, as in torchtune. Otherwise, pair i consists
        of entries i and i + d / 2, as in LLaMA's code.
    """

    kind: ClassVar[str] = "rotary"
    step: ClassVar[type[Step]] = Rotary

    rotary: Literal[True] = True
    base: Positive = 10000.0
    interleaved: bool = False
