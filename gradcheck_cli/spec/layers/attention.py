"""Self-attention, as a layer of a spec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import BeforeValidator

from gradcheck_cli.network.builder import Builder
from gradcheck_cli.network.composed.attention import GroupedAttention, MultiheadAttention
from gradcheck_cli.network.step import UnfitError
from gradcheck_cli.network.steps.offset import Offset
from gradcheck_cli.network.steps.padded_softmax import PaddedSoftmax
from gradcheck_cli.network.steps.rotary import Rotary
from gradcheck_cli.network.steps.softmax import Softmax
from gradcheck_cli.spec.layers.composed import nodes_of, sequence_of
from gradcheck_cli.spec.layers.fixed import AddedMask, Fixed, FixedArray, Key, given
from gradcheck_cli.spec.layers.item import LayerItem, switch
from gradcheck_cli.spec.model import MAX_NUMBERS, Model, Positive, Size
from gradcheck_cli.types import Array


class RotaryOptions(Model):
    """The rotary embedding of queries and keys: pair i of token t is rotated by the angle t · base^(−2i / d).

    base: The base of the angles.
    interleaved: Whether a pair consists of neighbouring entries, as in torchtune. Otherwise, pair i consists
        of entries i and i + d / 2, as in LLaMA.
    """

    base: Positive = 10000.0
    interleaved: bool = False


class AttentionSpec(LayerItem):
    """Self-attention over samples [tokens, width], like torch.nn.MultiheadAttention with batch_first.

    attention: The number of heads. It must divide the width.
    causal: Whether a token attends only to itself and earlier tokens.
    bias: Whether the projections have biases.
    kv_heads: The number of key-value heads, for grouped-query attention. The weights are then q_proj, k_proj,
        v_proj and o_proj.
    out_proj: Whether a dense layer mixes the heads. If false, the output is the concatenated heads.
    rotary: Rotate queries and keys by an angle that depends on the token: `true`, or a mapping of options.
    attn_mask: A mask [tokens, tokens], with a row for each query, or [heads, tokens, tokens]. True leaves a
        key out; numbers are added to the scores, and -inf leaves a key out.
    key_padding_mask: A mask [samples, tokens] of the keys to leave out: 1 or true marks padding.
    """

    kind: ClassVar[str] = "attention"
    added: ClassVar[frozenset[str]] = frozenset({"attn_mask"})

    attention: Size
    causal: bool = False
    bias: bool = True
    kv_heads: Size | None = None
    out_proj: bool = True
    rotary: Annotated[
        RotaryOptions | None, BeforeValidator(switch, json_schema_input_type=bool | RotaryOptions | None)
    ] = None
    attn_mask: AddedMask | None = None
    key_padding_mask: FixedArray | None = None

    @property
    def fixed(self) -> Mapping[Key, Fixed]:
        return given(attn_mask=self.attn_mask, key_padding_mask=self.key_padding_mask)

    def build(self, builder: Builder, value: int) -> int:
        tokens, width = sequence_of(builder, value, self.kind, "[tokens, width]")
        self._refuse_unfit(tokens, width)
        mask, offsets = self._mask(builder, tokens)
        softmax, padding = self._softmax(builder, tokens, mask)
        sizes = (tokens, width, self.attention, softmax)
        options: dict[str, Any] = {"bias": self.bias, "out_proj": self.out_proj, "padding": padding}
        options |= {"rotations": self._rotations(tokens, width), "offsets": offsets}
        if self.kv_heads is None:
            return MultiheadAttention(*sizes, **options).build(nodes_of(builder), value)
        shared = self.attention // self.kv_heads
        return GroupedAttention(*sizes, shared, **options).build(nodes_of(builder), value)

    def _mask(self, builder: Builder, tokens: int) -> tuple[Array, Sequence[Offset]]:
        """Return a mask of the keys that each token attends to, and the step that adds finite numbers."""
        kept = (Softmax.causal(tokens) if self.causal else Softmax.plain()).mask
        added = builder.array("attn_mask")
        if added is None:
            return kept, ()
        one = (tokens, tokens)
        if added.shape not in (one, (self.attention, *one)):
            per_head = f"[{tokens}, {tokens}] or, per head, [{self.attention}, {tokens}, {tokens}]"
            message = f"attn_mask has shape {list(added.shape)}; {per_head} is needed"
            raise UnfitError(message, "attn_mask", "give a row for each query and a column for each key")
        kept = kept & (added > -np.inf)
        empty = ~kept.any(axis=-1)
        if empty.any():
            message = f"attn_mask hides every key from token {int(np.argwhere(empty)[0, -1])}"
            raise UnfitError(message, "attn_mask", "its softmax would be 0 / 0: keep at least one key")
        finite = np.where(kept, added, 0.0)
        return kept, (Offset(finite),) if finite.any() else ()

    def _softmax(self, builder: Builder, tokens: int, mask: Array) -> tuple[Softmax, Sequence[int]]:
        """Return the softmax of the scores, and the index of its second input if there is padding."""
        padding = builder.array("key_padding_mask")
        if padding is None:
            return Softmax(mask), ()
        rows = _padding_of(padding, tokens)
        _refuse_empty(rows, mask)
        return PaddedSoftmax(mask), (builder.given(rows, "key_padding_mask"),)

    def _rotations(self, tokens: int, width: int) -> Sequence[Rotary]:
        d = width // self.attention
        if self.rotary is None:
            return ()
        if d % 2:
            message = f"each head has the width {d}, which cannot be split into pairs to rotate"
            raise UnfitError(message, "rotary", "choose a number of heads that gives each an even width")
        return (Rotary.of_angles(tokens, d, self.rotary.base, self.rotary.interleaved),)

    def _refuse_unfit(self, tokens: int, width: int) -> None:
        heads, shared = self.attention, self.kv_heads or self.attention
        if width % heads:
            raise UnfitError(
                f"the width {width} cannot be split evenly into {heads} heads", self.kind, _divisors(width)
            )
        if heads % shared:
            message = f"{heads} heads cannot be shared out evenly among {shared} heads of keys and values"
            raise UnfitError(message, "kv_heads", _divisors(heads))
        if heads * tokens * tokens > MAX_NUMBERS:
            scores = f"{heads} × {tokens:,} × {tokens:,} attention scores"
            message = f"{scores} exceed the limit of {MAX_NUMBERS:,} numbers"
            raise UnfitError(message, self.kind, "check shorter sequences: the gradient code is the same")


def _padding_of(array: Array, tokens: int) -> Array:
    """Return the padding mask, (N, tokens), for N samples.

    Raises an `UnfitError` if the mask's shape or its numbers do not fit.
    """
    if array.ndim != 2 or array.shape[1] != tokens:
        message = f"key_padding_mask has shape {list(array.shape)}; [samples, {tokens}] is needed"
        raise UnfitError(message, "key_padding_mask", "give a row for each sample: 1 for padding, else 0")
    if not np.isin(array, (0, 1)).all():
        message = "key_padding_mask holds numbers other than 0 and 1"
        raise UnfitError(message, "key_padding_mask", "1 or true leaves a key out, as in PyTorch")
    return array


def _refuse_empty(padding: Array, mask: Array) -> None:
    """Raise an `UnfitError` if any token of a sample would attend to no key at all."""
    samples, tokens = padding.shape
    kept = mask & (padding[:, None, None] == 0)
    empty = ~np.broadcast_to(kept.any(axis=-1), (samples, *kept.shape[1:-2], tokens))
    if empty.any():
        sample, *_, token = (int(i) for i in np.argwhere(empty)[0])
        message = f"every key that token {token} of sample {sample} may see is padding"
        raise UnfitError(message, "key_padding_mask", "its softmax would be 0 / 0: keep at least one key")


def _divisors(number: int) -> str:
    fitting = [str(k) for k in range(1, min(number, 64) + 1) if number % k == 0]
    return f"choose one of {', '.join(fitting)}"
