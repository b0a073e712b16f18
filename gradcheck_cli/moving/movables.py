"""The perturbable numbers of a network: the numbers of its values and the entries of its parameters.

Short steps through dense layers are evaluated by `short_moves`, all others by `at_rest.AtRest.above`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar

import numpy as np

from gradcheck_cli.moving.at_rest import AtRest, Evaluate
from gradcheck_cli.moving.short_moves import NEAR, Near, NearLosses, short_inner_loops
from gradcheck_cli.network.arithmetic import NUDGED
from gradcheck_cli.network.factors import Factors
from gradcheck_cli.network.graph import Graph
from gradcheck_cli.network.loss_rounding import loss_and_rounding
from gradcheck_cli.network.row_rounding import FUNCTION_ULPS
from gradcheck_cli.network.steps.dense import Dense
from gradcheck_cli.network.steps.normalise import Normalise, Scale
from gradcheck_cli.numerical.objective import Moved, Spread
from gradcheck_cli.types import Array


def widest_above(graph: Graph, value: int) -> int:
    """Return the size of a sample in the widest of this value and those that depend on it."""
    values = [value, *(i + 1 for i in graph.above[value])]
    return max(math.prod(graph.value_features[each]) for each in values)


def _batch(objective: AtRest, value: int, rows: int) -> int:
    """Return how many perturbations fit a block, each with `rows` rows of this value and those above."""
    return max(1, objective.block // (8 * widest_above(objective.graph, value) * rows))


def _in_blocks(move: Callable[[Array, Array], Moved], size: int, which: Array, to: Array) -> Moved:
    """Evaluate long steps in blocks of this size; each needs more memory than a short step."""
    if len(which) <= size:
        return move(which, to)
    parts = [slice(start, start + size) for start in range(0, len(which), size)]
    moved = [move(which[part], to[part]) for part in parts]
    return Moved(*(np.concatenate(each) for each in zip(*moved, strict=True)))


def _near_rounding(objective: AtRest, output_rounding: Array) -> Array:
    """Return the rounding error of the losses (N,), in units of ε, for short steps."""
    _, rounding = loss_and_rounding(
        objective.network.loss, objective.output, objective.target, output_rounding
    )
    return abs(objective.network.coefficient) * rounding


def _rounded(near: NearLosses, rounding: Array) -> Array:
    """Return the rounding error of these losses, in units of ε, given that of the unperturbed ones."""
    return np.where(near.silent, 0.0, np.maximum(rounding, np.abs(near.losses)))


def deviation_of(objective: AtRest, value: int) -> Array | None:
    """Return the deviation that divides this value, (N or 1, *features); None if it is not normalised."""
    for i in objective.graph.readers[value]:
        step = objective.graph.nodes[i].step
        if isinstance(step, Normalise):
            return step.deviation(objective.values[value])
    return None


def _units_of(objective: AtRest, value: int) -> Array:
    """Return the length of a step of 1 for each number of a value, (F, N): 1, or its deviation."""
    shape, deviation = objective.values[value].shape, deviation_of(objective, value)
    in_shape = np.broadcast_to(1.0 if deviation is None else deviation, shape)
    return np.moveaxis(in_shape.reshape(shape[0], -1), 0, -1)


@dataclass(frozen=True)
class _Moves:
    """Perturbations of value `at`: `near` evaluates short steps; longer ones are computed in full.

    near: the short steps of `at`, or of y if batch normalisation follows.
    """

    objective: AtRest
    at: int
    near: Near
    rest: ClassVar[None] = None

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
        """How many samples a perturbation carries upwards: all, unless it affects only one."""
        return len(self.objective.target)

    @property
    def _is_short(self) -> bool:
        """Whether `near` can evaluate short steps."""
        return self.near.plain

    @property
    def batch(self) -> int:
        """The batch size; short steps often skip their own value, which then needs no memory."""
        own = not self._is_short or self.near.in_rows or self.near.is_output
        return _batch(self.objective, self.near.at if own else self.near.first, self._rows)

    def move(self, which: Array, to: Array) -> Moved:
        with np.errstate(all="ignore"):
            if self._are_short(which, to):
                with short_inner_loops():
                    return self._move_near(which, to)
            return _in_blocks(self._move_far, _batch(self.objective, self.at, self._rows), which, to)

    def _are_short(self, which: Array, to: Array) -> bool:
        if not self._is_short or to.dtype != np.float64:
            return False
        return bool((np.abs(to - self.position[which]) <= NEAR * self.unit[which]).all())

    def _move_near(self, which: Array, to: Array) -> Moved:
        raise NotImplementedError

    def _move_far(self, which: Array, to: Array) -> Moved:
        raise NotImplementedError


@dataclass(frozen=True)
class UnitMoves(_Moves):
    """Every number of a value, (F, N) in C order, perturbed for its own sample only."""

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
        """The batch size: whole columns of samples, if they fit."""
        fitting, samples = super().batch, len(self.objective.target)
        return fitting if fitting < samples else fitting - fitting % samples

    @cached_property
    def _near_rounding(self) -> Array:
        in_row = self.near.in_rows or self.near.is_output
        return _near_rounding(self.objective, self._row_rounding if in_row else self._raised_rounding)

    @cached_property
    def _raised_rounding(self) -> Array:
        """Rounding of the outputs, (N, C), when a is recomputed and its change added to the next z."""
        chain, objective = self.near.chain, self.objective
        assert chain is not None
        w = np.abs(objective.own[chain.above[0]]["weight"])
        terms = np.abs(objective.values[chain.rest]) @ w.T
        rounding = np.abs(objective.values[self.near.first]) + FUNCTION_ULPS * terms
        return objective.output_rounding(self.near.first, rounding)

    @cached_property
    def _row_rounding(self) -> Array:
        """Rounding of the outputs, (N, C), above numbers that are exactly what they were set to."""
        return self.objective.output_rounding(self.at, np.zeros_like(self.objective.values[self.at]))

    def _move_near(self, which: Array, to: Array) -> Moved:
        samples = len(self.objective.target)
        first, count = int(which[0]), len(which)
        feature, sample = divmod(first, samples)
        in_order = int(which[-1]) - first + 1 == count  # consecutive, since indices are ascending
        if in_order and count % samples == 0 and sample == 0:
            here: Any = slice(None)
            features = np.arange(feature, feature + count // samples)
            near = self.near.columns(features, here, to.reshape(-1, samples))
        elif in_order and sample + count <= samples:
            here = slice(sample, sample + count)
            near = self.near.columns(np.array([feature]), here, to[None])
        else:
            features, here = np.divmod(which, samples)
            near = self.near.singles(features, here, to)
        rounding = _rounded(near, self._near_rounding[here])
        return Moved(near.losses.ravel(), rounding.ravel(), near.crossed.ravel())

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
        # Only this unit's a changes, so the dense step above changes by an outer product.
        w = objective.own[near.first - 1]["weight"]
        z = objective.values[near.first][samples] + rise[:, None] * w.T[features]
        losses, rounding, crossed = objective.above(
            near.first, z, samples, self._raised_rounding, itself=False
        )
        # A unit that is off is off exactly, and one that nothing above listens to changes nothing.
        silent = ((rise == 0) & (a == 0)) | ~near.heard[features]
        rounding = np.where(silent, 0.0, rounding)
        if changed is not None:
            np.logical_or(crossed, changed, out=crossed)
        return Moved(losses, rounding, crossed)

    def _activated(self, features: Array, samples: Array, to: Array) -> tuple[Array, Array | None]:
        """Return the activations of these numbers, and whether their piece has changed."""
        chain = self.near.chain
        assert chain is not None
        if chain.activation is None or self.near.pieces is None:
            return self.near.activation.value(to), None
        return self.objective.activate(
            chain.activation, to, lambda array: array.reshape(len(array), -1)[samples, features]
        )

    def _move_in_row(self, samples: Array, features: Array, to: Array) -> Moved:
        value = self.objective.values[self.at][samples].astype(to.dtype, copy=False)
        value = np.ascontiguousarray(value)  # or else the reshaped rows may be a copy
        value.reshape(len(to), -1)[np.arange(len(to)), features] = to
        heard = self.objective.heard[self.at].ravel()[features]
        losses, rounding, crossed = self.objective.above(self.at, value, samples, self._row_rounding)
        return Moved(losses, np.where(heard, rounding, 0.0), crossed)


@dataclass(frozen=True)
class BatchMoves(_Moves):
    """Every number of a value, (F, N) in C order, below a step that couples the samples.

    Sample n has its own copy of the weights, so only its number changes, but the losses of all samples do.
    """

    @property
    def _value(self) -> Array:
        return self.objective.values[self.at]

    @cached_property
    def position(self) -> Array:
        return self._value.reshape(len(self._value), -1).T.ravel()

    @cached_property
    def unit(self) -> Array:
        """The unit of a step: 1, or the batch deviation if the value is divided by it."""
        return _units_of(self.objective, self.at).ravel()

    @cached_property
    def _output_rounding(self) -> Array:
        return self.objective.output_rounding(self.at, np.zeros_like(self._value))

    @cached_property
    def _near_rounding(self) -> Array:
        return _near_rounding(self.objective, self._output_rounding)

    @property
    def _is_short(self) -> bool:
        """Whether a perturbation changes only one column of y, as below a single batch normalisation."""
        return self.near.plain and self.near.at != self.at

    def _move_near(self, which: Array, to: Array) -> Moved:
        features, samples = np.divmod(which, len(self._value))
        z = self._value.T[features]
        z[np.arange(len(which)), samples] = to
        near = self.near.columns(
            features, slice(None), normalised_columns(self.objective, self.at, features, z)
        )
        return Moved(near.losses, _rounded(near, self._near_rounding), np.any(near.crossed, axis=-1))

    def _move_far(self, which: Array, to: Array) -> Moved:
        value = np.repeat(self._value[None].astype(to.dtype, copy=False), len(which), axis=0)
        features, samples = np.divmod(which, len(self._value))
        value.reshape(len(which), len(self._value), -1)[np.arange(len(which)), samples, features] = to
        losses, rounding, crossed = self.objective.above(self.at, value, slice(None), self._output_rounding)
        heard = self.objective.heard[self.at].ravel()[features]
        return Moved(losses, np.where(heard[:, None], rounding, 0.0), np.asarray(crossed.any(axis=-1)))


def scaled_value(objective: AtRest, at: int) -> int | None:
    """Return the value y = γ ẑ(z) + β if batch normalisation follows z (N, units) directly, or None."""
    graph = objective.graph
    if len(graph.value_features[at]) != 1 or graph.readers[at] != (at,) or graph.readers[at + 1] != (at + 1,):
        return None
    norm, scale = graph.nodes[at].step, graph.nodes[at + 1].step
    both = isinstance(norm, Normalise) and norm.couples == "batch" and isinstance(scale, Scale)
    return at + 2 if both else None


def normalised_columns(objective: AtRest, at: int, units: Array, z: Array) -> Array:
    """Return y (B, N) for columns z (B, N) of these units of a value that batch normalisation follows."""
    norm, scale = (objective.graph.nodes[i].step for i in (at, at + 1))
    assert isinstance(scale, Scale)
    gamma, beta = (objective.own[at + 1][name][units, None] for name in scale.names)
    y: Array = gamma * norm.forward({}, z[..., None])[..., 0] + beta
    return y


@dataclass(frozen=True)
class EntryMoves(_Moves):
    """Every entry of one parameter, each perturbed for the whole batch at once.

    at: the output of the step that uses the parameter.  own: the parameter's name in the step.
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
        """The change of an entry that changes the step's output by at most 1, or by one batch deviation."""
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
        """Rounding of the outputs, (N, *outputs), above a value that rounds like the terms of its sums."""
        return self.objective.output_rounding(self.at, self._own_rounding)

    @property
    def _own_rounding(self) -> Array:
        """Rounding of the step's output, in units of ε, if its inputs are exact."""
        step, p = self.objective.graph.nodes[self._node].step, self.objective.own[self._node]
        exact = tuple(np.zeros_like(each) for each in self._inputs)
        error = step.error(p, self._inputs, self.objective.values[self.at], exact, NUDGED)
        rounding: Array = error / NUDGED.eps
        return rounding

    def _move_far(self, which: Array, to: Array) -> Moved:
        node, own = self.objective.graph.nodes[self._node], self.objective.own[self._node]
        value = self.objective.values[self.at]
        moved = node.step.with_entries(own, self.own, which, to, self._inputs, value)
        losses, rounding, crossed = self.objective.above(self.at, moved, slice(None), self._output_rounding)
        if not self._noticed.all():
            rounding = np.where(self._noticed[which][:, None], rounding, 0.0)
        return Moved(losses, rounding, np.asarray(crossed.reshape(len(which), -1).any(axis=-1)))

    def evaluate(self, which: Array, to: Array, inputs: Sequence[Array]) -> Array:
        """Return the outputs (B, N, *out) if entry which[b] is to[b], for inputs (N, …) or (B, N, …)."""
        node, p = self.objective.graph.nodes[self._node], self.objective.own[self._node]
        results = []
        for b in range(len(which)):
            each = tuple(
                value[b] if value.ndim > rest.ndim else value
                for value, rest in zip(inputs, self._inputs, strict=True)
            )
            (result,) = node.step.with_entries(
                p, self.own, which[b : b + 1], to[b : b + 1], each, node.step.forward(p, *each)
            )
            results.append(result)
        return np.stack(results)

    @cached_property
    def _noticed(self) -> Array:
        """Whether the numbers that an entry changes affect anything above, (P,)."""
        constant = self.objective.graph.nodes[self._node].step.constant(self.own)
        noticed = np.ones(self._parameter.shape, dtype=bool) if constant is None else ~constant
        if self._factors is not None:
            noticed = noticed & ~self._factors.least(~self.objective.heard[self.at].ravel())
        return noticed.ravel()


