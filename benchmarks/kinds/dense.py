"""Dense networks, softmax and cross-entropy, and parameters of very different sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from kinds.function import Array, Arrays, Draw, Function, chance, normal, one_of, weights, whole


@dataclass(frozen=True)
class Activation:
    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]


def sigmoid(z: Array) -> Array:
    return 0.5 * (1.0 + np.tanh(0.5 * z))


SMOOTH = (
    Activation(lambda z: np.tanh(z), lambda z: 1.0 - np.tanh(z) ** 2),
    Activation(sigmoid, lambda z: sigmoid(z) * (1.0 - sigmoid(z))),
    Activation(lambda z: z * sigmoid(z), lambda z: sigmoid(z) * (1.0 + z * (1.0 - sigmoid(z)))),
    Activation(lambda z: np.log(1.0 + np.exp(z)), sigmoid),
    Activation(lambda z: z, lambda z: 1.0 + 0.0 * z),
)

UNPENALISED_SLIPS = (
    "2 forgotten",
    "1/N forgotten",
    "1/N twice",
    "derivative at a instead of z",
    "derivative forgotten at the output",
    "derivative forgotten at the first layer",
    "reshape instead of transpose",
    "bias averaged",
    "bias of one sample",
    "weights of one sample",
    "weights updated first",
    "weights transposed on the way down",
    "upstream of the layer above",
    "last sample left out",
)
DENSE_SLIPS = (*UNPENALISED_SLIPS, "decay forgotten", "decay doubled", "decay of the bias")


def dense(rng: Draw) -> Function:
    """A few dense layers with squared error and sometimes a penalty."""
    return _dense(rng, one_of(rng, (0.0, 0.1)))


def _dense(rng: Draw, decay: float) -> Function:
    n = whole(rng, 1, 6)
    widths = [whole(rng, 1, 5) for _ in range(whole(rng, 2, 4))]
    layers = [one_of(rng, SMOOTH) for _ in widths[1:]]
    return Function(
        _dense_parameters(rng, widths),
        {"x": normal(rng, n, widths[0]), "y": normal(rng, n, widths[-1])},
        lambda p, d: _dense_forward(p, d, layers, decay),
        lambda p, d, saved, slip: _dense_backward(p, d, saved, slip, layers, decay),
    )


def badly_scaled(rng: Draw) -> Function:
    """Weights that are millions of times larger or smaller, with data that compensate for it."""
    function = _dense(rng, decay=0.0)
    inputs = function.parameters["w0"].shape[1]
    scale = 10.0 ** rng.uniform(-6, 6, inputs)
    parameters = {**function.parameters, "w0": function.parameters["w0"] / scale}
    data = {**function.data, "x": function.data["x"] * scale}
    return Function(parameters, data, function.forward, function.backward)


def large_loss(rng: Draw) -> Function:
    """Dense layers plus a constant that is thousands of times larger than the loss."""
    function, constant = dense(rng), 10.0 ** rng.uniform(2, 4)

    def forward(p: Arrays, d: Arrays) -> tuple[Array, Any]:
        losses, saved = function.forward(p, d)
        return losses + constant, saved

    return Function(function.parameters, function.data, forward, function.backward)


def _dense_parameters(rng: Draw, widths: list[int]) -> Arrays:
    parameters = {}
    for i, (inputs, outputs) in enumerate(pairwise(widths)):
        parameters[f"w{i}"] = weights(rng, outputs, inputs)
        parameters[f"b{i}"] = normal(rng, outputs, scale=0.3)
    return parameters


def _dense_forward(p: Arrays, d: Arrays, layers: list[Activation], decay: float) -> tuple[Array, Any]:
    a, z = [d["x"]], []
    for i, layer in enumerate(layers):
        z.append(a[i] @ p[f"w{i}"].T + p[f"b{i}"])
        a.append(layer.value(z[i]))
    n = len(a[0])
    penalty = sum(0.5 * decay * (p[f"w{i}"] ** 2).sum() for i in range(len(layers)))
    return ((a[-1] - d["y"]) ** 2).sum(1) / n + penalty / n, (a, z)


def _dense_backward(
    p: Arrays, d: Arrays, saved: Any, slip: str, layers: list[Activation], decay: float
) -> Arrays:
    a, z = saved
    n, top = len(a[0]), len(layers) - 1
    count = {"1/N forgotten": 1, "1/N twice": n * n}.get(slip, n)
    delta = (1.0 if slip == "2 forgotten" else 2.0) * (a[-1] - d["y"]) / count
    if slip == "last sample left out":
        delta[-1] = 0.0
    gradients = {}
    for i in reversed(range(len(layers))):
        w, b = f"w{i}", f"b{i}"
        slope = layers[i].slope(a[i + 1] if slip == "derivative at a instead of z" else z[i])
        forgotten = (slip == "derivative forgotten at the output" and i == top) or (
            slip == "derivative forgotten at the first layer" and i == 0
        )
        upstream, delta = delta, delta if forgotten else delta * slope
        used = upstream if slip == "upstream of the layer above" else delta
        dw = delta[:1].T @ a[i][:1] if slip == "weights of one sample" else used.T @ a[i]
        if slip == "reshape instead of transpose":
            dw = (a[i].T @ delta).reshape(dw.shape)
        factor = {"decay forgotten": 0.0, "decay doubled": 2.0 * decay}.get(slip, decay)
        gradients[w] = dw + factor * p[w]
        db = {"bias averaged": delta.mean(0), "bias of one sample": delta[0]}.get(slip, delta.sum(0))
        gradients[b] = db + (decay * p[b] if slip == "decay of the bias" else 0.0)
        down = p[w] - 0.1 * dw if slip == "weights updated first" else p[w]
        square = down.shape[0] == down.shape[1]
        delta = delta @ (down.T if square and slip == "weights transposed on the way down" else down)
    return gradients


# --- softmax and cross-entropy ----------------------------------------------------------------------------

ENTROPY_SLIPS = (
    "target not subtracted",
    "1/N forgotten",
    "all samples counted",
    "class weights forgotten",
    "class weight at the wrong end",
    "smoothing forgotten",
    "temperature forgotten",
    "temperature twice",
    "ignored sample counted",
    "softmax over samples",
    "diagonal of the Jacobian alone",
    "softmax's derivative once more",
    "bias averaged",
    "target of the next sample",
)


def cross_entropy(rng: Draw) -> Function:
    """Softmax regression with smoothing, class weights, a temperature and ignored samples."""
    n, inputs, classes = whole(rng, 2, 7), whole(rng, 1, 5), whole(rng, 2, 5)
    smoothing, temperature = one_of(rng, (0.0, 0.1)), one_of(rng, (1.0, 0.5, 2.0))
    hot = np.eye(classes)[rng.integers(classes, size=n)]
    counts = (rng.random(n) < 0.8) * 1.0
    counts[0] = 1.0
    data = {
        "x": normal(rng, n, inputs),
        "q": (1.0 - smoothing) * hot + smoothing / classes,
        "hot": hot,
        "c": rng.uniform(0.5, 2.0, classes) if chance(rng, 0.5) else np.ones(classes),
        "counts": counts,
    }
    return Function(
        {"w": weights(rng, classes, inputs), "b": normal(rng, classes, scale=0.5)},
        data,
        lambda p, d: _entropy_forward(p, d, temperature),
        lambda p, d, saved, slip: _entropy_backward(p, d, saved, slip, temperature),
    )


def _entropy_forward(p: Arrays, d: Arrays, temperature: float) -> tuple[Array, Any]:
    z = (d["x"] @ p["w"].T + p["b"]) / temperature
    z = z - z.max(1)[:, None]
    log_p = z - np.log(np.exp(z).sum(1))[:, None]
    losses = -(d["c"] * d["q"] * log_p).sum(1) * d["counts"] / d["counts"].sum()
    return losses, (z, np.exp(log_p))


def _entropy_backward(p: Arrays, d: Arrays, saved: Any, slip: str, temperature: float) -> Arrays:
    z, s = saved
    if slip == "softmax over samples":
        s = np.exp(z) / np.exp(z).sum(0)
    q, c, counts = d["hot"] if slip == "smoothing forgotten" else d["q"], d["c"], d["counts"]
    if slip == "class weights forgotten":
        c = 1.0 + 0.0 * c
    if slip == "target of the next sample":
        q = np.roll(q, 1, axis=0)
    target = 0.0 * q if slip == "target not subtracted" else c * q
    delta = s * (c * q).sum(1)[:, None] - target
    if slip == "class weight at the wrong end":
        delta = c * (s - q)
    if slip == "diagonal of the Jacobian alone":
        delta = -c * q * (1.0 - s)
    if slip == "softmax's derivative once more":
        delta = delta * s * (1.0 - s)
    used = 1.0 + 0.0 * counts if slip == "ignored sample counted" else counts
    number = {"1/N forgotten": 1.0, "all samples counted": len(q)}.get(slip, counts.sum())
    power = {"temperature forgotten": 0, "temperature twice": 2}.get(slip, 1)
    delta = delta * used[:, None] / number / temperature**power
    bias = delta.mean(0) if slip == "bias averaged" else delta.sum(0)
    return {"w": delta.T @ d["x"], "b": bias}
