"""Find the elements of a network's values on a kink. There, the gradient is a matter of convention."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from gradcheck_cli.network.arithmetic import ROUNDING_SAFETY, Arithmetic
from gradcheck_cli.network.graph import Statement
from gradcheck_cli.network.network import Network
from gradcheck_cli.network.penalties import PENALTIES
from gradcheck_cli.network.rounding import forward_errors
from gradcheck_cli.network.step import Arrays, Step
from gradcheck_cli.types import Array

_EXACT = 1e6
"""An element is exactly on a kink if its error bound is below this multiple of the smallest normal number.

The analysis assigns even exact elements an error of a few times the smallest normal number.
"""
_LEAST = float(np.finfo(np.float64).tiny)

_EQUALLY = 0.5
"""The weight that stands for equal weights of all pieces that meet at a kink."""


NONE_CHOSEN = np.array(-1)
"""Stands for the pieces of all elements of a value if none of them is chosen."""


@dataclass(frozen=True)
class Convention:
    """A choice of side for elements on a kink. Every implementation of backprop makes such a choice.

    right:   the weight of the piece above an activation's kink (relu'(0) ∈ {0, ½, 1}).
    tie:     the weight of the last of the values that tie for a maximum; ½ gives all equal weights.
    loss:    the piece of the loss (sign(0) ∈ {−1, 0, 1}; hinge with ≥ or >).
    penalty: the slope of |w| at 0.
    pieces:  for some nodes, by the node's index, the piece of each element that does not follow `right` or
             `tie`; −1 for all other elements.
    of_loss: in the same way, the piece of each output that does not follow `loss`.
    """

    right: float = 0.0
    tie: float = 0.0
    loss: float = 0.0
    penalty: float = 0.0
    pieces: Mapping[int, Array] = field(default_factory=dict)
    of_loss: Array = field(default_factory=lambda: NONE_CHOSEN)


@dataclass(frozen=True)
class OnKink:
    """The elements on a kink in an array of smooth pieces, as `Step.pieces` returns it.

    pieces: the K pieces at each element, (K, *shape); if fewer pieces meet there, the last one is repeated.
    exact: the elements that are on a kink in any arithmetic.
    alike: whether code chooses the same side for equal inputs, as in relu'(0). In a tied maximum, code may
        choose differently.
    turns: whether the slope changes at the kink.
    """

    pieces: Array
    exact: Array
    alike: bool
    turns: bool

    @cached_property
    def mask(self) -> Array:
        """The elements on a kink."""
        differ: Array = self.pieces[0] != self.pieces[-1]
        return differ

    @cached_property
    def distinct(self) -> Array:
        """A mask of the pieces that differ from the preceding piece, (K, *shape)."""
        return np.concatenate([np.ones_like(self.pieces[:1], dtype=bool), np.diff(self.pieces, axis=0) != 0])

    def shares(self, last: float, chosen: Array) -> Array:
        """Return the weight of each piece, (K, *shape).

        last: the weight of the last piece; the first piece has the rest of the weight. With ½, all pieces
            have equal weights.
        chosen: the piece that has all the weight instead, for each element; −1 if none is chosen.
        """
        shares: Array = self.distinct / self.distinct.sum(axis=0)
        if last != _EQUALLY:
            shares = np.zeros(self.pieces.shape)
            shares[0] = np.where(self.mask, 1.0 - last, 1.0)
            shares[-1] += np.where(self.mask, last, 0.0)
        places = np.arange(len(shares)).reshape(-1, *(1,) * self.mask.ndim)
        only = places == np.minimum(chosen, len(shares) - 1)
        return np.where(chosen >= 0, only, shares)


@dataclass(frozen=True)
class Numbered:
    """The elements on a kink, in numbered groups. All elements of a group are on the same side.

    Arrays hold the number of each element's group, or −1 for an element that is not on a kink.

    of_nodes: for each node that has kinks, the groups of its elements, with the shape of the mask.
    of_loss: the groups of the outputs, (N, *outputs), for N samples.
    pieces: for each group, the number of pieces that meet at its kinks.
    shared: the number of groups that are on the same side in all samples. These groups have the first
        numbers. All other groups are single kinks.
    parallel: whether each single kink contributes to a slope independently of the others, because no sample
        has single kinks in more than one place.
    in_sample: whether single kinks are numbered within each sample, and not over the whole batch.
    """

    of_nodes: Mapping[int, Array]
    of_loss: Array
    pieces: tuple[int, ...]
    shared: int
    parallel: bool
    in_sample: bool


@dataclass(frozen=True)
class Kinks:
    """The elements of a network's values that are on a kink.

    of_nodes: for each node whose step has kinks, by the node's index, the elements that are on a kink.
    of_loss: a mask of the outputs on a kink of the loss, (N, *outputs), for N samples.
    of_parameters: masks of the entries on a kink of a penalty, by the parameter's name.
    exact_of_loss: a mask of the outputs that are on a kink of the loss, whatever the arithmetic.
    tips: a mask, (N, *outputs), of the vectors of outputs that are at the tip of a cone, where slopes in all
        directions meet.
    loss_turns: whether the slope of the loss changes at its kinks, tips aside.
    """

    of_nodes: Mapping[int, OnKink]
    of_loss: Array
    of_parameters: Mapping[str, Array]
    exact_of_loss: Array
    tips: Array
    loss_turns: bool

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
    def turn(self) -> bool:
        """Whether the slope changes at a kink of an activation or of the loss, so that its side matters."""
        of_nodes = any(bool(kink.mask.any()) and kink.turns for kink in self.of_nodes.values())
        return of_nodes or (self.in_loss and (self.loss_turns or bool(self.tips.any())))

    @property
    def of_ties(self) -> bool:
        """Whether values tie for a maximum."""
        return any(bool(kink.mask.any()) and not kink.alike for kink in self.of_nodes.values())

    @property
    def of_slopes(self) -> bool:
        """Whether any step other than a maximum has kinks."""
        return any(bool(kink.mask.any()) and kink.alike for kink in self.of_nodes.values())

    @property
    def any(self) -> bool:
        return self.in_activations or self.in_loss or self.in_penalty

    def numbered(self, coupled: bool, nodes: Collection[int]) -> Numbered:
        """Number the groups of kinks that are on the same side under every correct gradient.

        Only kinks of the loss and of the given nodes are numbered, and only if the slope changes there.

        The exact kinks of a node form one group if the code's own convention chooses their side. Rounding,
        or the order in which code looks for a maximum, chooses the side of every other kink, so each of
        these is a group of its own.

        A recurrent layer applies one convention at every time step, but each time step is a group. A slope of
        ⅕ at every step multiplies along a path, so the gradient need not lie between those of 0 and 1.

        coupled: whether the samples are coupled. If not, single kinks are numbered within their sample.
        """
        each = [_by_sample(kink.mask & (kink.turns and i in nodes)) for i, kink in self.of_nodes.items()]
        masks = np.concatenate([*each, _by_sample(self._sided)], axis=1)
        one_side = [_by_sample(kink.exact & kink.alike) for kink in self.of_nodes.values()]
        alike = np.concatenate([*one_side, _by_sample(self.exact_of_loss)], axis=1)
        edges = np.cumsum([mask.shape[1] for mask in each])
        place = np.searchsorted(edges, np.arange(masks.shape[1]), side="right")
        shared = np.unique(np.broadcast_to(place, masks.shape)[masks & alike])
        numbers = np.where(masks, np.searchsorted(shared, place), -1)
        alone = masks & ~alike
        counts = alone.ravel().cumsum().reshape(alone.shape) if coupled else alone.cumsum(axis=1)
        numbers = np.where(alone, len(shared) + counts - 1, numbers)
        places_with = [part.any(axis=1) for part in np.split(alone, edges, axis=1)]
        most = np.max(np.sum(places_with, axis=0)) if not coupled else np.sum(np.any(places_with, axis=1))
        *of_nodes, of_loss = np.split(numbers, edges, axis=1)
        in_shape = {
            i: part.reshape(kink.mask.shape)
            for (i, kink), part in zip(self.of_nodes.items(), of_nodes, strict=True)
        }
        meeting = [*(_by_sample(kink.distinct.sum(axis=0)) for kink in self.of_nodes.values())]
        meeting.append(_by_sample(np.where(self.tips, 1 + self.tips.shape[-1], 2)))
        pieces = np.ones(int(numbers.max(initial=-1)) + 1, dtype=int)
        np.maximum.at(pieces, numbers[masks], np.concatenate(meeting, axis=1)[masks])
        of_loss = of_loss.reshape(self.of_loss.shape)
        most_pieces = tuple(int(count) for count in pieces)
        return Numbered(in_shape, of_loss, most_pieces, len(shared), bool(most <= 1), not coupled)

    @property
    def _sided(self) -> Array:
        """A mask of the outputs at which the loss turns. The first output stands for a whole cone."""
        sided: Array = self.of_loss & self.loss_turns & ~self.tips
        sided[..., 0] |= self.tips[..., 0]
        return sided

    def sides_of_loss(self, network: Network, first: float, chosen: Array) -> Array:
        """Return the side of the loss for each output, (N, *outputs). It matters only for those on a kink.

        first: the side on the first piece. Any other piece is on the last side of the loss, except at the tip
            of a cone, where each piece is another plane.
        chosen: the piece of each output; −1 for the first piece.
        """
        last = network.loss.sides[-1] if network.loss.sides else first
        other = np.where(self.tips, network.loss.first_plane - 1.0 + chosen, float(last))
        sides: Array = np.where(chosen > 0, other, float(first))
        return sides

    def told(self, network: Network) -> Iterator[str]:
        """Yield one short line for each step, loss or parameter that has elements on a kink."""
        masks: dict[Statement, list[Array]] = {}
        for i, kink in self.of_nodes.items():
            if kink.mask.any():
                masks.setdefault(network.graph.nodes[i].statement, []).append(kink.mask)
        for (layer, step), each in masks.items():
            yield f"{_first(each, layer)} on the kink of {step}"
        if self.in_loss:
            yield f"{_first([self.of_loss], network.graph.nodes[-1].layer)} on a kink of the loss"
        for name, mask in self.of_parameters.items():
            if mask.any():
                entries = int(np.count_nonzero(mask))
                which = f"1 entry of {name} is" if entries == 1 else f"{entries:,} entries of {name} are"
                yield f"{which} at 0, on the kink of |w|"


def _first(masks: Sequence[Array], layer: str) -> str:
    """Name the first marked unit and count the rest: ``unit 3 of hidden1 in sample 0 and 4 more are``."""
    sample, *unit = (int(i) for i in np.argwhere(masks[0])[0])
    more = sum(int(np.count_nonzero(mask)) for mask in masks) - 1
    which = unit[0] if len(unit) == 1 else unit
    return f"unit {which} of {layer} in sample {sample}{f' and {more:,} more are' if more else ' is'}"


def find_kinks(
    network: Network, parameters: Arrays, values: tuple[Array, ...], target: Array, arithmetic: Arithmetic
) -> Kinks:
    """Return the elements of the network's values that rounding may move to either side of a kink.

    For such an element, the two ends of the rounding interval are on different smooth pieces.
    """
    graph = network.graph
    kinked = {i: node.inputs[0] for i, node in enumerate(graph.nodes) if node.step.has_pieces}
    of_penalties = _of_penalties(network, parameters)
    if network.loss.pieces is None and not kinked:
        nowhere = np.zeros(values[-1].shape, dtype=bool)
        return Kinks({}, nowhere, of_penalties, nowhere, nowhere, False)
    errors = forward_errors(graph, parameters, values, arithmetic)
    of_nodes = {i: _on(graph.nodes[i].step, values[k], errors[k], arithmetic) for i, k in kinked.items()}
    output = values[-1]
    of_loss = _of_loss(network, output, target, ROUNDING_SAFETY * errors[-1], arithmetic.eps)
    tips = _tips(network, output, target, ROUNDING_SAFETY * errors[-1])
    reach = errors[-1] + np.abs(output) + np.abs(network.loss.plain(target))
    exact = reach < _EXACT * arithmetic.tiny
    return Kinks(of_nodes, of_loss | tips, of_penalties, exact, tips, len(network.loss.sides) > 1)


def _on(step: Step, y: Array, y_error: Array, arithmetic: Arithmetic) -> OnKink:
    sides = step.sides(y, ROUNDING_SAFETY * y_error + _LEAST)
    exact = sides.reach < ROUNDING_SAFETY * _EXACT * arithmetic.tiny
    alike = step.couples == "nothing"
    return OnKink(sides.pieces, exact, alike, step.turns)


def _by_sample(array: Array) -> Array:
    return array.reshape(len(array), -1)


def _of_loss(network: Network, a: Array, target: Array, a_error: Array, eps: float) -> Array:
    loss = network.loss
    if loss.pieces is None:
        return np.zeros(a.shape, dtype=bool)
    reach = a_error + 2.0 * eps * (np.abs(a) + np.abs(loss.plain(target))) + _LEAST
    return loss.rounding.on_kink(loss, a, reach, target, eps)


def _tips(network: Network, a: Array, target: Array, a_error: Array) -> Array:
    """Return a mask, (N, *outputs), of the outputs that an error may move to the tip of a cone."""
    if network.loss.tip is None:
        return np.zeros(a.shape, dtype=bool)
    reach = np.sqrt(np.square(a_error + _LEAST).sum(axis=-1))
    return np.broadcast_to((network.loss.tip(a, target) <= reach)[..., None], a.shape)


def _of_penalties(network: Network, parameters: Arrays) -> dict[str, Array]:
    return {
        name: parameters[name] == 0
        for name in network.shapes
        if any(PENALTIES[penalty].pieces for penalty in network.penalties_on(name))
    }
