"""Apply mistakes that are written for the layers of a chain to the nodes of any graph.

A mistake in `MISTAKES` reads a `Site`, which is one layer of a chain. Each class here presents one visit of
backprop to a node as such a site. An array that the node does not have is empty, and mistakes that need this
array do not apply.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from gradcheck_cli.diagnose.mistake import Mistake
from gradcheck_cli.diagnose.rows import matrix
from gradcheck_cli.diagnose.site import Part, Site, penalty_on
from gradcheck_cli.diagnose.variant import Pass, Visit
from gradcheck_cli.network.activations import ACTIVATIONS, Activation
from gradcheck_cli.network.graph import Node
from gradcheck_cli.network.steps.normalise import Normalise, Normalised, Scale
from gradcheck_cli.network.steps.pointwise import Pointwise
from gradcheck_cli.types import Array, Shape

NOTHING = np.empty((0, 0))


@dataclass(frozen=True)
class SeenLayer:
    """A node that acts as a layer, with those attributes of `Layer` that mistakes read.

    features: the shape of one sample of the input.
    inputs: the number of inputs of a row; -1 if the node has no rows.
    units: the number of outputs of a row; -1 if the node has no rows.
    """

    node: Node
    features: Shape
    inputs: int = -1
    units: int = -1
    activation: Activation = ACTIVATIONS["identity"]
    batch_norm: float | None = None

    @property
    def step(self) -> Any:
        return self.node.step

    @property
    def out(self) -> Shape:
        return self.step.out(self.features)

    @property
    def weight(self) -> str:
        return self.node.names["weight"]

    @property
    def bias(self) -> str:
        return self.node.names["bias"]


@dataclass(frozen=True)
class SeenActivity:
    """The forward pass at a node, with those attributes of `Rows` that mistakes read.

    z: the input of a normalisation, as rows; empty at other nodes.
    """

    z: tuple[Array, ...] = ()
    inputs: tuple[Array, ...] = ()
    has_images: bool = True  # so that a mistake that does not fit the shapes does not apply

    @property
    def output(self) -> Array:
        return NOTHING

    def to_layer_below(self, _: int, dL_dinput: Array) -> Array:
        return dL_dinput


@dataclass(frozen=True, kw_only=True)
class NodeSite(Site):
    """One visit of backprop to a node, in the form of a `Site`. Subclasses define the arrays of the layer."""

    visit: Visit

    @property
    def layer(self) -> Any:
        return SeenLayer(self.visit.node, self.visit.inputs[0].shape[1:])

    @property
    def y(self) -> Array:
        return self.visit.inputs[0]

    @cached_property
    def a(self) -> Array:
        return self.visit.output

    @property
    def a_h(self) -> Array:
        return NOTHING

    @property
    def w(self) -> Array:
        return NOTHING

    @property
    def normalised(self) -> Normalised | None:
        return None

    @property
    def y_without_bias(self) -> Array | None:
        return None

    @property
    def samples(self) -> int:
        return len(self.visit.at.problem.x)

    def shape_of(self, part: Part) -> tuple[int, ...]:
        return self.visit.inputs[0].shape


# --- the loss ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class LossSite(Site):
    """The end of the network, in the form of a `Site`. Backprop starts here with ∂L/∂a."""

    at: Pass

    @property
    def layer(self) -> Any:
        node = self.at.graph.nodes[-1]
        features = self.at.values[node.inputs[0]].shape[1:]
        if isinstance(node.step, Pointwise):
            return SeenLayer(node, features, activation=node.step.row)
        return SeenLayer(node, features)

    @property
    def y(self) -> Array:
        node = self.at.graph.nodes[-1]
        return self.at.values[node.inputs[0] if isinstance(node.step, Pointwise) else -1]

    @cached_property
    def a(self) -> Array:
        return self.at.values[-1]

    def shape_of(self, part: Part) -> tuple[int, ...]:
        return self.a.shape


def loss_site(at: Pass) -> LossSite:
    """Return a `LossSite`, the end of the network, where backprop starts."""
    return LossSite(at.problem, seen(), 0, at.found, NOTHING, NOTHING, NOTHING, at=at)


def seen(**known: Any) -> Any:
    """Return a `SeenActivity`, typed as `Any` because `Site` is declared with the forward pass of a chain."""
    return SeenActivity(**known)


# --- an activation -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class PointwiseSite(NodeSite):
    """A visit to an activation, in the form of a `Site`. Its upstream gradient is ∂L/∂a."""

    @property
    def layer(self) -> Any:
        step = self.visit.step
        assert isinstance(step, Pointwise)
        features, inputs = self.visit.inputs[0].shape[1:], self.a_h.shape[1:]
        fits = {"inputs": 1, "units": 1} if inputs == features else {}
        return SeenLayer(self.visit.node, features, activation=step.row, **fits)

    @cached_property
    def a_h(self) -> Array:
        """The input of the nearest step below that has a weight; empty if there is no such step."""
        at, below = self.visit.at, self.visit.feeder
        while below >= 0:
            node = at.graph.nodes[below]
            if "weight" in node.names:
                return at.values[node.inputs[0]]
            below = node.inputs[0] - 1
        return NOTHING

    @cached_property
    def y_without_bias(self) -> Array | None:
        below = self.visit.feeder
        node = self.visit.at.graph.nodes[below] if below >= 0 else None
        if node is None or not node.step.is_affine or not {"weight", "bias"} <= node.names.keys():
            return None
        p = node.own(self.visit.at.problem.parameters)
        inputs = tuple(self.visit.at.values[k] for k in node.inputs)
        return node.step.forward({**p, "bias": np.zeros_like(p["bias"])}, *inputs)


def pointwise_site(visit: Visit) -> PointwiseSite:
    """Return a `PointwiseSite` for a visit to an activation."""
    at = visit.at
    return PointwiseSite(at.problem, seen(), 0, at.found, visit.upstream, NOTHING, NOTHING, visit=visit)


# --- a dense layer or a convolution ------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class AffineSite(NodeSite):
    """A visit to a step z = a wᵀ + b, in the form of a `Site`.

    Here `a` is the step's input as rows. The upstream gradient is δ.
    """

    @cached_property
    def layer(self) -> Any:
        features = self.visit.inputs[0].shape[1:]
        inputs = features[self.visit.step.channel]
        return SeenLayer(self.visit.node, features, inputs, self.delta.shape[-1])

    @property
    def y(self) -> Array:
        return self.visit.step.by_row(self.visit.output)

    @cached_property
    def a_h(self) -> Array:
        rows = self.visit.step.rows(self.visit.inputs[0])
        return np.empty((1, 0)) if rows is None else rows

    @property
    def w(self) -> Array:
        return matrix(self.visit.p["weight"])

    @property
    def normalised(self) -> Normalised | None:
        """A placeholder if a normalisation follows directly, otherwise None. No code reads its arrays."""
        steps = self.visit.at.graph.nodes
        above = self.visit.taker
        step = steps[above].step if above >= 0 else None
        return Normalised(NOTHING, NOTHING, step) if isinstance(step, Normalise) else None

    @property
    def gamma(self) -> Array:
        return np.ones(1)

    @cached_property
    def dL_dw(self) -> Array:
        return matrix(self.visit.right[1]["weight"])

    @property
    def weight_gradient(self) -> Array:
        """The weight's gradient that the author has when δ is passed down, as a matrix, with penalties.

        If other uses of the weight depend on this one, as in a loop over time or with tied weights, this is
        the sum so far: over this use and those above, which backprop visits first.
        """
        at, name, here = self.visit.at, self.layer.weight, self.visit.i
        uses = [i for i, _ in at.graph.uses[name] if i != here]
        if not any(max(i, here) in at.graph.above(min(i, here) + 1) for i in uses):
            return super().weight_gradient
        above = (self.visit.earlier(i).right[1][own] for i, own in at.graph.uses[name] if i > here)
        return sum(map(matrix, above), self.dL_dw) + penalty_on(self.problem, name)

    def image(self, rows: Array) -> Array:
        """Turn rows of the output back into an array of the output's own shape."""
        upstream = self.visit.upstream
        order = self.visit.step.by_row(np.arange(upstream.size).reshape(upstream.shape))
        image = np.empty(upstream.size)
        image[order.ravel()] = rows.ravel()
        return image.reshape(upstream.shape)

    def handed_down(self, delta: Array, w: Array) -> Array:
        visit = self.visit
        p = {**visit.p, "weight": w.reshape(visit.p["weight"].shape)}
        (handed,), _ = visit.step.vjp(p, visit.inputs, visit.output, self.image(delta))
        return handed.reshape(self.shape_of(Part.BELOW))

    def shape_of(self, part: Part) -> tuple[int, ...]:
        if part is Part.WEIGHT:
            return self.w.shape
        if part is Part.BIAS:
            return (self.delta.shape[-1],)
        x = self.visit.inputs[0]
        return self.a_h.shape if self.a_h.size == x.size else x.shape


