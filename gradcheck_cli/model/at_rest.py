"""The forward pass of a network, and its losses after pre-activations are perturbed.

This module handles every kind of perturbation: complex numbers, wider floats, batch normalisation, a
convention for numbers on a kink. Short steps of plain networks, by far the most frequent, go to `near`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from gradcheck_cli.model.batch_norm import normalise
from gradcheck_cli.model.kinks import Kinks, Numbered, find_kinks
from gradcheck_cli.model.network import Activity, Arrays, Network, forward, sample_losses, scaled
from gradcheck_cli.model.rounding import (
    FLOAT64,
    Arithmetic,
    loss_and_rounding,
    scaled_rounding,
    value_rounding,
)
from gradcheck_cli.model.special import Array
from gradcheck_cli.numerical.objective import ALONE, Moved, Spread

BLOCK_BYTES = 2**22
"""Size of a block of perturbations, to fit the cache; 1 to 8 MiB perform about equally (measured)."""

_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Convention:
    """A choice of side for numbers that sit on a kink; every implementation of backprop makes one.

    right:   the weight of the right side of an activation's kink at 0 (relu'(0) ∈ {0, ½, 1}).
    loss:    the piece of the loss (sign(0) ∈ {−1, 0, 1}; hinge with ≥ or >).
    penalty: sign(0) of |w|.
    others:  the groups of kinks, by number, that are on the other side in every sample.
    """

    right: float = 0.0
    loss: float = 0.0
    penalty: float = 0.0
    others: tuple[int, ...] = ()


class AtRest:
    """A network at its given parameters and data, which can be evaluated with perturbations.

    spread: how batches of perturbations are distributed.
    block: bytes of the largest temporary array of a batch.
    arithmetic: the arithmetic of the gradients, which decides how near to a kink counts as on it.
    convention: if given, numbers on a kink stay on this side of it under every perturbation. All other
        kinks can still be crossed, and are reported.
    """

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
        self.spread: Spread = ALONE
        self.block = BLOCK_BYTES
        self.activity: Activity = forward(network, parameters, x)
        self.losses: Array = sample_losses(network, self.activity.output, target)

    @cached_property
    def kinks(self) -> Kinks:
        """The numbers that sit on a kink, to within rounding."""
        return find_kinks(self.network, self.parameters, self.activity, self.target, self.arithmetic)

    @cached_property
    def numbered(self) -> Numbered:
        coupled = any(layer.batch_norm is not None for layer in self.network.layers)
        return self.kinks.numbered(coupled)

    @property
    def _closest(self) -> bool:
        """Whether to separate numbers that are exactly 0 from numbers that rounding makes 0."""
        return self._ulp < 1.0 or self.convention is not None

    @cached_property
    def _ulp(self) -> float:
        """The ε of this arithmetic, in units of float64's ε."""
        return float(np.finfo(self.x.dtype).eps) / _EPS

    def outputs_of(self, i: int) -> Array:
        """Return the output of layer i, (N, units)."""
        last = i + 1 == len(self.network.layers)
        return self.activity.output if last else self.activity.inputs[i + 1]

    @cached_property
    def heard(self) -> tuple[Array, ...]:
        """For each layer, which of its units affect anything above, (units,)."""
        heard = [np.ones(self.network.output.units, dtype=bool)]
        for below, layer in reversed(list(pairwise(self.network.layers))):
            own = (self.parameters[layer.weight][heard[0]] != 0).any(axis=0)
            heard.insert(0, np.full_like(own, own.any()) if below.activation.coupled else own)
        return tuple(heard)

    @cached_property
    def layer_pieces(self) -> tuple[Array | None, ...]:
        """The smooth piece of its activation that every pre-activation is on; None if there is only one."""
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
        """Feed pre-activations z (…, units) of layer `first` to the top and return the losses, (…).

        samples: the sample index of each row, to find its target; if batch normalisation follows, the rows
            must be whole batches, (…, N, units).
        output_rounding: the rounding error of the outputs (N, C), in units of ε.
        normalised: whether z of the first layer is already y, if that layer has batch normalisation.
        itself: whether the first layer itself or a layer below it was perturbed.
        """
        crossed = np.zeros(z.shape[:-1], dtype=bool)
        silent = np.full(z.shape[:-1], not self.heard[first].any())
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
        """Mark rows, (…), in which layer i passes nothing on: every perturbed unit was off and stays off.

        itself: whether the layer itself was perturbed. If not, every unit has to be off.
        """
        rest, at_rest = self.activity.y[i][samples], self.layer_pieces[i]
        if at_rest is None:
            return np.zeros(y.shape[:-1], dtype=bool)
        off = (y <= 0) & ~at_rest[samples]
        if self.convention is not None:
            kept = self.kinks.of_layers[i][samples]
            off = np.where(kept, self._right(i, samples) == 0.0, off)
        return np.all(off | (y == rest), axis=-1) if itself else np.all(off, axis=-1)

    def activate(self, i: int, y: Array, at: Any) -> tuple[Array, Array | None]:
        """Return the activations of the pre-activations y of layer i, and mark those whose piece has changed.

        at: the indices of y in the layer's (N, units). Numbers on a kink stay on the side of the convention.
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
        """Return the weight of the right side for numbers on a kink of layer i."""
        assert self.convention is not None
        right, others = self.convention.right, self.convention.others
        if not others:
            return right
        return np.where(np.isin(self.numbered.of_layers[i][at], others), 1.0 - right, right)

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
            other = np.isin(self.numbered.of_loss[samples], self.convention.others)
            side = np.where(other, loss.sides[-1], side)
        losses = loss.branch(a, target, np.where(kept, side, pieces))
        return losses, rounding, changed & ~kept

    def output_rounding(self, first: int, z_rounding: Array, normalised: bool = True) -> Array:
        """Return the rounding error of the outputs (N, C), in units of ε, given z_rounding at layer `first`.

        normalised: whether z_rounding is that of y, if that layer has batch normalisation.
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


def _product(a: Array, w: Array) -> Array:
    """Return the product a wᵀ over the last axis, computed as one matrix product."""
    return (a.reshape(-1, a.shape[-1]) @ w.T).reshape(*a.shape[:-1], -1)
