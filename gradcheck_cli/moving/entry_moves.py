"""Perturb the entries of a network's parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from gradcheck_cli.moving.at_rest import PART_BLOCK_BYTES, AtRest, Evaluate
from gradcheck_cli.moving.blocks import fitting
from gradcheck_cli.moving.movables import Moves, deviation_of, near_rounding, rounded
from gradcheck_cli.moving.normalised import normalised_columns
from gradcheck_cli.moving.part_moves import PartMoves
from gradcheck_cli.moving.short_moves import Near
from gradcheck_cli.network.arithmetic import NUDGED
from gradcheck_cli.network.factors import Channels, Factors, Ones, Own, Rows
from gradcheck_cli.network.part import Fixed
from gradcheck_cli.network.steps.dense import Dense
from gradcheck_cli.network.steps.normalise import Scale
from gradcheck_cli.numerical.objective import Moved
from gradcheck_cli.types import Array


@dataclass(frozen=True)
class EntryMoves(Moves):
    """Perturbs every entry of one parameter, one entry at a time, for the whole batch.

    at: the index of the output of the step that uses the parameter.
    own: the parameter's name in that step.
    """

    own: str

    @property
    def _is_short(self) -> bool:
        return False

    @property
    def _node(self) -> int:
        return self.at - 1

    @property
    def _parameter(self) -> Array:
        return self.objective.own[self._node][self.own]

    @property
    def _inputs(self) -> tuple[Array, ...]:
        return tuple(self.objective.values[k] for k in self.objective.graph.nodes[self._node].inputs)

    @cached_property
    def position(self) -> Array:
        return self._parameter.ravel()

    @cached_property
    def unit(self) -> Array:
        """The length of one unit of step for each entry.

        A step of one unit changes the output of the entry's network step by at most 1 or, if the output is
        normalised, by at most its standard deviation over the batch.
        """
        if self._factors is None:
            return np.ones(len(self.position))
        reach = self._factors.reach()
        reach = np.where(reach > np.finfo(np.float64).tiny, reach, 1.0)
        deviation = deviation_of(self.objective, self.at)
        if deviation is None:
            return (1.0 / reach).ravel()
        features = self.objective.graph.value_features[self.at]
        least = np.broadcast_to(deviation.min(axis=0), features).ravel()
        return (self._factors.least(least) / reach).ravel()

    @cached_property
    def _factors(self) -> Factors | None:
        return self.objective.graph.nodes[self._node].step.factors(self.own, self._inputs)

    @cached_property
    def _output_rounding(self) -> Array:
        """The rounding error that the step's own rounding causes in the network's outputs.

        The result has the shape (N, *outputs), for N samples, and is in units of machine epsilon.
        """
        known = self.objective.roundings_if_moved
        if self.at not in known:  # the same for every parameter of the step
            known[self.at] = self.objective.output_rounding(self.at, self._own_rounding)
        return known[self.at]

    @property
    def _own_rounding(self) -> Array:
        """The rounding error of the step's output for exact inputs, in units of machine epsilon."""
        return self.objective.error_if_moved(self._node) / NUDGED.eps

    def _move_far(self, which: Array, to: Array) -> Moved:
        node, own = self.objective.graph.nodes[self._node], self.objective.own[self._node]
        value = self.objective.values[self.at]
        moved = node.step.with_entries(own, self.own, which, to, self._inputs, value)
        return self._moved(which, self.objective.above(self.at, moved, slice(None), self._output_rounding))

    def _moved(self, which: Array, moved: Moved) -> Moved:
        """Return the losses, (B, N), with a rounding error of 0 for entries that cannot affect the output.

        which: the index of the perturbed entry for each row of losses.
        """
        losses, rounding, crossed = moved
        if not self._noticed.all():
            rounding = np.where(self._noticed[which][:, None], rounding, 0.0)
        return Moved(losses, rounding, np.asarray(crossed.reshape(len(which), -1).any(axis=-1)))

    def evaluate(self, which: Array, to: Array, inputs: Sequence[Array]) -> Array:
        """Return B perturbed outputs of the step, (B, N, *out), for N samples.

        In output b, entry which[b] of the parameter is set to to[b].

        inputs: the step's inputs. An input has the shape (N, …), or (B, N, …) if it is perturbed, too.
        """
        node, p = self.objective.graph.nodes[self._node], self.objective.own[self._node]
        is_moved = [value.ndim > rest.ndim for value, rest in zip(inputs, self._inputs, strict=True)]
        each = [
            tuple(value[b] if moved else value for value, moved in zip(inputs, is_moved, strict=True))
            for b in range(len(which))
        ]
        return node.step.each_with_entries(p, self.own, which, to, each)

    @cached_property
    def _noticed(self) -> Array:
        """Whether each of the parameter's P entries can affect the network's output, (P,)."""
        constant = self.objective.graph.nodes[self._node].step.constant(self.own)
        noticed = np.ones(self._parameter.shape, dtype=bool) if constant is None else ~constant
        if self._factors is not None:
            noticed = noticed & ~self._factors.least(~self.objective.heard[self.at].ravel())
        return noticed.ravel()


