"""One layer of backprop, split into the parts where people make mistakes.

    ∂L/∂a ─ activation → ∂L/∂y ─ norm → δ ─ weight → ∂L/∂w, ─ bias → ∂L/∂b, ─ below → ∂L/∂a of the layer below

Without batch normalisation, y is z and ∂L/∂y is δ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np

from gradcheck_cli.diagnose.rows import Rows, parameter
from gradcheck_cli.network.layer import Layer
from gradcheck_cli.network.penalties import PENALTIES
from gradcheck_cli.network.steps.normalise import Normalised
from gradcheck_cli.problem.problem import Problem
from gradcheck_cli.types import Array


class Part(StrEnum):
    """The parts of backprop that can be wrong.

    The first parts are the steps of a layer, in order. The last parts change a gradient as a whole.
    """

    LOSS = "loss"
    BELOW = "below"
    SCALE = "scale"
    ACTIVATION = "activation"
    NORM = "norm"
    GAMMA = "gamma"
    BETA = "beta"
    BIAS = "bias"
    WEIGHT = "weight"
    PENALTY = "penalty"
    FINISHED = "finished"
    """A change to the finished gradient of one tensor."""


TENSORS = {Part.BETA: "beta", Part.GAMMA: "gamma", Part.BIAS: "bias", Part.WEIGHT: "weight"}
"""The parts that compute a parameter's gradient, each with the suffix of that parameter's name.

