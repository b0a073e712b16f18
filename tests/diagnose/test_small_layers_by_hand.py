"""Mistakes in PReLU, token and position embeddings and joint projections in numpy are named."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from diagnose.alone import alone, exact, why_alone
from diagnose.networks import kinds

from gradcheck_cli.problem.problem import Problem

Array = np.ndarray
Found = dict[str, Array]

PRELU = alone([{"prelu": True, "num_parameters": 3}], 3, 4)
SHARED = alone([{"prelu": True}], 3, 4)


def prelu(
    of: Problem,
    below: Callable[[Array, Array, Array], Array] = lambda g, x, w: np.where(x > 0, g, w * g),
    slope: Callable[[Array, Array], Array] = lambda g, x: g * np.minimum(x, 0),
    channels: slice = slice(None),
) -> Found:
    w, g, x = of.parameters["prelu1.weight"], of.target, of.x
    own = slope(g, x)[:, channels].sum(axis=(0, 2))
    return {
        "prelu1.weight": own if len(w) > 1 else own.sum(keepdims=True),
        "input": below(g, x, w[:, None]),
    }


@pytest.mark.parametrize("of", [PRELU, SHARED], ids=["channels", "shared"])
@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("prelu: slope forgotten", {"below": lambda g, x, w: g}),
        ("prelu: nothing below 0", {"below": lambda g, x, w: g * (x > 0)}),
        ("prelu: slope of leaky relu", {"below": lambda g, x, w: np.where(x > 0, g, 0.01 * g)}),
        ("prelu: slope's gradient above 0", {"slope": lambda g, x: g * x}),
        ("prelu: slope's gradient without x", {"slope": lambda g, x: g * (x <= 0)}),
    ],
)
def test_a_mistake_in_prelu_is_named_first(kind, wrong, of):
    for name, gradient in prelu(of).items():
        np.testing.assert_allclose(gradient, exact(of)[name], rtol=1e-10)
    assert kinds(why_alone(of, prelu(of, **wrong)))[0] == (kind,)


def test_a_shared_slope_of_one_channel_is_named():
    found = why_alone(SHARED, prelu(SHARED, channels=slice(-1, None)))
    assert kinds(found)[0] == ("prelu: slope's gradient from one channel",)


# --- tokens and positions ----------------------------------------------------------------------------------

TOKENS = [[1, 2, 2, 0], [3, 1, 1, 1], [2, 0, 4, 4]]
UPSTREAM = np.random.default_rng(5).normal(size=(3, 4, 3))
EMBEDDED = alone(
    [{"embedding": 5, "embedding_dim": 3, "padding_idx": 0}, "flatten"],
    4,
    x=TOKENS,
    y=UPSTREAM.reshape(3, 12).tolist(),
)
POSITIONS = alone(["positional_embedding"], 4, 3)


def embedded(repeats: bool = True, padding: bool = False) -> Found:
    """Return the gradient of an embedding; without `repeats`, a token counts once in a sample."""
    weight = np.zeros((5, 3))
    for tokens, delta in zip(TOKENS, UPSTREAM, strict=True):
        if repeats:
            for token, one in zip(tokens, delta, strict=True):
                weight[token] += one
        else:
            weight[tokens] += delta
    if not padding:
        weight[0] = 0
    return {"embedding1.weight": weight}


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("repeated tokens counted once", {"repeats": False}),
        ("padding row trained", {"padding": True}),
    ],
)
def test_a_mistake_in_an_embedding_is_named_first(kind, wrong):
    assert np.allclose(embedded()["embedding1.weight"], exact(EMBEDDED)["embedding1.weight"])
    assert kinds(why_alone(EMBEDDED, embedded(**wrong)))[0] == (kind,)


@pytest.mark.parametrize(
    ("kind", "of"),
    [
        ("positions averaged over samples", lambda g: g.mean(axis=0)),
        ("positions' gradient from one sample", lambda g: g[-1]),
        ("positions summed", lambda g: np.tile(g.sum(axis=(0, 1)), (4, 1))),
    ],
)
def test_a_mistake_in_a_positional_embedding_is_named_first(kind, of):
    up = POSITIONS.target
    right = {"positional_embedding1.weight": up.sum(axis=0), "input": up}
    assert all(np.allclose(value, exact(POSITIONS)[name]) for name, value in right.items())
    assert kinds(why_alone(POSITIONS, {**right, "positional_embedding1.weight": of(up)}))[0] == (kind,)


# --- attention ---------------------------------------------------------------------------------------------

WIDTH = 4
ATTENTION = alone([{"attention": 1}], 3, WIDTH)


def attention(of: Problem, joined: tuple[int, int, int] = (0, 1, 2)) -> Found:
    """Return the gradients of attention with one head; its joint projection's parts are in this order."""
    p = {name.removeprefix("attention1."): value for name, value in of.parameters.items()}
    x, up = of.x, of.target
    q, k, v = np.split(x @ p["in_proj_weight"].T + p["in_proj_bias"], 3, axis=2)
    s = q @ k.transpose(0, 2, 1) / WIDTH**0.5
    a = np.exp(s) / np.exp(s).sum(axis=2, keepdims=True)
    o = a @ v
    do = up @ p["out_proj.weight"]
    da, dv = do @ v.transpose(0, 2, 1), a.transpose(0, 2, 1) @ do
    ds = a * (da - (da * a).sum(axis=2, keepdims=True)) / WIDTH**0.5
    parts = ds @ k, ds.transpose(0, 2, 1) @ q, dv
    d = np.concatenate([parts[i] for i in joined], axis=2)
    found = {
        "in_proj_weight": np.einsum("nto,nti->oi", d, x),
        "in_proj_bias": d.sum(axis=(0, 1)),
        "out_proj.weight": np.einsum("nto,nti->oi", up, o),
        "out_proj.bias": up.sum(axis=(0, 1)),
    }
    return {
        **{f"attention1.{name}": value for name, value in found.items()},
        "input": d @ p["in_proj_weight"],
    }


