"""A network (its layers, their graph of steps, a loss and penalties) and backprop by the chain rule.

For a dense layer z = a⁽ʰ⁾ wᵀ + b with a = φ(z), a⁽ʰ⁾ (N, in), w (out, in), b (out,):

    ∂L/∂w = ∂L/∂a · ∂a/∂z · ∂z/∂w = δᵀ a⁽ʰ⁾      because ∂z/∂w = a⁽ʰ⁾
    ∂L/∂b = ∂L/∂a · ∂a/∂z · ∂z/∂b = Σₙ δₙ          because ∂z/∂b = 1

With batch normalisation, y = γ ẑ(z) + β comes between z and the activation: a = φ(y).

After Raschka, Liu and Mirjalili, Machine Learning with PyTorch and Scikit-Learn (2022), ch. 11.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from gradcheck_cli.network.backprop import sweep
from gradcheck_cli.network.graph import Graph, Node, run
from gradcheck_cli.network.layer import Layer
from gradcheck_cli.network.losses import Loss
from gradcheck_cli.network.penalties import PENALTIES
from gradcheck_cli.network.step import Arrays
from gradcheck_cli.network.steps.batch_norm import Normalised, normalised_at
from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True)
class Places:
    """The indices of a layer's values in the graph: its input, z, ẑ, y = γ ẑ + β, and a = φ(y).

    Without batch normalisation, z, ẑ and y are the same value.
    """

    input: int
    z: int
    z_hat: int
    y: int
    a: int


@dataclass(frozen=True)
class Network:
    """Layers from the input up, a loss per sample times a coefficient, and penalties on the parameters.

    L = coefficient · Σₙ ℓ(aₙ, targetₙ) + Σ penalty(λ)(w) over the weights, and over the biases if
    `penalize_biases` is set.
    features: the shape of one sample of x.
    """

    features: Shape
    layers: tuple[Layer, ...]
    loss: Loss
    coefficient: float
    penalties: Mapping[str, float]
    penalize_biases: bool = False

    @property
    def output(self) -> Layer:
        return self.layers[-1]

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """The shape of every parameter, the output layer's first, in the order of all tables."""
        return {name: shape for layer in reversed(self.layers) for name, shape in layer.shapes.items()}

    @cached_property
    def graph(self) -> Graph:
        """The steps of all layers, one after the other."""
        nodes: list[Node] = []
        for layer in self.layers:
            for step in layer.steps:
                names = {own: f"{layer.name}.{own}" for own in step.shapes}
                nodes.append(Node(step, layer.name, (len(nodes),), names))
        return Graph(tuple(nodes), self.features)

    @cached_property
    def places(self) -> tuple[Places, ...]:
        """The indices of each layer's values in the graph."""
        places, value = [], 0
        for layer in self.layers:
            enters, last = value + len(layer.before), value + len(layer.steps)
            z = enters + 1
            z_hat, y = (z + 1, z + 2) if layer.batch_norm is not None else (z, z)
            places.append(Places(enters, z, z_hat, y, last))
            value = last
        return tuple(places)

    def penalties_on(self, name: str) -> Mapping[str, float]:
        """Return the strengths of the penalties on parameter `name`, by penalty; γ and β count as biases."""
        return self.penalties if self.penalize_biases or name.endswith(".weight") else {}


@dataclass(frozen=True)
class Activity:
    """The values of a forward pass, layer by layer.

    values: x and the output of every step, by their indices in the graph.
    """

    network: Network
    values: tuple[Array, ...]

    @cached_property
    def inputs(self) -> tuple[Array, ...]:
        """Each layer's input (N, *features): a⁽ʰ⁾."""
        return tuple(self.values[at.input] for at in self.network.places)

    @cached_property
    def z(self) -> tuple[Array, ...]:
        return tuple(self.values[at.z] for at in self.network.places)

    @cached_property
    def y(self) -> tuple[Array, ...]:
        """The argument of each layer's activation: z itself, or γ ẑ + β with batch normalisation."""
        return tuple(self.values[at.y] for at in self.network.places)

    @cached_property
    def normalised(self) -> tuple[Normalised | None, ...]:
        """Each layer's ẑ; None for layers without batch normalisation."""
        return tuple(
            None if layer.batch_norm is None else normalised_at(self.values[at.z], layer.batch_norm)
            for layer, at in zip(self.network.layers, self.network.places, strict=True)
        )

    @property
    def output(self) -> Array:
        """The last layer's activation (N, C)."""
        return self.values[-1]


def forward(network: Network, parameters: Arrays, x: Array) -> Activity:
    """Feed x (N, *features) through every layer."""
    return Activity(network, run(network.graph, parameters, x))


def sample_losses(network: Network, output: Array, target: Array) -> Array:
    """Return each sample's term of L, coefficient included, (…, N), for an output (…, N, C)."""
    return network.coefficient * network.loss.value(output, target)


@dataclass(frozen=True)
class ChainRule:
    """The chain rule of one layer, factor by factor.

    dL_da:  ∂L/∂a (N, *out).
    y:      the argument of the activation (N, *out); without batch normalisation, z.
    dL_dy:  ∂L/∂y = ∂L/∂a · ∂a/∂y (N, *out).
    delta:  δ = ∂L/∂z (N, *out); without batch normalisation, the same as ∂L/∂y.
    inputs: the input of the layer's step (N, *features); for a dense layer, a⁽ʰ⁾ = ∂z/∂w.
    gradients: the gradient of every parameter of the layer, by name, without the penalties.
    """

    layer: Layer
    dL_da: Array
    y: Array
    dL_dy: Array
    delta: Array
    inputs: Array
    gradients: Mapping[str, Array]

    @property
    def dz_dw(self) -> Array:
        """∂z/∂w = a⁽ʰ⁾ (R, K), the input rows of a dense layer or the patches of a convolution."""
        rows = self.layer.step.rows(self.inputs)
        assert rows is not None, "the step has no rows"
        return rows

    @property
    def da_dz(self) -> Array:
        """∂a/∂z = φ'(z) (N, out), or a Jacobian (N, out, out); with batch normalisation, ∂a/∂y instead."""
        return self.layer.activation.derivative(self.y)


def backprop(network: Network, parameters: Arrays, x: Array, target: Array) -> Iterator[ChainRule]:
    """Yield the chain rule of every layer, from the output down, without the penalties."""
    values = run(network.graph, parameters, x)
    dL_da = network.coefficient * network.loss.gradient(values[-1], target)
    swept = sweep(network.graph, parameters, values, dL_da)
    for layer, at in zip(reversed(network.layers), reversed(network.places), strict=True):
        upstream: dict[int, Array] = {}
        gradients: dict[str, Array] = {}
        for _ in layer.steps:
            through = next(swept)
            upstream[through.node + 1] = through.upstream
            gradients |= through.gradients
        y, delta = values[at.y], upstream[at.z]
        yield ChainRule(layer, upstream[at.a], y, upstream[at.y], delta, values[at.input], gradients)


def gradients(network: Network, parameters: Arrays, x: Array, target: Array) -> dict[str, Array]:
    """Return the gradient of every parameter, penalties included, each in the shape of its parameter."""
    result: dict[str, Array] = {}
    for rule in backprop(network, parameters, x, target):
        result |= {name: rule.gradients[name] for name in rule.layer.shapes}
    for name in result:
        for penalty, strength in network.penalties_on(name).items():
            result[name] = result[name] + PENALTIES[penalty].derivative(parameters[name], strength)
    return result