@dataclass(frozen=True)
class ChannelEntryMoves(EntryMoves):
    """Perturbs entries that each change one channel of the step's output, and evaluates only what changes.

    This class is for parameters that are checked entry by entry. By contrast, the literal differences that
    confirm unit differences evaluate whole samples, so that they do not rely on any `Step.part`.
    """

    @cached_property
    def _parts(self) -> PartMoves:
        return PartMoves(self.objective, self.at, self._output_rounding)

    @property
    def _is_by_parts(self) -> bool:
        return self._parts.plain

    @cached_property
    def _channels(self) -> Channels | None:
        """The channels of the step's output if each entry changes only one channel; otherwise None."""
        if not self._is_by_parts or not isinstance(self._factors, Rows | Ones | Own):
            return None
        return self._factors.channels.spread_over(self.objective.graph.value_features[self.at])

    @cached_property
    def _long_batch(self) -> int:
        if self._channels is None:
            return super()._long_batch
        numbers = self._parts.widest_of(self._fixed(np.zeros(1, dtype=np.intp))) * len(self.objective.target)
        return fitting(min(self.objective.block, PART_BLOCK_BYTES), numbers)

    def _fixed(self, units: Array) -> Fixed:
        """Return the position of one channel in each of B copies of samples.

        units: the unit of each channel, (B,).
        """
        assert self._channels is not None
        axes = range(len(self._channels.features))
        return tuple(units if axis == self._channels.axis else None for axis in axes)

    def _units_of(self, which: Array) -> Array:
        """Return the unit that each of B entries affects, (B,)."""
        assert self._channels is not None
        return which * self._channels.units // len(self.position)

    def _move_far(self, which: Array, to: Array) -> Moved:
        channels, samples = self._channels, len(self.objective.target)
        if channels is None or to.dtype != np.float64:
            return super()._move_far(which, to)
        node, own = self.objective.graph.nodes[self._node], self.objective.own[self._node]
        value = self.objective.values[self.at]
        moved = node.step.units_with_entries(own, self.own, which, to, self._inputs, value, channels.axis)
        fixed = self._fixed(np.repeat(self._units_of(which), samples))
        copies = np.tile(np.arange(samples), len(which))
        losses, rounding, crossed = self._parts.move_part(copies, fixed, moved.reshape(-1, *moved.shape[2:]))
        return self._moved(
            which, Moved(losses.reshape(len(which), -1), rounding.reshape(len(which), -1), crossed)
        )


