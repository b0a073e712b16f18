"""A dense network: its forward pass, and backprop by the chain rule, factor by factor.

For a layer z = a⁽ʰ⁾ wᵀ + b with a = φ(z), a⁽ʰ⁾ (N, in), w (out, in), b (out,):

    ∂L/∂w = ∂L/∂a · ∂a/∂z · ∂z/∂w = δᵀ a⁽ʰ⁾      because ∂z/∂w = a⁽ʰ⁾
    ∂L/∂b = ∂L/∂a · ∂a/∂z · ∂z/∂b = Σₙ δₙ          because ∂z/∂b = 1

With batch normalisation, y = γ ẑ(z) + β comes between z and the activation: a = φ(y).

After Raschka, Liu and Mirjalili, Machine Learning with PyTorch and Scikit-Learn (2022), ch. 11.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from gradcheck_cli.model.activations import Activation
from gradcheck_cli.model.batch_norm import Normalised, normalise
from gradcheck_cli.model.losses import Loss
from gradcheck_cli.model.penalties import PENALTIES
from gradcheck_cli.model.special import Array

Arrays = Mapping[str, Array]


@dataclass(frozen=True)
class Layer:
    """A dense layer with parameters `<name>.weight` (units, inputs) and `<name>.bias` (units,).

    batch_norm: the eps of its batch normalisation, or None. With it, the layer also has `<name>.gamma` and
    `<name>.beta` (units,).
    """

    name: str
    inputs: int
    units: int
    activation: Activation
    activation_name: str
    batch_norm: float | None = None

    @property
    def weight(self) -> str:
        return f"{self.name}.weight"

    @property
    def bias(self) -> str:
        return f"{self.name}.bias"

    @property
    def gamma(self) -> str:
        return f"{self.name}.gamma"

    @property
    def beta(self) -> str:
        return f"{self.name}.beta"

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of each of the layer's parameters."""
        shapes: dict[str, tuple[int, ...]] = {
            self.weight: (self.units, self.inputs),
            self.bias: (self.units,),
        }
        if self.batch_norm is not None:
            shapes |= {self.gamma: (self.units,), self.beta: (self.units,)}
        return shapes


@dataclass(frozen=True)
class Network:
    """A network: layers from the input up, a loss per sample times a coefficient, and penalties.

    L = coefficient · Σₙ ℓ(aₙ, targetₙ) + Σ penalty(λ)(w) over the weights, and over the biases if asked.
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
        """The shape of every parameter, the output layer's first, which is the order of every table."""
        return {name: shape for layer in reversed(self.layers) for name, shape in layer.shapes.items()}

    def penalties_on(self, name: str) -> Mapping[str, float]:
        """Return the strengths of the penalties on parameter `name`, by penalty; γ and β count as biases."""
        return self.penalties if self.penalize_biases or name.endswith(".weight") else {}


@dataclass(frozen=True)
class Activity:
    """The results of a forward pass, one tuple entry per layer.

    inputs: a⁽ʰ⁾, the layer's input (N, in).
    z: a⁽ʰ⁾ wᵀ + b (N, out).
    normalised: ẑ, if the layer has batch normalisation.
    y: the input of the activation (N, out): z itself, or γ ẑ + β.
    output: the last layer's activation (N, C).
    """

    inputs: tuple[Array, ...]
    z: tuple[Array, ...]
    normalised: tuple[Normalised | None, ...]
    y: tuple[Array, ...]
    output: Array


def forward(network: Network, parameters: Arrays, x: Array) -> Activity:
    """Feed x (N, in) through every layer."""
    inputs, affine, normalised, pre_activations = [], [], [], []
    a = x
    for layer in network.layers:
        inputs.append(a)
        z = a @ parameters[layer.weight].T + parameters[layer.bias]
        z_hat = None if layer.batch_norm is None else normalise(z, layer.batch_norm)
        y = z if z_hat is None else scaled(layer, parameters, z_hat)
        affine.append(z)
        normalised.append(z_hat)
        pre_activations.append(y)
        a = layer.activation.value(y)
    return Activity(tuple(inputs), tuple(affine), tuple(normalised), tuple(pre_activations), a)


