"""Compute losses after short steps in pre-activations, reusing most of the unperturbed forward pass.

Unit differences spend most of their time here. Whatever many perturbations share is computed once, and
rounding bounds come from the unperturbed network. Longer steps, complex ones, wider floats and numbers kept
on one side of a kink are left to `at_rest.AtRest.above`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from gradcheck_cli.model.at_rest import AtRest
from gradcheck_cli.model.special import Array

NEAR = 2.0**-8
"""Steps of a pre-activation up to this length count as short, in units of a step of 1."""

_MOSTLY = 0.6
"""If fewer units than this share are alive, it pays to gather them and skip the rest."""

_SMALL_PRODUCT = 10**6
"""OpenBLAS does not pack matrices for products of fewer multiplications, and is twice as fast on them."""

_OUTER_BLOCK = 4096
"""Size of the blocks of an outer product, small enough not to evict each other from the cache."""


class NearLosses(NamedTuple):
    """The losses after short steps.

    crossed: whether a branch changed.
    silent: whether the perturbation has no effect on anything above.
    """

    losses: Array
    crossed: Array
    silent: Array


Raised = Callable[[Array], tuple[Array, Array | None]]


@dataclass(frozen=True)
class Near:
    """The losses of a network of plain layers from layer `i` up, in float64.

    Shapes: J columns (units) of N samples, or B single pre-activations.
    """

    objective: AtRest
    i: int

    @cached_property
    def plain(self) -> bool:
        """Whether `Near` applies: it handles no conventions, no wide floats and no coupled samples above.

        Batch normalisation of the layer itself does not matter, since y is perturbed.
        """
        objective = self.objective
        coupled = any(layer.batch_norm is not None for layer in objective.network.layers[self.i + 1 :])
        return objective.convention is None and objective.x.dtype == np.float64 and not coupled

    @cached_property
    def y(self) -> Array:
        """The unperturbed input of the layer's activation, (units, N)."""
        return np.ascontiguousarray(self.objective.activity.y[self.i].T)

    @cached_property
    def rest(self) -> Array:
        """The layer's unperturbed output a, (units, N)."""
        return np.ascontiguousarray(self.objective.outputs_of(self.i).T)

    @cached_property
    def pieces(self) -> Array | None:
        """The smooth piece of the activation that each unperturbed y is on, (units, N)."""
        at_rest = self.objective.layer_pieces[self.i]
        return None if at_rest is None else np.ascontiguousarray(at_rest.T)

    @cached_property
    def _targets(self) -> Array:
        return np.ascontiguousarray(self.objective.target.T)

    @cached_property
    def _terms(self) -> Array:
        """What every output adds to its sample's unperturbed loss, (units, N)."""
        return self.objective.network.loss.value(self.rest[..., None], self._targets[..., None])

    @property
    def is_output(self) -> bool:
        return self.i + 1 == len(self.objective.network.layers)

    def columns(self, units: Array, samples: slice, y: Array) -> NearLosses:
        """Return the losses when y of these units and samples becomes y (J, N), one number at a time."""
        at = (units[:, None], np.arange(len(self.objective.target))[samples])
        if self.in_rows:
            z = np.repeat(self.objective.activity.y[self.i][None, samples], len(y), axis=0)
            z[np.arange(len(y)), :, units] = y
            return self._whole_rows(z, samples)
        return self._one_by_one(at, y, lambda rise: self._raised(units, samples, rise))

    def singles(self, units: Array, samples: Array, y: Array) -> NearLosses:
        """Return the losses when single y of these units and samples become y (B,)."""
        if self.in_rows:
            z = self.objective.activity.y[self.i][samples]
            z[np.arange(len(y)), units] = y
            return self._whole_rows(z, samples)
        return self._one_by_one((units, samples), y, lambda rise: self._gathered(units, samples, rise))

    # --- this layer --------------------------------------------------------------------------------------

    @property
    def in_rows(self) -> bool:
        """Whether perturbing one y changes more than its own activation, or than its own term of the loss."""
        network = self.objective.network
        return network.layers[self.i].activation.coupled or (self.is_output and not network.loss.per_output)

    def _whole_rows(self, z: Array, samples: Any) -> NearLosses:
        losses, crossed = self._above(self.i, z, samples)
        nowhere = np.zeros(losses.shape, dtype=bool)
        silent = np.full(losses.shape, not self.objective.heard[self.i].any())
        return NearLosses(losses, nowhere if crossed is None else crossed, silent)

    def _one_by_one(self, at: Any, y: Array, raised: Raised) -> NearLosses:
        """Return the losses when each y changes only its own activation.

        at: the (units, samples) of each y.
        raised: returns the losses for a rise of these activations.
        """
        activation = self.objective.network.layers[self.i].activation
        a = activation.value(y)
        rise = a - self.rest[at]
        silent = (rise == 0) & (a == 0)
        crossed = np.zeros(y.shape, dtype=bool)
        if self.pieces is not None and activation.pieces is not None:
            crossed |= activation.pieces(y) != self.pieces[at]
        if self.is_output:
            losses, changed = self._own_terms(a, at)
        else:
            losses, changed = raised(rise)
            silent |= ~self.objective.heard[self.i][at[0]]
        if changed is not None:
            crossed |= changed
        return NearLosses(losses, crossed, silent)

    def _own_terms(self, a: Array, at: Any) -> tuple[Array, Array | None]:
        """Return the losses, sums over the outputs, when only the terms of these outputs change."""
        network, target = self.objective.network, self._targets[at][..., None]
        crossed = None
        if self.objective.loss_pieces is not None and network.loss.pieces is not None:
            at_rest = self.objective.loss_pieces.T[at]
            crossed = np.not_equal(network.loss.pieces(a[..., None], target)[..., 0], at_rest)
        rise = network.loss.value(a[..., None], target) - self._terms[at]
        rise *= network.coefficient
        rise += self.objective.losses[at[1]]
        return rise, crossed

    # --- what lies above ---------------------------------------------------------------------------------

    @cached_property
    def _weights(self) -> Array:
        """The weights of the next layer, (units, units of the next layer)."""
        return self._weights_above[self.i + 1]

    def _transposed(self, i: int) -> Array:
        objective = self.objective
        return np.ascontiguousarray(objective.parameters[objective.network.layers[i].weight].T)

    @cached_property
    def _weights_above(self) -> dict[int, Array]:
        """The weights of every layer above, by number, as the products need them: (inputs, units)."""
        return {i: self._transposed(i) for i in range(self.i + 1, len(self.objective.network.layers))}

    def _raised(self, units: Array, samples: slice, rise: Array) -> tuple[Array, Array | None]:
        """Return the losses after raising one unit's activation at a time by rise (J, N), for each sample."""
        alive = rise != 0
        if np.count_nonzero(alive) < _MOSTLY * alive.size:
            everywhere = np.arange(len(self.objective.target))[samples]
            which = np.repeat(units, rise.shape[1]), np.tile(everywhere, len(units))
            losses, crossed = self._gathered(*which, rise.ravel())
            return losses.reshape(rise.shape), None if crossed is None else crossed.reshape(rise.shape)
        z = outer(rise, self._weights[units])
        z += self.objective.activity.z[self.i + 1][samples]
        return self._above(self.i + 1, z, samples)

    def _gathered(self, units: Array, samples: Array, rise: Array) -> tuple[Array, Array | None]:
        """Return the losses after raising the activations of single units and samples by rise (B,).

        Where the rise is 0, the losses stay the same.
        """
        alive = np.flatnonzero(rise)
        if len(alive) < len(rise):
            losses, crossed = self.objective.losses[samples], np.zeros(len(rise), dtype=bool)
            if len(alive):
                losses[alive], changed = self._gathered(units[alive], samples[alive], rise[alive])
                if changed is not None:
                    crossed[alive] = changed
            return losses, crossed
        z = self._weights.take(units, axis=0)
        z *= rise[:, None]
        z += self.objective.activity.z[self.i + 1].take(samples, axis=0)
        return self._above(self.i + 1, z, samples)

    def _above(self, first: int, z: Array, samples: Any) -> tuple[Array, Array | None]:
        """Feed y (…, units) of layer `first` to the top and return losses and crossed, (…).

        y may be overwritten.
        """
        objective = self.objective
        network, crossed = objective.network, None
        for i in range(first, len(network.layers)):
            layer, at_rest = network.layers[i], objective.layer_pieces[i]
            if i > first:
                z = product(z, self._weights_above[i])
                z += objective.parameters[layer.bias]
            if at_rest is not None and layer.activation.pieces is not None:
                crossed = _or(crossed, (layer.activation.pieces(z) != at_rest[samples]).any(axis=-1))
            z = layer.activation.overwrite(z)
        losses, target = network.loss.value(z, objective.target[samples]), objective.target[samples]
        if objective.loss_pieces is not None and network.loss.pieces is not None:
            changed = network.loss.pieces(z, target) != objective.loss_pieces[samples]
            crossed = _or(crossed, changed.any(axis=-1))
        return network.coefficient * losses, crossed


