"""View a network as rows: a convolution becomes a dense layer with one row per position of each sample.

In this view, every array of a layer is (rows, units), the layer's input is (rows, K) and its weight is
(units, K), where K is the number of inputs to a unit. So every mistake in a dense layer is also possible in a
convolution, with a patch in place of a sample's input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from gradcheck_cli.comparison import Comparison
from gradcheck_cli.network.chain import Places
from gradcheck_cli.network.network import forward
from gradcheck_cli.network.steps.normalise import Normalised, normalised_at
from gradcheck_cli.problem.problem import Problem
from gradcheck_cli.types import Array


def matrix(array: Array) -> Array:
    """Return a weight as a matrix (units, K), for K inputs to each unit; return a vector unchanged."""
    return array if array.ndim <= 2 else array.reshape(len(array), -1)


def matrices(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return the gradients or parameters, each as a matrix or a vector."""
    return {name: matrix(array) for name, array in arrays.items()}


def parameter(problem: Problem, name: str) -> Array:
    """Return the parameter `name` of the network as a matrix or a vector."""
    return matrix(problem.parameters[name])


def compared(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparisons with all weights reshaped to matrices."""
    return [c if c.analytic.ndim <= 2 else _compared(c) for c in comparisons]


def _compared(comparison: Comparison) -> Comparison:
    shape = comparison.analytic.shape
    values: dict[str, Any] = {each.name: getattr(comparison, each.name) for each in fields(comparison)}
    arrays = {
        name: matrix(value)
        for name, value in values.items()
        if isinstance(value, np.ndarray) and value.shape == shape
    }
    return Comparison(**{**values, **arrays})


def has_rows(problem: Problem) -> bool:
    """Return whether the network is a chain of layers whose arrays can all be viewed as rows."""
    return problem.network.is_chain and all(layer.step.has_rows for layer in problem.network.layers)


@dataclass(frozen=True)
class Rows:
    """The forward pass of a network, with each layer's arrays as rows."""

    problem: Problem
    values: tuple[Array, ...]

    @property
    def has_images(self) -> bool:
        """Whether any layer has more rows than there are samples."""
        return any(len(layer.out) > 1 for layer in self.problem.network.layers)

    def _by_row(self, of: Callable[[Places], int]) -> tuple[Array, ...]:
        network = self.problem.network
        return tuple(
            layer.step.by_row(self.values[of(at)])
            for layer, at in zip(network.layers, network.places, strict=True)
        )

    @cached_property
    def inputs(self) -> tuple[Array, ...]:
        """The input a⁽ʰ⁾ of each layer, with one row per sample or, in a convolution, one per position."""
        network = self.problem.network
        each = [
            layer.step.rows(self.values[at.input])
            for layer, at in zip(network.layers, network.places, strict=True)
        ]
        return tuple(np.empty((0, 0)) if rows is None else rows for rows in each)

    @cached_property
    def z(self) -> tuple[Array, ...]:
        return self._by_row(lambda at: at.z)

    @cached_property
    def y(self) -> tuple[Array, ...]:
        """The input of each layer's activation: z, or γ ẑ + β with batch normalisation."""
        return self._by_row(lambda at: at.y)

    @cached_property
    def outputs(self) -> tuple[Array, ...]:
        """The output `a` of each layer's activation, (rows, units)."""
        return self._by_row(lambda at: at.a)

    @cached_property
    def normalised(self) -> tuple[Normalised | None, ...]:
        """The normalised values ẑ of each layer; None for layers without batch normalisation."""
        return tuple(
            None if layer.batch_norm is None else normalised_at(z, layer.batch_norm)
            for layer, z in zip(self.problem.network.layers, self.z, strict=True)
        )

    @property
    def output(self) -> Array:
        """The last layer's activation, (N, C), for N samples and C outputs."""
        return self.values[-1]

    def handed_down(self, i: int, delta: Array, w: Array) -> Array:
        """Return ∂L/∂a of the layer below layer i, as rows. If both layers are dense, the result is δ w.

        delta: δ of layer i, (rows, units).
        w: a weight of layer i, (units, K), for K inputs to each unit.
        """
        network = self.problem.network
        layer, at, below = network.layers[i], network.places[i], network.layers[i - 1] if i else None
        if below is None or len(layer.features) == 1 == len(below.out):
            return delta @ w
        name = f"{layer.name}.weight"
        p = {"weight": w.reshape(self.problem.parameters[name].shape), "bias": np.zeros(layer.units)}
        upstream = self.image(i, delta)
        (dL_dinput,), _ = layer.step.vjp(p, (self.values[at.input],), self.values[at.z], upstream)
        return self.to_layer_below(i, dL_dinput)

    def image(self, i: int, rows: Array) -> Array:
        """Reshape layer i's rows to the shape of its z, (N, units, *positions), for N samples."""
        count, units, *positions = self.values[self.problem.network.places[i].z].shape
        return np.moveaxis(rows.reshape(count, *positions, units), -1, 1)

    def to_layer_below(self, i: int, dL_dinput: Array) -> Array:
        """Return ∂L/∂a of the layer below layer i, as rows.

        dL_dinput: ∂L/∂(input of layer i's own step). Other steps may lie between this input and the layer
            below.
        """
        return self.problem.network.layers[i - 1].step.by_row(self._through_steps_before(i, dL_dinput))

    def handed_to_inputs(self, delta: Array) -> Array:
        """Return ∂L/∂x, (N, *features), computed from δ of the first layer, (rows, units)."""
        network, p = self.problem.network, self.problem.parameters
        layer, at = network.layers[0], network.places[0]
        own = {"weight": p[layer.weight], "bias": np.zeros(layer.units)}
        inputs = (self.values[at.input],)
        (dL_dinput,), _ = layer.step.vjp(own, inputs, self.values[at.z], self.image(0, delta))
        return self._through_steps_before(0, dL_dinput)

    def _through_steps_before(self, i: int, upstream: Array) -> Array:
        """Return the gradient below the steps that come before layer i's own step."""
        layer, at = self.problem.network.layers[i], self.problem.network.places[i]
        for number, step in reversed(list(enumerate(layer.before, at.input - len(layer.before) + 1))):
            (upstream,), _ = step.vjp({}, (self.values[number - 1],), self.values[number], upstream)
        return upstream


def in_rows(problem: Problem) -> Rows:
    """Run the problem's network, and return its forward pass as rows."""
    return Rows(problem, forward(problem.network, problem.parameters, problem.x).values)
