"""The layers that a spec can contain, one file per family.

To add a kind of layer, write a `LayerItem` in the file of its family and add a line to `KINDS`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from gradcheck_cli.spec.elsewhere import folded, help_for_name
from gradcheck_cli.spec.layers.item import LayerItem
from gradcheck_cli.spec.layers.parametric import ParametricLayer
from gradcheck_cli.spec.model import LateModels, Model, NestedKinds, by_key, keys_of

__all__ = ["KINDS", "AnyLayer", "InnerLayer", "LayerItem", "ParametricLayer", "in_order"]

KINDS = LateModels[LayerItem](
    __name__,
    {
        "conv1d": "convolutions.Conv1dSpec",
        "conv2d": "convolutions.Conv2dSpec",
        "conv_transpose2d": "convolutions.ConvTranspose2dSpec",
        "flatten": "shapes.FlattenSpec",
        "max_pool1d": "pooling.MaxPool1dSpec",
        "max_pool2d": "pooling.MaxPool2dSpec",
        "avg_pool1d": "pooling.AvgPool1dSpec",
        "avg_pool2d": "pooling.AvgPool2dSpec",
        "adaptive_avg_pool1d": "pooling.AdaptiveAvgPool1dSpec",
        "adaptive_avg_pool2d": "pooling.AdaptiveAvgPool2dSpec",
        "adaptive_max_pool1d": "pooling.AdaptiveMaxPool1dSpec",
        "adaptive_max_pool2d": "pooling.AdaptiveMaxPool2dSpec",
        "layer_norm": "norms.LayerNormSpec",
        "rms_norm": "norms.RmsNormSpec",
        "group_norm": "norms.GroupNormSpec",
        "instance_norm": "norms.InstanceNormSpec",
        "embedding": "tokens.EmbeddingSpec",
        "positional_embedding": "tokens.PositionalEmbeddingSpec",
        "prelu": "elementwise.PReluSpec",
        "maxout": "maxout.MaxoutSpec",
        "softmax": "elementwise.SoftmaxSpec",
        "log_softmax": "elementwise.LogSoftmaxSpec",
        "mean": "shapes.MeanSpec",
        "select": "shapes.SelectSpec",
        "permute": "shapes.PermuteSpec",
        "reshape": "shapes.ReshapeSpec",
        "residual": "residual.ResidualSpec",
        "rnn": "sequences.RnnSpec",
        "lstm": "sequences.LstmSpec",
        "gru": "sequences.GruSpec",
        "attention": "attention.AttentionSpec",
        "rotary": "tokens.RotarySpec",
        "swiglu": "sequences.SwigluSpec",
        "geglu": "sequences.GegluSpec",
        "dropout": "elementwise.DropoutSpec",
        "units": "parametric.LayerSpec",
    },
)
"""Maps the key of each kind of layer to its model, which loads on first use, with the steps that it builds.

The first of these keys that a layer has decides its kind. If an option of one kind is also the key of another
kind, the kind with the option must come first. A layer without any of these keys gets the last kind.
"""


def _is_alone(key: str) -> bool:
    """Return whether a kind of layer needs no options. A spec may write its key as a plain word."""
    field = keys_of(KINDS[key]).get(key)
    return field is not None and not field.is_required()


@cache
def _alone() -> tuple[str, ...]:
    return tuple(filter(_is_alone, KINDS))


_NORMS = "batch_norm", "weight_norm"
"""Options of a layer that are layers elsewhere."""


_KEYS_OF_KIND = "type", "_target_", "class_name"
"""The keys under which other tools have the kind of a layer."""


def _refuse_names_from_elsewhere(value: object) -> None:
    """Raise a `PydanticCustomError` if a layer is written as in PyTorch or Keras, to show how to write it."""
    if isinstance(value, dict) and not value.keys() & set(KINDS):
        for key, found in value.items():
            if help := _help_for_layer(key):
                raise _from_elsewhere(f"unknown key '{key}'", help, key)
            if key in _KEYS_OF_KIND and (help := _help_for_kind(found) or _help_for_layer(found)):
                raise _from_elsewhere(f"unknown key '{key}'", help, key)
    elif isinstance(value, str) and value not in KINDS:
        if help := _help_for_activation(value):
            raise _from_elsewhere(f"'{value}' is an activation, not a layer", help)
        if value in _NORMS:
            raise _from_elsewhere(
                f"'{value}' is an option, not a layer", f"it belongs to a layer: {{units: 10, {value}: true}}"
            )


def _help_for_layer(word: object) -> str | None:
    return help_for_name("layer", word) or _help_for_activation(word)


def _help_for_activation(word: object) -> str | None:
    from gradcheck_cli.network.activations import ACTIVATIONS  # only failing specs need it

    by_folded = {folded(name): name for name in ACTIVATIONS if name not in KINDS}
    name = by_folded.get(folded(word)) if isinstance(word, str) else None
    return f"it belongs to a layer: {{units: 10, activation: {name}}}" if name else None


def _help_for_kind(word: object) -> str | None:
    """Return how to write a layer whose kind is the value of the key `type`."""
    by_folded = {folded(kind): kind for kind in KINDS}
    kind = by_folded.get(folded(word)) if isinstance(word, str) else None
    return f"the kind of a layer is its key: {'{'}{kind}: …{'}'}" if kind else None


def _from_elsewhere(message: str, help: str, *key: str) -> PydanticCustomError:
    return PydanticCustomError("from_elsewhere", "{message}", {"message": message, "help": help, "key": key})


def _item(value: object) -> object:
    """Expand a layer written as a plain word to a mapping: `flatten` to `{flatten: true}`."""
    if isinstance(value, str) and value in KINDS and _is_alone(value):
        return {value: True}
    _refuse_names_from_elsewhere(value)
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


_FOUND = by_key(KINDS)
_WRITTEN = (BeforeValidator(_item), Field(json_schema_extra=_by_key_in_schema))

AnyLayer = Annotated[LayerItem, _FOUND, *_WRITTEN]
"""A layer of a network."""

InnerLayer = Annotated[LayerItem, NestedKinds(_FOUND.members, _FOUND.choose), *_WRITTEN]
"""A layer inside another layer."""


def in_order(
    layers: Sequence[LayerItem], place: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], LayerItem]]:
    """Yield every layer with its place in the spec. A layer is followed by the layers inside it."""
    for i, layer in enumerate(layers):
        yield (*place, i), layer
        yield from in_order(layer.inner, (*place, i, layer.kind))
