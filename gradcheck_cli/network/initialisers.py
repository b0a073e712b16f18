"""Draw a network's parameters from a seeded initialiser."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True)
class Initialiser:
    """A distribution for initial parameters: draw(rng, shape, fan_in, fan_out) at scale 1.

    name: what a spec calls it.  scale: the default scale.
    """

    name: str
    draw: Callable[[np.random.RandomState, Shape, int, int], Array]
    scale: float = 1.0


_ROWS: tuple[Initialiser, ...] = (
    Initialiser("normal", lambda rng, shape, *_: rng.normal(size=shape), scale=0.1),
    Initialiser("uniform", lambda rng, shape, *_: rng.uniform(-1.0, 1.0, size=shape), scale=0.1),
    # Glorot and Bengio, AISTATS 2010: torch.nn.init.xavier_uniform_
    Initialiser(
        "xavier",
        lambda rng, shape, fan_in, fan_out: (
            math.sqrt(6.0 / (fan_in + fan_out)) * rng.uniform(-1.0, 1.0, size=shape)
        ),
    ),
    # He et al., ICCV 2015: torch.nn.init.kaiming_normal_
    Initialiser("he", lambda rng, shape, fan_in, _: math.sqrt(2.0 / fan_in) * rng.normal(size=shape)),
    Initialiser("zeros", lambda rng, shape, *_: np.zeros(shape)),
)

INITIALISERS: Mapping[str, Initialiser] = {row.name: row for row in _ROWS}


class Sized(NamedTuple):
    """A layer whose parameters are drawn: its weight's shape, and its fans as initialisers count them."""

    name: str
    weight: Shape
    fan_in: int
    fan_out: int
    normalised: bool = False


def initialise(
    init: str, scale: float | None, seed: int, biases_too: bool, layers: Sequence[Sized]
) -> dict[str, Array]:
    """Draw the parameters of layers from the input up, weights first, then biases.

    Last come gamma, around 1, and beta, around 0, for the layers that are normalised. Unless the biases are
    drawn, they are exactly 1 and 0.

    The generator is `RandomState`, whose stream never changes: with `normal`, a scale of 0.1 and seed 123
    these are the weights of Raschka's `NeuralNetMLP`.
    """
    initialiser = INITIALISERS[init]
    rng = np.random.RandomState(seed)
    factor = initialiser.scale if scale is None else scale

    def drawn(layer: Sized, shape: Shape) -> Array:
        return factor * initialiser.draw(rng, shape, layer.fan_in, layer.fan_out)

    def bias_of(layer: Sized) -> Array:
        return drawn(layer, layer.weight[:1]) if biases_too else np.zeros(layer.weight[0])

    parameters = {f"{layer.name}.weight": drawn(layer, layer.weight) for layer in layers}
    parameters |= {f"{layer.name}.bias": bias_of(layer) for layer in layers}
    for layer in layers:
        if layer.normalised:
            parameters[f"{layer.name}.gamma"] = 1.0 + bias_of(layer)
            parameters[f"{layer.name}.beta"] = bias_of(layer)
    return parameters
