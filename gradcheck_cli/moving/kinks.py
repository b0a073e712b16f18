"""Find the elements of a network's values on a kink, where the gradient is a matter of convention."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gradcheck_cli.network.arithmetic import ROUNDING_SAFETY, Arithmetic
from gradcheck_cli.network.network import Network
from gradcheck_cli.network.penalties import PENALTIES
from gradcheck_cli.network.rounding import forward_errors
from gradcheck_cli.network.step import Arrays, Step
from gradcheck_cli.types import Array

_EXACT = 1e6
"""A number is exactly on a kink if its error bound is below this multiple of the smallest normal number.

The analysis assigns even exact numbers an error of a few times the smallest normal number.
"""
_LEAST = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class OnKink:
    """The elements of a step's array of `pieces` that are on a kink, and the smooth pieces on both sides.

    mask: a mask of the elements on a kink.
    below, above: the pieces on the two sides of each element.
    exact: a mask of the elements that are on a kink in any arithmetic.
    more: whether more than two pieces meet at any element.
    alike: whether code chooses the same side for equal inputs, as it does for relu'(0). For tied maxima, it
        may choose different sides.
    """

    mask: Array
    below: Array
    above: Array
    exact: Array
    more: bool
    alike: bool


@dataclass(frozen=True)
class Numbered:
    """The elements on a kink, in numbered groups. All elements of a group are on the same side.

    Arrays hold the number of each element's group, or −1 for an element that is not on a kink.

    of_nodes: the array for each node that has kinks, in the shape of the node's mask, by the node's index.
    of_loss: the array for the network's outputs, (N, *outputs), for N samples.
    count: the number of groups.
    parallel: whether no sample has kinks in more than one place, so that each kink contributes to a
        slope independently of the others.
    shared: whether all kinks are exact and alike, so that code chooses one side for each group.
    """

    of_nodes: Mapping[int, Array]
    of_loss: Array
    count: int
    parallel: bool
    shared: bool


@dataclass(frozen=True)
class Kinks:
    """The elements of a network's values that are on a kink.

    of_nodes: the elements on a kink of each node whose step has kinks, by the node's index.
    of_loss: a mask of the outputs on a kink of the loss, (N, *outputs), for N samples.
    of_parameters: masks of the entries on a kink of a penalty, by the parameter's name.
    exact_of_loss: a mask of the outputs that are on a kink of the loss in any arithmetic.
    """

    of_nodes: Mapping[int, OnKink]
    of_loss: Array
    of_parameters: Mapping[str, Array]
    exact_of_loss: Array

    @cached_property
    def in_activations(self) -> bool:
        return any(bool(kink.mask.any()) for kink in self.of_nodes.values())

    @cached_property
    def in_loss(self) -> bool:
        return bool(self.of_loss.any())

    @cached_property
    def in_penalty(self) -> bool:
        return any(bool(mask.any()) for mask in self.of_parameters.values())

    @property
    def have_two_sides(self) -> bool:
        """Whether at most two smooth pieces meet at every kink."""
        return not any(kink.more for kink in self.of_nodes.values())

    @property
    def any(self) -> bool:
        return self.in_activations or self.in_loss or self.in_penalty

    def numbered(self, coupled: bool) -> Numbered:
        """Number the groups of kinks that are on the same side under every correct gradient.

        The exact kinks of a node form one group, since the code's own convention chooses their side. Rounding
        chooses the side of every other kink, so every other kink is a group of its own.

        coupled: whether the samples are coupled. If not, single kinks are numbered within their sample.
        """
        each = [_by_sample(kink.mask) for kink in self.of_nodes.values()]
        masks = np.concatenate([*each, _by_sample(self.of_loss)], axis=1)
        of_nodes_exact = [_by_sample(kink.exact) for kink in self.of_nodes.values()]
        exact = np.concatenate([*of_nodes_exact, _by_sample(self.exact_of_loss)], axis=1)
        edges = np.cumsum([mask.shape[1] for mask in each])
        place = np.searchsorted(edges, np.arange(masks.shape[1]), side="right")
        shared = np.unique(np.broadcast_to(place, masks.shape)[masks & exact])
        numbers = np.where(masks, np.searchsorted(shared, place), -1)
        alone = masks & ~exact
        counts = alone.ravel().cumsum().reshape(alone.shape) if coupled else alone.cumsum(axis=1)
        numbers = np.where(alone, len(shared) + counts - 1, numbers)
        places_with = [part.any(axis=1) for part in np.split(masks, edges, axis=1)]
        most = np.max(np.sum(places_with, axis=0)) if not coupled else np.sum(np.any(places_with, axis=1))
        *of_nodes, of_loss = np.split(numbers, edges, axis=1)
        in_shape = {
            i: part.reshape(kink.mask.shape)
            for (i, kink), part in zip(self.of_nodes.items(), of_nodes, strict=True)
        }
        of_loss = of_loss.reshape(self.of_loss.shape)
        count = int(numbers.max(initial=-1)) + 1
        alike = all(kink.alike for kink in self.of_nodes.values() if kink.mask.any())
        return Numbered(in_shape, of_loss, count, bool(most <= 1), alike and not alone.any())

    def told(self, network: Network) -> Iterator[str]:
        """Yield one short line for each step, loss or parameter that has elements on a kink."""
        nodes = network.graph.nodes
        for i, kink in self.of_nodes.items():
            if kink.mask.any():
                yield f"{_first(kink.mask, nodes[i].layer)} on the kink of {nodes[i].step.name}"
        if self.in_loss:
            yield f"{_first(self.of_loss, nodes[-1].layer)} on a kink of the loss"
        for name, mask in self.of_parameters.items():
            if mask.any():
                entries = int(np.count_nonzero(mask))
                which = f"1 entry of {name} is" if entries == 1 else f"{entries:,} entries of {name} are"
                yield f"{which} at 0, on the kink of |w|"


def _first(mask: Array, layer: str) -> str:
    """Name the first marked unit and count the rest: ``unit 3 of hidden1 in sample 0 and 4 more are``."""
    sample, *unit = (int(i) for i in np.argwhere(mask)[0])
    more = int(np.count_nonzero(mask)) - 1
    which = unit[0] if len(unit) == 1 else unit
    return f"unit {which} of {layer} in sample {sample}{f' and {more:,} more are' if more else ' is'}"


def find_kinks(
    network: Network, parameters: Arrays, values: tuple[Array, ...], target: Array, arithmetic: Arithmetic
) -> Kinks:
    """Return the elements of the network's values that rounding may move to either side of a kink.

    The two ends of the rounding interval of such an element are on different smooth pieces.
    """
    graph = network.graph
    kinked = {i: node.inputs[0] for i, node in enumerate(graph.nodes) if node.step.has_pieces}
    of_penalties = _of_penalties(network, parameters)
    if network.loss.pieces is None and not kinked:
        return Kinks({}, np.zeros(target.shape, dtype=bool), of_penalties, np.zeros(target.shape, dtype=bool))
    errors = forward_errors(graph, parameters, values, arithmetic)
    of_nodes = {i: _on(graph.nodes[i].step, values[k], errors[k], arithmetic) for i, k in kinked.items()}
    output = values[-1]
    of_loss = _of_loss(network, output, target, ROUNDING_SAFETY * errors[-1], arithmetic.eps)
    reach = errors[-1] + np.abs(output) + np.abs(target)
    return Kinks(of_nodes, of_loss, of_penalties, reach < _EXACT * arithmetic.tiny)


def _on(step: Step, y: Array, y_error: Array, arithmetic: Arithmetic) -> OnKink:
    sides = step.sides(y, ROUNDING_SAFETY * y_error + _LEAST)
    exact = sides.reach < ROUNDING_SAFETY * _EXACT * arithmetic.tiny
    alike = step.couples == "nothing"
    return OnKink(sides.below != sides.above, sides.below, sides.above, exact, sides.more, alike)


def _by_sample(array: Array) -> Array:
    return array.reshape(len(array), -1)


def _of_loss(network: Network, a: Array, target: Array, a_error: Array, eps: float) -> Array:
    loss = network.loss
    if loss.pieces is None:
        return np.zeros(a.shape, dtype=bool)
    reach = a_error + 2.0 * eps * (np.abs(a) + np.abs(target)) + _LEAST
    return loss.rounding.on_kink(loss, a, reach, target, eps)


def _of_penalties(network: Network, parameters: Arrays) -> dict[str, Array]:
    return {
        name: parameters[name] == 0
        for name in network.shapes
        if any(PENALTIES[penalty].pieces for penalty in network.penalties_on(name))
    }
