"""Change the entries of a parameter by short steps, and return the rises of the losses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gradcheck_cli.moving.at_rest import PART_BLOCK_BYTES
from gradcheck_cli.moving.blocks import fitting
from gradcheck_cli.moving.entry_moves import ChannelEntryMoves
from gradcheck_cli.moving.observed_rounding import observed_share
from gradcheck_cli.moving.part_rises import PartRises
from gradcheck_cli.network.factors import Channels, Factors, Own, Rows
from gradcheck_cli.network.sensitivity import PRODUCT_ULPS
from gradcheck_cli.numerical.objective import Moved
from gradcheck_cli.types import Array


@dataclass(frozen=True)
class RisingEntries(ChannelEntryMoves):
    """Perturbs entries that each change one channel of the step's output, if the losses' rises are known."""

    rises: PartRises

    @property
    def known(self) -> bool:
        """Whether the rises are known, and how each entry enters its channel."""
        return self.rises.known and self._channels is not None

    @property
    def _is_by_parts(self) -> bool:
        return self.rises.plain

    @property
    def batch(self) -> int:
        """The number of perturbations to evaluate at once."""
        numbers = self.rises.widest_of(self._fixed(np.zeros(1, dtype=np.intp)))
        return fitting(min(self.objective.block, PART_BLOCK_BYTES), numbers * len(self.objective.target))

    def rise(self, which: Array, by: Array) -> Moved:
        """Return B changes of the batch's loss. For change i, only the entry `which[i]` grows by `by[i]`.

        which, by: (B,).
        """
        changes, samples = self._changes(which, by), len(self.objective.target)
        copies = np.tile(np.arange(samples), len(which))
        fixed = self._fixed(np.repeat(self._units_of(which), samples))
        with np.errstate(all="ignore"):
            rises, crossed = self.rises.rise(copies, fixed, changes)
        terms = rises.reshape(len(which), -1)
        rounding = self._slope_rounding[which] * np.abs(by) + np.sqrt(samples) * np.abs(terms).sum(axis=1)
        return Moved(terms.sum(axis=1), rounding, np.asarray(crossed.reshape(len(which), -1).any(axis=1)))

    @cached_property
    def _slope_rounding(self) -> Array:
        """Bounds on the rounding errors of the slopes, in units of machine epsilon, (P,) for P entries."""
        assert self._factors is not None
        sensitivity = self.rises.rounding.of(self.at)
        error = observed_share(self.rises) * sensitivity.error + PRODUCT_ULPS * sensitivity.terms
        return self._factors.sizes(error.T).ravel()

    def _changes(self, which: Array, by: Array) -> Array:
        """Return the changes of the entries' channels in N samples, (B · N, *positions)."""
        table, rows = self._factor_table
        assert self._channels is not None
        changes = by[:, None, None] * table[rows[which]]
        return changes.reshape(-1, *self._channels.positions)

    @cached_property
    def _factor_table(self) -> tuple[Array, Array]:
        """All factors of the channels' positions, (T, N, positions), and each entry's row in them, (P,)."""
        assert self._factors is not None
        assert self._channels is not None
        return _table(self._factors, self._channels, len(self.objective.target), len(self.position))


def _table(factors: Factors, channels: Channels, samples: int, entries: int) -> tuple[Array, Array]:
    each, count = np.arange(entries), math.prod(channels.positions)
    if isinstance(factors, Rows):
        groups, _, inputs = factors.rows.shape
        by_position = factors.rows.reshape(groups, count, samples, inputs)
        table = np.ascontiguousarray(by_position.transpose(0, 3, 2, 1)).reshape(-1, samples, count)
        return table, each // inputs * groups // channels.units * inputs + each % inputs
    if isinstance(factors, Own):
        by_unit = factors.channels.by_unit(factors.factor).reshape(-1, count, samples)
        return np.ascontiguousarray(by_unit.transpose(0, 2, 1)), each
    return np.ones((1, samples, count)), np.zeros_like(each)
