"""How a parameter w enters the output of a step, z = J w + c. J is never built, only summed over.

The output's numbers have shape (F, N): the F features of a sample in C order, for each of N samples. Every
sample has its own copy of the parameter, so an entry's gradient is a sum over all numbers that depend on it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True)
class Channels:
    """The features of an output; one axis holds the units, which match the parameter's first axis."""

    features: Shape
    axis: int = 0

    @property
    def units(self) -> int:
        return self.features[self.axis]

    def by_unit(self, numbers: Array) -> Array:
        """Reshape numbers (F, N) to (units, positions · N)."""
        if len(self.features) == 1:
            return numbers
        in_axes = numbers.reshape(*self.features, -1)
        return np.moveaxis(in_axes, self.axis, 0).reshape(self.units, -1)

    def of(self, units: Array) -> Array:
        """Return the indices of the features, in C order, that belong to these units."""
        return np.arange(math.prod(self.features)).reshape(self.features).take(units, axis=self.axis).ravel()

    def only(self, units: Array) -> Channels:
        """Return a copy restricted to these units."""
        count = (*self.features[: self.axis], len(units), *self.features[self.axis + 1 :])
        return Channels(count, self.axis)

    def fed_by(self, units: Array) -> Array:
        """Return a mask of the features (F,) that belong to the marked units.

        units: a mask (units,).
        """
        spread = [1] * len(self.features)
        spread[self.axis] = -1
        return np.broadcast_to(units.reshape(spread), self.features).ravel()


@dataclass(frozen=True)
class Rows:
    """Factors of a weight: in row r, entry (j, k) is multiplied by a_rk, an input or a number of a patch.

    rows: a (groups, R, K) for R = positions · N rows of K inputs; units are split evenly among the groups.
    """

    rows: Array
    channels: Channels
    shape: Shape

    def sums(self, d: Array) -> Array:
        return self._over(self.channels.by_unit(d), self.rows)

    def sizes(self, u: Array) -> Array:
        return self._over(self.channels.by_unit(u), np.abs(self.rows))

    def squares(self, u: Array) -> Array:
        # Scale to at most 1 before squaring: nothing can overflow, and what underflows is negligible.
        errors, error_scale = _at_most_one(self.channels.by_unit(u), axis=-1)
        weights, weight_scale = _at_most_one(self.rows, axis=-2)
        error = self._over(errors * errors, weights * weights)
        np.sqrt(error, out=error)
        parts = error.reshape(len(self.rows), -1, self.rows.shape[-1])
        parts *= error_scale.reshape(len(self.rows), -1, 1)
        parts *= weight_scale
        return error

    def _over(self, numbers: Array, rows: Array) -> Array:
        if len(rows) == 1:
            return (numbers @ rows[0]).reshape(self.shape)
        return np.matmul(numbers.reshape(len(rows), -1, numbers.shape[-1]), rows).reshape(self.shape)

    def reach(self) -> Array:
        """Return the largest |a_rk| over all rows r for every entry (j, k), in the shape of the parameter."""
        largest = np.abs(self.rows).max(axis=1)
        return np.repeat(largest, self.channels.units // len(largest), axis=0).reshape(self.shape)

    def feeding(self, entries: Array) -> Array:
        units = np.asarray(entries.reshape(len(entries), -1).any(axis=1))
        return self.channels.fed_by(units)

    def of(self, units: Array) -> Array:
        return self.channels.of(units)

    def only(self, units: Array) -> Rows:
        rows = self.rows
        if len(rows) > 1:  # groups may now differ in size, so each unit becomes its own group
            rows = rows[units * len(rows) // self.channels.units]
        return Rows(rows, self.channels.only(units), (len(units), *self.shape[1:]))


@dataclass(frozen=True)
class Ones:
    """Factors of a bias: entry j is multiplied by 1 in every row of unit j."""

    channels: Channels

    def sums(self, d: Array) -> Array:
        total: Array = self.channels.by_unit(d).sum(axis=1)
        return total

    def sizes(self, u: Array) -> Array:
        return self.sums(u)

    def squares(self, u: Array) -> Array:
        errors, scale = _at_most_one(self.channels.by_unit(u), axis=-1)
        error: Array = np.sqrt((errors * errors).sum(axis=1)) * scale[:, 0]
        return error

    def reach(self) -> Array:
        return np.ones(self.channels.units)

    def feeding(self, entries: Array) -> Array:
        return self.channels.fed_by(entries)

    def of(self, units: Array) -> Array:
        return self.channels.of(units)

    def only(self, units: Array) -> Ones:
        return Ones(self.channels.only(units))


@dataclass(frozen=True)
class Own:
    """Factors of a scale such as γ in y = γ ẑ + β: entry j is multiplied by a given number in each row.

    factor: the numbers (F, N), such as ẑ.
    """

    factor: Array
    ones: Ones

    @property
    def channels(self) -> Channels:
        return self.ones.channels

    def sums(self, d: Array) -> Array:
        return self.ones.sums(d * self.factor)

    def sizes(self, u: Array) -> Array:
        return self.ones.sums(u * np.abs(self.factor))

    def squares(self, u: Array) -> Array:
        return self.ones.squares(u * np.abs(self.factor))

    def reach(self) -> Array:
        return np.ones(self.channels.units)

    def feeding(self, entries: Array) -> Array:
        return self.ones.feeding(entries)

    def of(self, units: Array) -> Array:
        return self.channels.of(units)

    def only(self, units: Array) -> Own:
        return replace(self, factor=self.factor[self.channels.of(units)], ones=self.ones.only(units))


Factors = Rows | Ones | Own


def _at_most_one(numbers: Array, axis: int) -> tuple[Array, Array]:
    """Return the numbers scaled to at most 1 in absolute value along the axis, and the scale."""
    scale = np.abs(numbers).max(axis=axis, keepdims=True)
    return numbers / np.where(scale > 0, scale, 1.0), scale
