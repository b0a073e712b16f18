"""A kind of function: forward and backward written by hand, and common mistakes in backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray
Arrays = dict[str, Array]
Draw = np.random.Generator


@dataclass(frozen=True)
class Function:
    """A loss of some parameters at a random point.

    forward: (parameters, data) → one loss per sample, and the values that backward needs.
    backward: (parameters, data, saved, slip) → the gradients of the sum of the losses. A slip is the name of
    a mistake from the kind's list; "" means none. Both functions compute in the type of their arguments.
    """

    parameters: Arrays
    data: Arrays
    forward: Callable[[Arrays, Arrays], tuple[Array, Any]]
    backward: Callable[[Arrays, Arrays, Any, str], Arrays]


Make = Callable[[Draw], Function]


def whole(rng: Draw, low: int, high: int) -> int:
    """Draw an integer from low to high, both included."""
    return int(rng.integers(low, high + 1))


def chance(rng: Draw, probability: float) -> bool:
    return bool(rng.random() < probability)


def one_of(rng: Draw, choices: Sequence[Any]) -> Any:
    return choices[whole(rng, 0, len(choices) - 1)]


def normal(rng: Draw, *shape: int, scale: float = 1.0) -> Array:
    return scale * rng.normal(size=shape)


def weights(rng: Draw, outputs: int, inputs: int) -> Array:
    """Draw weights [out, in] of a size that makes outputs about as large as inputs."""
    return rng.normal(size=(outputs, inputs)) / inputs**0.5
