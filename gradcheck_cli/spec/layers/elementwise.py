"""Dropout, and activations that are layers of their own: they have parameters or work on whole rows."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from gradcheck_cli.spec.layers.item import LayerItem
from gradcheck_cli.spec.model import Seed, Size


class DropoutSpec(LayerItem):
    """Dropout in training mode with a fixed mask, x · mask / (1 − p), like torch.nn.Dropout.

    dropout: The probability p that an entry is dropped.
    seed: The seed of the mask, which is the same for every sample and every evaluation.
    """

    kind: ClassVar[str] = "dropout"

    dropout: Annotated[float, Field(ge=0, lt=1)]
    seed: Seed = 0


class PReluSpec(LayerItem):
    """Leaky relu with learned slopes, like torch.nn.PReLU: x if x > 0, else weight · x.

    prelu: Always true.
    num_parameters: The number of slopes: 1, or one per channel. Channels are the first axis of a sample.
    init: The initial slope.
    """

    kind: ClassVar[str] = "prelu"

    prelu: Literal[True] = True
    num_parameters: Size = 1
    init: float = 0.25


class SoftmaxSpec(LayerItem):
    """Softmax over the last axis, like torch.nn.Softmax(dim=-1).

    softmax: Always true.
    """

    kind: ClassVar[str] = "softmax"

    softmax: Literal[True] = True


class LogSoftmaxSpec(LayerItem):
    """The logarithm of softmax over the last axis, like torch.nn.LogSoftmax(dim=-1).

    log_softmax: Always true.
    """

    kind: ClassVar[str] = "log_softmax"

    log_softmax: Literal[True] = True
