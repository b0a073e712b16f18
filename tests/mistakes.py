"""Common mistakes in backprop, planted in described networks to test the tester.

A mistake is a function (problem, right) → the wrong gradients. If the network lacks the part with the
mistake, the function returns the right gradients. The kinds of mistakes come from 108 real bug reports.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.arithmetic import ROUNDING_SAFETY, Arithmetic
from gradcheck_cli.network.functions import sigmoid
from gradcheck_cli.network.layer import Layer
from gradcheck_cli.network.network import forward
from gradcheck_cli.network.penalties import PENALTIES
from gradcheck_cli.network.rounding import gradient_rounding
from gradcheck_cli.problem.problem import Problem

Array = np.ndarray
Gradients = dict[str, Array]
Mistake = Callable[[Problem, Gradients], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Backprop:
    """Backprop split into the parts that people get wrong, each of which can be replaced."""

    loss_gradient: Callable[..., Any] = lambda problem, a: problem.network.loss.gradient(a, problem.target)
    vjp: Callable[..., Any] = lambda layer, y, dL_da, i: layer.activation.vjp(y, dL_da)
    norm_vjp: Callable[..., Any] = lambda z_hat, g: z_hat.vjp(g)
    weight: Callable[..., Any] = lambda delta, a_h, i: delta.T @ a_h
    bias: Callable[..., Any] = lambda delta, i: delta.sum(axis=0)
    below: Callable[..., Any] = lambda delta, w, layer, gradients: delta @ w
    penalty: Callable[..., Any] = lambda name, value, term: value + term

    def __call__(self, problem: Problem) -> Gradients:
        network, parameters = problem.network, problem.parameters
        activity = forward(network, parameters, problem.x)
        dL_da = network.coefficient * self.loss_gradient(problem, activity.output)
        gradients: Gradients = {}
        for i in reversed(range(len(network.layers))):
            layer, z_hat = network.layers[i], activity.normalised[i]
            delta = self.vjp(layer, activity.y[i], dL_da, i)
            if z_hat is not None:
                gradients[layer.gamma] = (delta * z_hat.value).sum(axis=0)
                gradients[layer.beta] = delta.sum(axis=0)
                delta = self.norm_vjp(z_hat, parameters[layer.gamma] * delta)
            gradients[layer.weight] = self.weight(delta, activity.inputs[i], i)
            gradients[layer.bias] = self.bias(delta, i)
            dL_da = self.below(delta, parameters[layer.weight], layer, gradients)
        for name in gradients:
            for penalty, strength in network.penalties_on(name).items():
                term = PENALTIES[penalty].derivative(parameters[name], strength)
                gradients[name] = self.penalty(name, gradients[name], term)
        return gradients


def mistaken(**parts: Callable[..., Any]) -> Mistake:
    """Return backprop with these parts replaced."""
    return lambda problem, right: Backprop(**parts)(problem)


def scaled(factor: Callable[[Problem], float]) -> Mistake:
    return lambda problem, right: {name: value * factor(problem) for name, value in right.items()}


# --- the activation ----------------------------------------------------------------------------------------


def _wrong_formula(layer: Layer, y: np.ndarray, dL_da: np.ndarray, i: int) -> np.ndarray:
    """Return δ with the derivative of a closely related activation."""
    kin = {
        "sigmoid": lambda: dL_da * sigmoid(y),
        "tanh": lambda: dL_da * (1.0 - np.tanh(y)),
        "relu": lambda: dL_da * (y >= -0.1),
        "leaky_relu": lambda: dL_da * (y > 0),
        "elu": lambda: dL_da * np.where(y > 0, 1.0, layer.activation.value(y)),
        "gelu": lambda: dL_da * sigmoid(1.702 * y),
        "silu": lambda: dL_da * sigmoid(y),
        "softplus": lambda: dL_da * sigmoid(-y),
        "softmax": lambda: dL_da * layer.activation.value(y) * (1.0 - layer.activation.value(y)),
        "identity": lambda: dL_da,
    }
    return kin[layer.activation.name]()


def _at_a(layer: Layer, y: np.ndarray, dL_da: np.ndarray, i: int) -> np.ndarray:
    """Return δ with the derivative taken at a instead of z."""
    return layer.activation.vjp(layer.activation.value(y), dL_da)


def _hidden_only(part: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """Return a part that is wrong in the first layer only."""

    def vjp(layer: Layer, y: np.ndarray, dL_da: np.ndarray, i: int) -> np.ndarray:
        return part(layer, y, dL_da, i) if i == 0 else layer.activation.vjp(y, dL_da)

    return vjp


# --- the loss ----------------------------------------------------------------------------------------------


def _another_loss(problem: Problem, a: np.ndarray) -> np.ndarray:
    """Return the gradient of a loss with another convention."""
    right = problem.network.loss.gradient(a, problem.target)
    if (
        problem.network.loss.applies
    ):  # apply the softmax or sigmoid a second time, after the loss has applied it
        e = ACTIVATIONS[problem.network.loss.applies]
        return right if a.shape[1] < 2 else e.value(right + problem.target) - problem.target
    return 0.5 * right


def _sign_of_target(problem: Problem, a: np.ndarray) -> np.ndarray:
    return problem.network.loss.gradient(a, -problem.target)


# --- products and sums -------------------------------------------------------------------------------------


def _transposed(delta: np.ndarray, a_h: np.ndarray, i: int) -> np.ndarray:
    return (a_h.T @ delta).reshape(delta.shape[1], a_h.shape[1])


def _roll_samples(delta: np.ndarray, a_h: np.ndarray, i: int) -> np.ndarray:
    return delta.T @ np.roll(a_h, 1, axis=0)


def _last_sample_lost(delta: np.ndarray, a_h: np.ndarray, i: int) -> np.ndarray:
    return delta[:-1].T @ a_h[:-1]


def _bias_along_the_wrong_axis(delta: np.ndarray, i: int) -> np.ndarray:
    return np.resize(delta.sum(axis=1), delta.shape[1])


def _updated_first(
    delta: np.ndarray, w: np.ndarray, layer: Layer, gradients: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Pass δ down through weights that a step of descent has already changed."""
    return delta @ (w - 0.1 * gradients[layer.weight])


