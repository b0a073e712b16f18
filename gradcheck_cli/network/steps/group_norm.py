"""Group normalisation: ẑ = (z − mean z) / √(var z + eps) over the channels of a group and all positions.

    ∂L/∂z = (g − mean g − ẑ mean(g ẑ)) / √(var z + eps), g = ∂L/∂ẑ        means over the group

γ and β, one of each per channel, belong to a separate step, `Scale`. With one channel in each group, this is
instance normalisation; with a single group, it normalises each sample as a whole.
(Y. Wu and K. He, "Group normalization", ECCV 2018; D. Ulyanov et al., "Instance normalization", 2016.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gradcheck_cli.network.part import Part, Resting, Valued
from gradcheck_cli.network.step import Arrays, Couples
from gradcheck_cli.network.steps.normalise import Normalise
from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True, kw_only=True)
class GroupNormalise(Normalise):
    """Normalise z within each of `groups` groups of neighbouring channels.

    z has the shape (…, N, channels, *positions), for N samples.
    """

    groups: int
    positions: int = 0
    axes: tuple[int, ...] = ()
    couples: Couples = "row"

    @property
    def _over(self) -> str:
        return "each group of channels of a sample"

    @property
    def label(self) -> str:
        return f"group_norm {self.groups}"

    def mean_of(self, array: Array) -> Array:
        """Return the mean of each group, repeated for each of the group's channels.

        The shape is (…, N, channels, 1, …, 1), for N samples, with a 1 for each position axis.
        """
        first = array.ndim - 1 - self.positions
        channels, ones = array.shape[first], (1,) * self.positions
        means = array.reshape(*array.shape[:first], self.groups, -1).mean(axis=-1)
        return np.repeat(means, channels // self.groups, axis=-1).reshape(*array.shape[: first + 1], *ones)

    def in_rows(self, array: Array) -> Array:
        first = array.ndim - 1 - self.positions
        return array.reshape(*array.shape[:first], self.groups, -1)

    def _evaluated(self, x: Part, output: Resting) -> Part:
        return Valued(output, output.all, self.forward({}, x.whole))

    def count(self, shape: Shape) -> int:
        return math.prod(shape[len(shape) - 1 - self.positions :]) // self.groups

    def heard(self, p: Arrays, features: tuple[Shape, ...], above: Array) -> tuple[Array, ...]:
        by_group = above.reshape(self.groups, -1)
        return (np.broadcast_to(by_group.any(axis=1, keepdims=True), by_group.shape).reshape(features[0]),)
