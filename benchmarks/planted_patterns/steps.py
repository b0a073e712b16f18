"""Gradients that go straight through a staircase, or through a place where the loss is merely flat."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from planted_patterns.case import SHARED, Array, Arrays, Case, W, X, Y, of_code, of_numpy, of_pair


def _stairs(name: str, steps: Callable[[Array], Array], slope: Callable[[Array], Array]) -> Case:
    """Return a dense layer with quantised weights, whose gradient goes straight through with this slope."""

    def loss(p: Arrays) -> float:
        return float(((X @ steps(p["w"]).T + p["b"] - Y) ** 2).sum())

    def gradients(p: Arrays) -> Arrays:
        delta = 2 * (X @ steps(p["w"]).T + p["b"] - Y)
        return {"w": delta.T @ X * slope(p["w"]), "b": delta.sum(axis=0)}

    return of_numpy(name, loss, gradients, dict(SHARED))


def _ones(w: Array) -> Array:
    return np.ones_like(w)


def _heaviside(w: Array) -> Array:
    return (w > 0).astype(float)


def staircases() -> Iterator[Case]:
    yield _stairs("round", np.round, _ones)
    yield _stairs("round to 1/8", lambda w: np.round(8 * w) / 8, _ones)
    yield _stairs("int8", lambda w: np.clip(np.round(40 * w), -128, 127) / 40, _ones)
    yield _stairs("floor", np.floor, _ones)
    yield _stairs("ceil of a third", lambda w: np.ceil(3 * w) / 3, _ones)
    yield _stairs("sign", np.sign, _ones)
    yield _stairs("sign with a clip", np.sign, lambda w: (np.abs(w) <= 1).astype(float))
    yield _stairs("ternary", lambda w: np.sign(w) * (np.abs(w) > 0.4), _ones)
    yield _stairs("spike", _heaviside, lambda w: 1 / (1 + np.abs(5 * w)) ** 2)
    yield of_pair(
        "pair of round",
        lambda x, s: s * np.round(2 * x) / 2,
        lambda d, x, s: (d * s, (d * np.round(2 * x) / 2).sum()),
        {"x": X, "s": np.array(1.5)},
    )
    yield of_pair("pair of sign", lambda x: np.sign(x), lambda d, x: (d,), {"x": W})
    yield from _staircases_of_torch()
    yield from _staircases_of_jax()


def _staircases_of_torch() -> Iterator[Case]:
    import torch

    from gradcheck_cli import check_torch

    class Round(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return (4 * x).round() / 4

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g

    class Quantised(torch.nn.Linear):
        def forward(self, x: Any) -> Any:
            w = self.weight
            return torch.nn.functional.linear(x, w + ((8 * w).round() / 8 - w).detach(), self.bias)

    torch.manual_seed(0)
    x = {"x": torch.tensor(X)}
    yield of_code("torch function", check_torch, Round, x)
    yield of_code("torch detach idiom", check_torch, Quantised(4, 3).double(), x=X)
    fake = partial(
        torch.fake_quantize_per_tensor_affine, scale=0.1, zero_point=0, quant_min=-128, quant_max=127
    )
    yield of_code("torch fake quantize", check_torch, lambda x: fake(x), x)

    def hard(x: Any) -> Any:
        soft = x.softmax(-1)
        one_hot = torch.nn.functional.one_hot(soft.argmax(-1), soft.shape[-1])
        return (one_hot - soft).detach() + soft

    yield of_code("torch hard softmax", check_torch, hard, x)


def _staircases_of_jax() -> Iterator[Case]:
    import jax
    import jax.numpy as jnp

    from gradcheck_cli import check_jax

    @jax.custom_vjp
    def rounded(x: Any) -> Any:
        return jnp.round(3 * x) / 3

    rounded.defvjp(lambda x: (rounded(x), None), lambda _, g: (g,))
    yield of_code("jax custom_vjp", check_jax, lambda p: (rounded(p["x"]) ** 2).sum(), {"x": X})

    def idiom(p: Any) -> Any:
        return ((p["x"] + jax.lax.stop_gradient(jnp.sign(p["x"]) - p["x"])) * X[:1]).sum()

    yield of_code("jax stop_gradient idiom", check_jax, idiom, {"x": X})


def flat_places() -> Iterator[Case]:
    """Yield gradients that are wrong where the loss is flat, although the loss is no staircase."""
    far = {"x": np.sign(X) * (np.abs(X) + 1.5)}
    yield of_numpy(
        "clip without its mask",
        lambda p: float((np.clip(p["x"], -1, 1) ** 2).sum()),
        lambda p: {"x": 2 * np.clip(p["x"], -1, 1)},
        far,
    )
    below = {"x": -0.1 - np.abs(X)}
    yield of_numpy(
        "dead relu without its mask",
        lambda p: float((np.maximum(p["x"], 0) + 1).sum() ** 2),
        lambda p: {"x": np.full_like(p["x"], 48.0)},
        below,
    )
    yield of_numpy(
        "an unused parameter",
        lambda p: float((p["w"] ** 2).sum()),
        lambda p: {"w": 2 * p["w"], "u": np.ones(5)},
        {"w": W, "u": np.ones(5)},
    )
    yield of_numpy(
        "maximum only",
        lambda p: float(p["x"].max() ** 2),
        lambda p: {"x": np.full_like(p["x"], 2 * p["x"].max())},
        {"x": X},
    )
    yield of_numpy(
        "relu6 without its mask",
        lambda p: float((np.clip(p["x"], 0, 6) * np.arange(24.0).reshape(6, 4)).sum()),
        lambda p: {"x": np.arange(24.0).reshape(6, 4)},
        {"x": 3 + 9 * np.sign(X) + X},
    )
    yield of_numpy(
        "hinge without its mask",
        lambda p: float(np.maximum(0, 1 - p["x"]).sum() + 1),
        lambda p: {"x": np.full_like(p["x"], -1.0)},
        {"x": 1.5 + np.abs(X)},
    )
    yield of_numpy(
        "a steep sigmoid",
        lambda p: float((1 / (1 + np.exp(-np.clip(200 * p["x"], -500, 500)))).sum()),
        lambda p: {"x": np.ones_like(p["x"])},
        {"x": np.sign(X) * (np.abs(X) + 0.5)},
    )
    yield of_numpy(
        "a branch on the data",
        lambda p: float((p["x"] ** 2).sum() if p["x"].sum() > 0 else (p["x"] ** 3).sum()),
        lambda p: {"x": 3 * p["x"]},
        {"x": X},
    )
    yield of_numpy(
        "sawtooth",
        lambda p: float(((p["x"] - np.floor(p["x"])) ** 2).sum()),
        lambda p: {"x": 2 * p["x"]},
        {"x": X},
    )
    yield of_numpy(
        "underflow",
        lambda p: float(np.exp(-800 * p["x"] ** 2).sum() + 1),
        lambda p: {"x": np.ones_like(p["x"])},
        {"x": 2 + np.abs(X)},
    )