def _one_entry(problem: Problem, right: Gradients) -> Gradients:
    """Change the largest entry of the first layer's weight by a thousandth."""
    name = problem.network.layers[0].weight
    wrong = right[name].copy()
    wrong.flat[np.abs(wrong).argmax()] *= 1.001
    return {**right, name: wrong}


def _zeroed_unit(problem: Problem, right: Gradients) -> Gradients:
    layer = problem.network.layers[0]
    wrong = {name: right[name].copy() for name in (layer.weight, layer.bias)}
    unit = int(np.abs(wrong[layer.weight]).sum(axis=1).argmax())
    wrong[layer.weight][unit] = 0.0
    wrong[layer.bias][unit] = 0.0
    return {**right, **wrong}


def _overflown(problem: Problem, right: Gradients) -> Gradients:
    name = problem.network.output.weight
    wrong = right[name].copy()
    wrong.flat[np.abs(wrong).argmax()] = np.nan
    return {**right, name: wrong}


MISTAKES: Mapping[str, Mistake] = {
    # activation derivative missing, or taken at the wrong point
    "activation derivative missing": mistaken(vjp=lambda layer, y, dL_da, i: dL_da),
    "activation derivative missing below": mistaken(vjp=_hidden_only(lambda layer, y, dL_da, i: dL_da)),
    "activation derivative at a": mistaken(vjp=_at_a),
    # scale and reduction
    "missing 1/N": scaled(lambda problem: float(len(problem.x))),
    "1/N twice": scaled(lambda problem: 1.0 / len(problem.x)),
    "missing 1/C": scaled(lambda problem: float(problem.network.output.units)),
    "factor 2": scaled(lambda problem: 2.0),
    "sign": scaled(lambda problem: -1.0),
    # the activation's formula
    "formula of the activation": mistaken(vjp=_wrong_formula),
    # loss and softmax
    "another loss": mistaken(loss_gradient=_another_loss),
    "sign of the target": mistaken(loss_gradient=_sign_of_target),
    # the bias
    "bias averaged": mistaken(bias=lambda delta, i: delta.mean(axis=0)),
    "bias not summed": mistaken(bias=lambda delta, i: delta[-1]),
    "bias summed along the wrong axis": mistaken(bias=_bias_along_the_wrong_axis),
    # batch normalisation
    "batch norm: mean term missing": mistaken(
        norm_vjp=lambda z_hat, g: (g - z_hat.value * (g * z_hat.value).mean(axis=0)) / z_hat.deviation
    ),
    "batch norm: statistics held constant": mistaken(norm_vjp=lambda z_hat, g: g / z_hat.deviation),
    # overflow
    "overflow": _overflown,
    # the weights updated before the layer below is done
    "weights updated first": mistaken(below=_updated_first),
    # transposed
    "transposed product": mistaken(weight=_transposed),
    # the penalty
    "penalty forgotten": mistaken(penalty=lambda name, value, term: value),
    "penalty doubled": mistaken(penalty=lambda name, value, term: value + 2.0 * term),
    # a wrong tensor or index
    "samples out of order": mistaken(weight=_roll_samples),
    "last sample lost": mistaken(weight=_last_sample_lost),
    "one entry": _one_entry,
    "a unit zeroed": _zeroed_unit,
    # accumulated
    "accumulated 3 times": scaled(lambda problem: 3.0),
}


