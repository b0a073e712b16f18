"""The perturbable numbers of a network: its pre-activations, and the entries of its parameters.

Small steps are evaluated by `near`, all others by `at_rest.AtRest.above`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from gradcheck_cli.model.at_rest import AtRest
from gradcheck_cli.model.batch_norm import normalise
from gradcheck_cli.model.near import NEAR, Near, NearLosses, short_inner_loops
from gradcheck_cli.model.rounding import loss_and_rounding
from gradcheck_cli.model.row_rounding import FUNCTION_ULPS
from gradcheck_cli.model.special import Array
from gradcheck_cli.numerical.objective import Moved, Spread


def _is_near(near: Near, here: Array, unit: Array, to: Array) -> bool:
    """Return whether `near` can evaluate these steps, which have to be short, real and float64."""
    return near.plain and to.dtype == np.float64 and bool((np.abs(to - here) <= NEAR * unit).all())


def _batch(objective: AtRest, first: int, rows: int) -> int:
    """Return how many perturbations fit a block, each with `rows` rows through layers `first` and up."""
    width = max((layer.units for layer in objective.network.layers[first:]), default=1)
    return max(1, objective.block // (8 * width * rows))


def _near_batch(near: Near, rows: int) -> int:
    """Return how many perturbations fit a block in `near`, which often skips their own layer."""
    return _batch(near.objective, near.i if near.in_rows or not near.plain else near.i + 1, rows)


def _in_blocks(move: Callable[[Array, Array], Moved], size: int, which: Array, to: Array) -> Moved:
    """Evaluate long steps in blocks of this size; each needs more memory than a short step."""
    if len(which) <= size:
        return move(which, to)
    parts = [slice(start, start + size) for start in range(0, len(which), size)]
    moved = [move(which[part], to[part]) for part in parts]
    return Moved(*(np.concatenate(each) for each in zip(*moved, strict=True)))


def _near_rounding(objective: AtRest, output_rounding: Array) -> Array:
    """Return the rounding error of the losses (N,), in units of ε, for short steps."""
    loss, output = objective.network.loss, objective.activity.output
    _, rounding = loss_and_rounding(loss, output, objective.target, output_rounding)
    return abs(objective.network.coefficient) * rounding


def _rounded(near: NearLosses, rounding: Array) -> Array:
    """Return the rounding error of these losses, in units of ε, given that of the unperturbed ones."""
    return np.where(near.silent, 0.0, np.maximum(rounding, np.abs(near.losses)))


@dataclass(frozen=True)
class _Moves:
    """Perturbations of layer `i`: `near` evaluates short steps; longer ones are computed in full."""

    objective: AtRest
    i: int
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
    def batch(self) -> int:
        return _near_batch(self.near, self._rows)

    def move(self, which: Array, to: Array) -> Moved:
        with np.errstate(all="ignore"):
            if _is_near(self.near, self.position[which], self.unit[which], to):
                with short_inner_loops():
                    return self._move_near(which, to)
            return _in_blocks(self._move_far, _batch(self.objective, self.i, self._rows), which, to)

    def _move_near(self, which: Array, to: Array) -> Moved:
        raise NotImplementedError

    def _move_far(self, which: Array, to: Array) -> Moved:
        raise NotImplementedError


@dataclass(frozen=True)
class UnitMoves(_Moves):
    """Every input y_nj of a layer's activation, perturbed for sample n only."""

    @property
    def position(self) -> Array:
        return self.near.y.ravel()

    @property
    def _rows(self) -> int:
        return 1

    @cached_property
    def unit(self) -> Array:
        return np.ones(len(self.position))

    @property
    def batch(self) -> int:
        """The batch size: whole columns of samples, if they fit."""
        fitting, samples = _near_batch(self.near, rows=1), len(self.objective.target)
        return fitting if fitting < samples else fitting - fitting % samples

    @cached_property
    def _near_rounding(self) -> Array:
        in_row = self.near.in_rows or self.near.is_output
        return _near_rounding(self.objective, self._row_rounding if in_row else self._output_rounding)

    @cached_property
    def _output_rounding(self) -> Array:
        """Rounding of the outputs, (N, C), when this layer's a is recomputed and its change added to z."""
        above, a = self.objective.network.layers[self.i + 1], self.objective.activity.inputs[self.i + 1]
        w = np.abs(self.objective.parameters[above.weight])
        z_rounding = np.abs(self.objective.activity.z[self.i + 1]) + FUNCTION_ULPS * (np.abs(a) @ w.T)
        return self.objective.output_rounding(self.i + 1, z_rounding)

    def _move_near(self, which: Array, to: Array) -> Moved:
        samples = len(self.objective.target)
        first, count = int(which[0]), len(which)
        unit, sample = divmod(first, samples)
        in_order = int(which[-1]) - first + 1 == count  # `which` is sorted, so this means no gaps
        if in_order and count % samples == 0 and sample == 0:
            here: Any = slice(None)
            units = np.arange(unit, unit + count // samples)
            near = self.near.columns(units, here, to.reshape(-1, samples))
        elif in_order and sample + count <= samples:
            here = slice(sample, sample + count)
            near = self.near.columns(np.array([unit]), here, to[None])
        else:
            units, here = np.divmod(which, samples)
            near = self.near.singles(units, here, to)
        rounding = _rounded(near, self._near_rounding[here])
        return Moved(near.losses.ravel(), rounding.ravel(), near.crossed.ravel())

    def _move_far(self, which: Array, to: Array) -> Moved:
        objective, i = self.objective, self.i
        layer = objective.network.layers[i]
        units, samples = np.divmod(which, len(objective.target))
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
        losses, rounding, crossed = objective.above(i + 1, z, samples, self._output_rounding, itself=False)
        # A unit that is off is exactly 0, and a unit that nothing above uses changes no loss.
        silent = ((rise == 0) & (a == 0)) | ~objective.heard[i][units]
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
        """Rounding of the outputs, (N, C), above pre-activations that are exactly what they were set to."""
        return self.objective.output_rounding(self.i, np.zeros_like(self.objective.activity.y[self.i]))


@dataclass(frozen=True)
class BatchMoves(_Moves):
    """Every z_nj or y_nj of a layer below a batch normalisation that couples the samples.

    Sample n has its own copy of the weights, so it is perturbed alone, but the loss of the whole batch
    responds.
    """

    kind: str

    @property
    def _rest(self) -> Array:
        activity = self.objective.activity
        return activity.y[self.i] if self.kind == "y" else activity.z[self.i]

    @cached_property
    def position(self) -> Array:
        return self._rest.T.ravel()

    @cached_property
    def unit(self) -> Array:
        """The unit of a step: 1, or the batch deviation of the column if z_nj is divided by it."""
        z_hat = self.objective.activity.normalised[self.i]
        if self.kind == "y" or z_hat is None:
            return np.ones(len(self.position))
        return np.repeat(z_hat.deviation.ravel(), len(self._rest))

    @cached_property
    def _output_rounding(self) -> Array:
        return self.objective.output_rounding(self.i, np.zeros_like(self._rest), self.kind == "y")

    @cached_property
    def _near_rounding(self) -> Array:
        return _near_rounding(self.objective, self._output_rounding)

    def _move_near(self, which: Array, to: Array) -> Moved:
        """Evaluate short steps below a single normalisation, this layer's: only one column of y changes."""
        units, samples = np.divmod(which, len(self._rest))
        z = self._rest.T[units]
        z[np.arange(len(which)), samples] = to
        near = self.near.columns(units, slice(None), _normalised(self.objective, self.i, units, z))
        return Moved(near.losses, _rounded(near, self._near_rounding), np.any(near.crossed, axis=-1))

    def _move_far(self, which: Array, to: Array) -> Moved:
        z = np.repeat(self._rest[None].astype(to.dtype, copy=False), len(which), axis=0)
        units, samples = np.divmod(which, len(self._rest))
        z[np.arange(len(which)), samples, units] = to
        losses, rounding, crossed = self.objective.above(
            self.i, z, slice(None), self._output_rounding, self.kind == "y"
        )
        rounding = np.where(self.objective.heard[self.i][units, None], rounding, 0.0)
        return Moved(losses, rounding, np.asarray(crossed.any(axis=-1)))


def _normalised(objective: AtRest, i: int, units: Array, z: Array) -> Array:
    """Return y (B, N) for columns z (B, N) of these units of layer i, which has batch normalisation."""
    layer, parameters = objective.network.layers[i], objective.parameters
    assert layer.batch_norm is not None
    z_hat = normalise(z[..., None], layer.batch_norm).value[..., 0]
    y: Array = parameters[layer.gamma][units, None] * z_hat + parameters[layer.beta][units, None]
    return y


@dataclass(frozen=True)
class _EntryMoves(_Moves):
    """Every entry of one parameter of layer `i`, each perturbed for the whole batch at once."""

    name: str

    @cached_property
    def position(self) -> Array:
        return self._parameter.ravel()

    @property
    def _parameter(self) -> Array:
        return self.objective.parameters[self.name]

    @cached_property
    def _output_rounding(self) -> Array:
        """Rounding of the outputs, (N, C), above pre-activations that round like Σ |a⁽ʰ⁾ w| + |b|."""
        layer = self.objective.network.layers[self.i]
        w, b = self.objective.parameters[layer.weight], self.objective.parameters[layer.bias]
        terms = np.abs(self.objective.activity.inputs[self.i]) @ np.abs(w.T) + np.abs(b)
        return self.objective.output_rounding(self.i, terms, normalised=False)

    def _move_near(self, which: Array, to: Array) -> Moved:
        units, rise = self._risen(which, (to - self.position[which])[:, None])
        near = self.near.columns(units, slice(None), self._columns(units, rise))
        return Moved(near.losses, _rounded(near, self._near_rounding), np.any(near.crossed, axis=-1))

    def _columns(self, units: Array, rise: Array) -> Array:
        """Return the columns of y, (B, N), of these units after z has risen."""
        if self.objective.network.layers[self.i].batch_norm is None:
            return self.near.y[units] + rise
        z = self.objective.activity.z[self.i].T[units]
        return _normalised(self.objective, self.i, units, z + rise)

    @property
    def _scale(self) -> Array:
        """The natural size of a change of z, (units,): 1, or the batch deviation if z is divided by it."""
        z_hat = self.objective.activity.normalised[self.i]
        units = self.objective.network.layers[self.i].units
        return np.ones(units) if z_hat is None else z_hat.deviation.ravel()

    def _risen(self, which: Array, by: Array) -> tuple[Array, Array]:
        """Return the units of these entries and the rise of their columns, (B, N), for a rise `by`."""
        raise NotImplementedError

    @property
    def unit(self) -> Array:
        """The change that moves the pre-activations by 1, or by the batch deviation."""
        return self._scale

    @cached_property
    def _near_rounding(self) -> Array:
        """Rounding of the losses, (N,), including one more rounding of z when it is raised."""
        size = np.abs(self.objective.activity.z[self.i])
        return _near_rounding(self.objective, self.objective.output_rounding(self.i, size, normalised=False))

    def _above(self, units: Array, column: Array, normalised: bool = False) -> Moved:
        """Return the losses (B, N) with column units[b] of this layer's z, or y, replaced by column[b]."""
        activity = self.objective.activity
        rest = activity.y[self.i] if normalised else activity.z[self.i]
        z = np.repeat(rest[None].astype(column.dtype, copy=False), len(units), axis=0)
        z[np.arange(len(units)), :, units] = column
        losses, rounding, crossed = self.objective.above(
            self.i, z, slice(None), self._output_rounding, normalised
        )
        rounding = np.where(self.objective.heard[self.i][units, None], rounding, 0.0)
        return Moved(losses, rounding, np.asarray(crossed.any(axis=-1)))


@dataclass(frozen=True)
class _WeightMoves(_EntryMoves):
    @cached_property
    def _inputs(self) -> Array:
        """The layer's inputs a⁽ʰ⁾, (in, N)."""
        return np.ascontiguousarray(self.objective.activity.inputs[self.i].T)

    @cached_property
    def unit(self) -> Array:
        """The change that moves the pre-activations by at most 1, or by one deviation of the batch."""
        reach = np.abs(self.objective.activity.inputs[self.i]).max(axis=0)
        reach = np.where(reach > np.finfo(np.float64).tiny, reach, 1.0)
        return (self._scale[:, None] / reach).ravel()

    def _risen(self, which: Array, by: Array) -> tuple[Array, Array]:
        units, inputs = np.divmod(which, self._parameter.shape[1])
        return units, by * self._inputs[inputs]

    def _move_far(self, which: Array, to: Array) -> Moved:
        units, inputs = np.divmod(which, self._parameter.shape[1])
        rows = self._parameter[units].astype(to.dtype, copy=False)
        rows[np.arange(len(which)), inputs] = to
        column = rows @ self.objective.activity.inputs[self.i].T
        bias = self.objective.parameters[self.objective.network.layers[self.i].bias]
        return self._above(units, column + bias[units, None])


@dataclass(frozen=True)
class _BiasMoves(_EntryMoves):
    def _risen(self, which: Array, by: Array) -> tuple[Array, Array]:
        return which, by

    def _move_far(self, which: Array, to: Array) -> Moved:
        rows = self.objective.parameters[self.objective.network.layers[self.i].weight][which]
        column = rows @ self.objective.activity.inputs[self.i].T
        return self._above(which, column + to[:, None])


@dataclass(frozen=True)
class _NormMoves(_EntryMoves):
    """The entries of γ or β of a batch normalisation."""

    def _columns(self, units: Array, rise: Array) -> Array:
        return self.near.y[units] + rise

    @property
    def _scale(self) -> Array:
        return np.ones(len(self.position))

    @cached_property
    def _normalised(self) -> Array:
        """The normalised pre-activations ẑ, (units, N)."""
        z_hat = self.objective.activity.normalised[self.i]
        assert z_hat is not None
        return np.ascontiguousarray(z_hat.value.T)

    @property
    def _is_gamma(self) -> bool:
        return self.name == self.objective.network.layers[self.i].gamma

    def _risen(self, which: Array, by: Array) -> tuple[Array, Array]:
        return which, by * self._normalised[which] if self._is_gamma else by

    def _move_far(self, which: Array, to: Array) -> Moved:
        layer, parameters = self.objective.network.layers[self.i], self.objective.parameters
        gamma, beta = parameters[layer.gamma][which], parameters[layer.beta][which]
        gamma, beta = (to, beta) if self._is_gamma else (gamma, to)
        column = gamma[:, None] * self._normalised[which] + beta[:, None]
        return self._above(which, column, normalised=True)


ENTRY_MOVES: Mapping[str, type[_WeightMoves | _BiasMoves | _NormMoves]] = {
    "weight": _WeightMoves, "bias": _BiasMoves, "gamma": _NormMoves, "beta": _NormMoves,
}  # fmt: skip
