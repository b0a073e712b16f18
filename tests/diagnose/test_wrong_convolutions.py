"""Mistakes in a convolution's backward pass that is written as loops are named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from diagnose.networks import CONVOLUTIONS, compared, kinds, problem, right, why
from random_networks import random_convolutions
from shares import first

from gradcheck_cli.diagnose.wrong_convolutions import CONVOLUTION_MISTAKES
from gradcheck_cli.mutate.plant import planted
from gradcheck_cli.problem.problem import Problem, build_problem
from gradcheck_cli.spec.spec import Spec

Array = np.ndarray
Part = Callable[..., Array]


# --- a convolution by hand, for kernels of 3 × 3 and a padding of 1 ----------------------------------------


def padded(x: Array) -> Array:
    return np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))


def convolve(x: Array, w: Array, b: Array, stride: int) -> Array:
    x, size = padded(x), (x.shape[2] - 1) // stride + 1
    z = np.empty((len(x), len(w), size, size))
    for n, o, i, j in np.ndindex(z.shape):
        window = x[n, :, stride * i : stride * i + 3, stride * j : stride * j + 3]
        z[n, o, i, j] = (window * w[o]).sum() + b[o]
    return z


def spread(delta: Array, w: Array, x: Array, stride: int) -> Array:
    """∂L/∂ the padded input."""
    total = np.zeros_like(padded(x))
    for n, o, i, j in np.ndindex(delta.shape):
        total[n, :, stride * i : stride * i + 3, stride * j : stride * j + 3] += delta[n, o, i, j] * w[o]
    return total


def below(delta: Array, w: Array, x: Array, stride: int) -> Array:
    return spread(delta, w, x, stride)[:, :, 1:-1, 1:-1]


def weight(delta: Array, x: Array, stride: int) -> Array:
    x, total = padded(x), np.zeros((delta.shape[1], x.shape[1], 3, 3))
    for n, o, i, j in np.ndindex(delta.shape):
        window = x[n, :, stride * i : stride * i + 3, stride * j : stride * j + 3]
        total[o] += delta[n, o, i, j] * window
    return total


def bias(delta: Array) -> Array:
    return delta.sum(axis=(0, 2, 3))


RIGHT: Mapping[str, Part] = {"below": below, "weight": weight, "bias": bias}


def backprop(of: Problem, mistake: Mapping[str, Part], layer: str) -> dict[str, Array]:
    """Return the gradients with these parts replaced in this layer."""
    p = of.parameters
    strides = {"hidden1": 1, "hidden2": 2}
    w, b = ({name: p[f"{name}.{kind}"] for name in strides} for kind in ("weight", "bias"))
    a1 = np.tanh(convolve(of.x, w["hidden1"], b["hidden1"], 1))
    a2 = np.tanh(convolve(a1, w["hidden2"], b["hidden2"], 2))
    flat = a2.reshape(len(of.x), -1)
    delta = 2 * (flat @ p["output.weight"].T + p["output.bias"] - of.target) / len(of.x)
    gradients = {"output.weight": delta.T @ flat, "output.bias": delta.sum(axis=0)}
    dL_da = (delta @ p["output.weight"]).reshape(a2.shape)
    for name, x, a in (("hidden2", a1, a2), ("hidden1", of.x, a1)):
        parts = {**RIGHT, **(mistake if name == layer else {})}
        delta = dL_da * (1 - a**2)
        gradients[f"{name}.weight"] = parts["weight"](delta, x, strides[name])
        gradients[f"{name}.bias"] = parts["bias"](delta)
        dL_da = parts["below"](delta, w[name], x, strides[name])
    return {name: gradients[name] for name in of.network.shapes}


# --- the mistakes ------------------------------------------------------------------------------------------


def _turned(w: Array) -> Array:
    return np.rot90(w, 2, axes=(2, 3))


def _packed(delta: Array, w: Array, x: Array, stride: int) -> Array:
    image = np.zeros_like(x)
    size = delta.shape[2]
    image[:, :, :size, :size] = below(delta, w, x[:, :, :size, :size], 1)
    return image


BELOW: tuple[tuple[str, Part], ...] = (
    ("kernel not rotated", lambda delta, w, x, stride: below(delta, _turned(w), x, stride)),
    ("padding not cut off", lambda delta, w, x, stride: spread(delta, w, x, stride)[:, :, :-2, :-2]),
    ("stride forgotten on the way down", lambda delta, w, x, stride: below(delta, w, x, 1)),
    ("stride forgotten on the way down", _packed),
)

OWN: tuple[tuple[str, str, dict[str, Part]], ...] = (
    *(
        (name, "kernel's gradient rotated", {"weight": lambda *given: _turned(weight(*given))})
        for name in ("hidden1", "hidden2")
    ),
    *(
        (name, kind, {"bias": part})
        for name in ("hidden1", "hidden2")
        for kind, part in (
            ("bias averaged over positions", lambda delta: delta.mean(axis=(2, 3)).sum(axis=0)),
            ("bias gradient from one position", lambda delta: delta[:, :, 0, 0].sum(axis=0)),
            ("bias gradient from one position", lambda delta: delta[:, :, -1, -1].sum(axis=0)),
            ("bias summed over the wrong axes", lambda delta: delta.sum(axis=(0, 1, 2))),
            ("bias summed over the wrong axes", lambda delta: delta.sum(axis=(0, 1, 3))),
        )
    ),
    ("hidden1", "bias summed over the wrong axes", {"bias": lambda delta: delta.sum(axis=(1, 2, 3))}),
)

OF_TWO = CONVOLUTIONS["stride 2"]


def test_the_backprop_by_hand_is_right():
    for name, gradient in backprop(OF_TWO, {}, "").items():
        np.testing.assert_allclose(gradient, right(OF_TWO)[name], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(
    ("layer", "kind", "mistake"),
    [*OWN, *(("hidden2", kind, {"below": part}) for kind, part in BELOW)],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_mistake_of_a_convolution_is_named_first(layer, kind, mistake):
    found = why(OF_TWO, backprop(OF_TWO, mistake, layer))
    assert kinds(found)[0] == (kind,)
    assert found.answers[0].causes[0].where == (layer,)


@pytest.mark.parametrize("seed", first(3, range(10)))
def test_a_mistake_planted_in_random_convolutions_is_named(seed):
    raw = random_convolutions(seed)
    for layer in raw["network"]["layers"]:
        if "conv2d" in layer:
            layer["groups"] = 1
    of = build_problem(Spec.model_validate(raw))
    every = [
        (plant, {name: plant.gradients[name] for name in of.network.shapes})
        for plant in planted(of, CONVOLUTION_MISTAKES)
    ]
    visible = [(plant, g) for plant, g in every if any(each.wrong.any() for each in compared(of, g))]
    assert visible
    for plant, g in visible:
        said = [each[0] for each in kinds(why(of, g)) if len(each) == 1]
        assert plant.wrong.is_said_by(said), (plant.wrong.kind, plant.where, said)


def _convolution(**options: Any) -> Problem:
    layers = [{"conv2d": 2, "activation": "tanh", **options} for _ in range(2)]
    spec = {
        "network": {"inputs": [2, 5, 5], "layers": [*layers, "flatten", {"units": 2}], "loss": "mse"},
        "parameters": {"init": "xavier", "bias": "same"},
        "data": {"synthetic": "normal", "samples": 3},
    }
    return build_problem(Spec.model_validate(spec))


@pytest.mark.parametrize(
    ("options", "absent"),
    [
        ({"kernel": 1}, {"kernel not rotated", "kernel's gradient rotated"}),
        ({"kernel": 3}, {"padding not cut off", "stride forgotten on the way down"}),
        ({"kernel": 3, "padding": 1}, {"stride forgotten on the way down"}),
        ({"kernel": 2, "stride": 2}, {"padding not cut off"}),
    ],
)
def test_a_mistake_needs_a_convolution_for_which_it_makes_a_difference(options, absent):
    found = {plant.wrong.kind for plant in planted(_convolution(**options), CONVOLUTION_MISTAKES)}
    assert found
    assert not found & absent


def test_a_dense_layer_has_no_mistake_of_a_convolution():
    assert not list(planted(problem("tanh", "tanh", "identity"), CONVOLUTION_MISTAKES))
