"""The interface of a step. A step defines everything that is specific to one operation of a network.

A step maps arrays (…, N, *features) to one such array. The leading axes hold perturbations, which are
evaluated together. N is the number of samples, which may be any selection of the batch unless the step
couples samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.carried import Copies, Product
from gradcheck_cli.network.factors import Factors
from gradcheck_cli.network.formulas import Formulas
from gradcheck_cli.network.known import Arrays, Inputs, Known, Upstream
from gradcheck_cli.network.nudged_rounding import value_error, vjp_error
from gradcheck_cli.network.part import Input, Part, Resting, Valued
from gradcheck_cli.network.piecewise import Piecewise
from gradcheck_cli.network.sensitivity import Sensitivity
from gradcheck_cli.types import Array, Shape

Couples = Literal["nothing", "row", "batch"]
"""The elements that a step couples. They determine which outputs one element of the input affects.

"nothing": only the same element of the output.  "row": all outputs of the same sample.  "batch": the outputs
of all samples.
"""


class UnfitError(Exception):
    """Raised if a step does not fit its input.

    key: the option at fault; empty if no single option is at fault.
    help: a hint on how to fix the problem; None if there is no hint.
    place: the path to the step's layer in the spec; empty until the builder fills it in.
    """

    def __init__(self, message: str, key: str = "", help: str | None = None) -> None:
        super().__init__(message)
        self.key = key
        self.help = help
        self.place: tuple[str | int, ...] = ()


class Step(Piecewise):
    """One operation of a network. Subclasses override the defaults as needed.

    In all methods, p holds the step's parameters, by their names in the step.

    name: the step's name in messages.
    is_affine: whether the output is affine in the inputs, taken together.
    is_activation: whether the step is an activation, elementwise or over rows.
    rises: whether `part` computes the exact change of the output from short changes of the inputs, so that
        nothing cancels. Such a step has `sensitivities`; if the changes are too long, its part is `Valued`.
    channel: the axis of a sample's output that holds the units or channels.
    makes_images: whether the output is an image [channels, height, width].
    keeps_axes: whether the axes of the output mean the same as those of the input, if the shapes are equal.
    tokens: the number of different tokens if the input holds tokens (whole numbers from 0), else 0.
    label: the text for this step in a one-line description of a network; empty to leave the step out.
    formulas: the step's output and gradients as a textbook writes them. Every step needs them.
    """

    name: str = ""
    couples: Couples = "row"
    is_affine: bool = False
    is_activation: bool = False
    rises: bool = False
    channel: int = 0
    makes_images: bool = False
    keeps_axes: bool = True
    tokens: int = 0
    formulas: Formulas

    @property
    def has_rows(self) -> bool:
        """Whether the step computes z = a wᵀ + b for every row `a` of its input.

        If it does, the method `rows` returns these rows.
        """
        return False

    @property
    def label(self) -> str:
        return ""

    @classmethod
    def of(cls, features: Shape, **options: Any) -> Step:
        """Return a step with options from a spec, for an input whose samples have the shape `features`.

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

        An initialiser always draws the weights. Penalties apply to weights only, unless a spec asks for more.
        """
        return None if len(self.shapes[name]) > 1 else 0.0

    def constant(self, name: str) -> Array | None:
        """Return a mask of the parameter's entries that are constants without a gradient.

        Returns None if no entry is constant.
        """
        return None

    def out(self, *features: Shape) -> Shape:
        """Return the shape of the output for one sample.

        features: the shapes of one sample of each input.
        """
        return features[0]

    def multiplications(self, *features: Shape) -> int:
        """Return the approximate number of multiplications per sample, without elementwise multiplications.

        features: the shapes of one sample of each input.
        """
        return 0

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        """Return the output, (…, N, *out), for N samples of inputs (…, N, *features).

        The inputs may be real, complex, or wider than float64.
        """
        raise NotImplementedError

    def part(self, p: Arrays, inputs: Sequence[Input], output: Resting) -> Part | None:
        """Return the part of the output that changes if the inputs are perturbed; None if nothing changes.

        Only the forward pass is used. The default evaluates whole samples; it works for every step that does
        not couple samples.

        inputs: the perturbed part of each input, or the unperturbed input.
        output: the unperturbed output.
        """
        return Valued(output, output.all, self.forward(p, *(each.whole for each in inputs)))

    def sizes_below(self, p: Arrays, features: tuple[Shape, ...], sizes: Array) -> tuple[Array, ...]:
        """Return |J|ᵀ u for each input, (N, *features), for N samples. J is from out = J x + c.

        Defined only if the step is affine and `rises`.

        features: the shape of one sample of each input.
        sizes: the numbers u ≥ 0, one for each element of the output, (N, *out).
        """
        raise NotImplementedError

    def sensitivities(self, p: Arrays, known: Known, above: Sensitivity) -> tuple[Sensitivity, ...]:
        """Return how strongly the losses depend on each input, if the changes are computed by `part`.

        Defined only if `rises`. The default is for affine steps. In other steps, the slope depends on the
        inputs and the output at rest, so that their rounding errors count, too. No derivative is used.

        known: the unperturbed inputs and output, with bounds on their errors in units of machine epsilon.
        above: how strongly the losses depend on the output.
        """
        return tuple(each.rounded(above) for each in self.carried_below(p, known, above))

    def carried_below(self, p: Arrays, known: Known, above: Sensitivity) -> tuple[Sensitivity, ...]:
        """Return the `sensitivities` of an affine step that rounds nothing."""
        features = tuple(x.shape[1:] for x in known.inputs)
        both = (self.sizes_below(p, features, each) for each in (above.terms, above.error))
        return tuple(Sensitivity(*each) for each in zip(*both, strict=True))

    def vjp(
        self, p: Arrays, inputs: Inputs, output: Array, upstream: Array
    ) -> tuple[Inputs, dict[str, Array]]:
        """Return ∂L/∂input for each input, and the gradient of each parameter.

        upstream: ∂L/∂output, (N, *out), for N samples.
        """
        raise NotImplementedError

    def gradients(self, p: Arrays, inputs: Inputs, output: Array, upstream: Array) -> dict[str, Array]:
        """Return the gradient of each parameter alone, as `vjp` does."""
        return self.vjp(p, inputs, output, upstream)[1]

    def error(
        self, p: Arrays, inputs: Inputs, output: Array, errors: Inputs, arithmetic: Arithmetic
    ) -> Array:
        """Return a bound on the rounding error of the output.

        The default works for every step: it nudges the inputs and observes the change.

        errors: a bound on the error of each input.
        """
        return value_error(self, p, inputs, errors, arithmetic)

    def error_if_moved(self, p: Arrays, inputs: Inputs, output: Array, arithmetic: Arithmetic) -> Array:
        """Return a bound on the output's rounding error after a parameter's entry is perturbed.

        The inputs count as exact.
        """
        return self.error(p, inputs, output, tuple(np.zeros_like(each) for each in inputs), arithmetic)

    def vjp_error(
        self, p: Arrays, known: Known, upstream: Upstream, arithmetic: Arithmetic
    ) -> tuple[tuple[Upstream, ...], dict[str, Array]]:
        """Return ∂L/∂input with an error bound for each input, and error bounds for parameter gradients.

        The default works for every step: it nudges the arguments of `vjp` and observes the change.
        """
        return vjp_error(self, p, known, upstream, arithmetic)

    def gradient_errors(
        self, p: Arrays, known: Known, upstream: Upstream, arithmetic: Arithmetic
    ) -> dict[str, Array]:
        """Return the error bounds of the parameters' gradients alone, as `vjp_error` does."""
        return self.vjp_error(p, known, upstream, arithmetic)[1]

    def rows(self, x: Array) -> Array | None:
        """Return the rows `a` of the input, (R, K), for which the step computes z = a wᵀ + b.

        R is the number of rows, and K the number of elements in each row.

        Returns None if the step computes something else.
        """
        return None

    def by_row(self, array: Array) -> Array:
        """Reshape an array of the output's shape to R rows, (R, units), in the order of `rows`."""
        return array.reshape(-1, array.shape[-1])

    def factors(self, name: str, inputs: Inputs) -> Factors | None:
        """Return the factors with which the parameter w called `name` enters the output: z = J w + c.

        Returns None if the output z is not affine in w.
        """
        return None

    def link(self, k: int, inputs: Inputs, units: Array) -> Copies | Product | None:
        """Return how the output depends on input k, if the output copies that input or is a product with it.

        Returns None for any other step.

        units: for each feature of input k, the unit of the parameter that it belongs to, (F,).
        """
        return None

    def masks(self, inputs: Inputs) -> Mapping[str, Array]:
        """Return the fixed masks that the step uses. Each mask has the key that it has in the spec.

        If several steps of a layer have masks under the same key, the masks are added.
        """
        return {}

    def with_entries(
        self, p: Arrays, name: str, which: Array, to: Array, inputs: Inputs, output: Array
    ) -> Array:
        """Return B perturbed outputs, (B, N, *out), for N samples.

        For output b, only entry which[b] of parameter `name` is set to to[b]; a `constant` entry keeps its
        value. Only the forward pass is used, never a derivative.

        output: the unperturbed output.
        """
        results, constant = [], self.constant(name)
        for entry, number in zip(which, to, strict=True):
            moved = p[name].astype(to.dtype)
            if constant is None or not constant.flat[entry]:
                moved.flat[entry] = number
            results.append(self.forward({**p, name: moved}, *inputs))
        return np.stack(results)

    def each_with_entries(
        self, p: Arrays, name: str, which: Array, to: Array, inputs: Sequence[Inputs]
    ) -> Array:
        """Return B perturbed outputs, (B, N, *out), as `with_entries` does, for B different inputs."""
        outputs = (self.forward(p, *each) for each in inputs)
        each_entry = zip(which[:, None], to[:, None], inputs, outputs, strict=True)
        moved = [self.with_entries(p, name, k, number, x, out) for k, number, x, out in each_entry]
        return np.concatenate(moved)

    def units_with_entries(
        self, p: Arrays, name: str, which: Array, to: Array, inputs: Inputs, output: Array, axis: int
    ) -> Array:
        """Return what `with_entries` changes if each entry affects only its own unit, (B, N, *out).

        The result lacks the units' axis, since each output is that of the entry's unit alone.

        axis: the axis of a sample of the output that holds the units.
        """
        moved = self.with_entries(p, name, which, to, inputs, output)
        units = which * output.shape[1 + axis] // p[name].size
        found: Array = np.moveaxis(moved, 2 + axis, 1)[np.arange(len(which)), units]
        return found

    def heard(self, p: Arrays, features: tuple[Shape, ...], above: Array) -> tuple[Array, ...]:
        """Return, for each input, a mask of the features that can affect the network's output.

        A feature outside the mask has a gradient of exactly 0.

        features: the shape of one sample of each input, which is the shape of its mask.
        above: a mask of the features of the step's output that can affect the network's output.
        """
        return tuple(np.full(each, bool(above.any())) for each in features)


