"""The layers of a network, as a spec writes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.builder import Builder
from gradcheck_cli.network.graph import INPUT
from gradcheck_cli.network.layer import Layer
from gradcheck_cli.network.step import UnfitError
from gradcheck_cli.network.steps import STEPS
from gradcheck_cli.network.steps.add import Add
from gradcheck_cli.network.steps.normalise import Normalise, Scale
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


class LayerItem(Model):
    """A line of `layers`. The keys are the options of its step, except for the name.

    name: The prefix of its parameters, `<name>.weight`. By default the kind and a number.
    """

    kind: ClassVar[str]
    """The key that names the kind."""

    name: Name | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The options that the step of this kind takes."""
        return {key: getattr(self, key) for key in type(self).model_fields if key != "name"}

    @property
    def inner(self) -> tuple[LayerItem, ...]:
        """The layers inside this one."""
        return ()

    @property
    def default_name(self) -> str:
        """The beginning of the name it gets if it has none of its own."""
        return self.kind

    def build(self, builder: Builder, value: int) -> int:
        """Add the nodes of this layer, given its input; return its output."""
        step = STEPS[self.kind].of(builder.features(value), **self.options)
        return builder.add(step, value)


class ParametricLayer(LayerItem):
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

    @property
    def options(self) -> dict[str, Any]:
        return {key: value for key, value in super().options.items() if key not in _AROUND}

    @property
    def default_name(self) -> str:
        return "hidden"

    def build(self, builder: Builder, value: int) -> int:
        features = builder.features(value)
        step, name = STEPS[self.kind].of(features, **self.options), self.activation.name
        row = ACTIVATIONS[name].with_options(**self.activation.options)
        eps = self.batch_norm.eps if self.batch_norm else None
        for each in Layer(builder.layer, step, features, row, name, eps).own_steps:
            value = builder.add(each, value)
        return value


_AROUND = ("batch_norm", "activation")
"""The keys of a parametric layer that are not options of its own step."""


class LayerSpec(ParametricLayer):
    """A dense layer, z = a wᵀ + b, over the last axis of its input.

    units: The number of outputs.
    """

    kind: ClassVar[str] = "units"

    units: Size

    def build(self, builder: Builder, value: int) -> int:
        if builder.is_image(value):
            image = " × ".join(str(size) for size in builder.features(value))
            raise UnfitError(f"this layer gets samples of {image} numbers", help="put 'flatten' before it")
        return super().build(builder, value)


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


class FlattenSpec(LayerItem):
    """Every sample becomes one row of numbers, as dense layers need it. `flatten` alone is enough.

    flatten: Always true.
    """

    kind: ClassVar[str] = "flatten"

    flatten: Literal[True] = True

    @property
    def options(self) -> dict[str, Any]:
        return {}


class MaxPool2dSpec(LayerItem):
    """The largest number of every window of an image, as torch.nn.MaxPool2d.

    max_pool2d: The size of the window, a number or [height, width].
    stride: The distance between two windows. By default the size of the window.
    padding: The number of positions added on each side, which are never the largest.
    dilation: The distance between two numbers of a window.
    """

    kind: ClassVar[str] = "max_pool2d"

    max_pool2d: Pair
    stride: Pair | None = None
    padding: Padding = (0, 0)
    dilation: Pair = (1, 1)


_Shape = Annotated[tuple[Size, ...], Field(strict=False, min_length=1, max_length=4)]


def _shape(value: object) -> object:
    """Expand a number to a list of one; `true` stands for the last axis."""
    return (value,) if type(value) is int else value


class LayerNormSpec(LayerItem):
    """Layer normalisation, as torch.nn.LayerNorm: γ (x − mean) / √(variance + eps) + β, sample by sample.

    layer_norm: The shape of the last axes to normalise, a number or a list; `true` for the last axis.
    eps: Added to the variance, so that nothing is divided by 0.
    elementwise_affine: Whether there are a weight γ and a bias β.
    """

    kind: ClassVar[str] = "layer_norm"

    layer_norm: Annotated[
        Literal[True] | _Shape,
        BeforeValidator(_shape, json_schema_input_type=Literal[True] | int | list[int]),
    ] = True
    eps: Positive = 1e-5
    elementwise_affine: bool = True

    def build(self, builder: Builder, value: int) -> int:
        features = builder.features(value)
        shape = features[-1:] if self.layer_norm is True else self.layer_norm
        if features[-len(shape) :] != shape:
            message = f"the last axes of {list(features)} are not {list(shape)}"
            raise UnfitError(
                message, "layer_norm", "give the shape of the last axes, or true for the last one"
            )
        value = builder.add(Normalise.over_features(self.eps, len(shape)), value)
        return (
            builder.add(Scale(shape, names=("weight", "bias")), value) if self.elementwise_affine else value
        )


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


class ResidualSpec(LayerItem):
    """Layers whose output is added to their input: x + f(x).

    residual: The layers of f. Their output must have the shape of their input.
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
            message = f"the layers of this residual turn {list(here)} into {list(there)}"
            raise UnfitError(
                message, "residual", "their output is added to their input: make the shapes equal"
            )
        return builder.add(Add(), value, around)


_ALONE = ("flatten", "layer_norm")
"""The kinds that need no options, so that their key alone is enough."""


def _item(value: object) -> object:
    """Expand `flatten` to `{flatten: true}`, and the like."""
    if isinstance(value, str) and value in _ALONE:
        return {value: True}
    if not isinstance(value, (dict, Model)):
        raise PydanticCustomError("layer_type", "a mapping or `flatten` is needed here")
    return value


_KINDS: Mapping[str, type[Model]] = {
    Conv2dSpec.kind: Conv2dSpec,
    FlattenSpec.kind: FlattenSpec,
    MaxPool2dSpec.kind: MaxPool2dSpec,
    LayerNormSpec.kind: LayerNormSpec,
    EmbeddingSpec.kind: EmbeddingSpec,
    ResidualSpec.kind: ResidualSpec,
    LayerSpec.kind: LayerSpec,
}
"""The kinds of layer by the key that each one has. The last one is meant if there is no such key."""


def _by_key_in_schema(schema: dict[str, Any]) -> None:
    """Make JSON Schema choose a layer's kind by its key, too, so that errors are about that kind alone."""
    members = dict(zip(_KINDS, schema.pop("oneOf", None) or schema.pop("anyOf"), strict=True))
    _, chosen = members.popitem()
    for key, member in members.items():
        chosen = {"if": {"required": [key]}, "then": member, "else": chosen}
    schema |= {"if": {"type": "string"}, "then": {"enum": list(_ALONE)}, "else": chosen}


AnyLayer = Annotated[
    Conv2dSpec | FlattenSpec | MaxPool2dSpec | LayerNormSpec | EmbeddingSpec | ResidualSpec | LayerSpec,
    by_key(**_KINDS),
    BeforeValidator(_item),
    Field(json_schema_extra=_by_key_in_schema),
]


def in_order(
    layers: Sequence[LayerItem], place: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], LayerItem]]:
    """Yield every layer with its place, those inside another layer right after it."""
    for i, layer in enumerate(layers):
        yield (*place, i), layer
        yield from in_order(layer.inner, (*place, i, layer.kind))
