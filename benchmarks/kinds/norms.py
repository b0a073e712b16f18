"""Normalisations over the batch, over the units, and over groups of units."""

from __future__ import annotations

from typing import Any

import numpy as np

from kinds.function import Array, Arrays, Draw, Function, chance, normal, one_of, weights, whole

BATCH_NORM_SLIPS = (
    "statistics held constant",
    "mean term forgotten",
    "variance term forgotten",
    "N − 1 for N",
    "gamma forgotten",
    "gamma's gradient without x̂",
    "beta averaged",
    "bias gets the sum of the upstream",
    "variance for the deviation",
    "tanh's derivative forgotten",
    "last sample left out",
)


def batch_norm(rng: Draw) -> Function:
    """A dense layer, batch normalisation and tanh; the layer's bias has no effect."""
    n, inputs, units = whole(rng, 3, 7), whole(rng, 1, 4), whole(rng, 1, 4)
    return Function(
        {
            "w": weights(rng, units, inputs),
            "b": normal(rng, units),
            "gamma": rng.uniform(0.5, 1.5, units),
            "beta": normal(rng, units, scale=0.3),
        },
        {"x": normal(rng, n, inputs), "upstream": normal(rng, n, units)},
        _batch_norm_forward,
        _batch_norm_backward,
    )


def _batch_norm_forward(p: Arrays, d: Arrays) -> tuple[Array, Any]:
    z = d["x"] @ p["w"].T + p["b"]
    centred = z - z.sum(0) / len(z)
    deviation = ((centred**2).sum(0) / len(z) + 1e-5) ** 0.5
    ahead = centred / deviation
    out = np.tanh(p["gamma"] * ahead + p["beta"])
    return (d["upstream"] * out).sum(1), (ahead, deviation, out)


def _batch_norm_backward(p: Arrays, d: Arrays, saved: Any, slip: str) -> Arrays:
    ahead, deviation, out = saved
    n = len(out)
    dy = d["upstream"] * (1.0 if slip == "tanh's derivative forgotten" else 1.0 - out**2)
    if slip == "last sample left out":
        dy[-1] = 0.0
    g = dy if slip == "gamma forgotten" else dy * p["gamma"]
    count = n - 1 if slip == "N − 1 for N" else n
    constant = slip == "statistics held constant"
    mean = 0.0 if constant or slip == "mean term forgotten" else g.sum(0) / count
    bend = 0.0 if constant or slip == "variance term forgotten" else (g * ahead).sum(0) / count
    dz = (g - mean - ahead * bend) / (deviation**2 if slip == "variance for the deviation" else deviation)
    return {
        "w": dz.T @ d["x"],
        "b": dy.sum(0) if slip == "bias gets the sum of the upstream" else dz.sum(0),
        "gamma": dy.sum(0) if slip == "gamma's gradient without x̂" else (dy * ahead).sum(0),
        "beta": dy.mean(0) if slip == "beta averaged" else dy.sum(0),
    }


RMS_NORM_SLIPS = (
    "statistics held constant",
    "deviation term forgotten",
    "gamma applied afterwards",
    "gamma forgotten",
    "gamma's gradient without x̂",
    "m − 1 for m",
    "deviation forgotten",
    "beta of one sample",
    "gamma averaged",
)
LAYER_NORM_SLIPS = (*RMS_NORM_SLIPS, "mean term forgotten")
GROUP_NORM_SLIPS = (*LAYER_NORM_SLIPS, "over all groups")


def layer_norm(rng: Draw) -> Function:
    return _norm(rng, groups=1, centred=True)


def group_norm(rng: Draw) -> Function:
    return _norm(rng, groups=whole(rng, 2, 3), centred=True)


def rms_norm(rng: Draw) -> Function:
    return _norm(rng, groups=1, centred=False)


def _norm(rng: Draw, groups: int, centred: bool) -> Function:
    n, units = whole(rng, 1, 4), groups * whole(rng, 3, 5)
    eps = one_of(rng, (1e-5, 1e-2))
    x = normal(rng, n, units) + (2.0 if chance(rng, 0.3) else 0.0)
    return Function(
        {"x": x, "gamma": rng.uniform(0.5, 1.5, units), "beta": normal(rng, units, scale=0.3)},
        {"upstream": normal(rng, n, units)},
        lambda p, d: _norm_forward(p, d, groups, centred, eps),
        lambda p, d, saved, slip: _norm_backward(p, d, saved, slip, groups, centred),
    )


def _norm_forward(p: Arrays, d: Arrays, groups: int, centred: bool, eps: float) -> tuple[Array, Any]:
    shape = p["x"].shape
    x = p["x"].reshape(len(p["x"]), groups, -1)
    size = x.shape[2]
    if centred:
        x = x - (x.sum(2) / size)[:, :, None]
    deviation = (((x**2).sum(2) / size + eps) ** 0.5)[:, :, None]
    ahead = x / deviation
    out = p["gamma"] * ahead.reshape(shape) + p["beta"]
    return (d["upstream"] * (out + 0.3 * out**2)).sum(1), (ahead, deviation, out)


def _norm_backward(p: Arrays, d: Arrays, saved: Any, slip: str, groups: int, centred: bool) -> Arrays:
    ahead, deviation, out = saved
    dy = d["upstream"] * (1.0 + 0.6 * out)
    late = slip in ("gamma applied afterwards", "gamma forgotten")
    g = (dy if late else dy * p["gamma"]).reshape(ahead.shape)
    size = ahead.shape[2] - (1 if slip == "m − 1 for m" else 0)
    over = (1, 2) if slip == "over all groups" else (2,)
    size = size * (groups if slip == "over all groups" else 1)
    constant = slip == "statistics held constant"
    mean = g.sum(over, keepdims=True) / size if centred else 0.0
    bend = (g * ahead).sum(over, keepdims=True) / size
    dx = g - (0.0 if constant or slip == "mean term forgotten" else mean)
    dx = dx - (0.0 if constant or slip == "deviation term forgotten" else ahead * bend)
    dx = (dx if slip == "deviation forgotten" else dx / deviation).reshape(out.shape)
    flat = ahead.reshape(out.shape)
    share = dy if slip == "gamma's gradient without x̂" else dy * flat
    return {
        "x": dx * p["gamma"] if slip == "gamma applied afterwards" else dx,
        "gamma": share.mean(0) if slip == "gamma averaged" else share.sum(0),
        "beta": dy[0] if slip == "beta of one sample" else dy.sum(0),
    }
