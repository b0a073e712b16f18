"""Compute how much the losses change after short changes of single elements, without subtracting losses.

The value after a step of the network is never computed here. What travels upwards is its rise, the exact
change since rest: a dense step multiplies rises by its weights, and an activation or a loss turns a rise of
its argument into a rise of its value (`network.rise` explains how). The result is the difference of two
evaluations of the loss, in another order. Nothing cancels, so a step may be as short as one likes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from gradcheck_cli.moving.loss_rises import Crossed
from gradcheck_cli.moving.rise_rounding import RiseRounding, rise_of
from gradcheck_cli.moving.short_moves import MOSTLY, Near
from gradcheck_cli.moving.small_products import outer, product
from gradcheck_cli.network.rise import AtRest as RestOfRise
from gradcheck_cli.network.rise import length
from gradcheck_cli.network.steps.dense import Dense
from gradcheck_cli.network.steps.pointwise import Pointwise
from gradcheck_cli.types import Array


@dataclass(frozen=True)
class Rises:
    """Computes the rises of the losses after changes of single elements of the value with index `near.at`.

    near: the chain from the value to the losses, and what is known about it at rest.
    rounding: bounds on the rounding errors of slopes from rises, and what all sites share.
    """

    near: Near
    rounding: RiseRounding

    @cached_property
    def known(self) -> bool:
        """Whether every activation above the value and the loss have a rise, and samples do not interact."""
        if not self.near.plain or not self.rounding.loss.known:
            return False
        return all(step.row.rise is not None for step in self._activations.values())

    @cached_property
    def _activations(self) -> dict[int, Pointwise]:
        """The activations above the value, by the node's index."""
        chain, nodes = self.near.chain, self.near.objective.graph.nodes
        assert chain is not None
        own = () if chain.activation is None else (chain.activation,)
        steps = {i: nodes[i].step for i in (*own, *chain.above)}
        return {i: step for i, step in steps.items() if isinstance(step, Pointwise)}

    # --- known at rest -----------------------------------------------------------------------------------

    @cached_property
    def _own_at_rest(self) -> RestOfRise:
        """What the rise of the value's own activation needs, as arrays (F, N) for F features, N samples."""
        chain = self.near.chain
        assert chain is not None
        if chain.activation is None:
            return rise_of(self.near.activation).at_rest(self.near.y)
        return tuple(np.ascontiguousarray(each.T) for each in self.rounding.at_rest(chain.activation))

    def _argument(self, i: int) -> Array:
        """Return the unperturbed input of node i, (N, F)."""
        value = self.near.objective.values[self.near.objective.graph.nodes[i].inputs[0]]
        return value.reshape(len(value), -1)

    # --- changes -----------------------------------------------------------------------------------------

    def columns(self, features: Array, samples: slice, by: Array) -> tuple[Array, Crossed]:
        """Return the rises of the losses after changing J features in each of N samples, one at a time.

        features: the features to change, (J,).
        samples: the N samples.
        by: the changes, (J, N); the rises have the same shape, and so has the mask of crossed kinks.
        """
        everywhere = np.arange(len(self.near.objective.target))[samples]
        at = self.near.index_of(features, samples)
        rise, crossed = self._activated(at, by)
        if self.near.is_output:
            losses, beyond = self.rounding.loss.after_singles(rise, features[:, None], at)
            return losses, crossed | beyond
        if self.near.stretch is not None or np.count_nonzero(rise) < MOSTLY * rise.size:
            which = np.repeat(features, by.shape[1]), np.tile(everywhere, len(features))
            losses, more = self._gathered(*which, rise.ravel())
            return losses.reshape(by.shape), crossed | np.reshape(more, np.shape(more) and by.shape)
        z = outer(rise, self.near.weights[features])
        losses, more = self._above(z, samples, self._after_first)
        return losses, crossed | more

    def singles(self, features: Array, samples: Array, by: Array) -> tuple[Array, Crossed]:
        """Return B rises of losses; for rise b, only the element at features[b] and samples[b] changes."""
        rise, crossed = self._activated((features, samples), by)
        if self.near.is_output:
            losses, beyond = self.rounding.loss.after_singles(rise, features, (features, samples))
            return losses, crossed | beyond
        losses, more = self._gathered(features, samples, rise)
        return losses, crossed | more

    def _activated(self, at: Any, by: Array) -> tuple[Array, Crossed]:
        """Return the rises of the value's own activation, and a mask of the changes that cross its kink.

        at: the indices of the features and samples of `by`.
        """
        row, crossed = self.near.activation, False
        if self.near.pieces is not None and row.pieces is not None:
            crossed = row.pieces(self.near.y[at] + by) != self.near.pieces[at]
        own = tuple(each[at] for each in self._own_at_rest)
        return rise_of(row).after(own, by.copy()), crossed

    def _gathered(self, features: Array, samples: Array, rise: Array) -> tuple[Array, Crossed]:
        """Return the rises of the losses after changing single activations. A rise of 0 costs nothing.

        rise: the change of the activation at each of B features and samples, (B,).
        """
        alive = np.flatnonzero(rise != 0)
        if len(alive) < len(rise):
            losses, crossed = np.zeros(len(rise)), np.zeros(len(rise), dtype=bool)
            if len(alive):
                losses[alive], crossed[alive] = self._gathered(features[alive], samples[alive], rise[alive])
            return losses, crossed
        if self.near.stretch is None:
            return self._through_weights(features, samples, rise)
        holds = self.near.stretch.holds(samples, rise)
        losses, crossed = np.empty(len(rise)), np.zeros(len(rise), dtype=bool)
        for part, through in ((holds, self._through_stretch), (~holds, self._through_weights)):
            if part.any():
                losses[part], crossed[part] = through(features[part], samples[part], rise[part])
        return losses, crossed

    def _through_stretch(self, features: Array, samples: Array, rise: Array) -> tuple[Array, Crossed]:
        stretch = self.near.stretch
        assert stretch is not None
        return self._above(stretch.changes(features, samples, rise), samples, stretch.after)

    def _through_weights(self, features: Array, samples: Array, rise: Array) -> tuple[Array, Crossed]:
        z = self.near.weights.take(features, axis=0)
        z *= rise[:, None]
        return self._above(z, samples, self._after_first)

    @property
    def _after_first(self) -> tuple[int, ...]:
        """The indices of the nodes above the chain's first dense step."""
        chain = self.near.chain
        assert chain is not None
        return chain.above[1:]

    def _above(self, z: Array, samples: Any, nodes: tuple[int, ...]) -> tuple[Array, Crossed]:
        """Feed the rise of a dense step's output through the given nodes. Return the rises of the losses.

        z: the rise, (…, units), for results of shape (…); z may be overwritten.
        """
        objective = self.near.objective
        crossed: Crossed = False
        for i in nodes:
            if isinstance(objective.graph.nodes[i].step, Dense):
                z = product(z, self.near.weights_above[i])
            elif i in self._activations:
                crossed = crossed | self._crossing(i, z, samples)
                at_rest = tuple(each[samples] for each in self.rounding.at_rest(i))
                z = rise_of(self._activations[i].row).after(at_rest, z)
        losses, beyond = self.rounding.loss.after(z, samples)
        return losses, crossed | beyond

    def _crossing(self, i: int, rise: Array, samples: Any) -> Crossed:
        """Return a mask of the rows in which a rise of an input of node i crosses a kink."""
        step = self._activations[i]
        if not step.has_pieces or length(rise) < self.rounding.clear(i):
            return False
        rest = self._argument(i)[samples]
        return np.asarray((step.pieces(rest + rise) != step.pieces(rest)).any(axis=-1))
