"""The layers of a network, as a spec writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.spec.model import (
    Index,
    Model,
    Name,
    Positive,
    Size,
    by_key,
    named,
    names_in_schema,
    one_of,
    own_options_in_schema,
    refuse_foreign_options,
)

_ActivationName = Annotated[str, one_of(ACTIVATIONS, "activation"), names_in_schema(ACTIVATIONS)]


def _options_of_activation(name: str) -> tuple[str, ...]:
    return ACTIVATIONS[name].settings


class ActivationSpec(Model):
    """An activation and its options, with PyTorch's names and defaults.

    name: The function φ in a = φ(z).
    negative_slope: The slope of leaky_relu for z < 0.
    alpha: The α of elu. For z → −∞ its value is −α.
    approximate: `tanh` for the approximation of gelu by tanh, `none` for the exact one.
    """

    model_config = ConfigDict(json_schema_extra=own_options_in_schema(ACTIVATIONS, _options_of_activation))

    name: _ActivationName
    negative_slope: float = 0.01
    alpha: Positive = 1.0
    approximate: Literal["none", "tanh"] = "none"

    @model_validator(mode="after")
    def _own_options_only(self) -> ActivationSpec:
        refuse_foreign_options(self, _options_of_activation(self.name), self.name)
        return self

    @property
    def options(self) -> dict[str, Any]:
        return self.model_dump(include=set(ACTIVATIONS[self.name].options))


class BatchNormSpec(Model):
    """Batch normalisation, (z − mean) / √(variance + eps), with PyTorch's defaults.

    eps: Added to the variance, so that nothing is divided by 0.
    """

    eps: Positive = 1e-5


def _switch(value: object) -> object:
    """Expand `true` to `{}` and `false` to nothing."""
    return {True: {}, False: None}[value] if isinstance(value, bool) else value


class ParametricLayer(Model):
    """A layer with weights, then optional batch normalisation, and an activation.

    batch_norm: Normalise z over the batch, then scale it by gamma and shift it by beta.
    activation: A name, or a mapping of the name and its options.
    name: The prefix of its parameters, `<name>.weight`. By default hidden1, hidden2, … and output.
    """

    batch_norm: Annotated[
        BatchNormSpec | None, BeforeValidator(_switch, json_schema_input_type=bool | BatchNormSpec | None)
    ] = None
    activation: Annotated[
        ActivationSpec, BeforeValidator(named, json_schema_input_type=_ActivationName | ActivationSpec)
    ] = ActivationSpec(name="identity")
    name: Name | None = None


class LayerSpec(ParametricLayer):
    """A dense layer, z = a wᵀ + b.

    units: The number of outputs.
    """

    kind: ClassVar[str] = "units"

    units: Size

    @property
    def options(self) -> dict[str, Any]:
        return {"units": self.units}


def _pair(value: object) -> object:
    """Expand a number to the same number for height and width."""
    return (value, value) if type(value) is int else value


Pair = Annotated[
    tuple[Size, Size], Field(strict=False), BeforeValidator(_pair, json_schema_input_type=int | list[int])
]

Padding = Annotated[
    tuple[Index, Index], Field(strict=False), BeforeValidator(_pair, json_schema_input_type=int | list[int])
]


class Conv2dSpec(ParametricLayer):
    """A convolution over images [channels, height, width], as torch.nn.Conv2d.

    conv2d: The number of output channels.
    kernel: The size of the kernel, a number or [height, width].
    stride: The distance between two positions of the kernel.
    padding: The number of zeros added on each side.
    dilation: The distance between two numbers of the kernel.
    groups: The number of groups of channels. Each group of outputs sees one group of inputs.
    """

    kind: ClassVar[str] = "conv2d"

    conv2d: Size
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Padding = (0, 0)
    dilation: Pair = (1, 1)
    groups: Size = 1

    @property
    def options(self) -> dict[str, Any]:
        return self.model_dump(exclude=set(ParametricLayer.model_fields))


class FlattenSpec(Model):
    """Every sample becomes one row of numbers, as dense layers need it. `flatten` alone is enough.

    flatten: Always true.
    """

    kind: ClassVar[str] = "flatten"
    name: ClassVar[None] = None

    flatten: Literal[True] = True

    @property
    def options(self) -> dict[str, Any]:
        return {}


def _item(value: object) -> object:
    """Expand `flatten` to `{flatten: true}`."""
    if value == "flatten":
        return {value: True}
    if not isinstance(value, (dict, Model)):
        raise PydanticCustomError("layer_type", "a mapping or `flatten` is needed here")
    return value


_KINDS: Mapping[str, type[Model]] = {
    Conv2dSpec.kind: Conv2dSpec,
    FlattenSpec.kind: FlattenSpec,
    LayerSpec.kind: LayerSpec,
}
"""The kinds of layer by the key that each one has. The last one is meant if there is no such key."""


def _by_key_in_schema(schema: dict[str, Any]) -> None:
    """Make JSON Schema choose a layer's kind by its key, too, so that errors are about that kind alone."""
    members = dict(zip(_KINDS, schema.pop("oneOf", None) or schema.pop("anyOf"), strict=True))
    _, chosen = members.popitem()
    for key, member in members.items():
        chosen = {"if": {"required": [key]}, "then": member, "else": chosen}
    schema |= {"if": {"type": "string"}, "then": {"enum": ["flatten"]}, "else": chosen}


AnyLayer = Annotated[
    Conv2dSpec | FlattenSpec | LayerSpec,
    by_key(**_KINDS),
    BeforeValidator(_item),
    Field(json_schema_extra=_by_key_in_schema),
]
