"""The interface of a step: what one operation of a network must know of itself, and nothing else does.

A step maps arrays (…, N, *features) to one such array. Leading axes are moves, evaluated at once. N are the
samples; where a step does not couple them, the axis N may hold any samples, in any number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.factors import Factors
from gradcheck_cli.types import Array, Shape

Arrays = Mapping[str, Array]
Inputs = tuple[Array, ...]
Couples = Literal["nothing", "row", "batch"]
"""How far one number reaches within a step: itself alone, its own sample, or all samples."""


@dataclass(frozen=True)
class Upstream:
    """What backprop hands a step: ∂L/∂out (N, *features), and what rounding may have done to it.

    error: a bound on |computed − exact|.
    hidden: how much larger |∂L/∂out| can be where rounding puts a number on the other side of a kink.
    """

    value: Array
    error: Array
    hidden: Array


@dataclass(frozen=True)
class Known:
    """What the forward pass knows at a step: its inputs and output, and a bound on the error of each."""

    inputs: tuple[Array, ...]
    output: Array
    input_errors: tuple[Array, ...]
    output_error: Array


class UnfitError(Exception):
    """A step cannot take the input that it gets: `key` is its option to blame, `help` what to do."""

    def __init__(self, message: str, key: str = "", help: str | None = None) -> None:
        super().__init__(message)
        self.key = key
        self.help = help


class Step:
    """One operation of a network. A kind overrides what it does better than these defaults.

    p: the step's parameters, by the names of the step itself.
    name: what messages call it.  is_activation: whether it is one, number by number or row by row.
    has_pieces: whether it has kinks.  flat_below: whether it is constant below its kink.
    """

    name: str = ""
    couples: Couples = "row"
    is_activation: bool = False
    has_pieces: bool = False
    flat_below: bool = False

    @property
    def has_rows(self) -> bool:
        """Whether `rows` applies: the step is z = a wᵀ + b of every row a of its input."""
        return False

    def pieces(self, x: Array) -> Array:
        """Return which smooth piece of the step each number of its input is on; needs `has_pieces`."""
        raise NotImplementedError

    def branch(self, x: Array, pieces: Array) -> Array:
        """Return the output with each number on this piece, continued beyond its end; needs `has_pieces`."""
        raise NotImplementedError

    @property
    def label(self) -> str:
        """What a one-line description of a network shows for it."""
        raise NotImplementedError

    @classmethod
    def of(cls, features: Shape, **options: Any) -> Step:
        """Return the step for an input of these features and the options of a spec. Raises `UnfitError`."""
        raise NotImplementedError

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """The shape of each of its parameters."""
        return {}

    def fans(self, name: str) -> tuple[int, int]:
        """Return the inputs of a unit and the outputs of an input, as initialisers count them."""
        units, *inputs = self.shapes[name]
        return math.prod(inputs), units

    def out(self, *features: Shape) -> Shape:
        """Return the shape of a sample's output for those of its inputs."""
        return features[0]

    def multiplications(self, features: Shape) -> int:
        """Return about how many of them one sample takes."""
        return math.prod(self.out(features))

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        """Return the output (…, N, *out) of inputs (…, N, *features): real, complex or wide."""
        raise NotImplementedError

    def vjp(
        self, p: Arrays, inputs: Inputs, output: Array, upstream: Array
    ) -> tuple[Inputs, dict[str, Array]]:
        """Return ∂L/∂ each input and the gradient of each parameter, for ∂L/∂output (N, *out)."""
        raise NotImplementedError

    def error(
        self, p: Arrays, inputs: Inputs, output: Array, errors: Inputs, arithmetic: Arithmetic
    ) -> Array:
        """Return a bound on the rounding error of the output, for inputs that are off by their errors."""
        raise NotImplementedError

    def vjp_error(
        self, p: Arrays, known: Known, upstream: Upstream, arithmetic: Arithmetic
    ) -> tuple[tuple[Upstream, ...], dict[str, Array]]:
        """Return what each input is handed, and a bound on the error of each parameter's gradient."""
        raise NotImplementedError

    def rows(self, x: Array) -> Array | None:
        """Return the input as rows (R, K), for a step z = a wᵀ + b of every row a; None for another."""
        return None

    def by_row(self, array: Array) -> Array:
        """Return an array of the output's shape (N, *out) as rows (R, units), in the order of `rows`."""
        return array.reshape(-1, array.shape[-1])

    def factors(self, name: str, inputs: Inputs) -> Factors | None:
        """Return how parameter `name` enters the output, for a step that is affine in it: z = J w + c."""
        return None

    def with_entries(
        self, p: Arrays, name: str, which: Array, to: Array, inputs: Inputs, output: Array
    ) -> Array:
        """Return the output (B, N, *out) with entry which[b] of parameter `name` at to[b], one at a time.

        output: that with nothing moved.  A move leans on nothing but the forward pass itself.
        """
        results = []
        for entry, number in zip(which, to, strict=True):
            moved = p[name].astype(to.dtype)
            moved.flat[entry] = number
            results.append(self.forward({**p, name: moved}, *inputs))
        return np.stack(results)

    def heard(self, p: Arrays, features: tuple[Shape, ...], above: Array) -> tuple[Array, ...]:
        """Return which numbers of a sample's inputs anything takes notice of.

        above: the same for the output. A number that is not heard has a gradient of exactly 0.
        """
        return tuple(np.full(each, bool(above.any())) for each in features)


def columns(array: Array, channel: int) -> Array:
    """Return (rows, channels) of (N, *features) whose channels are at axis `channel` of the features."""
    moved: Any = np.moveaxis(array, 1 + channel, -1)
    return moved.reshape(-1, moved.shape[-1])
