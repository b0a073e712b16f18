"""The forward pass with one pre-activation, one parameter entry or one penalised entry moved.

This is all that the numerical side ever sees of a network: positions and losses, never a derivative.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from gradcheck_cli.model.network import Activity, Arrays, Network, forward, sample_losses
from gradcheck_cli.model.penalties import PENALTIES
from gradcheck_cli.model.rounding import FUNCTION_ULPS, loss_and_rounding, value_rounding
from gradcheck_cli.model.special import Array
from gradcheck_cli.numerical.objective import Affine, Movable, Moved, Shape

_BLOCK_BYTES = 2**21
"""The size of the largest temporary of one batch: what fits the cache is fastest (measured 1 to 2 MiB)."""


_UNDERFLOW = float(np.finfo(np.float64).tiny / np.finfo(np.float64).eps)
"""What a tiny number may lose to underflow, in units of ε."""


class NetworkObjective:
    """A network at its parameters and data, as something that can be differenced."""

    def __init__(self, network: Network, parameters: Arrays, x: Array, target: Array) -> None:
        self.network = network
        self.parameters = parameters
        self.target = target
        self.activity: Activity = forward(network, parameters, x)
        self.losses: Array = sample_losses(network, self.activity.output, target)
        self.total: float = self.losses.sum() + sum(
            PENALTIES[penalty].value(parameters[name], strength).sum()
            for name in network.shapes
            for penalty, strength in network.penalties_on(name).items()
        )
        self._index = {layer.name: i for i, layer in enumerate(network.layers)}

    @property
    def shapes(self) -> Mapping[str, Shape]:
        return self.network.shapes

    def entries(self, name: str) -> Movable:
        layer, kind = name.rsplit(".", 1)
        moves = _WeightMoves if kind == "weight" else _BiasMoves
        return moves(self, self._index[layer], name)

    def penalty(self, name: str) -> Movable | None:
        penalties = self.network.penalties_on(name)
        return _PenaltyMoves(self.parameters[name], penalties) if penalties else None

    def affine(self, name: str) -> Affine:
        layer, kind = name.rsplit(".", 1)
        return Affine(layer, self.activity.inputs[self._index[layer]] if kind == "weight" else None)

    def units(self, layer: str) -> Movable:
        return _UnitMoves(self, self._index[layer])

    def outputs_of(self, i: int) -> Array:
        """What layer i passes on, (N, units)."""
        last = i + 1 == len(self.network.layers)
        return self.activity.output if last else self.activity.inputs[i + 1]

    @cached_property
    def layer_pieces(self) -> tuple[Array | None, ...]:
        """The smooth piece of its activation that every pre-activation is on, where there are several."""
        return tuple(
            layer.activation.pieces(z) if layer.activation.pieces else None
            for layer, z in zip(self.network.layers, self.activity.z, strict=True)
        )

    @cached_property
    def loss_pieces(self) -> Array | None:
        pieces = self.network.loss.pieces
        return pieces(self.activity.output, self.target) if pieces else None

    def above(self, first: int, z: Array, samples: Any, output_rounding: Array) -> Moved:
        """Feed pre-activations z (…, units) of layer `first` to the top.

        samples: the index of each row's sample, to find its target. output_rounding: how exact the outputs
        are then (N, C), in units of ε. Losses, their rounding and whether a branch changed are all (…).
        """
        crossed = np.zeros(z.shape[:-1], dtype=bool)
        a = z
        for i in range(first, len(self.network.layers)):
            layer = self.network.layers[i]
            if i > first:
                z = _product(a, self.parameters[layer.weight]) + self.parameters[layer.bias]
            at_rest = self.layer_pieces[i]
            if at_rest is not None and layer.activation.pieces:
                crossed |= (layer.activation.pieces(z) != at_rest[samples]).any(axis=-1)
            a = layer.activation.value(z)
        target = self.target[samples]
        if self.loss_pieces is not None and self.network.loss.pieces:
            crossed |= (self.network.loss.pieces(a, target) != self.loss_pieces[samples]).any(axis=-1)
        losses, rounding = loss_and_rounding(self.network.loss, a, target, output_rounding[samples])
        c = self.network.coefficient
        return Moved(c * losses, abs(c) * rounding, crossed)

    def output_rounding(self, first: int, z_rounding: Array) -> Array:
        """How exact the outputs (N, C) are, in units of ε, if z of layer `first` is exact to z_rounding."""
        a_rounding = z_rounding
        for i in range(first, len(self.network.layers)):
            layer, z = self.network.layers[i], self.activity.z[i]
            if i > first:
                w = np.abs(self.parameters[layer.weight])
                terms = np.abs(self.activity.inputs[i]) @ w.T + np.abs(self.parameters[layer.bias])
                z_rounding = a_rounding @ w.T + terms
            a_rounding = value_rounding(layer.activation, z, z_rounding)
        return a_rounding

    def batch(self, first: int, rows: int) -> int:
        """How many moves at layer `first` fit a block, if each carries `rows` rows upwards."""
        width = max(layer.units for layer in self.network.layers[first:])
        return max(1, _BLOCK_BYTES // (8 * width * rows))


def _product(a: Array, w: Array) -> Array:
    """a wᵀ over the last axis as one matrix product."""
    return (a.reshape(-1, a.shape[-1]) @ w.T).reshape(*a.shape[:-1], -1)


@dataclass(frozen=True)
class _UnitMoves:
    """Every pre-activation z_nj of a layer, moved for sample n alone."""

    objective: NetworkObjective
    i: int

    @cached_property
    def position(self) -> Array:
        return self.objective.activity.z[self.i].ravel()

    @cached_property
    def unit(self) -> Array:
        return np.ones(len(self.position))

    @property
    def batch(self) -> int:
        return self.objective.batch(self.i, rows=1)

    @cached_property
    def _output_rounding(self) -> Array:
        """Of outputs above a z that is moved by what this layer's a, evaluated anew, adds to it, (N, C)."""
        above, a = self.objective.network.layers[self.i + 1], self.objective.activity.inputs[self.i + 1]
        w = np.abs(self.objective.parameters[above.weight])
        z_rounding = np.abs(self.objective.activity.z[self.i + 1]) + FUNCTION_ULPS * (np.abs(a) @ w.T)
        return self.objective.output_rounding(self.i + 1, z_rounding)

    def move(self, which: Array, to: Array) -> Moved:
        objective, i = self.objective, self.i
        layer = objective.network.layers[i]
        samples, units = np.divmod(which, layer.units)
        with np.errstate(all="ignore"):
            if layer.activation.coupled:
                return self._move_in_row(samples, units, to)
            a, rest = layer.activation.value(to), objective.outputs_of(i)[samples, units]
            rise = a - rest
            if layer is objective.network.output:
                losses, rounding, crossed = self._move_in_row(samples, units, to)
                return Moved(losses, np.where((rise == 0) & (a == 0), 0.0, rounding), crossed)
            # Only this unit's a changes, so the layer above changes by an outer product.
            w = objective.parameters[objective.network.layers[i + 1].weight]
            z = objective.activity.z[i + 1][samples] + rise[:, None] * w.T[units]
            losses, rounding, crossed = objective.above(i + 1, z, samples, self._output_rounding)
            rounding = np.where((rise == 0) & (a == 0), 0.0, rounding)  # a unit that is off is off exactly
        if layer.activation.pieces:
            here = layer.activation.pieces(self.position[which])
            np.logical_or(crossed, layer.activation.pieces(to) != here, out=crossed)
        return Moved(losses, rounding, crossed)

    def _move_in_row(self, samples: Array, units: Array, to: Array) -> Moved:
        rest = self.objective.activity.z[self.i]
        z = rest[samples].astype(to.dtype, copy=False)
        z[np.arange(len(units)), units] = to
        return self.objective.above(self.i, z, samples, self._row_rounding)

    @cached_property
    def _row_rounding(self) -> Array:
        """Of outputs above pre-activations that are exactly what they are moved to, (N, C)."""
        return self.objective.output_rounding(self.i, np.zeros_like(self.objective.activity.z[self.i]))