def scaled(layer: Layer, parameters: Arrays, z_hat: Normalised) -> Array:
    """Return y = γ ẑ + β."""
    y: Array = parameters[layer.gamma] * z_hat.value + parameters[layer.beta]
    return y


def sample_losses(network: Network, output: Array, target: Array) -> Array:
    """Return the term that each sample adds to L, coefficient included: (…, N) for an output (…, N, C)."""
    return network.coefficient * network.loss.value(output, target)


@dataclass(frozen=True)
class Factors:
    """The chain rule of one dense layer, factor by factor.

    dL_da: ∂L/∂a (N, out).
    y: where ∂a/∂y is evaluated (N, out); this is z without batch normalisation.
    dz_dw: ∂z/∂w = a⁽ʰ⁾ (N, in).
    normalised, gamma: ẑ and γ of a layer with batch normalisation.
    """

    layer: Layer
    dL_da: Array
    y: Array
    dz_dw: Array
    normalised: Normalised | None = None
    gamma: Array | None = None

    @cached_property
    def da_dz(self) -> Array:
        """The factor ∂a/∂z = φ'(z) (N, out), or a coupled activation's Jacobian (N, out, out).

        With batch normalisation it is ∂a/∂y.
        """
        return self.layer.activation.derivative(self.y)

    @cached_property
    def dL_dy(self) -> Array:
        """The product ∂L/∂y = ∂L/∂a · ∂a/∂y (N, out)."""
        return self.layer.activation.vjp(self.y, self.dL_da)

    @cached_property
    def delta(self) -> Array:
        """The error signal δ = ∂L/∂z (N, out): ∂L/∂a · ∂a/∂z, passed through batch normalisation if any."""
        return self.dL_dy if self.normalised is None else self.normalised.vjp(self.gamma * self.dL_dy)

    @cached_property
    def dL_dw(self) -> Array:
        """The weight gradient ∂L/∂w = δᵀ a⁽ʰ⁾ (out, in)."""
        return self.delta.T @ self.dz_dw

    @cached_property
    def dL_db(self) -> Array:
        """The bias gradient ∂L/∂b = Σₙ δₙ (out,), because ∂z/∂b = 1."""
        return self.delta.sum(axis=0)

    def gradients(self) -> dict[str, Array]:
        """Return the gradient of every parameter of the layer, by name."""
        result = {self.layer.weight: self.dL_dw, self.layer.bias: self.dL_db}
        if self.normalised is not None:
            result[self.layer.gamma] = (self.dL_dy * self.normalised.value).sum(axis=0)
            result[self.layer.beta] = self.dL_dy.sum(axis=0)
        return result


def backprop(network: Network, parameters: Arrays, x: Array, target: Array) -> Iterator[Factors]:
    """Yield the factors of every layer, from the output down, without the penalties."""
    activity = forward(network, parameters, x)
    dL_da = network.coefficient * network.loss.gradient(activity.output, target)
    for i in reversed(range(len(network.layers))):
        layer = network.layers[i]
        gamma = parameters.get(layer.gamma)
        factors = Factors(layer, dL_da, activity.y[i], activity.inputs[i], activity.normalised[i], gamma)
        yield factors
        dL_da = factors.delta @ parameters[layer.weight]


def gradients(network: Network, parameters: Arrays, x: Array, target: Array) -> dict[str, Array]:
    """Return ∂L/∂θ for every parameter θ, penalties included, each in the shape of its parameter."""
    result: dict[str, Array] = {}
    for factors in backprop(network, parameters, x, target):
        result |= factors.gradients()
    for name in result:
        for penalty, strength in network.penalties_on(name).items():
            result[name] = result[name] + PENALTIES[penalty].derivative(parameters[name], strength)
    return result
