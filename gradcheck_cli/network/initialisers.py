"""Draw a network's parameters from seeded random distributions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gradcheck_cli.network.graph import Graph
from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True)
class Initialiser:
    """A distribution of initial parameters.

    name: the distribution's name in a spec.
    draw: a function draw(rng, shape, fan_in, fan_out) that draws parameters at scale 1.
    scale: the default scale.
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
    """A parameter to draw: its shape, and its fan-in and fan-out as initialisers define them.

    centre: the value around which a scale (1) or a bias (0) is initialised; None for weights.
    """

    name: str
    shape: Shape
    fan_in: int
    fan_out: int
    centre: float | None = None


def initialise(
    init: str, scale: float | None, seed: int, biases_too: bool, parameters: Sequence[Sized]
) -> dict[str, Array]:
    """Draw the parameters, one after another.

    Biases and scales start exactly at their centre, 0 or 1, unless `biases_too` is set.

    The generator is `RandomState`, whose stream never changes. With `normal`, a scale of 0.1 and seed 123, a
    dense network gets the weights of Raschka's `NeuralNetMLP`.
    """
    initialiser = INITIALISERS[init]
    rng = np.random.RandomState(seed)
    factor = initialiser.scale if scale is None else scale

    def drawn(of: Sized) -> Array:
        if of.centre is not None and not biases_too:
            return np.full(of.shape, of.centre)
        return (of.centre or 0.0) + factor * initialiser.draw(rng, of.shape, of.fan_in, of.fan_out)

    return {of.name: drawn(of) for of in parameters}


def sizes_of(graph: Graph) -> list[Sized]:
    """Return the parameters in the order in which they are drawn: weights, their biases, then all others.

    Parameters of the last kind belong to steps without a weight. An example is the scale of a normalisation.
    A bias or a scale has the fan-in and fan-out of its layer's weight, if there is one.
    """
    weights, biases, scales = list[Sized](), list[Sized](), list[Sized]()
    fans: dict[str, tuple[int, int]] = {}
    for name, ((i, own), *_) in graph.uses.items():
        step, layer = graph.nodes[i].step, graph.nodes[i].layer
        centre = step.centre(own)
        if centre is None:
            fans[layer] = step.fans(own)
        has_weights = any(step.centre(each) is None for each in step.shapes)
        of_layer = fans.get(layer) or step.fans(own)
        group = weights if centre is None else biases if has_weights else scales
        group.append(Sized(name, step.shapes[own], *of_layer, centre))
    return [*weights, *biases, *scales]