@dataclass(frozen=True)
class _EntryMoves:
    """Every entry of one parameter of layer `i`, moved literally, for the whole batch at once."""

    objective: NetworkObjective
    i: int
    name: str

    @cached_property
    def position(self) -> Array:
        return self._parameter.ravel()

    @property
    def _parameter(self) -> Array:
        return self.objective.parameters[self.name]

    @property
    def batch(self) -> int:
        return self.objective.batch(self.i, rows=len(self.objective.target))

    @cached_property
    def _output_rounding(self) -> Array:
        """Of outputs above pre-activations that round as Σ |a⁽ʰ⁾ w| + |b|, (N, C)."""
        layer = self.objective.network.layers[self.i]
        w, b = self.objective.parameters[layer.weight], self.objective.parameters[layer.bias]
        terms = np.abs(self.objective.activity.inputs[self.i]) @ np.abs(w.T) + np.abs(b)
        return self.objective.output_rounding(self.i, terms)

    def _above(self, units: Array, column: Array) -> Moved:
        """The losses (B, N) with column units[b] of this layer's z replaced by column[b] (B, N)."""
        rest = self.objective.activity.z[self.i]
        z = np.repeat(rest[None].astype(column.dtype, copy=False), len(units), axis=0)
        z[np.arange(len(units)), :, units] = column
        losses, rounding, crossed = self.objective.above(self.i, z, slice(None), self._output_rounding)
        return Moved(losses, rounding, np.asarray(crossed.any(axis=-1)))


