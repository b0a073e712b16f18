"""The interface of a step, which defines everything specific to one operation of a network.

A step maps arrays (…, N, *features) to one such array. The leading axes hold perturbations, which are
evaluated together. N is the number of samples; unless the step couples samples, they may be any selection of
the batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.factors import Factors
from gradcheck_cli.network.formulas import Formulas
from gradcheck_cli.network.known import Arrays, Inputs, Known, Upstream
from gradcheck_cli.network.nudged_rounding import value_error, vjp_error
from gradcheck_cli.network.part import Input, Part, Resting
from gradcheck_cli.types import Array, Shape

Couples = Literal["nothing", "row", "batch"]
"""What a step couples, which determines the outputs that one element of its input affects.

"nothing": only the same element of the output.  "row": all outputs of its sample.  "batch": the outputs of
all samples.
"""


@dataclass(frozen=True)
class Sides:
    """The smooth pieces on which rounding may put the inputs of a step, in the shape of `Step.pieces`.

    below, above: the pieces on the two sides of a kink that rounding may cross; equal if there is none.
    reach: how far rounding may move a number.
    more: whether more than two pieces meet at any kink.
    """

    below: Array
    above: Array
    reach: Array
    more: bool = False


class UnfitError(Exception):
    """Raised if a step does not fit its input.

    `key` is the option at fault, if any; `help` says how to fix it.

    place: where the step is among the spec's layers; empty until the builder fills it in.
    """

    def __init__(self, message: str, key: str = "", help: str | None = None) -> None:
        super().__init__(message)
        self.key = key
        self.help = help
        self.place: tuple[str | int, ...] = ()


class Step:
    """One operation of a network. Subclasses override the defaults as needed.

    name: the step's name in messages.
    is_activation: whether it is an activation, elementwise or over rows.
    has_pieces: whether it has kinks.  flat_below: whether it is constant below its kink.
    channel: the axis of a sample's output that holds its units or channels.
    makes_images: whether the output is an image [channels, height, width].
    keeps_axes: whether the axes of an output in the shape of the input keep their meaning.
    tokens: the number of different tokens if the input holds tokens (whole numbers from 0), else 0.
    label: the text for this step in a one-line description of a network, if any.
    formulas: its output and its derivation, as a textbook writes them. Every step needs them.
    In all methods, p holds the step's parameters, by their names in the step.
    """

    name: str = ""
    couples: Couples = "row"
    is_activation: bool = False
    has_pieces: bool = False
    flat_below: bool = False
    channel: int = 0
    makes_images: bool = False
    keeps_axes: bool = True
    tokens: int = 0
    formulas: Formulas

    @property
    def has_rows(self) -> bool:
        """Whether the step computes z = a wᵀ + b for every row a of its input, so that `rows` applies."""
        return False

    def pieces(self, x: Array) -> Array:
        """Return the smooth piece on which each element of the input is. Defined only if `has_pieces`.

        If several inputs determine a piece together, return a piece for each element of the output instead.
        """
        raise NotImplementedError

    def sides(self, x: Array, reach: Array) -> Sides:
        """Return the pieces on both sides of each kink that an input may cross with an error of ± reach."""
        return Sides(self.pieces(x - reach), self.pieces(x + reach), reach)

    def branch(self, p: Arrays, x: Array, pieces: Array) -> Array:
        """Return the output computed with the given pieces, each extended past its ends.

        Defined only if `has_pieces`.
        """
        raise NotImplementedError

    @property
    def label(self) -> str:
        return ""

    @classmethod
    def of(cls, features: Shape, **options: Any) -> Step:
        """Return the step with a spec's options for an input whose samples have the shape `features`.

        Raises an `UnfitError` if the step does not fit the input.
        """
        raise NotImplementedError

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """The shape of each parameter, by its name in the step."""
        return {}

    def fans(self, name: str) -> tuple[int, int]:
        """Return a parameter's fan-in and fan-out, as initialisers define them."""
        units, *inputs = self.shapes[name]
        return math.prod(inputs), units

    def centre(self, name: str) -> float | None:
        """Return the value around which a scale (1) or a bias (0) is initialised; None for a weight.

        Initialisers always draw weights. Penalties apply to weights only, unless a spec asks for more.
        """
        return None if len(self.shapes[name]) > 1 else 0.0

    def constant(self, name: str) -> Array | None:
        """Return a mask of the parameter's entries that are constants without a gradient; None if none is."""
        return None

    def out(self, *features: Shape) -> Shape:
        """Return the shape of the output for one sample, given the shapes of its inputs."""
        return features[0]

    def multiplications(self, *features: Shape) -> int:
        """Return roughly how many multiplications a sample takes, not counting elementwise ones.

        features: the shapes of one sample of each input.
        """
        return 0

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        """Return the output (…, N, *out) for inputs (…, N, *features).

        The inputs may be real, complex, or wider than float64.
        """
        raise NotImplementedError

    def part(self, p: Arrays, inputs: Sequence[Input], output: Resting) -> Part | None:
        """Return the part of the output that changes with the perturbed inputs; None if nothing changes.

        Only the forward pass is used. The default works for every step that does not couple samples: it
        evaluates whole samples.
        """
        return Part(output, output.all, self.forward(p, *(each.whole for each in inputs)))

    def vjp(
        self, p: Arrays, inputs: Inputs, output: Array, upstream: Array
    ) -> tuple[Inputs, dict[str, Array]]:
        """Return ∂L/∂input for each input and the gradient of each parameter, given ∂L/∂output (N, *out)."""
        raise NotImplementedError

    def error(
        self, p: Arrays, inputs: Inputs, output: Array, errors: Inputs, arithmetic: Arithmetic
    ) -> Array:
        """Return a bound on the rounding error of the output, given bounds on the errors of the inputs.

        The default works for every step: it nudges the inputs and observes the change.
        """
        return value_error(self, p, inputs, errors, arithmetic)

    def error_if_moved(self, p: Arrays, inputs: Inputs, output: Array, arithmetic: Arithmetic) -> Array:
        """Return a bound on the output's rounding error after an entry is perturbed, for exact inputs."""
        return self.error(p, inputs, output, tuple(np.zeros_like(each) for each in inputs), arithmetic)

    def vjp_error(
        self, p: Arrays, known: Known, upstream: Upstream, arithmetic: Arithmetic
    ) -> tuple[tuple[Upstream, ...], dict[str, Array]]:
        """Return ∂L/∂input with its error for each input, and an error bound for each parameter's gradient.

        The default works for every step: it nudges the arguments of `vjp` and observes the change.
        """
        return vjp_error(self, p, known, upstream, arithmetic)

    def rows(self, x: Array) -> Array | None:
        """Return the rows a of the input, (R, K).

        Returns None unless the step computes z = a wᵀ + b for each row.
        """
        return None

    def by_row(self, array: Array) -> Array:
        """Return an array of the output's shape (N, *out) as rows (R, units), in the order of `rows`."""
        return array.reshape(-1, array.shape[-1])

    def factors(self, name: str, inputs: Inputs) -> Factors | None:
        """Return how parameter `name` enters the output, z = J w + c; None if z is not affine in w."""
        return None

    def with_entries(
        self, p: Arrays, name: str, which: Array, to: Array, inputs: Inputs, output: Array
    ) -> Array:
        """Return the outputs (B, N, *out) after setting only entry which[b] of parameter `name` to to[b].

        output: the unperturbed output. Only the forward pass is used, never a derivative.
        Entries that are `constant` stay as they are.
        """
        results, constant = [], self.constant(name)
        for entry, number in zip(which, to, strict=True):
            moved = p[name].astype(to.dtype)
            if constant is None or not constant.flat[entry]:
                moved.flat[entry] = number
            results.append(self.forward({**p, name: moved}, *inputs))
        return np.stack(results)

    def heard(self, p: Arrays, features: tuple[Shape, ...], above: Array) -> tuple[Array, ...]:
        """Return, for each input, a mask (*features) of the features that can affect the network's output.

        above: the same mask for this step's output. A feature outside the mask has a gradient of exactly 0.
        """
        return tuple(np.full(each, bool(above.any())) for each in features)


__all__ = ["Arrays", "Couples", "Inputs", "Known", "Sides", "Step", "UnfitError", "Upstream", "columns"]


def columns(array: Array, channel: int) -> Array:
    """Reshape (N, *features), with the channels at axis `channel` of the features, to (rows, channels)."""
    moved: Any = np.moveaxis(array, 1 + channel, -1)
    return moved.reshape(-1, moved.shape[-1])
