"""A network (a graph of steps, a loss and penalties) and backprop by the chain rule.

For a dense layer z = a⁽ʰ⁾ wᵀ + b with a = φ(z), whose input a⁽ʰ⁾ has one row per sample n:

    ∂L/∂w = ∂L/∂a · ∂a/∂z · ∂z/∂w = δᵀ a⁽ʰ⁾      because ∂z/∂w = a⁽ʰ⁾
    ∂L/∂b = ∂L/∂a · ∂a/∂z · ∂z/∂b = Σₙ δₙ          because ∂z/∂b = 1

With batch normalisation, y = γ ẑ(z) + β comes between z and the activation: a = φ(y).

After Raschka, Liu and Mirjalili, Machine Learning with PyTorch and Scikit-Learn (2022), ch. 11.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from gradcheck_cli.network.backprop import sweep
from gradcheck_cli.network.chain import Placed, Places, chain_of, chained
from gradcheck_cli.network.graph import INPUT, Graph, run
from gradcheck_cli.network.layer import Layer
from gradcheck_cli.network.loss import Loss
from gradcheck_cli.network.penalties import PENALTIES
from gradcheck_cli.network.step import Arrays
from gradcheck_cli.network.steps.normalise import Normalised, normalised_at
from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True)
class Network:
    """A graph of steps, a loss per sample multiplied by a coefficient, and penalties on the parameters.

    L = coefficient · Σₙ ℓ(aₙ, targetₙ) + Σ_w penalty(λ)(w)

    The first sum is over the samples n, with the loss ℓ of each sample. The second sum is over the weights w
    and, if `penalize_biases` is set, the biases, with the strength λ of each penalty.
    """

    graph: Graph
    loss: Loss
    coefficient: float
    penalties: Mapping[str, float]
    penalize_biases: bool = False

    @property
    def features(self) -> Shape:
        """The shape of one sample of x."""
        return self.graph.features

    @property
    def outputs(self) -> Shape:
        """The shape of one sample of the output."""
        return self.graph.value_features[-1]

    @property
    def tokens(self) -> int:
        """The number of different tokens that x can hold; 0 if x does not hold tokens."""
        return min((self.graph.nodes[i].step.tokens for i in self.graph.readers[INPUT]), default=0)

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """The shape of every parameter, by name. The output layer comes first, as in all tables."""
        return {
            name: self.graph.shapes[name] for names in reversed(list(self.named.values())) for name in names
        }

    @cached_property
    def named(self) -> Mapping[str, tuple[str, ...]]:
        """The names of each layer's parameters, from the input up. Layers without parameters are omitted."""
        found: dict[str, list[str]] = {}
        for name, ((i, _), *_) in self.graph.uses.items():
            found.setdefault(self.graph.nodes[i].layer, []).append(name)
        return {layer: tuple(names) for layer, names in found.items()}

    @cached_property
    def weights(self) -> frozenset[str]:
        """The names of the parameters that are weights, that is, neither biases nor scales."""
        nodes = self.graph.nodes
        return frozenset(
            name
            for name, uses in self.graph.uses.items()
            if any(nodes[i].step.centre(own) is None for i, own in uses)
        )

    @cached_property
    def _chain(self) -> tuple[Placed, ...]:
        return chain_of(self.graph)

    @property
    def is_chain(self) -> bool:
        """Whether the graph is a chain of dense and convolution layers. If so, `layers` holds them."""
        return bool(self._chain)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The network's layers from the input up; empty if the graph is not a chain of layers."""
        return tuple(placed.layer for placed in self._chain)

    @cached_property
    def places(self) -> tuple[Places, ...]:
        """For each layer in `layers`, the indices of the layer's values in the graph."""
        return tuple(placed.at for placed in self._chain)

    @property
    def output(self) -> Layer:
        """The output layer. The network must be a chain of layers."""
        return self.layers[-1]

    def with_layers(self, layers: Sequence[Layer]) -> Network:
        """Return a copy of the network whose graph is a chain of the given layers."""
        return replace(self, graph=chained(self.features, layers))

    def penalties_on(self, name: str) -> Mapping[str, float]:
        """Return the strength λ of each penalty on parameter `name`, by the penalty's name.

        γ and β of a normalisation count as biases.
        """
        return self.penalties if self.penalize_biases or name in self.weights else {}


