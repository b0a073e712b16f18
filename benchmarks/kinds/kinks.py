"""Functions with kinks: far from them, near them and exactly on them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from kinds.function import Array, Arrays, Draw, Function, normal, one_of, weights, whole

Piecewise = tuple[Callable[[Array], Array], Callable[[Array], Array]]


def _positive(z: Array) -> Array:
    return (z > 0).astype(z.dtype)


PIECEWISE: tuple[Piecewise, ...] = (
    (lambda z: np.maximum(z, 0.0), _positive),
    (lambda z: np.maximum(z, 0.0) + 0.1 * np.minimum(z, 0.0), lambda z: 0.1 + 0.9 * _positive(z)),
    (lambda z: np.minimum(np.maximum(z, 0.0), 1.0), lambda z: _positive(z) * _positive(1.0 - z)),
    (lambda z: np.maximum(np.minimum(0.2 * z + 0.5, 1.0), 0.0), lambda z: 0.2 * _positive(2.5 - np.abs(z))),
    (lambda z: np.abs(z), np.sign),
)
"""relu, leaky relu, relu6, the hard sigmoid and the absolute value, with their derivatives."""

ONE_RELU_SLIPS = (
    "mask forgotten",
    "mask turned round",
    "bias averaged",
    "1/N forgotten",
    "upstream of the layer above",
    "last sample left out",
    "first layer's weights of one sample",
)
RELU_SLIPS = (*ONE_RELU_SLIPS, "mask of the layer below", "mask at the output alone")


def relu(rng: Draw) -> Function:
    """Piecewise linear layers at a random point."""
    widths = [whole(rng, 1, 4) for _ in range(whole(rng, 2, 4))]
    return _relu(rng, widths, whole(rng, 1, 6), one_of(rng, PIECEWISE), 0.4, False)


def dead_relu(rng: Draw) -> Function:
    """relu layers whose biases are all 0, so that every unit of a layer is off for some samples.

    For such a sample, the layers above are exactly on the kink.
    """
    widths = [whole(rng, 1, 3) for _ in range(whole(rng, 3, 4))]
    return _relu(rng, widths, whole(rng, 1, 4), PIECEWISE[0], 0.0, False)


def on_a_kink(rng: Draw) -> Function:
    """One layer of relu or |z|, with samples whose z is exactly 0."""
    return _relu(
        rng, [whole(rng, 1, 4), whole(rng, 1, 3)], whole(rng, 2, 5), PIECEWISE[one_of(rng, (0, 4))], 0.0, True
    )


def _relu(rng: Draw, widths: list[int], n: int, kind: Piecewise, bias: float, zeros: bool) -> Function:
    parameters = {}
    for i, (inputs, outputs) in enumerate(pairwise(widths)):
        parameters[f"w{i}"] = weights(rng, outputs, inputs)
        parameters[f"b{i}"] = normal(rng, outputs, scale=bias)
    x = normal(rng, n, widths[0])
    if zeros:
        x[0] = 0.0
    return Function(
        parameters,
        {"x": x, "y": normal(rng, n, widths[-1])},
        lambda p, d: _relu_forward(p, d, kind[0]),
        lambda p, d, saved, slip: _relu_backward(p, d, saved, slip, kind[1]),
    )


def _relu_forward(p: Arrays, d: Arrays, value: Callable[[Array], Array]) -> tuple[Array, Any]:
    a, z = [d["x"]], []
    for i in range(len(p) // 2):
        z.append(a[i] @ p[f"w{i}"].T + p[f"b{i}"])
        a.append(value(z[i]))
    return ((a[-1] - d["y"]) ** 2).sum(1) / len(a[0]), (a, z)


def _relu_backward(p: Arrays, d: Arrays, saved: Any, slip: str, slope: Callable[[Array], Array]) -> Arrays:
    a, z = saved
    n, top = len(a[0]), len(z) - 1
    delta = 2.0 * (a[-1] - d["y"]) / (1 if slip == "1/N forgotten" else n)
    if slip == "last sample left out":
        delta[-1] = 0.0
    gradients = {}
    for i in reversed(range(len(z))):
        at = z[i - 1] if slip == "mask of the layer below" and i and z[i - 1].shape == z[i].shape else z[i]
        mask = 1.0 - slope(at) if slip == "mask turned round" else slope(at)
        if slip == "mask forgotten" or (slip == "mask at the output alone" and i < top):
            mask = 1.0 + 0.0 * mask
        upstream, delta = delta, delta * mask
        used = upstream if slip == "upstream of the layer above" else delta
        one = slip == "first layer's weights of one sample" and i == 0
        gradients[f"w{i}"] = used[:1].T @ a[i][:1] if one else used.T @ a[i]
        gradients[f"b{i}"] = delta.mean(0) if slip == "bias averaged" else delta.sum(0)
        delta = delta @ p[f"w{i}"]
    return gradients


# --- losses with kinks ------------------------------------------------------------------------------------

HINGE_SLIPS = (
    "margin forgotten",
    "true class forgotten",
    "true class counted once",
    "mask forgotten",
    "1/N forgotten",
    "penalty's sign forgotten",
    "penalty forgotten",
    "bias averaged",
    "samples of the margin left out",
)


def hinge(rng: Draw) -> Function:
    """The multiclass hinge loss with an l1 penalty."""
    n, inputs, classes = whole(rng, 2, 6), whole(rng, 1, 4), whole(rng, 2, 4)
    return Function(
        {"w": weights(rng, classes, inputs), "b": normal(rng, classes, scale=0.3)},
        {"x": normal(rng, n, inputs), "hot": np.eye(classes)[rng.integers(classes, size=n)]},
        _hinge_forward,
        _hinge_backward,
    )


def _hinge_forward(p: Arrays, d: Arrays) -> tuple[Array, Any]:
    scores = d["x"] @ p["w"].T + p["b"]
    true = (scores * d["hot"]).sum(1)[:, None]
    margins = (1.0 - d["hot"]) * np.maximum(scores - true + 1.0, 0.0)
    return (margins.sum(1) + 0.1 * np.abs(p["w"]).sum()) / len(scores), (scores, true)


def _hinge_backward(p: Arrays, d: Arrays, saved: Any, slip: str) -> Arrays:
    scores, true = saved
    margin = {"margin forgotten": 0.0, "mask forgotten": 1e3}.get(slip, 1.0)
    over = (1.0 - d["hot"]) * _positive(scores - true + margin)
    count = over.sum(1)[:, None]
    if slip == "true class counted once":
        count = np.minimum(count, 1.0)
    if slip == "samples of the margin left out":
        over, count = over * (scores > true), (over * (scores > true)).sum(1)[:, None]
    delta = over - (0.0 if slip == "true class forgotten" else d["hot"] * count)
    delta = delta / (1 if slip == "1/N forgotten" else len(scores))
    penalty = {"penalty's sign forgotten": 0.1 * np.abs(p["w"]), "penalty forgotten": 0.0 * p["w"]}
    bias = delta.mean(0) if slip == "bias averaged" else delta.sum(0)
    return {"w": delta.T @ d["x"] + penalty.get(slip, 0.1 * np.sign(p["w"])), "b": bias}


ROBUST_SLIPS = (
    "sign forgotten",
    "error for its sign",
    "sign for the error",
    "width forgotten",
    "quantile forgotten",
    "1/N forgotten",
    "largest forgotten",
    "largest shared",
    "bias averaged",
)


def robust(rng: Draw) -> Function:
    """Absolute, Huber or quantile loss of a linear model, plus the largest weight."""
    n, inputs, outputs = whole(rng, 2, 6), whole(rng, 1, 4), whole(rng, 1, 3)
    losses = one_of(rng, tuple(LOSSES))
    return Function(
        {"w": weights(rng, outputs, inputs), "b": normal(rng, outputs, scale=0.3)},
        {"x": normal(rng, n, inputs), "y": normal(rng, n, outputs)},
        lambda p, d: _robust_forward(p, d, losses),
        lambda p, d, error, slip: _robust_backward(p, d, error, slip, losses),
    )


def _huber(e: Array) -> Array:
    inner = np.minimum(np.abs(e), 0.5)
    return inner * (np.abs(e) - 0.5 * inner)


LOSSES: dict[str, Piecewise] = {
    "absolute": (lambda e: np.abs(e), np.sign),
    "huber": (_huber, lambda e: np.clip(e, -0.5, 0.5)),
    "quantile": (lambda e: np.maximum(0.8 * e, -0.2 * e), lambda e: _positive(e) - 0.2),
}


def _robust_forward(p: Arrays, d: Arrays, losses: str) -> tuple[Array, Any]:
    error = d["x"] @ p["w"].T + p["b"] - d["y"]
    return (LOSSES[losses][0](error).sum(1) + 0.3 * np.abs(p["w"]).max()) / len(error), error


def _robust_backward(p: Arrays, d: Arrays, error: Array, slip: str, losses: str) -> Arrays:
    slope = LOSSES[losses][1](error)
    if slip == "width forgotten" and losses == "huber":
        slope = np.clip(error, -1.0, 1.0)
    if slip == "quantile forgotten" and losses == "quantile":
        slope = 0.5 * np.sign(error)
    slope = {
        "sign forgotten": np.abs(slope),
        "error for its sign": error,
        "sign for the error": np.sign(error),
    }.get(slip, slope)
    delta = slope / (1 if slip == "1/N forgotten" else len(error))
    largest = np.sign(p["w"]) * (np.abs(p["w"]) == np.abs(p["w"]).max())
    if slip == "largest shared":
        largest = np.sign(p["w"]) / p["w"].size
    factor = 0.0 if slip == "largest forgotten" else 0.3
    bias = delta.mean(0) if slip == "bias averaged" else delta.sum(0)
    return {"w": delta.T @ d["x"] + factor * largest.astype(p["w"].dtype), "b": bias}
