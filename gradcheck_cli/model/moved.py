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
from gradcheck_cli.model.special import Array
from gradcheck_cli.numerical.objective import Affine, Movable, Moved, Shape

_BLOCK_BYTES = 2**21
"""The size of the largest temporary of one batch: what fits the cache is fastest (measured 1 to 2 MiB)."""


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

    def above(self, first: int, z: Array, samples: Any) -> tuple[Array, Array]:
        """Feed pre-activations z (…, units) of layer `first` to the top.

        samples: the index of each row's sample, to find its target. Returns the losses (…) and whether
        any branch is another than at rest (…).
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
        return sample_losses(self.network, a, target), crossed

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

    @cached_property
    def magnitude(self) -> Array:
        return np.repeat(np.abs(self.objective.losses), self.objective.network.layers[self.i].units)

    @property
    def batch(self) -> int:
        return self.objective.batch(self.i, rows=1)

    def move(self, which: Array, to: Array) -> Moved:
        objective, i = self.objective, self.i
        layer = objective.network.layers[i]
        samples, units = np.divmod(which, layer.units)
        with np.errstate(all="ignore"):
            if layer is objective.network.output or layer.activation.coupled:
                z = objective.activity.z[i][samples].astype(to.dtype, copy=False)
                z[np.arange(len(which)), units] = to
                return Moved(*objective.above(i, z, samples))
            # Only this unit's a changes, so the layer above changes by an outer product.
            above = objective.network.layers[i + 1]
            rise = layer.activation.value(to) - objective.activity.inputs[i + 1][samples, units]
            w = objective.parameters[above.weight]
            z = objective.activity.z[i + 1][samples] + rise[:, None] * w.T[units]
            losses, crossed = objective.above(i + 1, z, samples)
        if layer.activation.pieces:
            here = layer.activation.pieces(self.position[which])
            np.logical_or(crossed, layer.activation.pieces(to) != here, out=crossed)
        return Moved(losses, crossed)


@dataclass(frozen=True)
class _EntryMoves:
    """Every entry of one parameter of layer `i`, moved literally, for the whole batch at once."""

    objective: NetworkObjective
    i: int
    name: str

    @cached_property
    def magnitude(self) -> Array:
        # The samples' roundings are independent, so they add like noise.
        return np.full(len(self.position), np.sqrt((self.objective.losses**2).sum()))

    @cached_property
    def position(self) -> Array:
        return self._parameter.ravel()

    @property
    def _parameter(self) -> Array:
        return self.objective.parameters[self.name]

    @property
    def batch(self) -> int:
        return self.objective.batch(self.i, rows=len(self.objective.target))

    def _above(self, units: Array, column: Array) -> Moved:
        """The losses (B, N) with column units[b] of this layer's z replaced by column[b] (B, N)."""
        rest = self.objective.activity.z[self.i]
        z = np.repeat(rest[None].astype(column.dtype, copy=False), len(units), axis=0)
        z[np.arange(len(units)), :, units] = column
        losses, crossed = self.objective.above(self.i, z, slice(None))
        return Moved(losses, np.asarray(crossed.any(axis=-1)))


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

    @cached_property
    def magnitude(self) -> Array:
        return np.abs(self._value(self.position))

    @property
    def batch(self) -> int:
        return _BLOCK_BYTES // 8

    def move(self, which: Array, to: Array) -> Moved:
        crossed = np.zeros(len(which), dtype=bool)
        for name in self.penalties:
            pieces = PENALTIES[name].pieces
            if pieces:
                crossed |= pieces(to) != pieces(self.position[which])
        return Moved(self._value(to), crossed)

    def _value(self, w: Array) -> Array:
        terms = [PENALTIES[name].value(w, strength) for name, strength in self.penalties.items()]
        return np.sum(terms, axis=0)
