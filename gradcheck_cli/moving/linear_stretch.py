"""Carry short changes through dense layers whose activations are linear between their kinks, such as relu.

While no kink is crossed, such a stretch of a network is a linear map, and a different one for each sample.
The maps are products of the weights and of the slopes at rest, so they are computed once for all changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gradcheck_cli.moving.at_rest import AtRest
from gradcheck_cli.network.steps.dense import Dense
from gradcheck_cli.network.steps.pointwise import Pointwise
from gradcheck_cli.types import Array

_MOST_BYTES = 2**26
"""The largest size of the maps of all samples in bytes."""

_REACHES = 2.0 ** -np.arange(8.0, 62.0, 2.0)
"""The lengths of changes for which to find out whether they can cross a kink."""


@dataclass(frozen=True)
class LinearStretch:
    """The linear maps of a stretch, one for each of N samples, from F features to C outputs.

    maps: the change of each output for a change of 1 in each feature, (F, N, C).
    reach: the longest change of a feature that certainly crosses no kink, (N,).
    output: the index of the value at the end of the stretch.
    after: the indices of the nodes above the stretch.
    """

    maps: Array
    reach: Array
    output: int
    after: tuple[int, ...]

    def changes(self, features: Array, samples: Array, by: Array) -> Array:
        """Return the changes of the outputs, (B, C), after changing single features.

        features, samples, by: the feature, the sample and the length of each of B changes, (B,).
        """
        changed = self.maps[features, samples]
        changed *= by[:, None]
        return changed

    def holds(self, samples: Array, by: Array) -> Array:
        """Return a mask of the changes that certainly cross no kink, (B,)."""
        within: Array = np.abs(by) <= self.reach[samples]
        return within


def stretch_from(
    objective: AtRest, above: tuple[int, ...], weights: Mapping[int, Array]
) -> LinearStretch | None:
    """Return the linear stretch that begins with the first node of a chain; None if it is not worthwhile.

    above: the indices of the chain's nodes.
    weights: the weights of its dense steps, (inputs, units), by the node's index.
    """
    nodes = _linear_part(objective, above)
    if len(nodes) < 2:
        return None
    (inputs, units), outputs = weights[nodes[0]].shape, weights[nodes[-1]].shape[1]
    if outputs > units or 8 * inputs * len(objective.target) * outputs > _MOST_BYTES:
        return None
    maps = _maps(objective, nodes, weights)
    return LinearStretch(maps, _reach(objective, nodes, weights), nodes[-1] + 1, above[len(nodes) :])


def _linear_part(objective: AtRest, above: tuple[int, ...]) -> tuple[int, ...]:
    """Return the first nodes of a chain that are linear between kinks, up to the last dense step."""
    last = 0
    for k, i in enumerate(above):
        step = objective.graph.nodes[i].step
        if isinstance(step, Dense):
            last = k + 1
        elif not (isinstance(step, Pointwise) and step.row.rise and step.row.rise.linear):
            break
    return above[:last]


def _maps(objective: AtRest, nodes: Sequence[int], weights: Mapping[int, Array]) -> Array:
    maps = weights[nodes[-1]][:, None]
    for i in reversed(nodes[:-1]):
        if i in weights:
            features, units = weights[i].shape
            maps = (weights[i] @ maps.reshape(units, -1)).reshape(features, -1, maps.shape[-1])
        else:
            maps = _slopes(objective, i).T[..., None] * maps
    features, _, outputs = maps.shape
    return np.broadcast_to(maps, (features, len(objective.target), outputs))


def _reach(objective: AtRest, nodes: Sequence[int], weights: Mapping[int, Array]) -> Array:
    reach = np.full(len(objective.target), np.inf)
    most = np.abs(weights[nodes[0]]).max(axis=0)  # how far a change of 1 can move each unit
    for i in nodes[1:]:
        if i in weights:
            most = most @ np.abs(weights[i])
        else:
            reach = np.minimum(reach, _reach_of(objective, i, most))
            most = most * np.abs(_slopes(objective, i)).max(axis=0)
    return reach


def _reach_of(objective: AtRest, i: int, most: Array) -> Array:
    """Return the longest change that crosses no kink of activation i, (N,), for N samples.

    most: how far a change of 1 can move each of the activation's inputs.
    """
    step, z = objective.graph.nodes[i].step, _argument(objective, i)
    if not step.has_pieces:
        return np.full(len(z), np.inf)
    here, reach = step.pieces(z), np.zeros(len(z))
    for length in _REACHES:
        both = (step.pieces(z + side * length * most) == here for side in (-1.0, 1.0))
        reach = np.where(np.logical_and(*both).all(axis=1), np.maximum(reach, length), reach)
        if reach.all():
            break
    return reach


def _slopes(objective: AtRest, i: int) -> Array:
    step = objective.graph.nodes[i].step
    assert isinstance(step, Pointwise)
    assert step.row.rise is not None
    (slopes,) = step.row.rise.at_rest(_argument(objective, i))
    return slopes


def _argument(objective: AtRest, i: int) -> Array:
    value = objective.values[objective.graph.nodes[i].inputs[0]]
    return value.reshape(len(value), -1)
