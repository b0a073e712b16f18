"""Layers that normalise each sample on its own."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from gradcheck_cli.network.builder import Builder
from gradcheck_cli.network.step import UnfitError
from gradcheck_cli.network.steps.group_norm import GroupNormalise
from gradcheck_cli.network.steps.normalise import Normalise, Scale
from gradcheck_cli.network.steps.rms_norm import Gain, RootMeanSquare
from gradcheck_cli.spec.layers.item import LayerItem
from gradcheck_cli.spec.model import Kinds, Positive, Size
from gradcheck_cli.types import Shape

_Shape = Annotated[tuple[Size, ...], Field(strict=False, min_length=1, max_length=4)]


def _shape(value: object) -> object:
    """Expand a single number to a tuple of length 1, and leave any other value unchanged."""
    return (value,) if type(value) is int else value


def _kind(value: object) -> str:
    return "last axis" if value is True else "shape"


LastAxes = Annotated[
    Literal[True] | _Shape,
    Kinds({"last axis": Literal[True], "shape": _Shape}, _kind),
    BeforeValidator(_shape, json_schema_input_type=Literal[True] | int | list[int]),
]
"""The axes to normalise: the shape of the last axes of a sample, or true for the last axis alone."""


def _last_axes(features: Shape, asked: Literal[True] | Shape, key: str) -> Shape:
    """Return the shape of the last axes to normalise.

    Raises an `UnfitError` if the last axes of a sample do not have the shape that the spec asks for.
    """
    shape = features[-1:] if asked is True else asked
    if features[-len(shape) :] != shape:
        message = f"the last axes of {list(features)} are not {list(shape)}"
        raise UnfitError(message, key, "give the shape of the last axes, or true for the last one")
    return shape


class LayerNormSpec(LayerItem):
    """Layer normalisation of each sample, γ (x − mean) / √(variance + eps) + β, like torch.nn.LayerNorm.

    layer_norm: The shape of the last axes to normalise, as a number or a list; `true` for the last axis.
    eps: The number added to the variance to avoid a division by 0.
    elementwise_affine: Whether the layer has a weight γ and a bias β.
    """

    kind: ClassVar[str] = "layer_norm"

    layer_norm: LastAxes = True
    eps: Positive = 1e-5
    elementwise_affine: bool = True

    def build(self, builder: Builder, value: int) -> int:
        shape = _last_axes(builder.features(value), self.layer_norm, self.kind)
        value = builder.add(Normalise.over_features(self.eps, len(shape)), value)
        if self.elementwise_affine:
            value = builder.add(Scale(shape, names=("weight", "bias")), value)
        return value


class RmsNormSpec(LayerItem):
    """RMS normalisation of each sample, γ x / √(mean x² + eps), like torch.nn.RMSNorm.

    rms_norm: The shape of the last axes to normalise, as a number or a list; `true` for the last axis.
    eps: The number added to the mean square. By default, the machine epsilon of the spec's `dtype`.
    elementwise_affine: Whether the layer has a weight γ.
    """

    kind: ClassVar[str] = "rms_norm"

    rms_norm: LastAxes = True
    eps: Positive | None = None
    elementwise_affine: bool = True

    def build(self, builder: Builder, value: int) -> int:
        shape = _last_axes(builder.features(value), self.rms_norm, self.kind)
        eps = builder.epsilon if self.eps is None else self.eps
        value = builder.add(RootMeanSquare(eps, len(shape)), value)
        return builder.add(Gain(shape), value) if self.elementwise_affine else value


def _grouped(builder: Builder, value: int, groups: int, eps: float, affine: bool) -> int:
    """Add the nodes of a normalisation over groups of channels, and return the index of its output.

    Channels are the first axis of a sample.
    """
    features = builder.features(value)
    step = GroupNormalise(eps=eps, groups=groups, positions=len(features) - 1)
    if math.prod(features) == groups:
        message = (
            f"in samples of shape {list(features)}, each of {groups} groups has a single value, which "
            "becomes 0"
        )
        raise UnfitError(message, builder.kind, "normalise more values together")
    value = builder.add(step, value)
    scale = Scale((features[0],), len(features) - 1, names=("weight", "bias"))
    return builder.add(scale, value) if affine else value


class GroupNormSpec(LayerItem):
    """Group normalisation over the channels of a group and all positions, like torch.nn.GroupNorm.

    group_norm: The number of groups of channels. Channels are the first axis of a sample.
    eps: The number added to the variance to avoid a division by 0.
    affine: Whether each channel has a weight γ and a bias β.
    """

    kind: ClassVar[str] = "group_norm"

    group_norm: Size
    eps: Positive = 1e-5
    affine: bool = True

    def build(self, builder: Builder, value: int) -> int:
        channels = builder.features(value)[0]
        if channels % self.group_norm:
            message = f"{channels} channels cannot be split into {self.group_norm} groups"
            raise UnfitError(message, "group_norm")
        return _grouped(builder, value, self.group_norm, self.eps, self.affine)


class InstanceNormSpec(LayerItem):
    """Instance normalisation: each channel is normalised over its positions, like torch.nn.InstanceNorm2d.

    instance_norm: Always true.
    eps: The number added to the variance to avoid a division by 0.
    affine: Whether each channel has a weight γ and a bias β.
    """

    kind: ClassVar[str] = "instance_norm"

    instance_norm: Literal[True] = True
    eps: Positive = 1e-5
    affine: bool = False

    def build(self, builder: Builder, value: int) -> int:
        return _grouped(builder, value, builder.features(value)[0], self.eps, self.affine)
