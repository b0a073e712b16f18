"""Compute losses after short steps in a value, reusing most of the unperturbed forward pass.

Unit differences spend most of their time here. Anything that many perturbations share is computed once, and
the rounding errors of the unperturbed evaluation are used. The value must feed an activation that is followed
only by dense layers. `at_rest.AtRest.above` handles longer or complex perturbations, wider floats,
conventions for kinks, and all other networks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from gradcheck_cli.moving.at_rest import AtRest
from gradcheck_cli.moving.linear_stretch import LinearStretch, stretch_from
from gradcheck_cli.moving.small_products import outer, product
from gradcheck_cli.network.activations import ACTIVATIONS, Activation
from gradcheck_cli.network.graph import Graph
from gradcheck_cli.network.steps.dense import Dense
from gradcheck_cli.network.steps.pointwise import Pointwise
from gradcheck_cli.network.steps.reshape import Flatten
from gradcheck_cli.network.steps.shift import Shift
from gradcheck_cli.types import Array

MOSTLY = 0.6
"""If a smaller share of the activations changes, it is faster to gather these activations alone."""


class NearLosses(NamedTuple):
    """The losses after short steps.

    crossed: a mask of the steps that crossed a kink.
    silent: a mask of the steps that cannot affect the network's output.
    """

    losses: Array
    crossed: Array
    silent: Array


Raised = Callable[[Array], tuple[Array, Array | None]]


@dataclass(frozen=True)
class Chain:
    """The steps from a value to the output if they are an activation followed only by dense layers.

    activation: the index of the activation's node; None if the value feeds a dense step directly.
    rest: the index of the first dense step's input; the output's index if there is no dense step.
    above: the indices of the nodes from the first dense step to the output; empty if the activation is the
        output.
    """

    activation: int | None
    rest: int
    above: tuple[int, ...]


def chain_from(graph: Graph, at: int) -> Chain | None:
    """Return the chain from the value `at` to the output; None if the path has other steps."""
    if len(graph.value_features[-1]) > 1:
        return None
    activation: int | None = None
    value, above = at, list[int]()
    for i in graph.above(at):
        step, takes = graph.nodes[i].step, graph.nodes[i].inputs
        if takes != (value,):
            return None
        if (isinstance(step, Dense) and len(graph.value_features[value]) == 1) or (
            isinstance(step, Pointwise) and above
        ):
            above.append(i)
        elif (
            isinstance(step, Pointwise) and activation is None and not _rows_of_many_axes(graph, step, value)
        ):
            activation = i
        elif not isinstance(step, Flatten | Shift):  # a shift adds 0
            return None
        value = i + 1
    rest = graph.nodes[above[0]].inputs[0] if above else value
    return Chain(activation, rest, tuple(above))


def _rows_of_many_axes(graph: Graph, step: Pointwise, value: int) -> bool:
    return step.row.coupled and len(graph.value_features[value]) > 1


@dataclass(frozen=True)
class Near:
    """Computes the losses of a network in float64 after short steps in the value with index `at`.

    Shapes: the value has F features of N samples. A batch perturbs J of the features in every sample, or B
    single elements.
    """

    objective: AtRest
    at: int

    @cached_property
    def chain(self) -> Chain | None:
        return chain_from(self.objective.graph, self.at)

    @cached_property
    def plain(self) -> bool:
        """Whether `Near` can be used: only for a `Chain` in float64 without a convention for kinks."""
        objective = self.objective
        return objective.convention is None and objective.x.dtype == np.float64 and self.chain is not None

    @cached_property
    def activation(self) -> Activation:
        i = self._way.activation
        if i is None:
            return ACTIVATIONS["identity"]
        step = self.objective.graph.nodes[i].step
        assert isinstance(step, Pointwise)
        return step.row

    @property
    def _way(self) -> Chain:
        assert self.chain is not None
        return self.chain

    @cached_property
    def y(self) -> Array:
        """The unperturbed elements of the value `at`, (F, N), for F features and N samples."""
        return self._by_feature(self.objective.values[self.at])

    @property
    def _flat(self) -> Array:
        """The unperturbed elements of the value `at`, one row of F features for each of N samples, (N, F)."""
        value = self.objective.values[self.at]
        return value.reshape(len(value), -1)

    @staticmethod
    def _by_feature(value: Array) -> Array:
        return np.ascontiguousarray(value.reshape(len(value), -1).T)

    @cached_property
    def rest(self) -> Array:
        """The unperturbed activations of the value `at`, (F, N), for F features and N samples."""
        return self._by_feature(self.objective.values[self._way.rest])

    @cached_property
    def pieces(self) -> Array | None:
        """The smooth piece of the activation that each unperturbed element is on; None if there are no kinks.

        The shape is (F, N), for F features and N samples.
        """
        at_rest = None if self._way.activation is None else self.objective.pieces.get(self._way.activation)
        return None if at_rest is None else self._by_feature(at_rest)

    @cached_property
    def _targets(self) -> Array:
        return np.ascontiguousarray(self.objective.target.T)

    @cached_property
    def _terms(self) -> Array:
        """What each output contributes to the unperturbed loss of its sample, (F, N).

        F is the number of outputs, and N the number of samples.
        """
        return self.objective.network.loss.value(self.rest[..., None], self._targets[..., None])

    @cached_property
    def heard(self) -> Array:
        """A mask, (F,), of the activations that can affect the network's output."""
        return self.objective.heard[self._way.rest].ravel()

    @cached_property
    def _unheard(self) -> Array:
        """A mask of the activations that cannot affect the network's output, in the shape (F, N)."""
        return np.broadcast_to(~self.heard[:, None], self.y.shape)

    @property
    def is_output(self) -> bool:
        return not self._way.above

    def columns(self, features: Array, samples: slice, y: Array, by_stretch: bool = True) -> NearLosses:
        """Return the losses after setting elements to `y`, one at a time.

        features: the J features to perturb in every sample, (J,).
        samples: the N samples to perturb.
        y: the new elements, (J, N); the losses have the same shape.
        by_stretch: whether to use the `stretch`. The witness does not rely on it.
        """
        if self.in_rows:
            z = np.repeat(self._flat[None, samples], len(y), axis=0)
            z[np.arange(len(y)), :, features] = y
            return self._whole_rows(z, samples)
        stretch = self.stretch if by_stretch and not self.is_output else None
        at = self.index_of(features, samples)
        return self._one_by_one(at, y, lambda rise: self._raised(features, samples, rise, stretch))

    def index_of(self, features: Array, samples: slice) -> Any:
        """Return the index of features and samples in an array (F, N).

        It has slices if the features are in order, since numpy then copies nothing.
        """
        first = int(features[0])
        if np.array_equal(features, np.arange(first, first + len(features))):
            return slice(first, first + len(features)), samples
        return features[:, None], np.arange(len(self.objective.target))[samples]

    def singles(self, features: Array, samples: Array, y: Array) -> NearLosses:
        """Return B losses; for loss b, only the element at features[b] and samples[b] is set to y[b]."""
        if self.in_rows:
            z = self._flat[samples]
            z[np.arange(len(y)), features] = y
            return self._whole_rows(z, samples)
        stretch = None if self.is_output else self.stretch
        at = (features, samples)
        return self._one_by_one(at, y, lambda rise: self._gathered(features, samples, rise, stretch))

    # --- the activation ----------------------------------------------------------------------------------

    @cached_property
    def in_rows(self) -> bool:
        """Whether perturbing one element can affect more than one activation or one term of the loss."""
        return self.activation.coupled or (self.is_output and not self.objective.network.loss.alone)

    def _whole_rows(self, z: Array, samples: Any) -> NearLosses:
        losses, crossed = self._above(self.objective.graph.above(self.at), z, samples)
        nowhere = np.zeros(losses.shape, dtype=bool)
        silent = np.full(losses.shape, not self.heard.any())
        return NearLosses(losses, nowhere if crossed is None else crossed, silent)

    def _one_by_one(self, at: Any, y: Array, raised: Raised) -> NearLosses:
        """Return the losses after setting elements to `y`, one at a time.

        Each element changes only its own activation.

        at: the indices of the features and samples of y.
        raised: a function that takes the rise of each activation and returns the losses after it.
        """
        a = self.activation.value(y)
        rise = a - self.rest[at]
        silent = (rise == 0) & (a == 0)
        crossed = np.zeros(y.shape, dtype=bool)
        if self.pieces is not None and self.activation.pieces is not None:
            crossed |= self.activation.pieces(y) != self.pieces[at]
        if self.is_output:
            losses, changed = self._own_terms(a, at)
        else:
            losses, changed = raised(rise)
            silent |= self._unheard[at]
        if changed is not None:
            crossed |= changed
        return NearLosses(losses, crossed, silent)

    def _own_terms(self, a: Array, at: Any) -> tuple[Array, Array | None]:
        """Return the losses after setting outputs to `a`, one at a time, and a mask of crossed kinks.

        Each output changes only its own term of the loss. The mask is None if the loss has no kinks.

        at: the indices of the features and samples of `a`.
        """
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

    @property
    def first(self) -> int:
        """The index of the output of the chain's first dense step."""
        return self._way.above[0] + 1

    @cached_property
    def weights(self) -> Array:
        """The weights of the chain's first dense step, (F, U), for F features and U units."""
        return self.weights_above[self._way.above[0]]

    @cached_property
    def weights_above(self) -> dict[int, Array]:
        """The weights of the chain's dense steps, transposed to (inputs, units), by the node's index."""
        objective = self.objective
        return {
            i: np.ascontiguousarray(objective.own[i]["weight"].T)
            for i in self._way.above
            if isinstance(objective.graph.nodes[i].step, Dense)
        }

    @cached_property
    def stretch(self) -> LinearStretch | None:
        """The linear stretch that begins with the chain's first dense step, if that saves time."""
        return stretch_from(self.objective, self._way.above, self.weights_above)

    def _raised(
        self, features: Array, samples: slice, rise: Array, stretch: LinearStretch | None
    ) -> tuple[Array, Array | None]:
        """Return the losses after adding `rise` to activations, and a mask of the steps that crossed a kink.

        The mask is None if there are no kinks.

        rise: the change of J features in each of N samples, (J, N).
        """
        if stretch is not None or np.count_nonzero(rise) < MOSTLY * rise.size:
            everywhere = np.arange(len(self.objective.target))[samples]
            which = np.repeat(features, rise.shape[1]), np.tile(everywhere, len(features))
            losses, crossed = self._gathered(*which, rise.ravel(), stretch)
            return losses.reshape(rise.shape), None if crossed is None else crossed.reshape(rise.shape)
        z = outer(rise, self.weights[features])
        z += self.objective.values[self.first][samples]
        return self._above(self._way.above[1:], z, samples)

    def _gathered(
        self, features: Array, samples: Array, rise: Array, stretch: LinearStretch | None
    ) -> tuple[Array, Array | None]:
        """Return the losses after changing single activations, and a mask of the steps that crossed a kink.

        The mask is None if there are no kinks. A rise of 0 leaves the loss unchanged and costs nothing.

        rise: the change of the activation at each of B features and samples, (B,).
        """
        alive = np.flatnonzero(rise != 0)
        if len(alive) < len(rise):
            losses, crossed = self.objective.losses[samples], np.zeros(len(rise), dtype=bool)
            if len(alive):
                given = features[alive], samples[alive], rise[alive]
                losses[alive], changed = self._gathered(*given, stretch)
                if changed is not None:
                    crossed[alive] = changed
            return losses, crossed
        if stretch is None:
            return self._through_weights(features, samples, rise)
        holds = stretch.holds(samples, rise)
        losses, crossed = np.empty(len(rise)), np.zeros(len(rise), dtype=bool)
        for part, through in ((holds, partial(self._through, stretch)), (~holds, self._through_weights)):
            if part.any():
                losses[part], changed = through(features[part], samples[part], rise[part])
                crossed[part] = False if changed is None else changed
        return losses, crossed

    def _through(
        self, stretch: LinearStretch, features: Array, samples: Array, rise: Array
    ) -> tuple[Array, Array | None]:
        z = stretch.changes(features, samples, rise)
        z += self.objective.values[stretch.output].take(samples, axis=0)
        return self._above(stretch.after, z, samples)

    def _through_weights(self, features: Array, samples: Array, rise: Array) -> tuple[Array, Array | None]:
        z = self.weights.take(features, axis=0)
        z *= rise[:, None]
        z += self.objective.values[self.first].take(samples, axis=0)
        return self._above(self._way.above[1:], z, samples)

    def _above(self, nodes: tuple[int, ...], z: Array, samples: Any) -> tuple[Array, Array | None]:
        """Feed z through the given nodes. Return the losses, and a mask of the steps that crossed a kink.

        The mask is None if there are no kinks.

        z: (…, units), for losses and a mask of shape (…); z may be overwritten.
        """
        objective = self.objective
        network, crossed = objective.network, None
        for i in nodes:
            step = objective.graph.nodes[i].step
            if isinstance(step, Dense):
                z = product(z, self.weights_above[i])
                z += objective.own[i]["bias"]
            elif isinstance(step, Pointwise):
                at_rest = objective.pieces.get(i)
                if at_rest is not None:
                    pieces = at_rest.reshape(len(at_rest), -1)[samples]
                    crossed = _or(crossed, (step.pieces(z) != pieces).any(axis=-1))
                z = step.row.overwrite(z)
        losses, target = network.loss.value(z, objective.target[samples]), objective.target[samples]
        if objective.loss_pieces is not None and network.loss.pieces is not None:
            changed = network.loss.pieces(z, target) != objective.loss_pieces[samples]
            changed = changed | objective.past_tip(z, samples)
            crossed = _or(crossed, changed.any(axis=-1))
        return network.coefficient * losses, crossed


def _or(one: Array | None, other: Array) -> Array:
    return other if one is None else one | other