def effect(wrong: Mapping[str, np.ndarray], right: Mapping[str, np.ndarray]) -> float:
    """Return the largest change of any tensor, relative to that tensor's largest entry."""
    with np.errstate(invalid="ignore", over="ignore"):
        changes = [
            float(np.abs(wrong[name] - right[name]).max() / max(np.abs(right[name]).max(), 1e-300))
            for name in right
        ]
    return float("inf") if any(np.isnan(changes)) else max(changes)


def conventions(problem: Problem) -> list[Gradients]:
    """Return the gradients under every usual choice of a derivative at a kink."""
    loss, results = problem.network.loss, []
    for right in (0.0, 0.5, 1.0):
        for sign in (-1.0, 0.0, 1.0):

            def vjp(layer: Layer, y: Array, dL_da: Array, i: int, right: float = right) -> Array:
                if layer.activation.pieces is None:
                    return layer.activation.vjp(y, dL_da)
                tiny = 1e-300
                sides = [layer.activation.derivative(np.where(y == 0, side, y)) for side in (-tiny, tiny)]
                return dL_da * ((1.0 - right) * sides[0] + right * sides[1])

            def loss_gradient(problem: Problem, a: Array, sign: float = sign) -> Array:
                nudge = 1e-13 * sign * (np.abs(a) + np.abs(problem.target) + 1.0)
                return (
                    loss.gradient(a + nudge, problem.target)
                    if loss.pieces
                    else loss.gradient(a, problem.target)
                )

            results.append(Backprop(vjp=vjp, loss_gradient=loss_gradient)(problem))
    return results


VISIBLE = 1e-5
"""A mistake that changes no tensor by more than this, relative to its largest entry, does not count.

A mistake that rounding hides does not count either: no check may blame it, since rounding may change a right
    gradient as much.
"""


class Excuses:
    """Reasons why no check of this problem may call certain wrong gradients wrong.

    right: the right gradients, computed in the dtype of the problem.
    """

    def __init__(self, problem: Problem, right: Gradients) -> None:
        with np.errstate(all="ignore"):
            bounds = gradient_rounding(
                problem.network,
                problem.parameters,
                problem.x,
                problem.target,
                Arithmetic.of(problem.dtype),
            )
        self._right, self._usual = right, conventions(problem)
        self._hidden = {name: 2 * ROUNDING_SAFETY * bound for name, bound in bounds.items()}

    def of(self, wrong: Gradients) -> str:
        """Return the excuse, or nothing if the gradients must be called wrong."""
        right = self._right
        if not effect(wrong, right) > VISIBLE:
            return "invisible"
        if all((np.abs(wrong[name] - right[name]) <= self._hidden[name]).all() for name in right):
            return "hidden by rounding"
        return "a usual convention" if is_among(self._usual, wrong) else ""


def is_among(usual: list[Gradients], a: Gradients) -> bool:
    """Return whether every entry equals that of one of these gradients."""
    return all(
        np.any([np.abs(each[name] - a[name]) <= 1e-6 * np.abs(a[name]) for each in usual], axis=0).all()
        for name in a
    )