def test_projections_in_another_order_are_named():
    for name, gradient in attention(ATTENTION).items():
        np.testing.assert_allclose(gradient, exact(ATTENTION)[name], rtol=1e-9, atol=1e-12)
    for order in ((0, 2, 1), (1, 2, 0)):
        found = why_alone(ATTENTION, attention(ATTENTION, order))
        assert kinds(found)[0] == ("projections in another order",)


# --- a dense layer above dropout or flatten, and a gated layer ---------------------------------------------

DROPPED = alone([{"dropout": 0.5, "seed": 1}, {"units": 3}], 6)
ROWS = alone([{"units": 3}, "flatten", {"units": 2}], 4, 5)
GATED = alone([{"swiglu": 4, "bias": False}], 5)


def test_a_product_with_the_values_before_dropout_is_named():
    kept = np.random.default_rng(1).random(6) >= 0.5
    x, up, w = DROPPED.x, DROPPED.target, DROPPED.parameters["output.weight"]
    right = {"output.weight": up.T @ (x * kept * 2), "input": up @ w * kept * 2}
    for name, gradient in right.items():
        np.testing.assert_allclose(gradient, exact(DROPPED)[name], rtol=1e-10)
    found = why_alone(DROPPED, {**right, "output.weight": up.T @ x})
    assert kinds(found)[0] == ("dropout: mask not in backward",)
    assert found.answers[0].causes[0].where == ("output",)


def rows_by_hand(order: str) -> Found:
    """Return the gradients of two dense layers; flatten's gradient is reshaped in C or in Fortran order."""
    p, x, up = ROWS.parameters, ROWS.x, ROWS.target
    a = x @ p["hidden1.weight"].T + p["hidden1.bias"]
    back = up @ p["output.weight"]
    delta = np.stack([row.reshape(a.shape[1:], order=order) for row in back])
    return {
        "output.weight": up.T @ a.reshape(len(a), -1),
        "output.bias": up.sum(axis=0),
        "hidden1.weight": np.einsum("nto,nti->oi", delta, x),
        "hidden1.bias": delta.sum(axis=(0, 1)),
        "input": delta @ p["hidden1.weight"],
    }


def test_steps_and_features_in_another_order_are_named():
    for name, gradient in rows_by_hand("C").items():
        np.testing.assert_allclose(gradient, exact(ROWS)[name], rtol=1e-9)
    assert kinds(why_alone(ROWS, rows_by_hand("F")))[0] == ("flattened in another order",)


def gated(factor: Callable[[Array, Array], Array] = lambda z, silu: silu) -> Found:
    """Return the gradients of a SwiGLU layer; `factor` computes the factor of the `up` branch."""
    p = {name.split(".")[1]: value for name, value in GATED.parameters.items()}
    x, up = GATED.x, GATED.target
    z, other = x @ p["gate_proj"].T, x @ p["up_proj"].T
    s = 1 / (1 + np.exp(-z))
    product = up @ p["down_proj"]
    of_up, of_gate = product * factor(z, z * s), product * other * s * (1 + z * (1 - s))
    found = {"gate_proj": of_gate.T @ x, "up_proj": of_up.T @ x, "down_proj": up.T @ (z * s * other)}
    return {f"swiglu1.{name}.weight": value for name, value in found.items()}


def test_a_factor_before_its_activation_is_named():
    for name, gradient in gated().items():
        np.testing.assert_allclose(gradient, exact(GATED)[name], rtol=1e-9)
    assert kinds(why_alone(GATED, gated(lambda z, silu: z)))[0] == ("factor before its activation",)


def test_an_extra_factor_in_the_gradient_of_rms_norms_weight_is_named():
    of = alone([{"rms_norm": True, "eps": 0.1}], 3, 4)
    right = {name: value for name, value in exact(of).items() if name != "input"}
    x_hat = of.x / np.sqrt((of.x**2).mean(axis=2, keepdims=True) + 0.1)
    np.testing.assert_allclose(right["rms_norm1.weight"], (of.target * x_hat).sum(axis=(0, 1)), rtol=1e-10)
    wrong = {name: value * of.parameters[name] for name, value in right.items()}
    assert kinds(why_alone(of, wrong))[0] == ("rms norm: gain's gradient times the gain",)