@dataclass(frozen=True)
class _WeightMoves(_EntryMoves):
    @cached_property
    def unit(self) -> Array:
        """1 / max |a⁽ʰ⁾|, which moves the pre-activations by at most 1."""
        reach = np.abs(self.objective.activity.inputs[self.i]).max(axis=0)
        reach = np.where(reach > np.finfo(np.float64).tiny, reach, 1.0)
        return np.tile(1.0 / reach, len(self._parameter))

    def move(self, which: Array, to: Array) -> Moved:
        units, inputs = np.divmod(which, self._parameter.shape[1])
        rows = self._parameter[units].astype(to.dtype, copy=False)
        rows[np.arange(len(which)), inputs] = to
        layer = self.objective.network.layers[self.i]
        with np.errstate(all="ignore"):
            column = _product(rows, self.objective.activity.inputs[self.i])
            return self._above(units, column + self.objective.parameters[layer.bias][units, None])


@dataclass(frozen=True)
class _BiasMoves(_EntryMoves):
    @cached_property
    def unit(self) -> Array:
        return np.ones(len(self.position))

    def move(self, which: Array, to: Array) -> Moved:
        layer = self.objective.network.layers[self.i]
        rows = self.objective.parameters[layer.weight][which]
        with np.errstate(all="ignore"):
            column = _product(rows, self.objective.activity.inputs[self.i])
            return self._above(which, column + to[:, None])


@dataclass(frozen=True)
class _PenaltyMoves:
    """Every entry of one parameter under its penalty terms alone."""

    parameter: Array
    penalties: Mapping[str, float]

    @cached_property
    def position(self) -> Array:
        return self.parameter.ravel()

    @cached_property
    def unit(self) -> Array:
        size = np.abs(self.position)
        return np.where(size > 0, size, 1.0)

    @property
    def batch(self) -> int:
        return _BLOCK_BYTES // 8

    def move(self, which: Array, to: Array) -> Moved:
        crossed = np.zeros(len(which), dtype=bool)
        for name in self.penalties:
            pieces = PENALTIES[name].pieces
            if pieces:
                crossed |= pieces(to) != pieces(self.position[which])
        losses = self._value(to)
        return Moved(losses, 2.0 * np.abs(np.real(losses)) + _UNDERFLOW, crossed)

    def _value(self, w: Array) -> Array:
        terms = [PENALTIES[name].value(w, strength) for name, strength in self.penalties.items()]
        return np.sum(terms, axis=0)
