"""Maxout, as a layer of a spec."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from gradcheck_cli.network.builder import Builder
from gradcheck_cli.network.steps.dense import Dense
from gradcheck_cli.network.steps.maxout import Maxout
from gradcheck_cli.spec.layers.composed import refuse_images
from gradcheck_cli.spec.layers.item import LayerItem
from gradcheck_cli.spec.model import Size


class MaxoutSpec(LayerItem):
    """A maxout layer: the largest of several dense maps for each unit, maxₖ (x w[u, k]ᵀ + b[u, k]).

    maxout: The number of units.
    pieces: The number of maps for each unit. In the weight, the rows of these maps are next to each other.
    """

    kind: ClassVar[str] = "maxout"

    maxout: Size
    pieces: Annotated[int, Field(ge=2, le=1000)] = 2

    def build(self, builder: Builder, value: int) -> int:
        refuse_images(builder, value, self.kind)
        dense = Dense(builder.features(value)[-1], self.maxout * self.pieces)
        return builder.add(Maxout.of_pieces(self.pieces), builder.add(dense, value))
