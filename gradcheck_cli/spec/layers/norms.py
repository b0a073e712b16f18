"""Layers that normalise each sample."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from gradcheck_cli.network.builder import Builder
from gradcheck_cli.network.step import UnfitError
from gradcheck_cli.network.steps.normalise import Normalise, Scale
from gradcheck_cli.spec.layers.item import LayerItem
from gradcheck_cli.spec.model import Positive, Size

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
