"""Dropout, and activations that are separate layers because they have parameters or work on whole rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from gradcheck_cli.network.builder import Builder
from gradcheck_cli.network.step import Step, UnfitError
from gradcheck_cli.network.steps.dropout import Dropout, SampleDropout
from gradcheck_cli.network.steps.fit import any_axis_of
from gradcheck_cli.network.steps.prelu import PReLU
from gradcheck_cli.network.steps.rearrange import Permute
from gradcheck_cli.network.steps.softmax import LogSoftmax, Softmax
from gradcheck_cli.spec.layers.fixed import Fixed, FixedArray, Key, given
from gradcheck_cli.spec.layers.item import LayerItem
from gradcheck_cli.spec.layers.shapes import Dim
from gradcheck_cli.spec.model import Seed, Size
from gradcheck_cli.types import Array


class DropoutSpec(LayerItem):
    """Dropout in training mode with a fixed mask, x · mask / (1 − p), like torch.nn.Dropout.

    dropout: The probability p that an entry is dropped.
    seed: The seed of the mask, which is the same for every sample and every evaluation.
    mask: The mask, [samples, …] or with the shape of one sample: 1 or true for an entry that is kept. By
        default, it is drawn at random.
    inverted: Whether the entries that are kept are divided by 1 − p, as in PyTorch. Set it to false if the
        mask contains this factor already.
    """

    kind: ClassVar[str] = "dropout"

    dropout: Annotated[float, Field(ge=0, lt=1)]
    seed: Seed = 0
    mask: FixedArray | None = None
    inverted: bool = True

    @property
    def fixed(self) -> Mapping[Key, Fixed]:
        return given(mask=self.mask)

    def build(self, builder: Builder, value: int) -> int:
        features, mask = builder.features(value), builder.array("mask")
        scale = 1.0 / (1.0 - self.dropout) if self.inverted else 1.0
        if mask is None:
            kept = Dropout.drawn(features, self.dropout, self.seed).mask != 0
            return builder.add(Dropout(kept * scale), value)
        if self.inverted:
            _refuse_scaled(mask)
        if mask.shape == features:
            return builder.add(Dropout(mask * scale), value)
        if mask.shape[1:] != features:
            message = f"mask has shape {list(mask.shape)}; {['samples', *features]} is needed".replace(
                "'", ""
            )
            raise UnfitError(message, "mask", "or the shape of one sample, for the same mask in every sample")
        return builder.add(SampleDropout(scale), value, builder.given(mask, "mask"))


def _refuse_scaled(mask: Array) -> None:
    """Raise an `UnfitError` if a mask contains its scale already, since it would be applied twice."""
    other = mask[(mask != 0.0) & (mask != 1.0)]
    if other.size:
        help = "if the mask contains the factor 1/(1 − p) already, add 'inverted: false'"
        raise UnfitError(f"mask contains {other[0]:g}; it must be 0 or 1 in every entry", "mask", help)


class PReluSpec(LayerItem):
    """Leaky relu with learned slopes, like torch.nn.PReLU: x if x > 0, else weight · x.

    prelu: Always true.
    num_parameters: The number of slopes: 1, or one per channel. Channels are the first axis of a sample.
    init: The initial slope.
    """

    kind: ClassVar[str] = "prelu"
    step: ClassVar[type[Step]] = PReLU

    prelu: Literal[True] = True
    num_parameters: Size = 1
    init: float = 0.25


class SoftmaxSpec(LayerItem):
    """Softmax over an axis, like torch.nn.Softmax.

    softmax: Always true.
    dim: The axis; by default, the last one. 0 is the first axis after the batch axis.
    """

    kind: ClassVar[str] = "softmax"

    softmax: Literal[True] = True
    dim: Dim = -1

    def build(self, builder: Builder, value: int) -> int:
        return _over_axis(builder, Softmax.plain(), value, self.dim)


class LogSoftmaxSpec(LayerItem):
    """The logarithm of softmax over an axis, like torch.nn.LogSoftmax.

    log_softmax: Always true.
    dim: The axis; by default, the last one. 0 is the first axis after the batch axis.
    """

    kind: ClassVar[str] = "log_softmax"

    log_softmax: Literal[True] = True
    dim: Dim = -1

    def build(self, builder: Builder, value: int) -> int:
        return _over_axis(builder, LogSoftmax(), value, self.dim)


def _over_axis(builder: Builder, step: Step, value: int, dim: int) -> int:
    """Apply a step that works over the last axis to axis `dim` instead. Return the index of its output."""
    features = builder.features(value)
    axes, axis = len(features), any_axis_of(features, dim)
    if axis == axes - 1:
        return builder.add(step, value)
    order = [*range(axes)]
    order[axis], order[-1] = order[-1], order[axis]
    there_and_back = Permute(axes, tuple(order))
    return builder.add(there_and_back, builder.add(step, builder.add(there_and_back, value)))
