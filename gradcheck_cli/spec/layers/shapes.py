"""Layers that rearrange, select or average the entries of a sample."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from gradcheck_cli.network.step import Step
from gradcheck_cli.network.steps.pooling import Mean
from gradcheck_cli.network.steps.rearrange import Permute, Reshape, Select
from gradcheck_cli.network.steps.reshape import Flatten
from gradcheck_cli.spec.layers.item import LayerItem

Dim = Annotated[int, Field(ge=-4, le=3)]
"""An axis of a sample: 0 is the first axis after the batch axis, and −1 is the last."""


class FlattenSpec(LayerItem):
    """Flatten each sample to one row of numbers, as dense layers need. The word `flatten` alone is enough.

    flatten: Always true.
    """

    kind: ClassVar[str] = "flatten"
    step: ClassVar[type[Step]] = Flatten

    flatten: Literal[True] = True

    @property
    def options(self) -> dict[str, Any]:
        return {}


class ReshapeSpec(LayerItem):
    """Reshape each sample in C order, like torch.reshape.

    reshape: The new sizes of the axes of a sample. One size may be −1 and is then inferred.
    """

    kind: ClassVar[str] = "reshape"
    step: ClassVar[type[Step]] = Reshape

    reshape: Annotated[
        tuple[Annotated[int, Field(ge=-1, le=10**6)], ...], Field(strict=False, min_length=1, max_length=4)
    ]


class PermuteSpec(LayerItem):
    """Permute the axes of each sample, like torch.permute. `permute: [1, 0]` transposes each sample.

    permute: For each output axis, the input axis it comes from. 0 is the first axis after the batch axis.
    """

    kind: ClassVar[str] = "permute"
    step: ClassVar[type[Step]] = Permute

    permute: Annotated[
        tuple[Annotated[int, Field(ge=0, le=3)], ...], Field(strict=False, min_length=1, max_length=4)
    ]


class SelectSpec(LayerItem):
    """Select one index of an axis, like torch.select. `select: -1` is the last step of a sequence.

    select: The index, counted from 0, or from the end if it is negative.
    dim: The axis. 0 is the first axis after the batch axis, such as the steps in [steps, features].
    """

    kind: ClassVar[str] = "select"
    step: ClassVar[type[Step]] = Select

    select: Annotated[int, Field(ge=-(10**6), le=10**6)]
    dim: Dim = 0


class MeanSpec(LayerItem):
    """Average over one axis, like torch.mean. The word `mean` alone averages over the steps of a sequence.

    mean: Always true.
    dim: The axis. 0 is the first axis after the batch axis, such as the steps in [steps, features].
    """

    kind: ClassVar[str] = "mean"
    step: ClassVar[type[Step]] = Mean

    mean: Literal[True] = True
    dim: Dim = 0
