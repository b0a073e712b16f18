"""Change the elements of a value by short steps, and return the rises of the losses."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gradcheck_cli.moving.at_rest import PART_BLOCK_BYTES
from gradcheck_cli.moving.blocks import fitting
from gradcheck_cli.moving.movables import UnitMoves
from gradcheck_cli.moving.observed_rounding import observed_share
from gradcheck_cli.moving.part_rises import PartRises
from gradcheck_cli.moving.rises import Rises
from gradcheck_cli.moving.small_products import short_inner_loops
from gradcheck_cli.numerical.objective import Moved
from gradcheck_cli.types import Array


@dataclass(frozen=True)
class RisingUnits(UnitMoves):
    """Perturbs every element of a value whose rises are known up to the losses."""

    rises: Rises

    @property
    def batch(self) -> int:
        """The number of perturbations to evaluate at once. Rises need more temporary arrays than losses."""
        samples, fitting = len(self.objective.target), super().batch // 2
        return max(1, fitting if fitting < samples else fitting - fitting % samples)

    def rise(self, which: Array, by: Array) -> Moved:
        """Return the changes of B losses. For loss i, only the element at index `which[i]` grows by `by[i]`.

        which, by: (B,).
        """
        with np.errstate(all="ignore"), short_inner_loops():
            (rises, crossed), _ = self._arranged(which, by, self.rises.columns, self.rises.singles)
        rounding = self._slope_rounding[which] * np.abs(by)
        return Moved(rises.ravel(), rounding, np.broadcast_to(crossed, rises.shape).ravel())

    @cached_property
    def _slope_rounding(self) -> Array:
        return slope_rounding(PartRises(self.objective, self.at, self.rises.rounding))


@dataclass(frozen=True)
class RisingPartUnits(UnitMoves):
    """Perturbs every element of a value below convolutions, pooling and the like, whose rises are known."""

    rises: PartRises

    @cached_property
    def _long_batch(self) -> int:
        return fitting(min(self.objective.block, PART_BLOCK_BYTES), self.rises.widest)

    def rise(self, which: Array, by: Array) -> Moved:
        """Return the changes of B losses. For loss i, only the element at index `which[i]` grows by `by[i]`.

        which, by: (B,).
        """
        features, samples = np.divmod(which, len(self.objective.target))
        position = np.unravel_index(features, self.objective.graph.value_features[self.at])
        with np.errstate(all="ignore"):
            rises, crossed = self.rises.rise(samples, tuple(position), by)
        return Moved(rises, self._slope_rounding[which] * np.abs(by), crossed)

    @cached_property
    def _slope_rounding(self) -> Array:
        return slope_rounding(self.rises)


def slope_rounding(rises: PartRises) -> Array:
    """Return bounds on the rounding errors of the slopes of a value, (F · N,), in units of machine epsilon.

    The value has F features of N samples.
    """
    return observed_share(rises) * np.ascontiguousarray(rises.rounding.of(rises.at).error.T).ravel()
