"""Perturb the elements of a network's values; `entry_moves` perturbs the entries of its parameters.

A value is x or the output of a step. `short_moves` evaluates short perturbations that reach the output
through dense layers; `at_rest.AtRest.above` evaluates all others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, TypeVar

import numpy as np

from gradcheck_cli.moving.at_rest import LONG_BLOCK_BYTES, NEAR, PART_BLOCK_BYTES, AtRest
from gradcheck_cli.moving.blocks import by_length, fitting, in_blocks, widest_above
from gradcheck_cli.moving.normalised import normalised_columns
from gradcheck_cli.moving.part_moves import PartMoves
from gradcheck_cli.moving.short_moves import Near, NearLosses
from gradcheck_cli.moving.small_products import short_inner_loops
from gradcheck_cli.network.row_rounding import FUNCTION_ULPS
from gradcheck_cli.network.steps.normalise import Normalise
from gradcheck_cli.network.steps.shift import Shift
from gradcheck_cli.numerical.objective import Moved, Spread
from gradcheck_cli.types import Array

Result = TypeVar("Result")


def near_rounding(objective: AtRest, output_rounding: Array) -> Array:
    """Return the rounding error of the losses of the N samples, (N,), after short steps.

    The result is in units of machine epsilon.

    output_rounding: the rounding error of the network's outputs, (N, *outputs), in units of machine epsilon.
    """
    return abs(objective.network.coefficient) * objective.loss_rounding(output_rounding)


def rounded(near: NearLosses, rounding: Array) -> Array:
    """Return the rounding error of the perturbed losses `near`, in units of machine epsilon.

    rounding: the rounding error of the unperturbed losses, in units of machine epsilon.
    """
    bound = np.maximum(rounding, np.abs(near.losses))
    np.copyto(bound, 0.0, where=near.silent)
    return bound


def deviation_of(objective: AtRest, value: int) -> Array | None:
    """Return the standard deviation by which the next step normalises a value.

    The deviation has the shape (N or 1, *features), for N samples. Returns None if no step normalises the
    value.
    """
    for i in objective.graph.readers[value]:
        step = objective.graph.nodes[i].step
        if isinstance(step, Normalise):
            return step.deviation(objective.values[value])
        if isinstance(step, Shift):
            return deviation_of(objective, i + 1)
    return None


def _units_of(objective: AtRest, value: int) -> Array:
    """Return the length of a step of one unit for each element of a value, (F, N).

    F is the number of features, and N the number of samples.

    The length is the deviation by which the next step normalises the value, or 1 if the value is not
    normalised.
    """
    shape, deviation = objective.values[value].shape, deviation_of(objective, value)
    in_shape = np.broadcast_to(1.0 if deviation is None else deviation, shape)
    return np.moveaxis(in_shape.reshape(shape[0], -1), 0, -1)


@dataclass(frozen=True)
class Moves:
    """Perturbs the value with index `at`.

    near: the object that evaluates short steps in the value or, if batch normalisation follows, in the
        normalised value. Longer steps are computed in full.
    """

    objective: AtRest
    at: int
    near: Near
    rest: ClassVar[None] = None
    exact: ClassVar[bool] = True

    @property
    def spread(self) -> Spread:
        return self.objective.spread

    @property
    def position(self) -> Array:
        raise NotImplementedError

    @property
    def unit(self) -> Array:
        raise NotImplementedError

    @property
    def _rows(self) -> int:
        """The number of samples to evaluate per perturbation: all, or 1 if only one sample can change."""
        return len(self.objective.target)

    @property
    def _is_short(self) -> bool:
        """Whether `near` can evaluate short steps."""
        return self.near.plain

    @property
    def batch(self) -> int:
        """The number of perturbations to evaluate at once.

        Short steps often skip the value `at`, which then needs no memory.
        """
        if not self._is_short:
            return self._long_batch
        return fitting(self.objective.block, self._widest * self._rows)

    @cached_property
    def _widest(self) -> int:
        """The number of elements that a short step needs for each sample."""
        own = self.near.in_rows or self.near.is_output
        return widest_above(self.objective.graph, self.near.at if own else self.near.first)

    @cached_property
    def _long_batch(self) -> int:
        """The number of long steps to evaluate at once."""
        return fitting(self._long_block, widest_above(self.objective.graph, self.at) * self._rows)

    @property
    def _long_block(self) -> int:
        return min(self.objective.block, LONG_BLOCK_BYTES)

    def move(self, which: Array, to: Array) -> Moved:
        with np.errstate(all="ignore"):
            return by_length(self._are_short(which, to), self._move_shortly, self._move_longer, which, to)

    def _are_short(self, which: Array, to: Array) -> Array:
        """Return a mask of the steps that `near` evaluates, (B,)."""
        if not self._is_short or to.dtype != np.float64:
            return np.zeros(len(which), dtype=bool)
        return np.abs(to - self.position.take(which)) <= NEAR * self.unit.take(which)

    def _move_shortly(self, which: Array, to: Array) -> Moved:
        with short_inner_loops():
            return self._move_near(which, to)

    def _move_longer(self, which: Array, to: Array) -> Moved:
        return in_blocks(self._move_far, self._long_batch, which, to)

    def _move_near(self, which: Array, to: Array) -> Moved:
        raise NotImplementedError

    def _move_far(self, which: Array, to: Array) -> Moved:
        raise NotImplementedError


@dataclass(frozen=True)
class UnitMoves(Moves):
    """Perturbs every element of a value, in C order of its shape (F, N), for F features and N samples.

    Each perturbation affects only its own sample.
    """

    @property
    def position(self) -> Array:
        return self.near.y.ravel()

    @property
    def _rows(self) -> int:
        return 1

    @cached_property
    def unit(self) -> Array:
        return _units_of(self.objective, self.at).ravel()

    @property
    def batch(self) -> int:
        """The number of perturbations to evaluate at once.

        If one perturbation of every sample fits into memory, the result is a multiple of the number of
        samples.
        """
        fitting, samples = super().batch, len(self.objective.target)
        return fitting if fitting < samples else fitting - fitting % samples

    @cached_property
    def _widest(self) -> int:
        """The number of elements that a short step needs. Few steps cannot use a linear stretch."""
        widest = super()._widest
        if self.near.is_output or self.near.in_rows or self.near.stretch is None:
            return widest
        return max(widest // 8, widest_above(self.objective.graph, self.near.stretch.output))

    @property
    def _near_rounding(self) -> Array:
        known = self.objective.roundings_near
        if self.at not in known:
            in_row = self.near.in_rows or self.near.is_output
            of_outputs = self._row_rounding if in_row else self._raised_rounding
            known[self.at] = near_rounding(self.objective, of_outputs)
        return known[self.at]

    @cached_property
    def _raised_rounding(self) -> Array:
        """The rounding error of the outputs, (N, C), if an activation's change is added to the next z.

        N is the number of samples, and C the number of outputs.
        """
        chain, objective = self.near.chain, self.objective
        assert chain is not None
        w = np.abs(objective.own[chain.above[0]]["weight"])
        terms = np.abs(objective.values[chain.rest]) @ w.T
        rounding = np.abs(objective.values[self.near.first]) + FUNCTION_ULPS * terms
        return objective.output_rounding(self.near.first, rounding)

    @cached_property
    def _row_rounding(self) -> Array:
        """The rounding error of the outputs, (N, C), if the perturbed elements themselves are exact.

        N is the number of samples, and C the number of outputs.
        """
        return self.objective.output_rounding(self.at, np.zeros_like(self.objective.values[self.at]))

    def _move_near(self, which: Array, to: Array) -> Moved:
        near, here = self._arranged(which, to, self.near.columns, self.near.singles)
        rounding = rounded(near, self._near_rounding[here])
        return Moved(near.losses.ravel(), rounding.ravel(), near.crossed.ravel())

    def _arranged(
        self,
        which: Array,
        numbers: Array,
        columns: Callable[[Array, slice, Array], Result],
        singles: Callable[[Array, Array, Array], Result],
    ) -> tuple[Result, Any]:
        """Return the result of `columns` for whole columns or a part of one, and of `singles` otherwise.

        The result comes with the index of its samples.

        numbers: a number for each of the B elements `which`, (B,).
        """
        samples = len(self.objective.target)
        first, count = int(which[0]), len(which)
        feature, sample = divmod(first, samples)
        in_order = int(which[-1]) - first + 1 == count and bool((which[1:] - which[:-1] == 1).all())
        if in_order and count % samples == 0 and sample == 0:
            here = slice(None)
            features = np.arange(feature, feature + count // samples)
            return columns(features, here, numbers.reshape(-1, samples)), here
        if in_order and sample + count <= samples:
            here = slice(sample, sample + count)
            return columns(np.array([feature]), here, numbers[None]), here
        features, at = np.divmod(which, samples)
        return singles(features, at, numbers), at

    def _move_far(self, which: Array, to: Array) -> Moved:
        features, samples = np.divmod(which, len(self.objective.target))
        if self.near.chain is None or self.near.activation.coupled:
            return self._move_in_row(samples, features, to)
        objective, near = self.objective, self.near
        a, changed = self._activated(features, samples, to)
        rise = a - near.rest[features, samples]
        if near.is_output:
            losses, rounding, crossed = self._move_in_row(samples, features, to)
            return Moved(losses, np.where((rise == 0) & (a == 0), 0.0, rounding), crossed)
        # Only this unit's a changes, so the output of the next dense step changes by an outer product.
        w = objective.own[near.first - 1]["weight"]
        z = objective.values[near.first][samples] + rise[:, None] * w.T[features]
        losses, rounding, crossed = objective.above(
            near.first, z, samples, self._raised_rounding, itself=False
        )
        # A unit that is off is exactly 0, and a unit that cannot affect the output changes nothing.
        silent = ((rise == 0) & (a == 0)) | ~near.heard[features]
        rounding = np.where(silent, 0.0, rounding)
        if changed is not None:
            np.logical_or(crossed, changed, out=crossed)
        return Moved(losses, rounding, crossed)

    def _activated(self, features: Array, samples: Array, to: Array) -> tuple[Array, Array | None]:
        """Return the activations of the moved elements, and a mask of the elements that crossed a kink.

        The mask is None if the activation has no kink.
        """
        chain = self.near.chain
        assert chain is not None
        if chain.activation is None or self.near.pieces is None:
            return self.near.activation.value(to), None
        return self.objective.activate(
            chain.activation, to, lambda array: array.reshape(len(array), -1)[samples, features]
        )

    @cached_property
    def _parts(self) -> PartMoves:
        return PartMoves(self.objective, self.at, self._row_rounding)

    @cached_property
    def _long_batch(self) -> int:
        if self.near.chain is None and self._parts.plain:
            return fitting(min(self.objective.block, PART_BLOCK_BYTES), self._parts.widest)
        return super()._long_batch

    def _move_in_row(self, samples: Array, features: Array, to: Array) -> Moved:
        if self._parts.plain and to.dtype == np.float64:
            moved = self._parts.move(samples, features, to)
        else:
            moved = self._move_whole(samples, features, to)
        heard = self.objective.heard[self.at].ravel()[features]
        return moved._replace(rounding=np.where(heard, moved.rounding, 0.0))

    def _move_whole(self, samples: Array, features: Array, to: Array) -> Moved:
        """Return the losses after perturbing one element in each of several samples.

        Whole samples are evaluated.
        """
        value = self.objective.values[self.at][samples].astype(to.dtype, copy=False)
        value = np.ascontiguousarray(value)  # otherwise, reshape may return a copy
        value.reshape(len(to), -1)[np.arange(len(to)), features] = to
        return self.objective.above(self.at, value, samples, self._row_rounding)


@dataclass(frozen=True)
class BatchMoves(Moves):
    """Perturbs every element of a value that feeds a step that couples the samples.

    The elements are in C order of the shape (F, N), for F features and N samples. Each sample has its own
    copy of the weights, so no other element of the value changes. But the losses of all samples change.
    """

    @property
    def _value(self) -> Array:
        return self.objective.values[self.at]

    @cached_property
    def position(self) -> Array:
        return self._value.reshape(len(self._value), -1).T.ravel()

    @cached_property
    def unit(self) -> Array:
        """The length of a step of one unit, for each element: a normalised value's deviation, otherwise 1."""
        return _units_of(self.objective, self.at).ravel()

    @cached_property
    def _output_rounding(self) -> Array:
        return self.objective.output_rounding(self.at, np.zeros_like(self._value))

    @cached_property
    def _near_rounding(self) -> Array:
        return near_rounding(self.objective, self._output_rounding)

    @property
    def _is_short(self) -> bool:
        """Whether a perturbation changes only one column of the batch-normalised value y = γ ẑ + β.

        The answer is yes if batch normalisation follows directly and nothing later couples the samples.
        """
        return self.near.plain and self.near.at != self.at

    def _move_near(self, which: Array, to: Array) -> Moved:
        features, samples = np.divmod(which, len(self._value))
        z = self._value.T[features]
        z[np.arange(len(which)), samples] = to
        near = self.near.columns(
            features, slice(None), normalised_columns(self.objective, self.at, features, z)
        )
        return Moved(near.losses, rounded(near, self._near_rounding), np.any(near.crossed, axis=-1))

    def _move_far(self, which: Array, to: Array) -> Moved:
        value = np.repeat(self._value[None].astype(to.dtype, copy=False), len(which), axis=0)
        features, samples = np.divmod(which, len(self._value))
        value.reshape(len(which), len(self._value), -1)[np.arange(len(which)), samples, features] = to
        losses, rounding, crossed = self.objective.above(self.at, value, slice(None), self._output_rounding)
        heard = self.objective.heard[self.at].ravel()[features]
        return Moved(losses, np.where(heard[:, None], rounding, 0.0), np.asarray(crossed.any(axis=-1)))
