"""What of a network sits on a kink, so that its gradient is a matter of convention."""

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
    """The number of each kink in the shapes of `Kinks`, −1 where there is none; and how many there are."""

    of_layers: tuple[Array, ...]
    of_loss: Array
    count: int


@dataclass(frozen=True)
class Kinks:
    """of_layers: for each layer, (N, units);  of_loss: (N, C);  of_parameters: by name, in their shapes."""

    of_layers: tuple[Array, ...]
    of_loss: Array
    of_parameters: dict[str, Array]

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
        """Each kink's number among those of its sample, or of the batch if its samples are coupled."""
        masks = np.concatenate([*self.of_layers, self.of_loss], axis=1)
        counts = (masks.ravel().cumsum().reshape(masks.shape) if coupled else masks.cumsum(axis=1)) - 1
        numbers = np.where(masks, counts, -1)
        edges = np.cumsum([mask.shape[1] for mask in self.of_layers])
        *of_layers, of_loss = np.split(numbers, edges, axis=1)
        return Numbered(tuple(of_layers), of_loss, int(numbers.max(initial=-1)) + 1)

    def told(self, network: Network) -> Iterator[str]:
        """One short line for each layer, the loss and each parameter of which something sits on a kink."""
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
    """``unit 3 of hidden1 in sample 0, and 4 more,``"""
    sample, unit = (int(i) for i in np.argwhere(mask)[0])
    more = int(np.count_nonzero(mask)) - 1
    return f"unit {unit} of {layer} in sample {sample}{f', and {more:,} more,' if more else ''}"


def find_kinks(
    network: Network, parameters: Arrays, activity: Activity, target: Array, arithmetic: Arithmetic
) -> Kinks:
    """What rounding may put on either side of its kink: a little down it is on another piece than up."""
    if network.loss.pieces is None and all(layer.activation.pieces is None for layer in network.layers):
        none = tuple(np.zeros(y.shape, dtype=bool) for y in activity.y)
        return Kinks(none, np.zeros(target.shape, dtype=bool), _of_penalties(network, parameters))
    errors = forward_rounding(network, parameters, activity, arithmetic)
    of_layers = []
    for layer, y, error in zip(network.layers, activity.y, errors.y, strict=True):
        pieces, reach = layer.activation.pieces, ROUNDING_SAFETY * error + _LEAST
        on = pieces(y - reach) != pieces(y + reach) if pieces else np.zeros(y.shape, dtype=bool)
        of_layers.append(on)
    of_loss = _of_loss(network, activity.output, target, ROUNDING_SAFETY * errors.output, arithmetic.eps)
    return Kinks(tuple(of_layers), of_loss, _of_penalties(network, parameters))


ROUNDING_SAFETY = 3.0
_LEAST = float(np.finfo(np.float64).tiny)


def _of_loss(network: Network, a: Array, target: Array, a_error: Array, eps: float) -> Array:
    pieces = network.loss.pieces
    if pieces is None:
        return np.zeros(a.shape, dtype=bool)
    apart = a_error + 2.0 * eps * (np.abs(a) + np.abs(target)) + _LEAST
    if not network.loss.per_output:  # margins against the labelled output, which grow as that one falls
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
