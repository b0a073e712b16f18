"""How a parameter w enters the output z of a step: z = J w + c. The elements of J are called factors.

J is never built; only sums over it are computed. The output has shape (F, N): the F features of a sample in C
order, for each of N samples. The gradient of an entry of w is a sum over all features of all samples that
depend on the entry.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True)
class Channels:
    """The shape of a step's output, and the axis of its units.

    The units match the first axis of the step's parameter.

    features: the shape of one sample of the output.
    """

    features: Shape
    axis: int = 0

    @property
    def units(self) -> int:
        return self.features[self.axis]

    @property
    def positions(self) -> Shape:
        return (*self.features[: self.axis], *self.features[self.axis + 1 :])

    def spread_over(self, features: Shape) -> Channels | None:
        """Return the same channels in an output of shape `features`, with as many numbers before and after.

        Returns None if the units are not along a single axis of `features`.
        """
        before = math.prod(self.features[: self.axis])
        for axis, size in enumerate(features):
            if size == self.units and math.prod(features[:axis]) == before:
                return Channels(features, axis)
        return None

    def by_unit(self, numbers: Array) -> Array:
        """Reshape an array of F features and N samples, (F, N), to (units, positions · N).

        F = units · positions.
        """
        if len(self.features) == 1:
            return numbers
        in_axes = numbers.reshape(*self.features, -1)
        return np.moveaxis(in_axes, self.axis, 0).reshape(self.units, -1)

    def of(self, units: Array) -> Array:
        """Return the indices, in C order, of the features that belong to the given units."""
        return np.arange(math.prod(self.features)).reshape(self.features).take(units, axis=self.axis).ravel()

    def only(self, units: Array) -> Channels:
        """Return a copy restricted to the given units."""
        count = (*self.features[: self.axis], len(units), *self.features[self.axis + 1 :])
        return Channels(count, self.axis)

    def fed_by(self, units: Array) -> Array:
        """Return a mask of the features that belong to the marked units, (F,) for F features.

        units: a mask of the units, (units,).
        """
        spread = [1] * len(self.features)
        spread[self.axis] = -1
        return np.broadcast_to(units.reshape(spread), self.features).ravel()


@dataclass(frozen=True)
class Rows:
    """Factors of a weight w (units, K) in z = a wᵀ: for row r of a, entry (j, k) of w is multiplied by a_rk.

    rows: the array a, (groups, R, K). For N samples, there are R = positions · N rows. Each row holds the K
        inputs of a dense step or the K numbers of a convolution's patch. The units are split evenly among the
        groups.
    shape: the shape of w, whose K entries for one unit may have several axes.
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
        """Return, for every entry (j, k) of the parameter, the largest |a_rk| over all rows r."""
        largest = np.abs(self.rows).max(axis=1)
        return np.repeat(largest, self.channels.units // len(largest), axis=0).reshape(self.shape)

    def least(self, numbers: Array) -> Array:
        """Return, for each entry of the parameter, the smallest number among all features that it affects.

        numbers: one number for each of the F features, (F,).
        """
        by_unit = self.channels.by_unit(numbers[:, None]).min(axis=1)
        return np.broadcast_to(by_unit.reshape(-1, *(1,) * (len(self.shape) - 1)), self.shape)

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
    """Factors of a bias: entry j is multiplied by 1 in every feature that belongs to unit j.

    shape: the shape of the parameter, whose entries are the units in C order.
    """

    channels: Channels
    shape: Shape

    def sums(self, d: Array) -> Array:
        total: Array = self.channels.by_unit(d).sum(axis=1)
        return total.reshape(self.shape)

    def sizes(self, u: Array) -> Array:
        return self.sums(u)

    def squares(self, u: Array) -> Array:
        errors, scale = _at_most_one(self.channels.by_unit(u), axis=-1)
        error: Array = np.sqrt((errors * errors).sum(axis=1)) * scale[:, 0]
        return error.reshape(self.shape)

    def reach(self) -> Array:
        return np.ones(self.shape)

    def least(self, numbers: Array) -> Array:
        return self.channels.by_unit(numbers[:, None]).min(axis=1).reshape(self.shape)

    def feeding(self, entries: Array) -> Array:
        return self.channels.fed_by(entries.ravel())

    def of(self, units: Array) -> Array:
        return self.channels.of(self._units(units))

    def only(self, units: Array) -> Ones:
        return Ones(self.channels.only(self._units(units)), (len(units), *self.shape[1:]))

    def _units(self, rows: Array) -> Array:
        """Return the units that belong to the given rows of the parameter."""
        return np.arange(self.channels.units).reshape(self.shape)[rows].ravel()


@dataclass(frozen=True)
class Own:
    """Factors of a scale such as γ in y = γ ẑ + β: each entry is multiplied by known values such as ẑ.

    factor: the known values, (F, N), for F features and N samples.
    ones: the factors of a bias of the same shape, such as β.
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
        return self.ones.reach()

    def least(self, numbers: Array) -> Array:
        return self.ones.least(numbers)

    def feeding(self, entries: Array) -> Array:
        return self.ones.feeding(entries)

    def of(self, units: Array) -> Array:
        return self.ones.of(units)

    def only(self, units: Array) -> Own:
        return replace(self, factor=self.factor[self.ones.of(units)], ones=self.ones.only(units))


@dataclass(frozen=True)
class Picked:
    """Factors of an embedding: entry (v, k) is multiplied by 1 in feature k of each position with token v.

    tokens: the row of the weight that each position of each sample looks up, or −1 for no row, (P, N), for P
        positions and N samples.
    shape: the shape of the weight or of some of its rows, (rows, K).
    """

    tokens: Array
    shape: Shape

    def sums(self, d: Array) -> Array:
        total = np.zeros((self.shape[0] + 1, self.shape[1]), d.dtype)  # the last row is for no token
        in_rows = np.moveaxis(d.reshape(len(self.tokens), -1, self.tokens.shape[1]), 1, -1)
        np.add.at(total, self.tokens.ravel(), in_rows.reshape(self.tokens.size, -1))
        return total[:-1]

    def sizes(self, u: Array) -> Array:
        return self.sums(u)

    def squares(self, u: Array) -> Array:
        scale = float(u.max(initial=0.0)) or 1.0
        return scale * np.sqrt(self.sums(np.square(u / scale)))

    def reach(self) -> Array:
        return np.ones(self.shape)

    def least(self, numbers: Array) -> Array:
        return np.broadcast_to(numbers.reshape(-1, self.shape[1]).min(axis=0), self.shape)

    def feeding(self, entries: Array) -> Array:
        marked = np.concatenate([entries, np.zeros((1, self.shape[1]), dtype=bool)])
        return np.asarray(marked[self.tokens].any(axis=1)).ravel()  # (P, N, K) to (P · K)

    def of(self, units: Array) -> Array:
        return np.arange(len(self.tokens) * self.shape[1])  # any position may look up any row

    def only(self, units: Array) -> Picked:
        number = np.full(self.shape[0] + 1, -1)
        number[units] = np.arange(len(units))
        return Picked(number[self.tokens], (len(units), self.shape[1]))


@dataclass(frozen=True)
class InputUnits:
    """A map from each input channel of a transposed convolution to the output channels that it affects.

    features: the shape of one sample of the output.
    groups: the number of groups of channels.
    units: the number of input channels, split evenly among the groups.
    """

    features: Shape
    groups: int
    units: int

    def by_unit(self, numbers: Array) -> Array:
        """Return, for each input channel, the numbers of the features that it affects.

        The shape is (units, F / groups · N), for F output features and N samples.

        numbers: one number for each feature and sample, (F, N).
        """
        return np.repeat(numbers.reshape(self.groups, -1), self.units // self.groups, axis=0)


@dataclass(frozen=True)
class Spread:
    """Factors of the weight [in, out / groups, *kernel] of a transposed convolution.

    rows: the inputs that each position of the output depends on,
        (groups, positions · N, in / groups · kernel), for N samples.
    units: the indices of the input channels whose weights have these factors.
    """

    rows: Array
    channels: InputUnits
    shape: Shape
    units: Array

    def sums(self, d: Array) -> Array:
        return self._over(d, self.rows)

    def sizes(self, u: Array) -> Array:
        return self._over(u, np.abs(self.rows))

    def squares(self, u: Array) -> Array:
        scale = max(float(np.abs(u).max(initial=0.0)), np.finfo(np.float64).tiny)
        weight = max(float(np.abs(self.rows).max(initial=0.0)), np.finfo(np.float64).tiny)
        return np.sqrt(self._over((u / scale) ** 2, (self.rows / weight) ** 2)) * (scale * weight)

    def _over(self, numbers: Array, rows: Array) -> Array:
        groups, (inputs, outputs, *kernel) = len(rows), self.shape
        by_output = numbers.reshape(groups, outputs, -1)
        sums = np.matmul(by_output, rows).reshape(groups, outputs, inputs // groups, *kernel)
        return np.swapaxes(sums, 1, 2).reshape(self.shape)[self.units]

    def reach(self) -> Array:
        inputs, outputs, *kernel = self.shape
        largest = np.abs(self.rows).max(axis=1).reshape(inputs, 1, *kernel)
        return np.repeat(largest, outputs, axis=1)[self.units]

    def least(self, numbers: Array) -> Array:
        """Return, for each entry of the parameter, the smallest number among all features that it affects.

        numbers: one number for each of the F features, (F,).
        """
        by_unit = self.channels.by_unit(numbers[:, None]).min(axis=1)[self.units]
        spread = by_unit.reshape(-1, *(1,) * (len(self.shape) - 1))
        return np.broadcast_to(spread, (len(by_unit), *self.shape[1:]))

    def feeding(self, entries: Array) -> Array:
        groups, (inputs, outputs) = len(self.rows), self.shape[:2]
        full = np.zeros(self.shape, dtype=bool)
        full[self.units] = entries
        by_output = full.reshape(groups, inputs // groups, outputs, -1).any(axis=(1, 3)).ravel()
        return np.repeat(by_output, math.prod(self.channels.features) // by_output.size)

    def of(self, units: Array) -> Array:
        return np.arange(math.prod(self.channels.features))

    def only(self, units: Array) -> Spread:
        return replace(self, units=self.units[units])


class Factors(Protocol):
    """How one parameter w enters the output z of a step: z = J w + c.

    The arrays d and u that methods take have the shape of z, (F, N), for F features and N samples.
    """

    def sums(self, d: Array) -> Array:
        """Return Jᵀ d in the parameter's shape. J is from z = J w + c."""

    def sizes(self, u: Array) -> Array:
        """Return |J|ᵀ u in the parameter's shape. J is from z = J w + c."""

    def squares(self, u: Array) -> Array:
        """Return √((J ∘ J)ᵀ u²), the error of Jᵀ d if d has independent errors u. J is from z = J w + c."""

    def reach(self) -> Array:
        """Return, for every entry, the largest absolute value of its factors.

        If the result is 1, the length of a step is in units of the entry itself.
        """

    def least(self, numbers: Array) -> Array:
        """Return, for each entry of the parameter, the smallest number of any feature that the entry affects.

        numbers: one number for each of the F features, (F,).
        """

    def feeding(self, entries: Array) -> Array:
        """Return a mask of the features that depend on the marked entries, (F,) for F features."""

    def of(self, units: Array) -> Array:
        """Return the indices of the features that `only(units)` keeps.

        units: indices along the parameter's first axis.
        """

    def only(self, units: Array) -> Factors:
        """Return the factors of the given units alone.

        units: indices along the parameter's first axis.
        """


def _at_most_one(numbers: Array, axis: int) -> tuple[Array, Array]:
    """Divide the numbers by their largest absolute values along an axis.

    Returns the quotients and the largest absolute values.
    """
    scale = np.abs(numbers).max(axis=axis, keepdims=True)
    return numbers / np.where(scale > 0, scale, 1.0), scale
