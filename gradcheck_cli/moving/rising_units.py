"""Change the elements of a value by short steps, and return the rises of the losses."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gradcheck_cli.moving.movables import UnitMoves
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
        """Bounds on the rounding errors of the slopes, in units of machine epsilon."""
        return np.ascontiguousarray(self.rises.rounding.of(self.at).error.T).ravel()
