"""Find the numbers of a network that sit on a kink, where the gradient is a matter of convention."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gradcheck_cli.model.network import Activity, Arrays, Network
from gradcheck_cli.model.penalties import PENALTIES
from gradcheck_cli.model.rounding import Arithmetic, forward_rounding
from gradcheck_cli.model.special import Array


@dataclass(frozen=True)
class Numbered:
    """The groups of kinks that share a side, by number, in the shapes of `Kinks`; −1 off the kinks.

    count: the number of groups.
    parallel: whether no sample has kinks in more than one layer, so that each kink adds to a slope
        independently of the others.
    """

    of_layers: tuple[Array, ...]
    of_loss: Array
    count: int
    parallel: bool


@dataclass(frozen=True)
class Kinks:
    """The numbers that sit on a kink, as masks.

    of_layers: for each layer, (N, units).
    of_loss: (N, C).
    of_parameters: by name, in their shapes.
    exact: for layers and loss, concatenated along the units, those on a kink in any arithmetic.
    """

    of_layers: tuple[Array, ...]
    of_loss: Array
    of_parameters: dict[str, Array]
    exact: Array

    @cached_property
    def in_activations(self) -> bool:
        return any(bool(mask.any()) for mask in self.of_layers)

    @cached_property
    def in_loss(self) -> bool:
        return bool(self.of_loss.any())

    @cached_property
    def in_penalty(self) -> bool:
        return any(bool(mask.any()) for mask in self.of_parameters.values())

    @property
    def any(self) -> bool:
        return self.in_activations or self.in_loss or self.in_penalty

    def numbered(self, coupled: bool) -> Numbered:
        """Number the groups of kinks that share a side under every right gradient.

        The kinks of a layer that are exactly 0, regardless of rounding, share one side: the code's own
        convention. Every other kink forms its own group, since rounding chooses its side. These are numbered
        within their sample, or within the batch if its samples are coupled.
        """
        masks, exact = np.concatenate([*self.of_layers, self.of_loss], axis=1), self.exact
        edges = np.cumsum([mask.shape[1] for mask in self.of_layers])
        layer = np.searchsorted(edges, np.arange(masks.shape[1]), side="right")
        shared = np.unique(np.broadcast_to(layer, masks.shape)[masks & exact])
        numbers = np.where(masks, np.searchsorted(shared, layer), -1)
        alone = masks & ~exact
        counts = alone.ravel().cumsum().reshape(alone.shape) if coupled else alone.cumsum(axis=1)
        numbers = np.where(alone, len(shared) + counts - 1, numbers)
        layers_with = [part.any(axis=1) for part in np.split(masks, edges, axis=1)]
        most = np.max(np.sum(layers_with, axis=0)) if not coupled else np.sum(np.any(layers_with, axis=1))
        *of_layers, of_loss = np.split(numbers, edges, axis=1)
        return Numbered(tuple(of_layers), of_loss, int(numbers.max(initial=-1)) + 1, bool(most <= 1))

    def told(self, network: Network) -> Iterator[str]:
        """Yield one short line for each layer, loss and parameter that has something on a kink."""
        for layer, mask in zip(network.layers, self.of_layers, strict=True):
            if mask.any():
                yield f"{_first(mask, layer.name)} on the kink of {layer.activation_name}"
        if self.in_loss:
            yield f"{_first(self.of_loss, network.output.name)} on a kink of the loss"
        for name, mask in self.of_parameters.items():
            if mask.any():
                entries = int(np.count_nonzero(mask))
                yield f"{entries:,} entr{'y' if entries == 1 else 'ies'} of {name} at 0, on the kink of |w|"


def _first(mask: Array, layer: str) -> str:
    """Name the first marked unit and count the rest, as in ``unit 3 of hidden1 in sample 0, and 4 more,``."""
    sample, unit = (int(i) for i in np.argwhere(mask)[0])
    more = int(np.count_nonzero(mask)) - 1
    return f"unit {unit} of {layer} in sample {sample}{f', and {more:,} more,' if more else ''}"


def find_kinks(
    network: Network, parameters: Arrays, activity: Activity, target: Array, arithmetic: Arithmetic
) -> Kinks:
    """Find the numbers that rounding may put on either side of a kink.

    A number is on a kink if a shift by its rounding error, down or up, changes its piece.
    """
    width = sum(layer.units for layer in network.layers) + network.output.units
    exact = np.zeros((len(target), width), dtype=bool)
    if network.loss.pieces is None and all(layer.activation.pieces is None for layer in network.layers):
        none = tuple(np.zeros(y.shape, dtype=bool) for y in activity.y)
        return Kinks(none, np.zeros(target.shape, dtype=bool), _of_penalties(network, parameters), exact)
    errors = forward_rounding(network, parameters, activity, arithmetic)
    of_layers = []
    for layer, y, error in zip(network.layers, activity.y, errors.y, strict=True):
        pieces, reach = layer.activation.pieces, ROUNDING_SAFETY * error + _LEAST
        on = pieces(y - reach) != pieces(y + reach) if pieces else np.zeros(y.shape, dtype=bool)
        of_layers.append(on)
    of_loss = _of_loss(network, activity.output, target, ROUNDING_SAFETY * errors.output, arithmetic.eps)
    reaches = np.concatenate([*errors.y, errors.output + np.abs(activity.output) + np.abs(target)], axis=1)
    exact = reaches < _EXACT * arithmetic.tiny
    return Kinks(tuple(of_layers), of_loss, _of_penalties(network, parameters), exact)


ROUNDING_SAFETY = 3.0
_EXACT = 1e6
"""Threshold in units of the smallest number; the analysis gives unrounded numbers errors of a few units."""
_LEAST = float(np.finfo(np.float64).tiny)


def _of_loss(network: Network, a: Array, target: Array, a_error: Array, eps: float) -> Array:
    pieces = network.loss.pieces
    if pieces is None:
        return np.zeros(a.shape, dtype=bool)
    apart = a_error + 2.0 * eps * (np.abs(a) + np.abs(target)) + _LEAST
    if not network.loss.per_output:  # margins against the labelled output grow as that output falls
        apart = apart.max(axis=-1, keepdims=True) + 2.0 * eps
        apart = apart * np.where(target > 0, -1.0, 1.0)
    result: Array = pieces(a - apart, target) != pieces(a + apart, target)
    return result


def _of_penalties(network: Network, parameters: Arrays) -> dict[str, Array]:
    return {
        name: parameters[name] == 0
        for name in network.shapes
        if any(PENALTIES[penalty].pieces for penalty in network.penalties_on(name))
    }
