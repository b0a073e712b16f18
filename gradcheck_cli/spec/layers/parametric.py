"""A layer with weights, optional batch normalisation and an activation; the dense layer is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator

from gradcheck_cli.errors import did_you_mean
from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.builder import Builder
from gradcheck_cli.network.layer import Layer
from gradcheck_cli.network.step import Step, UnfitError
from gradcheck_cli.network.steps.dense import Dense
from gradcheck_cli.network.steps.weight_norm import WeightNorm
from gradcheck_cli.spec.layers.activation import Activation, ActivationSpec
from gradcheck_cli.spec.layers.batch_norm import BatchNormSpec
from gradcheck_cli.spec.layers.composed import refuse_images
from gradcheck_cli.spec.layers.fixed import Fixed, Key
from gradcheck_cli.spec.layers.item import LayerItem, switch
from gradcheck_cli.spec.model import Name, Size
from gradcheck_cli.types import Shape


class ParametricLayer(LayerItem):
    """A layer with weights, followed by optional batch normalisation and an activation.

    weight_norm: Whether the weight is normalised: w = weight_g · weight_v / ‖weight_v‖, unit by unit.
    batch_norm: Normalise z over the batch, then multiply it by gamma and add beta.
    activation: A name, or a mapping with the name and its options.
    name: The prefix of the layer's parameters, `<name>.weight`. By default, hidden1, hidden2, … and output.
    """

    weight_norm: bool = False
    batch_norm: Annotated[
        BatchNormSpec | None, BeforeValidator(switch, json_schema_input_type=bool | BatchNormSpec | None)
    ] = None
    activation: Activation = ActivationSpec.model_construct(name="identity")

    @property
    def options(self) -> dict[str, Any]:
        return {key: value for key, value in super().options.items() if key not in _AROUND}

    @property
    def fixed(self) -> Mapping[Key, Fixed]:
        return self.batch_norm.fixed if self.batch_norm else {}

    @property
    def default_name(self) -> str:
        return "hidden"

    def build(self, builder: Builder, value: int) -> int:
        features = builder.features(value)
        plain = self.step.of(features, **self.options)
        step = WeightNorm(plain) if self.weight_norm else plain
        row = ACTIVATIONS[self.activation.name].with_options(**self.activation.options)
        layer, names = Layer(builder.layer, step, features, row), self._names(builder, step)
        for each in self.batch_norm.steps(builder, layer) if self.batch_norm else layer.own_steps:
            value = builder.add(each, value, names=names if each is step else None)
        return value

    def _names(self, builder: Builder, step: Step) -> dict[str, str]:
        """Return a dict that maps each parameter's name in the step to its name in the network."""
        return {own: f"{builder.layer}.{own}" for own in step.shapes}


_AROUND = ("weight_norm", "batch_norm", "activation")
"""The keys of a parametric layer that are not options of its step."""


class LayerSpec(ParametricLayer):
    """A dense layer, z = a wᵀ + b, over the last axis of its input.

    units: The number of outputs.
    bias: Whether the layer has a bias. If false, z = a wᵀ.
    weight: The name of an earlier layer, such as `embedding1`, whose weight this layer shares.
    """

    kind: ClassVar[str] = "units"
    step: ClassVar[type[Step]] = Dense

    units: Size
    bias: bool = True
    weight: Name | None = None

    def build(self, builder: Builder, value: int) -> int:
        refuse_images(builder, value)
        return super().build(builder, value)

    def _names(self, builder: Builder, step: Step) -> dict[str, str]:
        own = super()._names(builder, step)
        if self.weight is None:
            return own
        if self.weight_norm:
            raise UnfitError(
                "a weight of another layer cannot be normalised here", "weight_norm", "leave it out"
            )
        return own | {"weight": _tied(self.weight, step.shapes["weight"], builder.parameters)}


def _tied(layer: str, needed: Shape, known: Mapping[str, Shape]) -> str:
    """Return the name of the weight to share with an earlier layer.

    Raises an `UnfitError` if there is no such weight, or if it does not have the shape `needed`.
    """
    weight = f"{layer}.weight"
    if weight not in known:
        layers = [name.removesuffix(".weight") for name in known if name.endswith(".weight")]
        help = did_you_mean(layer, layers) or f"layers below with a weight: {', '.join(layers[:8]) or 'none'}"
        raise UnfitError(f"no layer below has a weight named '{weight}'", "weight", help)
    if known[weight] != needed:
        message = f"'{weight}' has the shape {list(known[weight])}, but this layer needs {list(needed)}"
        raise UnfitError(message, "weight", "a dense layer's weight is [units, inputs]")
    return weight
