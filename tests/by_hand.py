"""A network's forward and backward pass written by hand, with replaceable parts.

The module uses textbook formulas and no code of the package. So planted mistakes have the same effect, and
the same rounding, as in a user's own code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcheck_cli.network.layer import Layer
from gradcheck_cli.problem.problem import Problem, build_problem
from gradcheck_cli.spec.network import LossSpec
from gradcheck_cli.spec.spec import Spec

Array = np.ndarray
Gradients = dict[str, Array]
Options = Mapping[str, Any]


@dataclass(frozen=True)
class Case:
    """A spec and the problem built from it. Whoever writes backprop code for the network knows both."""

    spec: Spec
    problem: Problem

    @classmethod
    def of(cls, spec: Spec) -> Case:
        return cls(spec, build_problem(spec))

    @property
    def layers(self) -> tuple[Layer, ...]:
        return self.problem.network.layers

    @property
    def loss(self) -> LossSpec:
        return self.spec.network.loss

    @property
    def samples(self) -> int:
        return len(self.problem.x)

    @property
    def names(self) -> tuple[str, ...]:
        """The name of every layer's activation. The two formulas of GELU count as two activations."""
        return tuple(
            "gelu_tanh" if layer.activation.options.get("approximate") == "tanh" else layer.activation.name
            for layer in self.spec.network.layers
        )


@dataclass(frozen=True)
class Edit:
    """A replacement for one part of the pass, at one layer or tensor.

    do(pass, at, rng): returns the value of the part, or None if the mistake makes no sense there. rng always
    starts from `seed`, so that a mistake in several layers uses the same random unknown.
    """

    part: str
    at: int | str | None
    do: Callable[..., Any]
    seed: int = 0


# --- the activations ---------------------------------------------------------------------------------------


def sigmoid(z: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-z))


def softmax(z: Array) -> Array:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def cdf(z: Array) -> Array:
    """Return the normal distribution function Φ(z)."""
    return (0.5 * (1.0 + np.vectorize(math.erf, otypes=[float])(z / math.sqrt(2.0)))).astype(z.dtype)


_C, _K = math.sqrt(2.0 / math.pi), 0.044715


def _gelu_tanh_slope(z: Array) -> Array:
    t = np.tanh(_C * (z + _K * z**3))
    return 0.5 * (1.0 + t) + 0.5 * z * (1.0 - t**2) * _C * (1.0 + 3.0 * _K * z**2)


def _elu_slope(z: Array, left: Array) -> Array:
    return np.where(z > 0, 1.0, left).astype(z.dtype)


@dataclass(frozen=True)
class ByHand:
    """An activation by textbook formulas.

    value(z, options): returns φ(z).
    slope(z, a, options): returns φ'(z).
    of_a(a, z, options): returns φ', computed by its formula in terms of a.
    """

    value: Callable[..., Array]
    slope: Callable[..., Array]
    of_a: Callable[..., Array] | None = None


BY_HAND: Mapping[str, ByHand] = {
    "identity": ByHand(lambda z, o: z, lambda z, a, o: np.ones_like(z)),
    "sigmoid": ByHand(lambda z, o: sigmoid(z), lambda z, a, o: a * (1.0 - a), lambda a, z, o: a * (1.0 - a)),
    "tanh": ByHand(lambda z, o: np.tanh(z), lambda z, a, o: 1.0 - a**2, lambda a, z, o: 1.0 - a**2),
    "relu": ByHand(lambda z, o: np.maximum(z, 0.0), lambda z, a, o: (z > 0).astype(z.dtype)),
    "leaky_relu": ByHand(
        lambda z, o: np.where(z > 0, z, o.get("negative_slope", 0.01) * z),
        lambda z, a, o: np.where(z > 0, 1.0, o.get("negative_slope", 0.01)).astype(z.dtype),
    ),
    "elu": ByHand(
        lambda z, o: np.where(z > 0, z, o.get("alpha", 1.0) * np.expm1(np.minimum(z, 0.0))),
        lambda z, a, o: _elu_slope(z, o.get("alpha", 1.0) * np.exp(np.minimum(z, 0.0))),
        lambda a, z, o: _elu_slope(z, a + o.get("alpha", 1.0)),
    ),
    "gelu": ByHand(
        lambda z, o: z * cdf(z),
        lambda z, a, o: cdf(z) + z * np.exp(-0.5 * z**2) / math.sqrt(2.0 * math.pi),
    ),
    "gelu_tanh": ByHand(
        lambda z, o: 0.5 * z * (1.0 + np.tanh(_C * (z + _K * z**3))), lambda z, a, o: _gelu_tanh_slope(z)
    ),
    "silu": ByHand(
        lambda z, o: z * sigmoid(z),
        lambda z, a, o: sigmoid(z) * (1.0 + z * (1.0 - sigmoid(z))),
        lambda a, z, o: sigmoid(z) + a * (1.0 - sigmoid(z)),
    ),
    "softplus": ByHand(
        lambda z, o: np.logaddexp(0.0, z).astype(z.dtype),
        lambda z, a, o: sigmoid(z),
        lambda a, z, o: 1.0 - np.exp(-a),
    ),
}
"""All activations but softmax, which is not a function of a single z."""


