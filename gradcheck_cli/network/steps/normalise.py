"""Batch and layer normalisation as two steps: ẑ = (z − mean z) / √(var z + eps), and y = γ ẑ + β.

    ∂L/∂z = (g − mean g − ẑ mean(g ẑ)) / √(var z + eps), g = ∂L/∂ẑ        mean and variance depend on z, too
    ∂L/∂γ = Σ ∂L/∂y ẑ        ∂L/∂β = Σ ∂L/∂y        ∂L/∂ẑ = γ ∂L/∂y

The variance of m numbers is biased: the sum is divided by m. With `unbiased`, the sum is divided by m − 1,
and mean(g ẑ) is multiplied by m / (m − 1).

Batch normalisation averages over the samples and, for images, also over the positions; layer normalisation
averages over the last axes of each sample.

(S. Ioffe and C. Szegedy, "Batch normalization", ICML 2015, with the statistics of the batch. J. L. Ba,
J. R. Kiros and G. E. Hinton, "Layer normalization", 2016.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.factors import Channels, Factors, Ones, Own
from gradcheck_cli.network.formulas import Argument, Formulas
from gradcheck_cli.network.functions import row_sums
from gradcheck_cli.network.part import Input, Part, Resting, Risen, Valued, only
from gradcheck_cli.network.step import Arrays, Couples, Inputs, Known, Sensitivity, Step, Upstream
from gradcheck_cli.network.steps.norm_errors import carried, projected
from gradcheck_cli.network.steps.norm_rises import ULPS, AtRest, Rows
from gradcheck_cli.network.sums import sum_error
from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True)
class Normalise(Step):
    """Normalise z, (…, N, *features) for N samples, to ẑ, with mean 0 and variance 1 over some axes.

    axes: the axes to average over, counted from the end. If the samples' axis is one of them, the samples
        affect each other.
    """

    eps: float
    axes: tuple[int, ...]
    couples: Couples
    unbiased: bool = False

    @property
    def formulas(self) -> Formulas:  # type: ignore[override]
        less, mean = ("m − 1", "Σ({g} {out}) / (m − 1)") if self.unbiased else ("m", "mean({g} {out})")
        local = (
            f"(1[i=j] − 1/m − {{out}}ᵢ {{out}}ⱼ / {'(m − 1)' if self.unbiased else 'm'}) / √(var {{x}} + eps)"
        )
        product = f"({{g}} − mean {{g}} − {{out}} {mean}) / √(var {{x}} + eps)"
        where = f"with mean and var over {self._over}" + (f"; var divides by {less}" if self.unbiased else "")
        out = "({x} − mean {x}) / √(var {x} + eps)"
        return Formulas("ẑ", out, (Argument("x", local, product),), where=where)

    @property
    def _over(self) -> str:
        return "the samples" if self.couples == "batch" else "each sample"

    @property
    def label(self) -> str:
        return "batch_norm" if self.couples == "batch" else "layer_norm"

    @classmethod
    def over_batch(cls, eps: float, rank: int = 1, channel: int = 0) -> Normalise:
        """Return batch normalisation over all axes except the axis of the channels.

        rank: the number of axes of a sample.
        channel: the channels' axis in a sample.
        """
        axes = tuple(axis for axis in range(-rank - 1, 0) if axis != channel % rank - rank)
        return cls(eps, axes, "batch")

    @classmethod
    def over_features(cls, eps: float, count: int) -> Normalise:
        """Return layer normalisation over the last `count` axes of every sample."""
        return cls(eps, tuple(range(-count, 0)), "row")

    def mean_of(self, array: Array) -> Array:
        """Return the mean over `axes`, in a shape that broadcasts to the shape of the array."""
        if self.axes == (-1,):  # a product with ones is faster than numpy's mean over a short axis
            return row_sums(array)[..., None] / array.shape[-1]
        mean: Array = array.mean(axis=self.axes, keepdims=True)
        return mean

    def count(self, shape: Shape) -> int:
        """Return the number of entries in each mean, for an array of the given shape."""
        return math.prod(shape[axis] for axis in self.axes)

    def of_variance(self, products: Array) -> Array:
        """Return the mean of m products. If the variance is unbiased, divide by m − 1 instead of m."""
        count = self.count(products.shape)
        return self.mean_of(products) * (count / (count - 1)) if self.unbiased else self.mean_of(products)

    def deviation(self, z: Array) -> Array:
        """Return √(var z + eps), in a shape that broadcasts to that of z."""
        centred = z - self.mean_of(z)
        root: Array = np.sqrt(self.of_variance(centred * centred) + self.eps)
        return root

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        (z,) = inputs
        centred = z - self.mean_of(z)
        centred /= np.sqrt(self.of_variance(centred * centred) + self.eps)
        return centred

    @property
    def rises(self) -> bool:  # type: ignore[override]
        return self.couples != "batch"

    def part(self, p: Arrays, inputs: Sequence[Input], output: Resting) -> Part | None:
        x = only(inputs)
        risen = self._risen(x, output) if self.rises else None
        return risen or self._evaluated(x, output)

    def _evaluated(self, x: Part, output: Resting) -> Part:
        """Return the perturbed part of the output, computed by the function itself."""
        rows = x.freed([len(x.fixed) + axis for axis in self.axes])
        return Valued(output, rows.fixed, self.forward({}, rows.value))

    def _risen(self, x: Part, output: Resting) -> Part | None:
        """Return the change of the output; None if the change of x is too long for the formula."""
        inverse, rows = x.rest.once(self._inverse), self._rows(output.features)
        return rows.part(x, output, output.once(self.in_rows), inverse)

    def _rows(self, features: Shape) -> Rows:
        return Rows(self._divisor((1, *features)), True)

    def _inverse(self, z: Array) -> Array:
        """Return 1 / √(var z + eps) for every row, in the shape of `in_rows` without its last axis."""
        return self.in_rows(np.broadcast_to(1.0 / self.deviation(z), z.shape))[..., 0]

    def sensitivities(self, p: Arrays, known: Known, above: Sensitivity) -> tuple[Sensitivity, ...]:
        (z,), (error,), rows = known.inputs, known.input_errors, self.in_rows
        of_centred = error + self.mean_of(error) + self._off(z, ULPS)
        at_rest = AtRest(rows(known.output), rows(of_centred), self._inverse(z)[..., None], self.eps)
        own = Sensitivity(rows(above.terms), rows(above.error))
        below = self._rows(z.shape[1:]).sensitivity(at_rest, own)
        return (below.reshape(*z.shape),)

    def vjp(
        self, p: Arrays, inputs: Inputs, output: Array, upstream: Array
    ) -> tuple[Inputs, dict[str, Array]]:
        return (self.handed(upstream, output, self.deviation(inputs[0])),), {}

    def handed(self, g: Array, z_hat: Array, deviation: Array) -> Array:
        """Return ∂L/∂z, computed from ∂L/∂ẑ.

        g: ∂L/∂ẑ.
        z_hat: ẑ.
        deviation: √(var z + eps).
        """
        centred = g - self.mean_of(g)
        handed: Array = (centred - z_hat * self.of_variance(g * z_hat)) / deviation
        return handed

    def error(
        self, p: Arrays, inputs: Inputs, output: Array, errors: Inputs, arithmetic: Arithmetic
    ) -> Array:
        (z,), (z_error,) = inputs, errors
        deviation, z_hat, off = self.deviation(z), np.abs(output), self._off(z, arithmetic)
        relative = self.of_variance(z_hat * off / deviation) + 4.0 * arithmetic.eps  # the deviation's error
        rows, divisor = self.in_rows, self._divisor(z.shape)
        of_z = carried(rows(z_error), rows(output), rows(deviation), divisor, centred=True)
        return self._from_rows(of_z, z.shape) + off / deviation + z_hat * relative

    def _off(self, z: Array, arithmetic: Arithmetic) -> Array:
        """Return a bound on the rounding error of z − mean z."""
        size = np.abs(z)
        off: Array = arithmetic.eps * (size + 2.0 * self.mean_of(size))
        return off

    def _divisor(self, shape: Shape) -> int:
        """Return the number that the variance divides by, for an array of the given shape."""
        return self.count(shape) - self.unbiased

    def in_rows(self, array: Array) -> Array:
        """Reshape an array so that its last axis has the entries of one mean, (…, m)."""
        last = np.moveaxis(array, self.axes, range(-len(self.axes), 0))
        return last.reshape(*last.shape[: -len(self.axes)], -1)

    def _from_rows(self, rows: Array, shape: Shape) -> Array:
        """Return the array of the given shape of which `in_rows` has made the rows."""
        numbers = self.in_rows(np.arange(math.prod(shape)).reshape(shape))
        array = np.empty(math.prod(shape))
        array[numbers.ravel()] = rows.ravel()
        return array.reshape(shape)

    def vjp_error(
        self, p: Arrays, known: Known, upstream: Upstream, arithmetic: Arithmetic
    ) -> tuple[tuple[Upstream, ...], dict[str, Array]]:
        g, g_error, z_hat, z_hat_error = upstream.value, upstream.error, known.output, known.output_error
        deviation, eps, mean = self.deviation(known.inputs[0]), arithmetic.eps, self.mean_of
        many, of_variance = max(1.0, self.count(g.shape) / 16.0), self.of_variance
        size, z_size = np.abs(g), np.abs(z_hat)
        along = of_variance(size * z_size)
        along_error = of_variance((size + g_error) * z_hat_error) + eps * many * along
        of_g = projected(self.in_rows(g_error), self.in_rows(z_hat), self._divisor(g.shape), centred=True)
        error = self._from_rows(of_g, g.shape) + z_size * along_error
        error += z_hat_error * (np.abs(of_variance(g * z_hat)) + of_variance(g_error * z_size) + along_error)
        error = error + eps * (size + many * mean(size) + 2.0 * z_size * along)
        off = known.input_errors[0] + mean(known.input_errors[0]) + self._off(known.inputs[0], arithmetic)
        of_deviation = of_variance(z_size * off / deviation) + 4.0 * eps
        handed = self.handed(g, z_hat, deviation)
        error = (error + (error + np.abs(handed) * deviation) * of_deviation) / deviation
        hidden = (upstream.hidden + mean(upstream.hidden)) / deviation
        return (Upstream(handed, error + arithmetic.tiny, hidden),), {}

    def heard(self, p: Arrays, features: tuple[Shape, ...], above: Array) -> tuple[Array, ...]:
        over = tuple(axis for axis in self.axes if -axis <= above.ndim)
        return (np.broadcast_to(above.any(axis=over, keepdims=True), features[0]),)


@dataclass(frozen=True)
class Normalised:
    """The normalised values ẑ, with everything that the backward pass of the normalisation needs.

    value: ẑ, (N, units), for N samples.
    deviation: √(var z + eps), (1, units).
    step: the normalisation.
    """

    value: Array
    deviation: Array
    step: Normalise

    def vjp(self, dL_dvalue: Array) -> Array:
        """Return ∂L/∂z, computed from ∂L/∂ẑ.

        dL_dvalue: ∂L/∂ẑ, (N, units), for N samples.
        """
        return self.step.handed(dL_dvalue, self.value, self.deviation)

    def along(self, g: Array) -> Array:
        """Return ẑ mean(g ẑ): the variance's term in `vjp`, before the division by the deviation.

        g: ∂L/∂ẑ, (N, units), for N samples.
        """
        return self.value * self.step.of_variance(g * self.value)


def normalised_at(z: Array, eps: float) -> Normalised:
    """Return the batch normalisation ẑ of z, (…, N, units) for N samples, ready for a backward pass."""
    step = Normalise.over_batch(eps)
    return Normalised(step.forward({}, z), step.deviation(z), step)


@dataclass(frozen=True)
class Scale(Step):
    """The scale y = γ ẑ + β of normalised values ẑ. γ and β extend over some of a sample's axes.

    shape: the shape of γ and of β.
    after: the number of a sample's axes after the axes of γ; any number of axes may precede them.
    names: the names of γ and β.
    """

    shape: Shape
    after: int = 0
    names: tuple[str, str] = ("gamma", "beta")
    couples: Couples = "nothing"
    is_affine = True
    rises = True

    @property
    def formulas(self) -> Formulas:  # type: ignore[override]
        gamma, beta = Argument("γ", "{x}", "Σₙ {g}ₙ {x}ₙ"), Argument("β", "1", "Σₙ {g}ₙ")
        parameters = dict(zip(self.names, (gamma, beta), strict=True))
        return Formulas("y", "γ {x} + β", (Argument("ẑ", "γ", "γ {g}"),), parameters)

    @classmethod
    def of_channels(cls, features: Shape, channel: int = 0) -> Scale:
        """Return the scale of batch normalisation, with one γ and one β per channel."""
        channel %= len(features)
        return cls((features[channel],), len(features) - channel - 1)

    @property
    def shapes(self) -> Mapping[str, Shape]:
        return dict.fromkeys(self.names, self.shape)

    def centre(self, name: str) -> float:
        return 1.0 if name == self.names[0] else 0.0

    def _both(self, p: Arrays) -> tuple[Array, Array]:
        """Return γ and β in a shape that broadcasts over the features."""
        spread = (*self.shape, *(1,) * self.after)
        gamma, beta = (p[name].reshape(spread) for name in self.names)
        return gamma, beta

    def _by_unit(self, array: Array) -> Array:
        """Reshape an array (…, *features) to (…, before, units, after), with one unit for each entry of γ."""
        axes = len(self.shape) + self.after
        units, after = math.prod(self.shape), math.prod(array.shape[array.ndim - self.after :])
        return array.reshape(*array.shape[: array.ndim - axes], units, after)

    def _rows(self, array: Array) -> Array:
        """Reshape an array of N samples, (N, *features), to (rows, units), with one unit per entry of γ."""
        units = math.prod(self.shape)
        return (
            np.moveaxis(self._by_unit(array), -2, -1).reshape(-1, units)
            if self.after
            else (array.reshape(-1, units))
        )

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        gamma, beta = self._both(p)
        y: Array = gamma * inputs[0]
        in_place = np.result_type(y, beta) == y.dtype
        return np.add(y, beta, out=y if in_place else None)

    def part(self, p: Arrays, inputs: Sequence[Input], output: Resting) -> Part | None:
        x = only(inputs)
        gamma, _ = self._both(p)
        return Risen(output, x.fixed, x.of(gamma) * x.rise)

    def sizes_below(self, p: Arrays, features: tuple[Shape, ...], sizes: Array) -> tuple[Array, ...]:
        return (np.abs(self._both(p)[0]) * sizes,)

    def vjp(
        self, p: Arrays, inputs: Inputs, output: Array, upstream: Array
    ) -> tuple[Inputs, dict[str, Array]]:
        rows, z_hat = self._rows(upstream), self._rows(inputs[0])
        sums = ((rows * z_hat).sum(axis=0), rows.sum(axis=0))
        return (self._both(p)[0] * upstream,), self._named(sums)

    def _named(self, by_unit: tuple[Array, Array]) -> dict[str, Array]:
        return {name: each.reshape(self.shape) for name, each in zip(self.names, by_unit, strict=True)}

    def error(
        self, p: Arrays, inputs: Inputs, output: Array, errors: Inputs, arithmetic: Arithmetic
    ) -> Array:
        gamma, beta = map(np.abs, self._both(p))
        held = arithmetic.eps  # relative error of storing γ or β, and of each product
        error: Array = gamma * (errors[0] + 2.0 * held * np.abs(inputs[0])) + held * beta
        return error

    def vjp_error(
        self, p: Arrays, known: Known, upstream: Upstream, arithmetic: Arithmetic
    ) -> tuple[tuple[Upstream, ...], dict[str, Array]]:
        g, error = self._rows(upstream.value), self._rows(upstream.error)
        z_hat, z_hat_error = self._rows(known.inputs[0]), self._rows(known.input_errors[0])
        hidden = self._rows(np.maximum(upstream.hidden, 0.0))
        of_gamma = sum_error(g, error, arithmetic, z_hat, z_hat_error) + (hidden * z_hat_error).sum(axis=0)
        bounds = (of_gamma + arithmetic.tiny, sum_error(g, error, arithmetic) + arithmetic.tiny)
        gamma, _ = self._both(p)
        handed, size = gamma * upstream.value, np.abs(gamma)
        handed_error = size * upstream.error + arithmetic.eps * np.abs(handed)
        return (Upstream(handed, handed_error, size * upstream.hidden),), self._named(bounds)

    def factors(self, name: str, inputs: Inputs) -> Factors | None:
        (z_hat,) = inputs
        before = math.prod(z_hat.shape[1 : z_hat.ndim - len(self.shape) - self.after])
        after = math.prod(z_hat.shape[z_hat.ndim - self.after :])
        ones = Ones(Channels((before, math.prod(self.shape), after), 1), self.shape)
        if name == self.names[1]:
            return ones
        return Own(np.moveaxis(z_hat, 0, -1).reshape(-1, len(z_hat)), ones)

    def with_entries(
        self, p: Arrays, name: str, which: Array, to: Array, inputs: Inputs, output: Array
    ) -> Array:
        gamma, beta = (p[each].ravel()[which] for each in self.names)
        gamma, beta = (to, beta) if name == self.names[0] else (gamma, to)
        moved = np.repeat(output[None].astype(to.dtype, copy=False), len(which), axis=0)
        of_unit = np.moveaxis(self._by_unit(inputs[0]), -2, 0)[which]  # no other unit changes
        spread = (-1, *(1,) * (of_unit.ndim - 1))
        self._by_unit(moved)[np.arange(len(which)), ..., which, :] = gamma.reshape(
            spread
        ) * of_unit + beta.reshape(spread)
        return moved

    def heard(self, p: Arrays, features: tuple[Shape, ...], above: Array) -> tuple[Array, ...]:
        return (above,)
