"""A dense network: its forward pass, and backprop by the chain rule, factor by factor.

For a layer z = a⁽ʰ⁾ wᵀ + b with a = φ(z), a⁽ʰ⁾ (N, in), w (out, in), b (out,):

    ∂L/∂w = ∂L/∂a · ∂a/∂z · ∂z/∂w = δᵀ a⁽ʰ⁾      because ∂z/∂w = a⁽ʰ⁾
    ∂L/∂b = ∂L/∂a · ∂a/∂z · ∂z/∂b = Σₙ δₙ          because ∂z/∂b = 1

after Raschka, Liu and Mirjalili, Machine Learning with PyTorch and Scikit-Learn (2022), ch. 11.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from gradcheck_cli.model.activations import Activation
from gradcheck_cli.model.losses import Loss
from gradcheck_cli.model.penalties import PENALTIES
from gradcheck_cli.model.special import Array

Arrays = Mapping[str, Array]


@dataclass(frozen=True)
class Layer:
    """A dense layer; its parameters are `<name>.weight` (units, inputs) and `<name>.bias` (units,)."""

    name: str
    inputs: int
    units: int
    activation: Activation
    activation_name: str

    @property
    def weight(self) -> str:
        return f"{self.name}.weight"

    @property
    def bias(self) -> str:
        return f"{self.name}.bias"


@dataclass(frozen=True)
class Network:
    """Layers from the input up, a loss per sample times a coefficient, and penalties on the parameters.

    L = coefficient · Σₙ ℓ(aₙ, targetₙ) + Σ penalty(λ)(w) over the weights, and the biases if asked.
    """

    layers: tuple[Layer, ...]
    loss: Loss
    coefficient: float
    penalties: Mapping[str, float]
    penalize_biases: bool = False

    @property
    def output(self) -> Layer:
        return self.layers[-1]

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of every parameter, the output layer's first: the order of every table."""
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in reversed(self.layers):
            shapes[layer.weight] = (layer.units, layer.inputs)
            shapes[layer.bias] = (layer.units,)
        return shapes

    def penalties_on(self, name: str) -> Mapping[str, float]:
        """The penalties, by name, that bear on the parameter `name`."""
        return self.penalties if self.penalize_biases or name.endswith(".weight") else {}


@dataclass(frozen=True)
class Activity:
    """What a forward pass leaves behind, a tuple entry for each layer.

    inputs: a⁽ʰ⁾, the layer's input (N, in);  z: its pre-activation (N, out).
    output: the last layer's activation (N, C).
    """

    inputs: tuple[Array, ...]
    z: tuple[Array, ...]
    output: Array


def forward(network: Network, parameters: Arrays, x: Array) -> Activity:
    """Feed x (N, in) through every layer."""
    inputs, pre_activations = [], []
    a = x
    for layer in network.layers:
        inputs.append(a)
        z = a @ parameters[layer.weight].T + parameters[layer.bias]
        pre_activations.append(z)
        a = layer.activation.value(z)
    return Activity(tuple(inputs), tuple(pre_activations), a)


def sample_losses(network: Network, output: Array, target: Array) -> Array:
    """The term each sample adds to L, coefficient included: (…, N) of an output (…, N, C)."""
    return network.coefficient * network.loss.value(output, target)


@dataclass(frozen=True)
class Factors:
    """The chain rule of one dense layer, factor by factor.

    dL_da: ∂L/∂a (N, out);  z: where ∂a/∂z is taken (N, out);  dz_dw: ∂z/∂w = a⁽ʰ⁾ (N, in).
    """

    layer: Layer
    dL_da: Array
    z: Array
    dz_dw: Array

    @cached_property
    def da_dz(self) -> Array:
        """∂a/∂z = φ'(z) (N, out), or the Jacobian (N, out, out) of a coupled activation."""
        return self.layer.activation.derivative(self.z)

    @cached_property
    def delta(self) -> Array:
        """δ = ∂L/∂a · ∂a/∂z = ∂L/∂z (N, out)."""
        return self.layer.activation.vjp(self.z, self.dL_da)

    @cached_property
    def dL_dw(self) -> Array:
        """∂L/∂w = δᵀ a⁽ʰ⁾ (out, in)."""
        return self.delta.T @ self.dz_dw

    @cached_property
    def dL_db(self) -> Array:
        """∂L/∂b = Σₙ δₙ (out,), because ∂z/∂b = 1."""
        return self.delta.sum(axis=0)


def backprop(network: Network, parameters: Arrays, x: Array, target: Array) -> Iterator[Factors]:
    """The factors of every layer, from the output down; without the penalties."""
    activity = forward(network, parameters, x)
    dL_da = network.coefficient * network.loss.gradient(activity.output, target)
    for layer, a_h, z in zip(
        reversed(network.layers), reversed(activity.inputs), reversed(activity.z), strict=True
    ):
        factors = Factors(layer, dL_da, z, a_h)
        yield factors
        dL_da = factors.delta @ parameters[layer.weight]


def gradients(network: Network, parameters: Arrays, x: Array, target: Array) -> dict[str, Array]:
    """∂L/∂ every parameter, penalties included, each in the shape of its parameter."""
    result: dict[str, Array] = {}
    for factors in backprop(network, parameters, x, target):
        result[factors.layer.weight] = factors.dL_dw
        result[factors.layer.bias] = factors.dL_db
    for name in result:
        for penalty, strength in network.penalties_on(name).items():
            result[name] = result[name] + PENALTIES[penalty].derivative(parameters[name], strength)
    return result