def affine_site(visit: Visit) -> AffineSite:
    """Return an `AffineSite` for a visit to a dense layer or a convolution."""
    at, delta = visit.at, visit.step.by_row(visit.upstream)
    dL_dy, dL_da = _before(visit, Normalise, delta), _before(visit, Pointwise, delta)
    return AffineSite(at.problem, seen(), 0, at.found, dL_da, dL_dy, delta, visit=visit)


def _before(visit: Visit, kind: type, delta: Array) -> Array:
    """Return ∂L/∂output of the step directly above, as rows, or δ if that step is not of type `kind`."""
    above = visit.taker
    if above < 0 or not isinstance(visit.at.graph.nodes[above].step, kind):
        return delta
    if kind is Normalise:
        above = _taker_of(visit.at, above)
    return visit.step.by_row(visit.arrived[above]) if above in visit.arrived else delta


def _taker_of(at: Pass, node: int) -> int:
    """Return the index of the scale directly above a normalisation, or `node` if there is no scale.

    node: the index of the normalisation.
    """
    takers = [i for i, _ in at.consumers(node + 1)]
    is_scale = len(takers) == 1 and isinstance(at.graph.nodes[takers[0]].step, Scale)
    return takers[0] if is_scale else node


def result_of(mistake: Mistake, site: Site, value: float) -> Array | None:
    """Return the wrong result that a mistake gives at a site; None if the mistake does not apply there."""
    try:
        return mistake.made(site, value)
    except (IndexError, ValueError):
        return None