class SeparatelyRounded:
    """A step whose error bound is the sum of its own rounding error and of what its inputs' errors cause."""

    def own_error(self, p: Arrays, inputs: Inputs, output: Array, arithmetic: Arithmetic) -> Array:
        """Return a bound on the rounding error of the output if the inputs are exact."""
        raise NotImplementedError

    def carried(
        self, p: Arrays, inputs: Inputs, output: Array, errors: Inputs, arithmetic: Arithmetic
    ) -> Array:
        """Return a bound on the error of the output that the inputs' errors cause, broadcast to its shape."""
        raise NotImplementedError

    def error(
        self, p: Arrays, inputs: Inputs, output: Array, errors: Inputs, arithmetic: Arithmetic
    ) -> Array:
        carried = self.carried(p, inputs, output, errors, arithmetic)
        return carried + self.own_error(p, inputs, output, arithmetic)

    def error_if_moved(self, p: Arrays, inputs: Inputs, output: Array, arithmetic: Arithmetic) -> Array:
        return self.own_error(p, inputs, output, arithmetic)


__all__ = [
    "Arrays",
    "Couples",
    "Inputs",
    "Known",
    "Sensitivity",
    "SeparatelyRounded",
    "Step",
    "UnfitError",
    "Upstream",
    "columns",
]


def columns(array: Array, channel: int) -> Array:
    """Reshape an array of N samples, (N, *features), to (rows, channels).

    channel: the axis of the features that holds the channels.
    """
    moved: Any = np.moveaxis(array, 1 + channel, -1)
    return moved.reshape(-1, moved.shape[-1])