# --- the losses --------------------------------------------------------------------------------------------


def margins(a: Array, target: Array, margin: float = 1.0) -> Array:
    """Return 1 for each wrong output that is less than the margin below the labelled output, else 0."""
    labelled = (a * target).sum(axis=1, keepdims=True)
    return ((a - labelled + margin > 0) & (target == 0)).astype(a.dtype)


def huber(a: Array, target: Array, delta: float) -> Array:
    d = a - target
    return np.where(np.abs(d) <= delta, d, delta * np.sign(d))


def hinge(a: Array, target: Array) -> Array:
    over = margins(a, target)
    return over - target * over.sum(axis=1, keepdims=True)


def focal(a: Array, target: Array, alpha: float, gamma: float) -> Array:
    p = sigmoid(a)
    right = np.where(target > 0, p, 1.0 - p)
    weight, sign = np.where(target > 0, alpha, 1.0 - alpha), np.where(target > 0, 1.0, -1.0)
    return weight * sign * (1.0 - right) ** gamma * (gamma * right * np.log(right) - (1.0 - right))


def dice(a: Array, target: Array, smooth: float) -> Array:
    p = sigmoid(a)
    above = 2.0 * (p * target).sum(axis=1, keepdims=True) + smooth
    below = p.sum(axis=1, keepdims=True) + target.sum(axis=1, keepdims=True) + smooth
    return -(2.0 * target * below - above) / below**2 * p * (1.0 - p)


def cosine(a: Array, target: Array) -> Array:
    size, of_target = (np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-8) for v in (a, target))
    inner = (a * target).sum(axis=1, keepdims=True)
    return -(target / (size * of_target) - inner * a / (size**3 * of_target))


def triplet(a: Array, margin: float) -> Array:
    anchor, positive, negative = np.split(a, 3, axis=1)
    to_positive, to_negative = anchor - positive + 1e-6, anchor - negative + 1e-6
    d_positive = np.sqrt((to_positive**2).sum(axis=1, keepdims=True))
    d_negative = np.sqrt((to_negative**2).sum(axis=1, keepdims=True))
    u, v = to_positive / d_positive, to_negative / d_negative
    return np.where(d_positive - d_negative + margin > 0, np.concatenate([u - v, -u, v], axis=1), 0.0)


def contrastive(a: Array, target: Array, margin: float) -> Array:
    one, other = np.split(a, 2, axis=1)
    d = np.sqrt(((one - other) ** 2).sum(axis=1, keepdims=True))
    push = np.maximum(0.0, margin - d) / np.where(d > 0, d, 1.0)
    pull = np.where(target[:, :1] > 0, 2.0, -2.0 * push)
    return np.concatenate([pull * (one - other), pull * (other - one)], axis=1)


def kl_gaussian(a: Array) -> Array:
    mu, logvar = np.split(a, 2, axis=1)
    return np.concatenate([mu, -0.5 * (1.0 - np.exp(logvar))], axis=1)