@dataclass(frozen=True)
class SharedEntryMoves(EntryMoves):
    """Every entry of a parameter that several steps use, perturbed in all of them at once.

    at, own: the first use.  name: the parameter's name in the network.
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

    def _move_far(self, which: Array, to: Array) -> Moved:
        fresh: dict[int, Array] = {}
        again: dict[int, Evaluate] = {}
        graph = self.objective.graph
        for each in self._each:
            i = each.at - 1
            if any(i in graph.above[at] for at in fresh):
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
    """The entries of a dense step, or of γ and β: a short step changes one column of the batch."""

    @property
    def _is_short(self) -> bool:
        return self.near.plain

    def _move_near(self, which: Array, to: Array) -> Moved:
        units, rise = self._risen(which, (to - self.position[which])[:, None])
        near = self.near.columns(units, slice(None), self._columns(units, rise))
        return Moved(near.losses, _rounded(near, self._near_rounding), np.any(near.crossed, axis=-1))

    def _columns(self, units: Array, rise: Array) -> Array:
        """Return the columns (B, N) of y for these units after `rise` is added to the step's output."""
        if self.near.at == self.at:
            return self.near.y[units] + rise
        z = self.objective.values[self.at].T[units]
        return normalised_columns(self.objective, self.at, units, z + rise)

    def _risen(self, which: Array, by: Array) -> tuple[Array, Array]:
        """Return the units of these entries, and how their columns (B, N) change if they change by `by`."""
        step = self.objective.graph.nodes[self._node].step
        if isinstance(step, Scale) and self.own == step.names[0]:
            return which, by * self._rows_of_inputs[which]
        if isinstance(step, Scale) or self.own == "bias":
            return which, by
        units, inputs = np.divmod(which, self._parameter.shape[1])
        return units, by * self._rows_of_inputs[inputs]

    @cached_property
    def _rows_of_inputs(self) -> Array:
        """The step's input, a⁽ʰ⁾ or ẑ, (in, N)."""
        return np.ascontiguousarray(self._inputs[0].T)

    @cached_property
    def _near_rounding(self) -> Array:
        """Rounding of the losses, (N,), including one more rounding when the value is raised."""
        size = np.abs(self.objective.values[self.at])
        return _near_rounding(self.objective, self.objective.output_rounding(self.at, size))


def entry_moves(objective: AtRest, at: int, near: Near, own: str) -> EntryMoves:
    """Return the entries of a parameter of the step whose output is value `at`, as perturbable numbers."""
    plain = isinstance(objective.graph.nodes[at - 1].step, Dense | Scale)
    kind = DenseEntryMoves if plain and len(objective.graph.value_features[at]) == 1 else EntryMoves
    return kind(objective, at, near, own)
