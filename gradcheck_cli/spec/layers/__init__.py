"""The layers that a spec can contain, one file per family.

To add a kind of layer, write a `LayerItem` in the file of its family and add a line to `KINDS`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from gradcheck_cli.network.builder import Builder
from gradcheck_cli.network.step import UnfitError
from gradcheck_cli.network.steps.add import Add
from gradcheck_cli.spec.layers.attention import AttentionSpec
from gradcheck_cli.spec.layers.elementwise import DropoutSpec, LogSoftmaxSpec, PReluSpec, SoftmaxSpec
from gradcheck_cli.spec.layers.item import LayerItem
from gradcheck_cli.spec.layers.maxout import MaxoutSpec
from gradcheck_cli.spec.layers.norms import GroupNormSpec, InstanceNormSpec, LayerNormSpec, RmsNormSpec
from gradcheck_cli.spec.layers.parametric import (
    Conv1dSpec,
    Conv2dSpec,
    ConvTranspose2dSpec,
    LayerSpec,
    ParametricLayer,
)
from gradcheck_cli.spec.layers.pooling import (
    AdaptiveAvgPool1dSpec,
    AdaptiveAvgPool2dSpec,
    AdaptiveMaxPool1dSpec,
    AdaptiveMaxPool2dSpec,
    AvgPool1dSpec,
    AvgPool2dSpec,
    MaxPool1dSpec,
    MaxPool2dSpec,
)
from gradcheck_cli.spec.layers.sequences import (
    GegluSpec,
    GruSpec,
    LstmSpec,
    RnnSpec,
    SwigluSpec,
)
from gradcheck_cli.spec.layers.shapes import FlattenSpec, MeanSpec, PermuteSpec, ReshapeSpec, SelectSpec
from gradcheck_cli.spec.layers.tokens import EmbeddingSpec, PositionalEmbeddingSpec, RotarySpec
from gradcheck_cli.spec.model import Model, by_key, keys_of

__all__ = ["KINDS", "AnyLayer", "LayerItem", "ParametricLayer", "in_order"]


class ResidualSpec(LayerItem):
    """A residual block, x + f(x): the output of its layers is added to their input.

    residual: The layers of f. Their output must have the same shape as their input.
    """

    kind: ClassVar[str] = "residual"

    residual: Annotated[tuple[AnyLayer, ...], Field(strict=False, min_length=1, max_length=1000)]

    @property
    def inner(self) -> tuple[LayerItem, ...]:
        return self.residual

    def build(self, builder: Builder, value: int) -> int:
        around = builder.through(self.residual, value, "residual")
        there, here = builder.features(around), builder.features(value)
        if there != here:
            message = (
                f"the layers in this residual block turn samples of shape {list(here)} into {list(there)}"
            )
            raise UnfitError(
                message, "residual", "their output is added to their input: make the shapes equal"
            )
        return builder.add(Add(), value, around)


KINDS: Mapping[str, type[LayerItem]] = {
    kind.kind: kind
    for kind in (
        Conv1dSpec,
        Conv2dSpec,
        ConvTranspose2dSpec,
        FlattenSpec,
        MaxPool1dSpec,
        MaxPool2dSpec,
        AvgPool1dSpec,
        AvgPool2dSpec,
        AdaptiveAvgPool1dSpec,
        AdaptiveAvgPool2dSpec,
        AdaptiveMaxPool1dSpec,
        AdaptiveMaxPool2dSpec,
        LayerNormSpec,
        RmsNormSpec,
        GroupNormSpec,
        InstanceNormSpec,
        EmbeddingSpec,
        PositionalEmbeddingSpec,
        PReluSpec,
        MaxoutSpec,
        SoftmaxSpec,
        LogSoftmaxSpec,
        MeanSpec,
        SelectSpec,
        PermuteSpec,
        ReshapeSpec,
        ResidualSpec,
        RnnSpec,
        LstmSpec,
        GruSpec,
        AttentionSpec,
        RotarySpec,
        SwigluSpec,
        GegluSpec,
        DropoutSpec,
        LayerSpec,
    )
}
"""Maps the key of each kind of layer to its model.

The first of these keys that a layer has decides its kind. If an option of one kind is also the key of another
kind, the kind with the option must come first. A layer without any of these keys gets the last kind.
"""


@cache
def _alone() -> tuple[str, ...]:
    """Return the keys of the kinds of layer that need no options.

    A spec may write such a key as a plain word.
    """
    return tuple(
        key for key, kind in KINDS.items() if key in (keys := keys_of(kind)) and not keys[key].is_required()
    )


def _item(value: object) -> object:
    """Expand a layer written as a plain word to a mapping: `flatten` to `{flatten: true}`."""
    if isinstance(value, str) and value in _alone():
        return {value: True}
    if isinstance(value, str) and value not in KINDS:
        choices = [*_alone(), "or a mapping such as {units: 10}"]
        found = {"kind": "layer", "name": value, "names": list(KINDS), "choices": choices}
        raise PydanticCustomError("unknown_name", "unknown {kind} '{name}'", found)
    if not isinstance(value, (dict, Model)):
        words = ", ".join(_alone())
        raise PydanticCustomError("layer_type", "a mapping or one of {words} is needed", {"words": words})
    return value


def _by_key_in_schema(schema: dict[str, Any]) -> None:
    """Make the JSON Schema choose a layer's kind by its key, so that errors are about that kind alone."""
    members = dict(zip(KINDS, schema.pop("oneOf", None) or schema.pop("anyOf"), strict=True))
    _, chosen = members.popitem()
    for key, member in members.items():
        chosen = {"if": {"required": [key]}, "then": member, "else": chosen}
    schema |= {"if": {"type": "string"}, "then": {"enum": list(_alone())}, "else": chosen}


AnyLayer = Annotated[
    LayerItem, by_key(**KINDS), BeforeValidator(_item), Field(json_schema_extra=_by_key_in_schema)
]


def in_order(
    layers: Sequence[LayerItem], place: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], LayerItem]]:
    """Yield every layer with its place in the spec. A layer is followed by the layers inside it."""
    for i, layer in enumerate(layers):
        yield (*place, i), layer
        yield from in_order(layer.inner, (*place, i, layer.kind))
