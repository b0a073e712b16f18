"""Batch normalisation as two steps: ẑ = (z − mean z) / √(var z + eps) over the samples, and y = γ ẑ + β.

    ∂L/∂z = (g − mean g − ẑ mean(g ẑ)) / √(var z + eps), g = ∂L/∂ẑ        mean and variance depend on z, too
    ∂L/∂γ = Σ ∂L/∂y ẑ        ∂L/∂β = Σ ∂L/∂y        ∂L/∂ẑ = γ ∂L/∂y

The variance is the biased one. For images (C, H, W), the mean is over the samples and the positions.
(S. Ioffe and C. Szegedy, "Batch normalization", ICML 2015, with the statistics of the batch.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.factors import Channels, Factors, Ones, Own
from gradcheck_cli.network.step import Arrays, Couples, Inputs, Known, Step, Upstream, columns
from gradcheck_cli.network.sums import sum_error
from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True)
class Normalise(Step):
    """Normalise z (…, N, channels, *positions) to ẑ. positions: the number of position axes."""

    eps: float
    positions: int = 0
    couples: Couples = "batch"

    @property
    def _axes(self) -> tuple[int, ...]:
        return (-2 - self.positions, *range(-self.positions, 0))

    def _mean(self, array: Array) -> Array:
        mean: Array = array.mean(axis=self._axes, keepdims=True)
        return mean

    def deviation(self, z: Array) -> Array:
        """Return √(var z + eps), (…, 1, channels, *1)."""
        centred = z - self._mean(z)
        root: Array = np.sqrt(self._mean(centred * centred) + self.eps)
        return root

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        (z,) = inputs
        centred = z - self._mean(z)
        normalised: Array = centred / np.sqrt(self._mean(centred * centred) + self.eps)
        return normalised

    def vjp(
        self, p: Arrays, inputs: Inputs, output: Array, upstream: Array
    ) -> tuple[Inputs, dict[str, Array]]:
        return (self.handed(upstream, output, self.deviation(inputs[0])),), {}

    def handed(self, g: Array, z_hat: Array, deviation: Array) -> Array:
        """Return ∂L/∂z for g = ∂L/∂ẑ."""
        centred = g - self._mean(g)
        handed: Array = (centred - z_hat * self._mean(g * z_hat)) / deviation
        return handed

    def error(
        self, p: Arrays, inputs: Inputs, output: Array, errors: Inputs, arithmetic: Arithmetic
    ) -> Array:
        (z,), (z_error,) = inputs, errors
        deviation, size = self.deviation(z), np.abs(z)
        off = (
            z_error + self._mean(z_error) + arithmetic.eps * (size + 2.0 * self._mean(size))
        )  # of z − mean z
        z_hat = np.abs(output)
        relative = self._mean(z_hat * off / deviation) + 4.0 * arithmetic.eps  # of the deviation
        return off / deviation + z_hat * relative

    def vjp_error(
        self, p: Arrays, known: Known, upstream: Upstream, arithmetic: Arithmetic
    ) -> tuple[tuple[Upstream, ...], dict[str, Array]]:
        g, g_error, z_hat, z_hat_error = upstream.value, upstream.error, known.output, known.output_error
        deviation, eps, mean = self.deviation(known.inputs[0]), arithmetic.eps, self._mean
        many = max(1.0, g.size / mean(g).size / 16.0)
        size, z_size = np.abs(g), np.abs(z_hat)
        along = mean(size * z_size)
        along_error = mean(g_error * z_size + (size + g_error) * z_hat_error) + eps * many * along
        error = g_error + mean(g_error) + z_hat_error * (along + along_error) + z_size * along_error
        error = error + eps * (size + many * mean(size) + 2.0 * z_size * along)
        of_deviation = mean(z_size * z_hat_error) + 4.0 * eps
        handed = self.handed(g, z_hat, deviation)
        error = (error + np.abs(handed) * deviation * of_deviation) / deviation
        hidden = (upstream.hidden + mean(upstream.hidden)) / deviation
        return (Upstream(handed, error + arithmetic.tiny, hidden),), {}

    def heard(self, p: Arrays, features: tuple[Shape, ...], above: Array) -> tuple[Array, ...]:
        over = tuple(axis for axis in range(1, above.ndim))
        return (np.broadcast_to(above.any(axis=over, keepdims=True), features[0]),)


@dataclass(frozen=True)
class Normalised:
    """ẑ with the numbers for its backward pass.

    value: ẑ (N, units).  deviation: √(var z + eps) (1, units).
    """

    value: Array
    deviation: Array
    step: Normalise

    def vjp(self, dL_dvalue: Array) -> Array:
        """Return ∂L/∂z for ∂L/∂ẑ (N, units)."""
        return self.step.handed(dL_dvalue, self.value, self.deviation)


def normalised_at(z: Array, eps: float) -> Normalised:
    """Return ẑ of z (…, N, units)."""
    step = Normalise(eps)
    return Normalised(step.forward({}, z), step.deviation(z), step)


@dataclass(frozen=True)
class Scale(Step):
    """y = γ ẑ + β for ẑ (…, channels, *positions), with one γ and one β per channel."""

    channels: int
    positions: int = 0
    couples: Couples = "nothing"

    @property
    def shapes(self) -> Mapping[str, Shape]:
        return {"gamma": (self.channels,), "beta": (self.channels,)}

    def _spread(self, parameter: Array) -> Array:
        return parameter.reshape(-1, *(1,) * self.positions)

    def _columns(self, array: Array) -> Array:
        return columns(array, 0) if self.positions else array

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        y: Array = self._spread(p["gamma"]) * inputs[0] + self._spread(p["beta"])
        return y

    def vjp(
        self, p: Arrays, inputs: Inputs, output: Array, upstream: Array
    ) -> tuple[Inputs, dict[str, Array]]:
        rows, z_hat = self._columns(upstream), self._columns(inputs[0])
        gradients = {"gamma": (rows * z_hat).sum(axis=0), "beta": rows.sum(axis=0)}
        return (self._spread(p["gamma"]) * upstream,), gradients

    def error(
        self, p: Arrays, inputs: Inputs, output: Array, errors: Inputs, arithmetic: Arithmetic
    ) -> Array:
        gamma, beta = np.abs(self._spread(p["gamma"])), np.abs(self._spread(p["beta"]))
        held = arithmetic.eps  # relative error of storing γ or β, and of each product
        error: Array = gamma * (errors[0] + 2.0 * held * np.abs(inputs[0])) + held * beta
        return error

    def vjp_error(
        self, p: Arrays, known: Known, upstream: Upstream, arithmetic: Arithmetic
    ) -> tuple[tuple[Upstream, ...], dict[str, Array]]:
        g, error = self._columns(upstream.value), self._columns(upstream.error)
        z_hat, z_hat_error = self._columns(known.inputs[0]), self._columns(known.input_errors[0])
        hidden = self._columns(np.maximum(upstream.hidden, 0.0))
        bounds = {
            "gamma": sum_error(g, error, arithmetic, z_hat, z_hat_error)
            + (hidden * z_hat_error).sum(axis=0)
            + arithmetic.tiny,
            "beta": sum_error(g, error, arithmetic) + arithmetic.tiny,
        }
        gamma = self._spread(p["gamma"])
        handed, size = gamma * upstream.value, np.abs(gamma)
        handed_error = size * upstream.error + arithmetic.eps * np.abs(handed)
        return (Upstream(handed, handed_error, size * upstream.hidden),), bounds

    def factors(self, name: str, inputs: Inputs) -> Factors | None:
        (z_hat,) = inputs
        ones = Ones(Channels(z_hat.shape[1:]))
        if name == "beta":
            return ones
        return Own(np.moveaxis(z_hat, 0, -1).reshape(-1, len(z_hat)), ones)

    def with_entries(
        self, p: Arrays, name: str, which: Array, to: Array, inputs: Inputs, output: Array
    ) -> Array:
        gamma, beta = p["gamma"][which], p["beta"][which]
        gamma, beta = (to, beta) if name == "gamma" else (gamma, to)
        moved = np.repeat(output[None].astype(to.dtype, copy=False), len(which), axis=0)
        channel = np.moveaxis(inputs[0], 1, 0)[which]  # (B, N, *positions): no other channel changes
        spread = (-1, *(1,) * (channel.ndim - 1))
        moved[np.arange(len(which)), :, which] = gamma.reshape(spread) * channel + beta.reshape(spread)
        return moved

    def heard(self, p: Arrays, features: tuple[Shape, ...], above: Array) -> tuple[Array, ...]:
        return (above,)
