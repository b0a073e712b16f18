"""Layers that change the shape of a sample."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from gradcheck_cli.spec.layers.item import LayerItem

Dim = Annotated[int, Field(ge=-4, le=3)]
"""An axis of a sample: 0 is the first one after the batch, and −1 the last one."""


class FlattenSpec(LayerItem):
    """Every sample becomes one row of numbers, as dense layers need it. `flatten` alone is enough.

    flatten: Always true.
    """

    kind: ClassVar[str] = "flatten"

    flatten: Literal[True] = True

    @property
    def options(self) -> dict[str, Any]:
        return {}


class ReshapeSpec(LayerItem):
    """Every sample in another shape, in C order, as torch.reshape.

    reshape: The sizes of the axes of a sample. One of them may be −1, which stands for the rest.
    """

    kind: ClassVar[str] = "reshape"

    reshape: Annotated[
        tuple[Annotated[int, Field(ge=-1, le=10**6)], ...], Field(strict=False, min_length=1, max_length=4)
    ]


class PermuteSpec(LayerItem):
    """The axes of every sample in another order, as torch.permute. `permute: [1, 0]` is the transpose.

    permute: Which axis of the input each axis of the output is. 0 is the first one after the batch.
    """

    kind: ClassVar[str] = "permute"

    permute: Annotated[
        tuple[Annotated[int, Field(ge=0, le=3)], ...], Field(strict=False, min_length=1, max_length=4)
    ]


class SelectSpec(LayerItem):
    """One index of an axis, as torch.select. `select: -1` is the last step of a sequence.

    select: The index, from 0, or from the end if it is negative.
    dim: The axis. 0 is the first one after the batch, such as the steps of [steps, features].
    """

    kind: ClassVar[str] = "select"

    select: Annotated[int, Field(ge=-(10**6), le=10**6)]
    dim: Dim = 0


class MeanSpec(LayerItem):
    """The mean over one axis, as torch.mean. `mean` alone is the mean over the steps of a sequence.

    mean: Always true.
    dim: The axis. 0 is the first one after the batch, such as the steps of [steps, features].
    """

    kind: ClassVar[str] = "mean"

    mean: Literal[True] = True
    dim: Dim = 0