@contextmanager
def short_inner_loops() -> Iterator[None]:
    """Use a small numpy buffer: broadcasting along rows is then two to three times as fast."""
    size = np.setbufsize(64)
    try:
        yield
    finally:
        np.setbufsize(size)


def outer(columns: Array, rows: Array) -> Array:
    """Return columns[j] ⊗ rows[j], (J, N, M), for (J, N) and (J, M).

    The products are of two-column matrices, because BLAS is faster at these than numpy's broadcasting.
    """
    (count, samples), width = columns.shape, rows.shape[1]
    left, right = np.zeros((count, samples, 2)), np.zeros((count, 2, width))
    left[:, :, 0], right[:, 0] = columns, rows
    result = np.empty((count, samples, width))
    block = max(8, _OUTER_BLOCK // width)
    whole = samples - samples % block if block < samples else 0
    if whole:
        in_blocks = (count, whole // block, block, -1)
        part = result[:, :whole]
        for j in range(count):
            np.matmul(left[j, :whole].reshape(*in_blocks[1:]), right[j], out=part[j].reshape(*in_blocks[1:]))
    if whole < samples:
        np.matmul(left[:, whole:], right, out=result[:, whole:])
    return result


def product(a: Array, w: Array) -> Array:
    """Return the product a w over the last axis of a, (…, M) by (M, K), in blocks that BLAS need not pack."""
    rows, width = a.size // a.shape[-1], w.shape[1]
    flat = a.reshape(rows, -1)
    result = np.empty((rows, width))
    block = _SMALL_PRODUCT // w.size
    whole = rows - rows % block if 32 <= block < rows else 0
    if whole:
        np.matmul(
            flat[:whole].reshape(whole // block, block, -1), w, out=result[:whole].reshape(-1, block, width)
        )
    if whole < rows:
        np.matmul(flat[whole:], w, out=result[whole:])
    return result.reshape(*a.shape[:-1], width)


def _or(one: Array | None, other: Array) -> Array:
    return other if one is None else one | other
