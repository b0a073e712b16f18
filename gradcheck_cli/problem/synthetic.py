"""Draw random samples: numbers, images, sequences and tokens, with labels or targets that suit the loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gradcheck_cli.errors import bad_input
from gradcheck_cli.network.loss import Loss
from gradcheck_cli.spec.data import SyntheticData
from gradcheck_cli.spec.model import MAX_NUMBERS
from gradcheck_cli.types import Array, Shape


class Needed(NamedTuple):
    """The data that a network needs.

    features: the shape of one sample of x.
    outputs: the shape of one sample of the output.
    loss: the loss, which determines the kind of y.
    tokens: the number of different tokens if x holds tokens, which are whole numbers from 0; otherwise 0.
    """

    features: Shape
    outputs: Shape
    loss: Loss
    tokens: int = 0

    @property
    def inputs(self) -> int:
        """The number of elements in a sample of x."""
        return math.prod(self.features)


Rng = np.random.RandomState

Draw = Callable[[Rng, Shape], Array]
"""A function that takes a shape, samples first, and draws an x of that shape at a scale of 1."""


@dataclass(frozen=True)
class Kind:
    """A kind of synthetic x.

    draw: the function that draws x.
    axes: the names of the axes that a sample must have; empty if any axes will do.
    example: an example of a sample's shape, as written in a spec.
    """

    draw: Draw
    axes: tuple[str, ...] = ()
    example: str = ""


def _normal(rng: Rng, size: Shape) -> Array:
    return rng.normal(size=size)


def _uniform(rng: Rng, size: Shape) -> Array:
    return rng.uniform(-1.0, 1.0, size=size)


_BLOBS, _LEVELS = 3, 16


def _images(rng: Rng, size: Shape) -> Array:
    """Draw images of a few soft blobs on a background of 0, in 17 grey levels from 0 to 1.

    As in real images, neighbouring pixels are similar, and many are equal.

    size: (N, C, H, W), for N images of C channels, height H and width W.
    """
    samples, channels, *sides = size
    height, width = (np.linspace(0.0, 1.0, side) for side in sides)
    image = np.zeros(size)
    for _ in range(_BLOBS):
        row, column = rng.uniform(0.2, 0.8, size=(2, samples, 1, 1, 1))
        radius = rng.uniform(0.1, 0.25, size=(samples, 1, 1, 1))
        colour = rng.uniform(0.5, 1.0, size=(samples, channels, 1, 1))
        distance = (height[:, None] - row) ** 2 + (width - column) ** 2
        image += colour * np.exp(-0.5 * distance / radius**2)
    return np.round(_LEVELS * np.clip(image - 0.1, 0.0, 1.0)) / _LEVELS


def _sequences(rng: Rng, size: Shape) -> Array:
    """Draw sequences of sines, each with a frequency and a phase of its own.

    size: (N, T, F), for N sequences of T time steps with F features.
    """
    samples, steps, features = size
    frequency, phase = rng.uniform(0.3, 1.5, size=(samples, 1, features)), rng.uniform(0.0, 2 * np.pi, size)
    return np.sin(frequency * np.arange(steps)[:, None] + phase[:, :1])


KINDS: Mapping[str, Kind] = {
    "normal": Kind(_normal),
    "uniform": Kind(_uniform),
    "images": Kind(_images, ("channels", "height", "width"), "[1, 8, 8]"),
    "sequences": Kind(_sequences, ("steps", "features"), "[6, 4]"),
}
"""The kinds of synthetic numbers, by their name in a spec. Tokens are not among them."""

TOKENS = "tokens"


def draw(data: SyntheticData, needed: Needed) -> tuple[Array, Array]:
    """Draw x, (N, inputs), for N samples, and y as the loss needs it: labels, or targets within its limits.

    If the network takes tokens, x holds tokens. With `synthetic: tokens`, some tokens are far more frequent
    than others, as in a text; otherwise, all are equally frequent.
    """
    _refuse_unfit(data, needed)
    rng = np.random.RandomState(data.seed)
    if data.synthetic == TOKENS:
        return _text(rng, data.samples, needed)
    size = (data.samples, *needed.features)
    if needed.tokens:
        x = rng.randint(needed.tokens, size=size).astype(np.float64)
    else:
        x = data.scale * KINDS[data.synthetic].draw(rng, size)
    targets = _uniform if data.synthetic == "uniform" else _normal
    return x.reshape(data.samples, -1), _targets(rng, targets, data.samples, needed)


def _refuse_unfit(data: SyntheticData, needed: Needed) -> None:
    widest = max(needed.inputs, math.prod(needed.outputs))
    if data.samples * widest > MAX_NUMBERS:
        raise bad_input(f"{data.samples:,} samples of {widest:,} numbers are too many", "data", "samples")
    where = ("data", "synthetic")
    if data.synthetic == TOKENS:
        if not needed.tokens:
            message = "synthetic tokens need a network whose first layer is an embedding"
            raise bad_input(message, *where, help="write synthetic: normal, or add an embedding")
        return
    kind = KINDS[data.synthetic]
    if not kind.axes:
        return
    if needed.tokens:
        message = f"the network's first layer is an embedding, which takes tokens, not {data.synthetic}"
        raise bad_input(message, *where, help=f"write synthetic: {TOKENS}")
    if len(needed.features) != len(kind.axes):
        found = needed.inputs if len(needed.features) == 1 else list(needed.features)
        message = (
            f"synthetic {data.synthetic} are [{', '.join(kind.axes)}], but the network's inputs are {found}"
        )
        raise bad_input(message, *where, help=f"write 'inputs: {kind.example}' or 'synthetic: normal'")


def _text(rng: Rng, samples: int, needed: Needed) -> tuple[Array, Array]:
    """Draw tokens for x, and a y that suits the loss.

    The k-th token has a frequency proportional to 1/k. If y can hold tokens, it holds the next token for each
    token of x.
    """
    often = 1.0 / np.arange(1, needed.tokens + 1)
    p, positions = often / often.sum(), needed.features
    if len(positions) == 1 and needed.loss.takes_labels and needed.outputs == (*positions, needed.tokens):
        drawn = rng.choice(needed.tokens, size=(samples, positions[0] + 1), p=p)
        return drawn[:, :-1].astype(np.float64), drawn[:, 1:]
    x = rng.choice(needed.tokens, size=(samples, needed.inputs), p=p).astype(np.float64)
    return x, _targets(rng, _normal, samples, needed)


def _targets(rng: Rng, draw: Draw, samples: int, needed: Needed) -> Array:
    """Draw labels, (N, *positions), or targets within the loss's limits, (N, *positions, C).

    N is the number of samples, and C the number of outputs.
    """
    (*positions, units), loss = needed.outputs, needed.loss
    if loss.target == "nothing":
        return np.zeros(samples)
    if loss.target == "pairs":
        return rng.randint(2, size=(samples, *positions))
    if loss.target == "first vector":
        return draw(rng, (samples, *positions, units // len(loss.vectors)))
    if loss.target == "upstream":
        return draw(rng, (samples, *needed.outputs))
    if loss.takes_labels or (units > 1 and not positions):
        return rng.randint(units, size=(samples, *positions))
    (low, high), size = loss.limits, (samples, *needed.outputs)
    if math.isinf(high):
        return draw(rng, size) if math.isinf(low) else low + np.abs(draw(rng, size))
    return rng.uniform(low, high, size=size)
