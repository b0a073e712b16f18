"""The forward pass with one pre-activation, one parameter entry or one penalised entry moved.

This is all that the numerical side ever sees of a network: positions and losses, never a derivative.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, product
from typing import Any

import numpy as np

from gradcheck_cli.model.batch_norm import normalise
from gradcheck_cli.model.kinks import Kinks, Numbered, find_kinks
from gradcheck_cli.model.network import Activity, Arrays, Network, forward, sample_losses, scaled
from gradcheck_cli.model.penalties import PENALTIES
from gradcheck_cli.model.rounding import (
    FLOAT64,
    FUNCTION_ULPS,
    Arithmetic,
    loss_and_rounding,
    scaled_rounding,
    value_rounding,
)
from gradcheck_cli.model.special import Array
from gradcheck_cli.numerical.objective import Affine, Movable, Moved, Shape, Site

_BLOCK_BYTES = 2**21
"""The size of the largest temporary of one batch: what fits the cache is fastest (measured 1 to 2 MiB)."""


_EPS = float(np.finfo(np.float64).eps)

_MOST_KINKS = 64
"""Where more meet in a sample, what lies between all their sides is not worth its evaluations."""

_MOST_CORNERS = 5
"""So many groups of kinks have 32 combinations of sides."""

_MOST_WIDE = 2**25
"""So many multiplications at one step are well under a second in a type that the processor is slow at."""

_UNDERFLOW = float(np.finfo(np.float64).tiny / _EPS)
"""What a tiny number may lose to underflow, in units of ε."""


@dataclass(frozen=True)
class Convention:
    """On which side a kink counts, for what sits on one: a choice that every author of backprop makes.

    right:   of an activation's kink at 0, how much the right side counts (relu'(0) ∈ {0, ½, 1}).
    loss:    the piece of the loss (sign(0) ∈ {−1, 0, 1}; hinge with ≥ or >).
    penalty: sign(0) of |w|.
    others: the numbers of the groups of kinks that are on the other side, in every sample.
    """

    right: float = 0.0
    loss: float = 0.0
    penalty: float = 0.0
    others: tuple[int, ...] = ()


class NetworkObjective:
    """A network at its parameters and data, as something that can be differenced.

    arithmetic: what the gradients are computed in, which tells how near to a kink is on it.
    convention: if given, whatever sits on a kink stays on this side of it however it is moved. Every other
    kink is crossed, and noticed, as always.
    """

    tells_kinks = True

    def __init__(
        self,
        network: Network,
        parameters: Arrays,
        x: Array,
        target: Array,
        arithmetic: Arithmetic = FLOAT64,
        convention: Convention | None = None,
    ) -> None:
        self.network = network
        self.parameters = parameters
        self.target = target
        self.arithmetic = arithmetic
        self.convention = convention
        self.x = x
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
        return _ENTRY_MOVES[kind](self, self._index[layer], name)

    def penalty(self, name: str) -> Movable | None:
        penalties = self.network.penalties_on(name)
        if not penalties:
            return None
        sign = self.convention.penalty if self.convention else None
        return _PenaltyMoves(self.parameters[name], penalties, sign)

    def affine(self, name: str) -> Affine:
        """weight and bias in z = a⁽ʰ⁾ wᵀ + b, gamma and beta in y = γ ẑ + β."""
        layer, kind = name.rsplit(".", 1)
        i = self._index[layer]
        normalised = self.activity.normalised[i]
        if kind == "gamma" and normalised is not None:
            return Affine((layer, "y"), normalised.value, own_unit=True)
        if kind == "beta":
            return Affine((layer, "y"), None)
        return Affine((layer, "z"), self.activity.inputs[i] if kind == "weight" else None)

    def units(self, site: Site) -> Movable:
        layer, kind = site
        i = self._index[layer]
        normalising = [layer.batch_norm is not None for layer in self.network.layers[i:]]
        if normalising[0] and kind == "y":
            normalising = normalising[1:]
        return _BatchMoves(self, i, kind) if any(normalising) else _UnitMoves(self, i)

    @cached_property
    def kinks(self) -> Kinks:
        """What sits on a kink, as nearly as rounding can tell."""
        return find_kinks(self.network, self.parameters, self.activity, self.target, self.arithmetic)

    @cached_property
    def widest(self) -> NetworkObjective | None:
        """The same in the widest floating point there is, whose rounding is that much finer.

        None where that is float64 itself, or where it would take long: it is slow.
        """
        multiplications, above = 0, 0
        for layer in reversed(self.network.layers):
            multiplications += layer.units * max(above, 1)
            above += layer.units * layer.inputs
        if any(layer.batch_norm is not None for layer in self.network.layers):
            multiplications *= len(self.x)  # every move carries the whole batch along
        fine = float(np.finfo(np.longdouble).eps) < _EPS / 1000
        if not fine or len(self.x) * multiplications > _MOST_WIDE:
            return None
        parameters = {name: value.astype(np.longdouble) for name, value in self.parameters.items()}
        x, target = self.x.astype(np.longdouble), self.target.astype(np.longdouble)
        return NetworkObjective(self.network, parameters, x, target, self.arithmetic, self.convention)

    @property
    def _closest(self) -> bool:
        """Whether this is a close look, which also tells what is exactly 0 from what rounding makes 0."""
        return self._ulp < 1.0 or self.convention is not None

    @cached_property
    def _ulp(self) -> float:
        """The ε of this arithmetic in units of that of float64."""
        return float(np.finfo(self.x.dtype).eps) / _EPS

    @cached_property
    def conventions(self) -> tuple[NetworkObjective, ...]:
        """The same objective under every usual convention about what sits on a kink; none if nothing does."""
        if self.convention is not None or not self.kinks.any:
            return ()
        sides = product(
            (0.0, 0.5, 1.0) if self.kinks.in_activations else (0.0,),
            self.network.loss.sides if self.kinks.in_loss else (0.0,),
            (-1.0, 0.0, 1.0) if self.kinks.in_penalty else (0.0,),
        )
        return tuple(self._under(Convention(*side)) for side in sides)

    @cached_property
    def corners(self) -> tuple[NetworkObjective, ...]:
        """Every choice of a side for each group of kinks; none if there are too many of them."""
        if self._numbered.count > _MOST_CORNERS:
            return ()
        numbers = range(self._numbered.count)
        return tuple(
            self._under(replace(self._left, others=others))
            for size in range(len(numbers) + 1)
            for others in combinations(numbers, size)
        )

    @cached_property
    def one_by_one(self) -> tuple[NetworkObjective, ...]:
        """All kinks on their left, and then each of a sample's kinks alone on its right.

        None where that does not tell what all choices lead to, or where there are too many.
        """
        if self._numbered.count > _MOST_KINKS or not self._numbered.parallel:
            return ()
        each = [(), *((number,) for number in range(self._numbered.count))]
        return tuple(self._under(replace(self._left, others=others)) for others in each)

    @property
    def _left(self) -> Convention:
        return Convention(0.0, self.network.loss.sides[0] if self.network.loss.sides else 0.0)

    def _under(self, convention: Convention) -> NetworkObjective:
        at = (self.network, self.parameters, self.x, self.target, self.arithmetic)
        return NetworkObjective(*at, convention)

    @cached_property
    def _numbered(self) -> Numbered:
        coupled = any(layer.batch_norm is not None for layer in self.network.layers)
        return self.kinks.numbered(coupled)

    def outputs_of(self, i: int) -> Array:
        """What layer i passes on, (N, units)."""
        last = i + 1 == len(self.network.layers)
        return self.activity.output if last else self.activity.inputs[i + 1]

    @cached_property
    def layer_pieces(self) -> tuple[Array | None, ...]:
        """The smooth piece of its activation that every pre-activation is on, where there are several."""
        return tuple(
            layer.activation.pieces(y) if layer.activation.pieces else None
            for layer, y in zip(self.network.layers, self.activity.y, strict=True)
        )

    @cached_property
    def loss_pieces(self) -> Array | None:
        pieces = self.network.loss.pieces
        return pieces(self.activity.output, self.target) if pieces else None

    def above(
        self,
        first: int,
        z: Array,
        samples: Any,
        output_rounding: Array,
        normalised: bool = True,
        itself: bool = True,
    ) -> Moved:
        """Feed pre-activations z (…, units) of layer `first` to the top.

        samples: the index of each row's sample, to find its target; with batch normalisation on the way the
        rows must be whole batches, (…, N, units). output_rounding: how exact the outputs are then (N, C), in
        units of ε. normalised: whether z of the first layer is y already, if it has batch normalisation.
        itself: whether something of the first layer has been moved, or something below it.
        Losses, their rounding and whether a branch changed are all (…).
        """
        crossed = np.zeros(z.shape[:-1], dtype=bool)
        silent = np.zeros(z.shape[:-1], dtype=bool)
        a = z
        for i in range(first, len(self.network.layers)):
            layer = self.network.layers[i]
            if i > first:
                z = _product(a, self.parameters[layer.weight]) + self.parameters[layer.bias]
            if layer.batch_norm is not None and (i > first or not normalised):
                z = scaled(layer, self.parameters, normalise(z, layer.batch_norm))
            if self._closest and layer.activation.flat_left:
                silent |= self._swallowed(i, z, samples, itself=i == first and itself)
            a, changed = self.activate(i, z, samples)
            if changed is not None:
                crossed |= changed.any(axis=-1)
        losses, rounding, changed = self._losses(a, samples, output_rounding)
        if changed is not None:
            crossed |= changed.any(axis=-1)
        c = self.network.coefficient
        rounding = np.where(silent, 0.0, abs(c) * self._ulp * rounding)
        return Moved(c * losses, rounding, crossed)

    def _swallowed(self, i: int, y: Array, samples: Any, itself: bool) -> Array:
        """Where all units of layer i (…, units), or all that were moved themselves, are and were off: (…)."""
        rest, at_rest = self.activity.y[i][samples], self.layer_pieces[i]
        if at_rest is None:
            return np.zeros(y.shape[:-1], dtype=bool)
        off = (y <= 0) & ~at_rest[samples]
        if self.convention is not None:
            kept = self.kinks.of_layers[i][samples]
            off = np.where(kept, self._right(i, samples) == 0.0, off)
        return np.all(off | (y == rest), axis=-1) if itself else np.all(off, axis=-1)

    def activate(self, i: int, y: Array, at: Any) -> tuple[Array, Array | None]:
        """a of the pre-activations y of layer i, and where they are on another piece than at rest.

        at: their indices in the layer's (N, units). What sits on a kink and has a convention keeps to it.
        """
        activation, at_rest = self.network.layers[i].activation, self.layer_pieces[i]
        if at_rest is None or activation.pieces is None or activation.branch is None:
            return activation.value(y), None
        pieces = activation.pieces(y)
        changed = pieces != at_rest[at]
        if self.convention is None or not self.kinks.of_layers[i].any():
            return activation.value(y), changed
        kept, right = self.kinks.of_layers[i][at], self._right(i, at)
        sides = [activation.branch(y, np.where(kept, side, pieces)) for side in (False, True)]
        return (1.0 - right) * sides[0] + right * sides[1], changed & ~kept

    def _right(self, i: int, at: Any) -> Any:
        """How much the right side counts for what sits on a kink of layer i."""
        assert self.convention is not None
        right, others = self.convention.right, self.convention.others
        if not others:
            return right
        return np.where(np.isin(self._numbered.of_layers[i][at], others), 1.0 - right, right)

    def _losses(self, a: Array, samples: Any, output_rounding: Array) -> tuple[Array, Array, Array | None]:
        loss, target = self.network.loss, self.target[samples]
        losses, rounding = loss_and_rounding(loss, a, target, output_rounding[samples])
        if self.loss_pieces is None or loss.pieces is None or loss.branch is None:
            return losses, rounding, None
        pieces = loss.pieces(a, target)
        changed = pieces != self.loss_pieces[samples]
        if self.convention is None or not self.kinks.of_loss.any():
            return losses, rounding, changed
        kept = self.kinks.of_loss[samples]
        side: Any = self.convention.loss
        if self.convention.others:
            other = np.isin(self._numbered.of_loss[samples], self.convention.others)
            side = np.where(other, loss.sides[-1], side)
        losses = loss.branch(a, target, np.where(kept, side, pieces))
        return losses, rounding, changed & ~kept

    def output_rounding(self, first: int, z_rounding: Array, normalised: bool = True) -> Array:
        """How exact the outputs (N, C) are, in units of ε, if z of layer `first` is exact to z_rounding.

        normalised: whether it is y that is meant, if that layer has batch normalisation.
        """
        a_rounding = z_rounding
        for i in range(first, len(self.network.layers)):
            layer = self.network.layers[i]
            if i > first:
                w = np.abs(self.parameters[layer.weight])
                terms = np.abs(self.activity.inputs[i]) @ w.T + np.abs(self.parameters[layer.bias])
                z_rounding = a_rounding @ w.T + terms
            z_hat = self.activity.normalised[i]
            if z_hat is not None and (i > first or not normalised):
                z_rounding = scaled_rounding(layer, self.parameters, self.activity.z[i], z_rounding, z_hat)
            a_rounding = value_rounding(layer.activation, self.activity.y[i], z_rounding)
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
    """Every y_nj that the activation of a layer is taken of, moved for sample n alone."""

    objective: NetworkObjective
    i: int
    rest: None = None

    @cached_property
    def position(self) -> Array:
        return self.objective.activity.y[self.i].ravel()

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
            a, changed = objective.activate(i, to, (samples, units))
            rise = a - objective.outputs_of(i)[samples, units]
            if layer is objective.network.output:
                losses, rounding, crossed = self._move_in_row(samples, units, to)
                return Moved(losses, np.where((rise == 0) & (a == 0), 0.0, rounding), crossed)
            # Only this unit's a changes, so the layer above changes by an outer product.
            w = objective.parameters[objective.network.layers[i + 1].weight]
            z = objective.activity.z[i + 1][samples] + rise[:, None] * w.T[units]
            losses, rounding, crossed = objective.above(
                i + 1, z, samples, self._output_rounding, itself=False
            )
            # A unit that is off is off exactly, and one that nothing above listens to changes nothing.
            silent = ((rise == 0) & (a == 0)) | np.all(w == 0, axis=0)[units]
            rounding = np.where(silent, 0.0, rounding)
        if changed is not None:
            np.logical_or(crossed, changed, out=crossed)
        return Moved(losses, rounding, crossed)

    def _move_in_row(self, samples: Array, units: Array, to: Array) -> Moved:
        y = self.objective.activity.y[self.i][samples].astype(to.dtype, copy=False)
        y[np.arange(len(units)), units] = to
        return self.objective.above(self.i, y, samples, self._row_rounding)

    @cached_property
    def _row_rounding(self) -> Array:
        """Of outputs above pre-activations that are exactly what they are moved to, (N, C)."""
        return self.objective.output_rounding(self.i, np.zeros_like(self.objective.activity.y[self.i]))


@dataclass(frozen=True)
class _BatchMoves:
    """Every z_nj or y_nj of a layer from which batch normalisation couples the samples, seen in all of them.

    Sample n has its own copy of the weights, so that it moves alone, and takes the whole batch along.
    """

    objective: NetworkObjective
    i: int
    kind: str
    rest: None = None

    @property
    def _rest(self) -> Array:
        activity = self.objective.activity
        return activity.y[self.i] if self.kind == "y" else activity.z[self.i]

    @cached_property
    def position(self) -> Array:
        return self._rest.ravel()

    @cached_property
    def unit(self) -> Array:
        """1; or the deviation of the column over the batch, if that is what z_nj is divided by."""
        z_hat = self.objective.activity.normalised[self.i]
        if self.kind == "y" or z_hat is None:
            return np.ones(len(self.position))
        return np.broadcast_to(z_hat.deviation, self._rest.shape).ravel()

    @property
    def batch(self) -> int:
        return self.objective.batch(self.i, rows=len(self.objective.target))

    @cached_property
    def _output_rounding(self) -> Array:
        return self.objective.output_rounding(self.i, np.zeros_like(self._rest), self.kind == "y")

    def move(self, which: Array, to: Array) -> Moved:
        z = np.repeat(self._rest[None].astype(to.dtype, copy=False), len(which), axis=0)
        z.reshape(len(which), -1)[np.arange(len(which)), which] = to
        with np.errstate(all="ignore"):
            losses, rounding, crossed = self.objective.above(
                self.i, z, slice(None), self._output_rounding, self.kind == "y"
            )
        return Moved(losses, rounding, np.asarray(crossed.any(axis=-1)))


@dataclass(frozen=True)
class _EntryMoves:
    """Every entry of one parameter of layer `i`, moved literally, for the whole batch at once."""

    objective: NetworkObjective
    i: int
    name: str
    rest: None = None

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
        return self.objective.output_rounding(self.i, terms, normalised=False)

    def _above(self, units: Array, column: Array, normalised: bool = False) -> Moved:
        """The losses (B, N) with column units[b] of this layer's z, or y, replaced by column[b] (B, N)."""
        activity = self.objective.activity
        rest = activity.y[self.i] if normalised else activity.z[self.i]
        z = np.repeat(rest[None].astype(column.dtype, copy=False), len(units), axis=0)
        z[np.arange(len(units)), :, units] = column
        losses, rounding, crossed = self.objective.above(
            self.i, z, slice(None), self._output_rounding, normalised
        )
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
class _NormMoves(_EntryMoves):
    """γ or β of a batch normalisation."""

    @cached_property
    def _normalised(self) -> Array:
        z_hat = self.objective.activity.normalised[self.i]
        assert z_hat is not None
        return z_hat.value

    @cached_property
    def unit(self) -> Array:
        return np.ones(len(self.position))

    def move(self, which: Array, to: Array) -> Moved:
        layer, parameters = self.objective.network.layers[self.i], self.objective.parameters
        gamma, beta = parameters[layer.gamma][which], parameters[layer.beta][which]
        gamma, beta = (to, beta) if self.name == layer.gamma else (gamma, to)
        with np.errstate(all="ignore"):
            column = gamma[:, None] * self._normalised.T[which] + beta[:, None]
            return self._above(which, column, normalised=True)


_ENTRY_MOVES: Mapping[str, type[_WeightMoves | _BiasMoves | _NormMoves]] = {
    "weight": _WeightMoves, "bias": _BiasMoves, "gamma": _NormMoves, "beta": _NormMoves,
}  # fmt: skip


@dataclass(frozen=True)
class _PenaltyMoves:
    """Every entry of one parameter under its penalty terms alone; sign: that of 0 by convention."""

    parameter: Array
    penalties: Mapping[str, float]
    sign: float | None = None
    rest: None = None

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
        here = self.position[which]
        kept = (here == 0) & (self.sign is not None)
        losses: Any = 0.0
        for name, strength in self.penalties.items():
            penalty = PENALTIES[name]
            term = penalty.value(to, strength)
            if penalty.pieces and penalty.branch:
                crossed |= (penalty.pieces(to) != penalty.pieces(here)) & ~kept
                term = np.where(kept, penalty.branch(to, self.sign or 0.0, strength), term)
            losses = losses + term
        return Moved(losses, 2.0 * np.abs(np.real(losses)) + _UNDERFLOW, crossed)