@dataclass(frozen=True)
class SharedEntryMoves(EntryMoves):
    """Perturbs every entry of a parameter that several steps use, in all those steps at once.

    at, own: the first step that uses the parameter, as in `EntryMoves`.
    name: the parameter's name in the network.
    """

    name: str

    @cached_property
    def _each(self) -> tuple[EntryMoves, ...]:
        uses = self.objective.graph.uses[self.name]
        return tuple(EntryMoves(self.objective, i + 1, self.near, own) for i, own in uses)

    @cached_property
    def unit(self) -> Array:
        return np.minimum.reduce([each.unit for each in self._each])

    @cached_property
    def _output_rounding(self) -> Array:
        return self.objective.output_rounding_of({each.at: each._own_rounding for each in self._each})

    @cached_property
    def _first_uses(self) -> frozenset[int]:
        """The values of the steps that use the parameter but do not depend on another use of it."""
        first, reached = set[int](), set[int]()
        for at in (each.at for each in self._each):
            if at - 1 not in reached:
                first.add(at)
                reached.update(self.objective.graph.above(at))
        return frozenset(first)

    def _move_far(self, which: Array, to: Array) -> Moved:
        fresh: dict[int, Array] = {}
        again: dict[int, Evaluate] = {}
        graph, first = self.objective.graph, self._first_uses
        for each in self._each:
            i = each.at - 1
            if each.at not in first:
                again[i] = partial(each.evaluate, which, to)
            else:
                own, value = self.objective.own[i], self.objective.values[each.at]
                moved = graph.nodes[i].step.with_entries(own, each.own, which, to, each._inputs, value)
                fresh[each.at] = moved
        losses, rounding, crossed = self.objective.fed(fresh, slice(None), self._output_rounding, again=again)
        noticed = np.logical_or.reduce([each._noticed for each in self._each])
        rounding = np.where(noticed[which][:, None], rounding, 0.0)
        return Moved(losses, rounding, np.asarray(crossed.reshape(len(which), -1).any(axis=-1)))


@dataclass(frozen=True)
class DenseEntryMoves(EntryMoves):
    """Perturbs the entries of a dense step, or γ and β of a scale.

    A short step changes only one column of the output: one unit, in all samples.
    """

    @property
    def _is_short(self) -> bool:
        return self.near.plain

    def _move_near(self, which: Array, to: Array) -> Moved:
        units, rise = self._risen(which, (to - self.position[which])[:, None])
        columns = self._columns(units, rise)
        near = self.near.columns(units, slice(None), columns, by_stretch=False)
        return Moved(near.losses, rounded(near, self._near_rounding), np.any(near.crossed, axis=-1))

    def _columns(self, units: Array, rise: Array) -> Array:
        """Return the columns of the value `near.at` that B perturbations change, (B, N), for N samples.

        units: the unit of each column.
        rise: the change of the unit's output in each sample, (B, N).
        """
        if self.near.at == self.at:
            return self.near.y[units] + rise
        z = self.objective.values[self.at].T[units]
        return normalised_columns(self.objective, self.at, units, z + rise)

    def _risen(self, which: Array, by: Array) -> tuple[Array, Array]:
        """Return the unit of each of B entries, (B,), and the change of the unit's output, (B, N).

        N is the number of samples.

        by: the change of each entry, (B, 1).
        """
        step = self.objective.graph.nodes[self._node].step
        if isinstance(step, Scale) and self.own == step.names[0]:
            return which, by * self._rows_of_inputs[which]
        if isinstance(step, Scale) or self.own == "bias":
            return which, by
        units, inputs = np.divmod(which, self._parameter.shape[1])
        return units, by * self._rows_of_inputs[inputs]

    @cached_property
    def _rows_of_inputs(self) -> Array:
        """The input of the dense step or the scale, transposed to (inputs, N), for N samples."""
        return np.ascontiguousarray(self._inputs[0].T)

    @cached_property
    def _near_rounding(self) -> Array:
        """The rounding error of the losses of the N samples, (N,), after short steps.

        The result is in units of machine epsilon, and includes the error of adding a change to the value
        `at`.
        """
        known = self.objective.roundings_if_added
        if self.at not in known:
            size = np.abs(self.objective.values[self.at])
            known[self.at] = near_rounding(self.objective, self.objective.output_rounding(self.at, size))
        return known[self.at]


def entry_moves(objective: AtRest, at: int, near: Near, own: str, by_parts: bool) -> EntryMoves:
    """Return an object that perturbs the entries of a parameter.

    at: the index of the output of the step that uses the parameter.
    near: the object that evaluates short steps.
    own: the parameter's name in that step.
    by_parts: whether to evaluate only the part of a value that an entry changes, if possible.
    """
    plain = isinstance(objective.graph.nodes[at - 1].step, Dense | Scale)
    if plain and len(objective.graph.value_features[at]) == 1:
        return DenseEntryMoves(objective, at, near, own)
    return (ChannelEntryMoves if by_parts else EntryMoves)(objective, at, near, own)