The search checks the gradients in this order. The first gradients are cheap to check and rule out the most
mistakes. With batch normalisation, the bias's gradient rules out the fewest, since it is 0.
"""


@dataclass(frozen=True)
class Site:
    """The inputs to the backprop of one layer.

    The arrays have one row per sample, or one per position of a sample (see `rows.py`). The shapes below are
    for N samples with one row each.

    activity: the forward pass.
    i: the layer's index.
    found: the author's gradients, by parameter name. A mistake may depend on these gradients, for example if
        the author's code updated the parameters too early.
    dL_da: ∂L/∂a, (N, out), from the layer above or from the loss.
    dL_dy, delta: ∂L/∂y and δ, (N, out); empty until the earlier steps have computed them.
    above: δ of each layer above; the nearest layer comes last.
    right_deltas: δ of each layer in a correct backprop, by layer index.
    """

    problem: Problem
    activity: Rows
    i: int
    found: Mapping[str, Array]
    dL_da: Array
    dL_dy: Array
    delta: Array
    above: tuple[Array, ...] = ()
    right_deltas: tuple[Array, ...] = ()

    @property
    def layer(self) -> Layer:
        return self.problem.network.layers[self.i]

    @property
    def is_output(self) -> bool:
        return self.i == len(self.problem.network.layers) - 1

    @property
    def y(self) -> Array:
        """The input `y` of the layer's activation, (N, out) for N samples."""
        return self.activity.y[self.i]

    @cached_property
    def y_without_bias(self) -> Array | None:
        """z without the bias, (N, out) for N samples; None with batch normalisation, or without a bias."""
        bias = self.problem.parameters.get(self.layer.bias)
        return None if bias is None or self.layer.batch_norm is not None else self.y - bias

    @cached_property
    def a(self) -> Array:
        """The output `a` of the layer's activation, (N, out) for N samples."""
        return self.activity.outputs[self.i]

    @cached_property
    def target(self) -> Array:
        """The targets, (N, out) for N samples, without the weights of the samples."""
        problem = self.problem
        if problem.sample_weight is None or problem.network.loss.has_weights:
            return problem.network.loss.plain(problem.target)
        of_classes = 1.0 if problem.class_weight is None else problem.class_weight
        return smoothed(problem, problem.label_smoothing) * of_classes

    @property
    def c(self) -> Array | float:
        """The factor of each sample's ∂ℓ/∂a: the loss's coefficient, times the weight that the sample has."""
        problem, weights = self.problem, self.problem.sample_weight
        if problem.network.loss.has_weights:
            return problem.network.coefficient * problem.network.loss.weights(problem.target)
        return problem.network.coefficient * (1.0 if weights is None else weights)

    @property
    def a_h(self) -> Array:
        """The layer's input a⁽ʰ⁾, (N, in) for N samples."""
        return self.activity.inputs[self.i]

    @property
    def w(self) -> Array:
        return parameter(self.problem, self.layer.weight)

    @property
    def gamma(self) -> Array:
        return self.problem.parameters[self.layer.gamma]

    @property
    def normalised(self) -> Normalised | None:
        return self.activity.normalised[self.i]

    def shape_of(self, part: Part) -> tuple[int, ...]:
        """Return the shape that the result of this part of the layer's backprop must have."""
        if part is Part.WEIGHT:
            return self.w.shape
        if part in TENSORS:
            return (self.layer.units,)
        below = self.activity.outputs[self.i - 1] if self.i else self.a_h
        return below.shape if part is Part.BELOW else self.y.shape

    def handed_down(self, delta: Array, w: Array) -> Array:
        """Return ∂L/∂a of the layer below, computed from δ and from this layer's weight w."""
        return self.activity.handed_down(self.i, delta, w)

    def image(self, rows: Array) -> Array:
        """Return the layer's rows in the shape (N, units, *positions), for N samples."""
        return self.activity.image(self.i, rows)

    @cached_property
    def dL_dw(self) -> Array:
        """The weight's gradient ∂L/∂w = δᵀ a⁽ʰ⁾, (out, in)."""
        return self.delta.T @ self.a_h

    @cached_property
    def dL_db(self) -> Array:
        """The bias's gradient ∂L/∂b = Σₙ δₙ, (out,)."""
        return self.delta.sum(axis=0)

    @property
    def weight_gradient(self) -> Array:
        """The weight's gradient that the author has when δ is passed down, (out, in), with penalties.

        If the check leaves out the weight, this is the gradient that follows from δ.
        """
        name = self.layer.weight
        return self.found[name] if name in self.found else self.dL_dw + penalty_on(self.problem, name)

    @property
    def samples(self) -> int:
        return len(self.problem.x)

    @property
    def rows(self) -> int:
        """The number of rows of the layer: one per sample, or one per position of each sample."""
        return len(self.y)

    @property
    def is_of_samples(self) -> bool:
        """Whether each of the layer's rows is a whole sample, not one position of a sample."""
        return self.rows == self.samples

    def of_rows(self, of_samples: Array) -> Array:
        """Repeat each sample's entry, so that the array has one entry for each row of the layer."""
        return np.repeat(of_samples, self.rows // self.samples, axis=0)


def smoothed(problem: Problem, by: float) -> Array:
    """Return the targets, (N, out), smoothed by this label smoothing, without any weights."""
    plain = problem.plain_target
    counted = plain.any(axis=-1, keepdims=True)  # ignored samples have no target
    return np.where(counted, (1.0 - by) * plain + by / plain.shape[-1], 0.0)


def fitting(part: Part, site: Site, result: Array | None) -> Array | None:
    """Return a wrong step's result in the shape of the correct result; None if that is impossible.

    If a dense layer passes down a gradient in the flat shape of the layer's input, the gradient is converted
    to rows of the layer below.
    """
    if result is None or result.shape == site.shape_of(part):
        return result
    if part is not Part.BELOW or site.i == 0:
        return None
    there = site.activity.values[site.problem.network.places[site.i].input]
    return site.activity.to_layer_below(site.i, result) if result.shape == there.shape else None


def _norm(site: Site) -> Array:
    return site.dL_dy if site.normalised is None else site.normalised.vjp(site.gamma * site.dL_dy)


def _gamma(site: Site) -> Array:
    assert site.normalised is not None
    total: Array = (site.dL_dy * site.normalised.value).sum(axis=0)
    return total


def _loss(site: Site) -> Array:
    network = site.problem.network
    return network.coefficient * network.loss.gradient(site.a, site.problem.target)


RIGHT: Mapping[Part, Callable[[Site], Array]] = {
    Part.LOSS: _loss,
    Part.BELOW: lambda site: site.handed_down(site.delta, site.w),
    Part.SCALE: lambda site: site.dL_da,
    Part.ACTIVATION: lambda site: site.layer.activation.vjp(site.y, site.dL_da),
    Part.NORM: _norm,
    Part.GAMMA: _gamma,
    Part.BETA: lambda site: site.dL_dy.sum(axis=0),
    Part.BIAS: lambda site: site.dL_db,
    Part.WEIGHT: lambda site: site.dL_dw,
}
"""Maps each part of a layer's backprop to the function that computes it correctly."""


def penalty_on(problem: Problem, name: str) -> Array:
    """Return the sum of all penalty terms in the gradient of parameter `name`."""
    return sum(penalty_terms(problem, name).values(), np.zeros(parameter(problem, name).shape))


def penalty_terms(problem: Problem, name: str) -> dict[str, Array]:
    """Return the term of each penalty in the gradient of the parameter `name`."""
    w = parameter(problem, name)
    return {
        penalty: PENALTIES[penalty].derivative(w, strength)
        for penalty, strength in problem.network.penalties_on(name).items()
    }