@dataclass(frozen=True)
class Activity:
    """The values of a forward pass through a chain, layer by layer.

    values: x and the output of every step, by their indices in the graph.
    """

    network: Network
    values: tuple[Array, ...]

    @cached_property
    def inputs(self) -> tuple[Array, ...]:
        """Each layer's input a⁽ʰ⁾, (N, *features), for N samples."""
        return tuple(self.values[at.input] for at in self.network.places)

    @cached_property
    def z(self) -> tuple[Array, ...]:
        return tuple(self.values[at.z] for at in self.network.places)

    @cached_property
    def y(self) -> tuple[Array, ...]:
        """The argument y of each layer's activation: z itself or, with batch normalisation, γ ẑ + β."""
        return tuple(self.values[at.y] for at in self.network.places)

    @cached_property
    def normalised(self) -> tuple[Normalised | None, ...]:
        """The normalised values ẑ of each layer; None for layers without batch normalisation."""
        return tuple(
            None if layer.batch_norm is None else normalised_at(self.values[at.z], layer.batch_norm)
            for layer, at in zip(self.network.layers, self.network.places, strict=True)
        )

    @property
    def output(self) -> Array:
        """The activations of the last layer, (N, C), for N samples and C outputs."""
        return self.values[-1]


def forward(network: Network, parameters: Arrays, x: Array) -> Activity:
    """Run a forward pass through a chain of layers, and return its values.

    x: the input, (N, *features), for N samples.
    """
    return Activity(network, run(network.graph, parameters, x))


def sample_losses(network: Network, output: Array, target: Array) -> Array:
    """Return the term that each of the N samples adds to L, (…, N), with the coefficient included.

    output: the output of the network, (…, N, *outputs).
    """
    return network.coefficient * network.loss.value(output, target)


@dataclass(frozen=True)
class ChainRule:
    """The factors of the chain rule of one layer, for N samples.

    dL_da:  ∂L/∂a, (N, *out).
    y:      the argument of the activation, (N, *out); without batch normalisation, y is z.
    dL_dy:  ∂L/∂y = ∂L/∂a · ∂a/∂y, (N, *out).
    delta:  δ = ∂L/∂z, (N, *out); without batch normalisation, δ is ∂L/∂y.
    inputs: the input of the layer's step, (N, *features); for a dense layer, this is a⁽ʰ⁾ = ∂z/∂w.
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
        """The factor ∂z/∂w = a⁽ʰ⁾, (R, K), which consists of R rows of K elements.

        The rows are the inputs of a dense layer or the patches of a convolution.
        """
        rows = self.layer.step.rows(self.inputs)
        assert rows is not None, "the step has no rows"
        return rows

    @property
    def da_dz(self) -> Array:
        """The factor ∂a/∂z = φ'(z), (N, out), or a Jacobian, (N, out, out), for N samples.

        With batch normalisation, the factor is ∂a/∂y instead.
        """
        return self.layer.activation.derivative(self.y)


def backprop(network: Network, parameters: Arrays, x: Array, target: Array) -> Iterator[ChainRule]:
    """Yield the chain rule's factors for every layer of a chain of layers, from the output down.

    The penalties are left out.
    """
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


def gradients(
    network: Network,
    parameters: Arrays,
    x: Array,
    target: Array,
    values: tuple[Array, ...] | None = None,
) -> dict[str, Array]:
    """Return the gradient of every parameter, in that parameter's shape, with the penalties included.

    values: x and the output of every step, if they are known already.
    """
    values = run(network.graph, parameters, x) if values is None else values
    dL_dout = network.coefficient * network.loss.gradient(values[-1], target)
    found: dict[str, Array] = {}
    for at_node in sweep(network.graph, parameters, values, dL_dout):
        for name, share in at_node.gradients.items():
            found[name] = found[name] + share if name in found else share
    for name in found:
        for penalty, strength in network.penalties_on(name).items():
            found[name] = found[name] + PENALTIES[penalty].derivative(parameters[name], strength)
    return {name: found[name] for name in network.shapes}
