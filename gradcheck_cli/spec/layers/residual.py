"""Residual blocks."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from gradcheck_cli.network.builder import Builder
from gradcheck_cli.network.step import UnfitError
from gradcheck_cli.network.steps.add import Add
from gradcheck_cli.spec.layers import InnerLayer
from gradcheck_cli.spec.layers.item import LayerItem


class ResidualSpec(LayerItem):
    """A residual block, x + f(x): the output of its layers is added to their input.

    residual: The layers of f. Their output must have the same shape as their input.
    """

    kind: ClassVar[str] = "residual"

    residual: Annotated[tuple[InnerLayer, ...], Field(strict=False, min_length=1, max_length=1000)]

    @property
    def inner(self) -> tuple[LayerItem, ...]:
        return self.residual

    def build(self, builder: Builder, value: int) -> int:
        around = builder.through(self.residual, value, "residual")
        there, here = builder.features(around), builder.features(value)
        if there != here:
            message = (
                f"the layers in this residual block turn samples of shape {list(here)} into {list(there)}"
            )
            raise UnfitError(
                message, "residual", "their output is added to their input: make the shapes equal"
            )
        return builder.add(Add(), value, around)