def multi_margin(a: Array, y: Array, p: int, margin: float) -> Array:
    gradient = np.zeros_like(a)
    for n, (scores, target) in enumerate(zip(a, y, strict=True)):
        label = int(target.argmax())
        for j in range(len(scores)):
            over = margin - scores[label] + scores[j]
            if j != label and over > 0:
                slope = target[label] * p * over ** (p - 1) / len(scores)
                gradient[n, j] += slope
                gradient[n, label] -= slope
    return gradient


def gaussian_nll(a: Array, y: Array, eps: float) -> Array:
    mean, var = np.split(a, 2, axis=1)
    d, v = mean - y[:, : mean.shape[1]], np.maximum(var, eps)
    return np.concatenate([d / v, np.where(var > eps, 0.5 / v - 0.5 * d**2 / v**2, 0.0)], axis=1)


LOSS_GRADIENTS: Mapping[str, Callable[[Array, Array, LossSpec], Array]] = {
    "mse": lambda a, y, loss: 2.0 * (a - y),
    "l1": lambda a, y, loss: np.sign(a - y),
    "huber": lambda a, y, loss: huber(a, y, loss.delta),
    "cross_entropy": lambda a, y, loss: softmax(a) * y.sum(axis=1, keepdims=True) - y,
    "bce_with_logits": lambda a, y, loss: sigmoid(a) - y,
    "hinge": lambda a, y, loss: hinge(a, y),
    "multi_margin": lambda a, y, loss: multi_margin(a, y, loss.p, loss.margin),
    "gaussian_nll": lambda a, y, loss: gaussian_nll(a, y, loss.options["eps"]),
    "dot": lambda a, y, loss: y,
    "nll": lambda a, y, loss: -y,
    "kl_div": lambda a, y, loss: -y,
    "poisson_nll": lambda a, y, loss: np.exp(a) - y,
    "smooth_l1": lambda a, y, loss: huber(a, y, loss.beta) / loss.beta,
    "focal": lambda a, y, loss: focal(a, y, loss.alpha, loss.gamma),
    "dice": lambda a, y, loss: dice(a, y, loss.smooth),
    "cosine": lambda a, y, loss: cosine(a, y),
    "triplet": lambda a, y, loss: triplet(a, loss.margin),
    "contrastive": lambda a, y, loss: contrastive(a, y, loss.margin),
    "kl_gaussian": lambda a, y, loss: kl_gaussian(a),
}


# --- the pass ----------------------------------------------------------------------------------------------


