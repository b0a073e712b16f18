"""Mistakes in the layers that a spec may have between dense layers are named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from diagnose.graphs import layer_nodes, residual_network, swept, why_drawn
from diagnose.networks import kinds, right, why

from gradcheck_cli.diagnose.variant import Visit
from gradcheck_cli.network.graph import Graph, Node
from gradcheck_cli.network.steps.dense import Dense
from gradcheck_cli.network.steps.embedding import Embedding
from gradcheck_cli.network.steps.max_pool2d import MaxPool2d
from gradcheck_cli.network.steps.normalise import Normalise, Scale
from gradcheck_cli.problem.problem import Problem, build_problem
from gradcheck_cli.spec.spec import Spec

Array = np.ndarray
Part = Callable[..., Array]

EPS = 0.05


def standardised(g: Array, z_hat: Array, deviation: Array, mean: Part) -> Array:
    return (g - mean(g) - z_hat * mean(g * z_hat)) / deviation


# --- layer normalisation -----------------------------------------------------------------------------------


def layer_norm_network() -> Problem:
    """x → first, tanh → layer normalisation with γ and β → last."""
    plain, names = residual_network(), {own: f"last.{own}" for own in ("weight", "bias")}
    scale = {own: f"norm.{own}" for own in ("gamma", "beta")}
    nodes = [
        *layer_nodes("first", 4, 5, value=0),
        Node(Normalise.over_features(EPS, 1), "norm", (2,), {}),
        Node(Scale((5,)), "norm", (3,), scale),
        Node(Dense(5, 3), "last", (4,), names),
    ]
    graph, rng = Graph(tuple(nodes), (4,)), np.random.default_rng(8)
    p = {name: rng.normal(size=shape) for name, shape in graph.shapes.items()}
    return replace(plain, network=replace(plain.network, graph=graph), parameters=p)


def layer_norm_backprop(
    of: Problem,
    into_norm: Part = lambda dL_dy, gamma: dL_dy * gamma,
    norm: Part = standardised,
    gamma: Part = lambda z_hat, z: z_hat,
) -> dict[str, Array]:
    p, x = of.parameters, of.x

    def mean(array: Array) -> Array:
        return array.mean(axis=1, keepdims=True)

    a = np.tanh(x @ p["first.weight"].T + p["first.bias"])
    deviation = np.sqrt(mean((a - mean(a)) ** 2) + EPS)
    z_hat = (a - mean(a)) / deviation
    y = p["norm.gamma"] * z_hat + p["norm.beta"]
    delta = 2 * (y @ p["last.weight"].T + p["last.bias"] - of.target) / len(x)
    dL_dy = delta @ p["last.weight"]
    dL_da = norm(into_norm(dL_dy, p["norm.gamma"]), z_hat, deviation, mean)
    delta1 = dL_da * (1 - a * a)
    return {
        "last.weight": delta.T @ y,
        "last.bias": delta.sum(axis=0),
        "norm.gamma": (dL_dy * gamma(z_hat, a)).sum(axis=0),
        "norm.beta": dL_dy.sum(axis=0),
        "first.weight": delta1.T @ x,
        "first.bias": delta1.sum(axis=0),
    }


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("mean term missing", {"norm": lambda g, h, s, mean: (g - h * mean(g * h)) / s}),
        ("variance term missing", {"norm": lambda g, h, s, mean: (g - mean(g)) / s}),
        ("mean subtracted twice", {"norm": lambda g, h, s, mean: (g - 2 * mean(g) - h * mean(g * h)) / s}),
        ("statistics held constant", {"norm": lambda g, h, s, mean: g / s}),
        (
            "eps forgotten",
            {"norm": lambda g, h, s, mean: standardised(g, h, s, mean) * s / np.sqrt(s**2 - EPS)},
        ),
        ("gamma forgotten", {"into_norm": lambda dL_dy, gamma: dL_dy}),
        ("gamma gradient from z", {"gamma": lambda z_hat, z: z}),
    ],
)
def test_a_mistake_in_layer_normalisation_is_named_first(kind, wrong):
    of = layer_norm_network()
    found = why_drawn(of, layer_norm_backprop(of, **wrong), layer_norm_backprop(of))
    assert kinds(found)[0] == (f"layer norm: {kind}",)
    assert "batch" not in found.answers[0].causes[0].sentence
    assert found.answers[0].causes[0].where == ("norm",)


# --- max pooling and embeddings, from a spec ---------------------------------------------------------------


def pooled_network() -> Problem:
    """A convolution, max pooling with windows that overlap, and a dense layer."""
    layers = [{"conv2d": 2, "kernel": 2, "activation": "tanh"}, {"max_pool2d": 3, "stride": 2}, "flatten"]
    spec = {
        "network": {"inputs": [1, 6, 6], "layers": [*layers, {"units": 3}], "loss": "mse"},
        "parameters": {"init": "xavier", "seed": 2, "bias": "same"},
        "data": {"synthetic": "normal", "samples": 4, "seed": 2},
    }
    return build_problem(Spec.model_validate(spec))


def pooled_down(x: Array, delta: Array, how: str) -> Array:
    """Return ∂L/∂x of max pooling with windows of 3 × 3 and a stride of 2."""
    handed = np.zeros_like(x)
    for n, c, i, j in np.ndindex(*delta.shape):
        window = x[n, c, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
        here = handed[n, c, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
        at = np.unravel_index(window.argmax(), window.shape)
        if how == "right":
            here[at] += delta[n, c, i, j]
        elif how == "every number":
            here += delta[n, c, i, j]
        elif how == "first":
            here[0, 0] += delta[n, c, i, j]
        else:
            here[at] = delta[n, c, i, j]
    return handed


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("gradient to every value in a window", "every number"),
        ("gradient to the first value in a window", "first"),
        ("windows overwritten", "overwritten"),
    ],
)
def test_a_mistake_in_max_pooling_is_named_first(kind, how):
    def wrong(how: str) -> Callable[[Visit], Any]:
        def vjp(visit: Visit) -> Any:
            if not isinstance(visit.step, MaxPool2d):
                return visit.right
            return (pooled_down(visit.inputs[0], visit.upstream, how),), {}

        return vjp

    of = pooled_network()
    for name, gradient in swept(of, wrong("right")).items():
        np.testing.assert_allclose(gradient, right(of)[name], rtol=1e-10)
    assert kinds(why(of, swept(of, wrong(how))))[0] == (kind,)


@pytest.mark.parametrize(
    ("kind", "how"),
    [("repeated tokens counted once", "last"), ("padding row trained", "padding")],
)
def test_a_mistake_in_an_embedding_is_named_first(kind, how):
    rng = np.random.default_rng(4)
    layers = [{"embedding": 5, "embedding_dim": 3, "padding_idx": 0}, "flatten", {"units": 2}]
    x = [[0, 2, 2, 4], [1, 1, 3, 0], [2, 3, 4, 4]]
    spec = {
        "network": {"inputs": [4], "layers": layers, "loss": "mse"},
        "parameters": {"init": "xavier", "seed": 2, "bias": "same"},
        "data": {"x": x, "y": rng.normal(size=(3, 2)).tolist()},
    }
    of = build_problem(Spec.model_validate(spec))

    def vjp(visit: Visit) -> Any:
        if not isinstance(visit.step, Embedding):
            return visit.right
        weight = np.zeros((5, 3))
        for token, delta in zip(np.ravel(x), visit.upstream.reshape(-1, 3), strict=True):
            if token or how == "padding":
                weight[token] = delta + (weight[token] if how == "padding" else 0)
        return visit.right[0], {"weight": weight}

    found = why(of, swept(of, vjp))
    assert kinds(found)[0] == (kind,)