class Pass:
    """One forward and backward pass, with the results of each step.

    a_h, z, z_hat, deviation, y, a, dL_da, dL_dy and delta are mappings by layer; gradients is one by tensor.
    """

    def __init__(self, case: Case, edits: Iterable[Edit] = ()) -> None:
        self.case, self.layers, self.names = case, case.layers, case.names
        self.options = [layer.activation.options for layer in case.spec.network.layers]
        self._edits = {(edit.part, edit.at): edit for edit in edits}
        self.dtype = self.part("precision", None, lambda: np.float64)
        problem = case.problem
        self.x, self.target = problem.x.astype(self.dtype), problem.target.astype(self.dtype)
        self.parameters = {name: value.astype(self.dtype) for name, value in problem.parameters.items()}
        self.dL_da: dict[int, Array] = {}
        self.dL_dy: dict[int, Array] = {}
        self.delta: dict[int, Array] = {}
        self._found: Gradients = {}
        self._forward()
        self._backward()

    def part(self, part: str, at: int | str | None, right: Callable[[], Any]) -> Any:
        edit = self._edits.get((part, at))
        value = None if edit is None else edit.do(self, at, np.random.default_rng(edit.seed))
        return right() if value is None else value

    def w(self, i: int) -> Array:
        return self.parameters[self.layers[i].weight]

    def _forward(self) -> None:
        self.a_h, self.z, self.z_hat, self.deviation, self.y, self.a = [], [], [], [], [], []
        a = self.x
        for i, layer in enumerate(self.layers):
            z = y = a @ self.w(i).T + self.parameters[layer.bias]
            z_hat = deviation = None
            if layer.batch_norm is not None:
                deviation = np.sqrt(z.var(axis=0) + layer.batch_norm)
                z_hat = (z - z.mean(axis=0)) / deviation
                y = self.parameters[layer.gamma] * z_hat + self.parameters[layer.beta]
            self.a_h.append(a)
            a = self.value(i, y)
            for kept, value in ((self.z, z), (self.z_hat, z_hat), (self.deviation, deviation)):
                kept.append(value)
            self.y.append(y)
            self.a.append(a)

    def value(self, i: int, y: Array) -> Array:
        return softmax(y) if self.names[i] == "softmax" else BY_HAND[self.names[i]].value(y, self.options[i])

    def through(self, i: int, y: Array, g: Array) -> Array:
        """Return g · ∂a/∂y, where the activation's derivative is taken at y."""
        a = self.value(i, y)
        if self.names[i] == "softmax":
            return a * (g - (g * a).sum(axis=1, keepdims=True))
        return g * BY_HAND[self.names[i]].slope(y, a, self.options[i])

    def _backward(self) -> None:
        coefficient = self.part("coefficient", None, lambda: float(self.case.problem.network.coefficient))
        loss = self.part("loss", None, self.loss_gradient)
        counted = self.part("samples", None, lambda: np.ones(len(self.x), self.dtype))
        g = coefficient * loss * counted[:, None]
        for i in reversed(range(len(self.layers))):
            self.dL_da[i] = g
            self.dL_dy[i] = self.part("activation", i, lambda i=i: self.through(i, self.y[i], self.dL_da[i]))
            self.delta[i] = self.part("norm", i, lambda i=i: self.unnormalised(i))
            self.delta[i] = self.part("delta", i, lambda i=i: self.delta[i])
            g = self.part("below", i, lambda i=i: self.delta[i] @ self.w(i))
        for name in self.case.problem.network.shapes:
            self.gradient(name)
        self.gradients = {
            name: np.asarray(self.part("result", name, lambda name=name: self._found[name]), np.float64)
            for name in self._found
        }

    def loss_gradient(self) -> Array:
        return LOSS_GRADIENTS[self.case.loss.name](self.a[-1], self.target, self.case.loss)

    def unnormalised(self, i: int) -> Array:
        """Return ∂L/∂z from ∂L/∂y, through batch normalisation if there is any."""
        if self.z_hat[i] is None:
            return self.dL_dy[i]
        g, z_hat = self.parameters[self.layers[i].gamma] * self.dL_dy[i], self.z_hat[i]
        return (g - g.mean(axis=0) - z_hat * (g * z_hat).mean(axis=0)) / self.deviation[i]

    def gradient(self, name: str) -> Array:
        """Return the gradient of one tensor, including its penalty."""
        if name not in self._found:
            self._found[name] = self.data_gradient(name) + self.part(
                "penalty", name, lambda: sum(self.penalties(name).values(), 0.0)
            )
        return self._found[name]

    def data_gradient(self, name: str) -> Array:
        """Return the gradient of one tensor without its penalty."""
        i, part = self.place(name)
        return self.part(part, i, lambda: self.right_gradient(name))

    def place(self, name: str) -> tuple[int, str]:
        layer, part = name.rsplit(".", 1)
        return [each.name for each in self.layers].index(layer), part

    def right_gradient(self, name: str) -> Array:
        """Return the gradient of one tensor that is right for the δ of this pass."""
        i, part = self.place(name)
        if part == "weight":
            return self.delta[i].T @ self.a_h[i]
        if part == "bias":
            return self.delta[i].sum(axis=0)
        return (self.dL_dy[i] * self.z_hat[i] if part == "gamma" else self.dL_dy[i]).sum(axis=0)

    def penalties(self, name: str) -> dict[str, Array]:
        """Return the derivative of every penalty on the tensor, by name."""
        network = self.case.problem.network
        return {
            penalty: penalty_slope(penalty, self.parameters[name], strength)
            for penalty, strength in network.penalties_on(name).items()
        }


def penalty_slope(penalty: str, w: Array, strength: float) -> Array:
    """Return the derivative of a penalty: λw for ½λw², λ sign(w) for λ|w|."""
    return strength * (w if penalty == "l2" else np.sign(w))


def by_hand(case: Case, edits: Iterable[Edit] = ()) -> Gradients:
    """Return the gradients of every parameter, including penalties, from a pass with these parts replaced."""
    with np.errstate(all="ignore"):
        return Pass(case, edits).gradients
