"""Recurrent layers, unrolled through time."""

from __future__ import annotations

from typing import Any

import numpy as np

from kinds.dense import sigmoid
from kinds.function import Array, Arrays, Draw, Function, normal, weights, whole

RNN_SLIPS = (
    "nothing from the step after",
    "last step alone",
    "two steps alone",
    "bias of one step",
    "= for += in the recurrent weights",
    "derivative of the state before",
    "recurrent weights transposed",
    "first state's gradient forgotten",
    "recurrent weights with the state after",
    "upstream of the last step alone",
    "derivative applied before the sum",
)


def rnn(rng: Draw) -> Function:
    """tanh units over a few steps, with a loss at every step."""
    n, steps, inputs, units = whole(rng, 1, 3), whole(rng, 2, 5), whole(rng, 1, 3), whole(rng, 1, 4)
    return Function(
        {
            "w": weights(rng, units, inputs),
            "r": weights(rng, units, units),
            "b": normal(rng, units, scale=0.3),
            "h": normal(rng, n, units, scale=0.5),
        },
        {"x": normal(rng, steps, n, inputs), "upstream": normal(rng, steps, n, units)},
        _rnn_forward,
        _rnn_backward,
    )


def _rnn_forward(p: Arrays, d: Arrays) -> tuple[Array, Any]:
    states = [p["h"]]
    for x in d["x"]:
        states.append(np.tanh(x @ p["w"].T + states[-1] @ p["r"].T + p["b"]))
    losses = sum((c * h).sum(1) for c, h in zip(d["upstream"], states[1:], strict=True))
    return losses, states


def _rnn_backward(p: Arrays, d: Arrays, states: Any, slip: str) -> Arrays:
    x, c = d["x"], d["upstream"]
    steps = len(x)
    gradients = {name: np.zeros_like(p[name]) for name in ("w", "r", "b")}
    after = np.zeros_like(p["h"])
    for t in reversed(range(steps)):
        upstream = 0.0 * c[t] if slip == "upstream of the last step alone" and t < steps - 1 else c[t]
        slope = 1.0 - states[t if slip == "derivative of the state before" else t + 1] ** 2
        before_sum = slip == "derivative applied before the sum"
        delta = upstream * slope + after if before_sum else (upstream + after) * slope
        counts = not (
            (slip == "last step alone" and t < steps - 1) or (slip == "two steps alone" and t < steps - 2)
        )
        gradients["w"] += counts * delta.T @ x[t]
        dr = delta.T @ states[t + 1 if slip == "recurrent weights with the state after" else t]
        replaced = slip == "= for += in the recurrent weights"
        gradients["r"] = dr if replaced else gradients["r"] + counts * dr
        gradients["b"] += counts * delta.sum(0) * (t == 0 if slip == "bias of one step" else 1)
        after = delta @ (p["r"].T if slip == "recurrent weights transposed" else p["r"])
        if slip == "nothing from the step after":
            after = 0.0 * after
    return {**gradients, "h": 0.0 * after if slip == "first state's gradient forgotten" else after}


LSTM_SLIPS = (
    "gates in another order",
    "cell not carried on",
    "state not carried on",
    "tanh of the cell forgotten in o",
    "derivative of g forgotten",
    "derivative of the sigmoids forgotten",
    "i takes the cell before",
    "f takes g",
    "cell carried on without f",
    "derivative of tanh of the cell forgotten",
    "bias of one step",
    "= for += in the recurrent weights",
    "derivative of the cell from the step alone",
)


def lstm(rng: Draw) -> Function:
    """An LSTM with gates i, f, g and o, and one weight matrix each for inputs and for states."""
    n, steps, inputs, units = whole(rng, 1, 2), whole(rng, 2, 4), whole(rng, 1, 2), whole(rng, 1, 3)
    return Function(
        {
            "w": weights(rng, 4 * units, inputs),
            "r": weights(rng, 4 * units, units),
            "b": normal(rng, 4 * units, scale=0.3),
        },
        {"x": normal(rng, steps, n, inputs), "upstream": normal(rng, steps, n, units)},
        _lstm_forward,
        _lstm_backward,
    )


def _lstm_forward(p: Arrays, d: Arrays) -> tuple[Array, Any]:
    units = p["r"].shape[1]
    h = c = 0.0 * d["upstream"][0]
    saved, losses = [], 0.0
    for x, upstream in zip(d["x"], d["upstream"], strict=True):
        z = x @ p["w"].T + h @ p["r"].T + p["b"]
        i, f, o = (sigmoid(z[:, k * units : (k + 1) * units]) for k in (0, 1, 3))
        g = np.tanh(z[:, 2 * units : 3 * units])
        before, h_before = c, h
        c = f * c + i * g
        h = o * np.tanh(c)
        saved.append((i, f, g, o, before, c, h_before))
        losses = losses + (upstream * h).sum(1)
    return losses, saved


def _lstm_backward(p: Arrays, d: Arrays, saved: Any, slip: str) -> Arrays:
    gradients = {name: np.zeros_like(value) for name, value in p.items()}
    dh_after = dc_after = 0.0 * d["upstream"][0]
    plain = slip == "derivative of the sigmoids forgotten"
    for t in reversed(range(len(saved))):
        i, f, g, o, before, c, h_before = saved[t]
        tanh_c = np.tanh(c)
        dh = d["upstream"][t] + dh_after
        bend = 1.0 if slip == "derivative of tanh of the cell forgotten" else 1.0 - tanh_c**2
        source = d["upstream"][t] if slip == "derivative of the cell from the step alone" else dh
        dc = source * o * bend + dc_after
        do = dh * (1.0 if slip == "tanh of the cell forgotten in o" else tanh_c)
        di = dc * (before if slip == "i takes the cell before" else g)
        df = dc * (g if slip == "f takes g" else before)
        dg = dc * i * (1.0 if slip == "derivative of g forgotten" else 1.0 - g**2)
        di, df, do = (
            each if plain else each * gate * (1.0 - gate) for each, gate in ((di, i), (df, f), (do, o))
        )
        order = (di, df, do, dg) if slip == "gates in another order" else (di, df, dg, do)
        dz = np.concatenate(order, axis=1)
        gradients["w"] += dz.T @ d["x"][t]
        dr = dz.T @ h_before
        gradients["r"] = dr if slip == "= for += in the recurrent weights" else gradients["r"] + dr
        gradients["b"] += dz.sum(0) * (t == 0 if slip == "bias of one step" else 1)
        dh_after = (0.0 if slip == "state not carried on" else 1.0) * (dz @ p["r"])
        dc_after = (0.0 if slip == "cell not carried on" else 1.0) * dc
        dc_after = dc_after if slip == "cell carried on without f" else dc_after * f
    return gradients


GRU_SLIPS = (
    "reset forgotten in the candidate",
    "update's complement swapped",
    "reset's gradient forgotten",
    "state before not kept",
    "candidate's derivative forgotten",
    "update's derivative forgotten",
    "recurrent weights without reset",
    "bias of one step",
    "nothing from the step after",
)


def gru(rng: Draw) -> Function:
    """A GRU with gates z and r, and a candidate state that r controls."""
    n, steps, inputs, units = whole(rng, 1, 2), whole(rng, 2, 4), whole(rng, 1, 2), whole(rng, 1, 3)
    parameters = {f"w_{gate}": weights(rng, units, inputs) for gate in "zrc"}
    parameters |= {f"r_{gate}": weights(rng, units, units) for gate in "zrc"}
    parameters |= {f"b_{gate}": normal(rng, units, scale=0.3) for gate in "zrc"}
    return Function(
        {**parameters, "h": normal(rng, n, units, scale=0.5)},
        {"x": normal(rng, steps, n, inputs), "upstream": normal(rng, n, units)},
        _gru_forward,
        _gru_backward,
    )


def _gru_forward(p: Arrays, d: Arrays) -> tuple[Array, Any]:
    h, saved = p["h"], []
    for x in d["x"]:
        z, r = (sigmoid(x @ p[f"w_{k}"].T + h @ p[f"r_{k}"].T + p[f"b_{k}"]) for k in "zr")
        c = np.tanh(x @ p["w_c"].T + (r * h) @ p["r_c"].T + p["b_c"])
        saved.append((z, r, c, h))
        h = (1.0 - z) * c + z * h
    return (d["upstream"] * h).sum(1), saved


def _gru_backward(p: Arrays, d: Arrays, saved: Any, slip: str) -> Arrays:
    gradients = {name: np.zeros_like(value) for name, value in p.items()}
    dh = d["upstream"]
    for t in reversed(range(len(saved))):
        z, r, c, h = saved[t]
        share = z if slip == "update's complement swapped" else 1.0 - z
        dc = dh * share * (1.0 if slip == "candidate's derivative forgotten" else 1.0 - c**2)
        dz = dh * (h - c) * (1.0 if slip == "update's derivative forgotten" else z * (1.0 - z))
        through = dc @ p["r_c"]
        dr = (0.0 if slip == "reset's gradient forgotten" else 1.0) * through * h * r * (1.0 - r)
        for gate, delta in zip("zrc", (dz, dr, dc), strict=True):
            bare = gate != "c" or slip == "recurrent weights without reset"
            gradients[f"w_{gate}"] += delta.T @ d["x"][t]
            gradients[f"r_{gate}"] += delta.T @ (h if bare else r * h)
            gradients[f"b_{gate}"] += delta.sum(0) * (t == 0 if slip == "bias of one step" else 1)
        kept = 0.0 * dh if slip == "state before not kept" else dh * z
        reset = through if slip == "reset forgotten in the candidate" else through * r
        dh = kept + reset + dz @ p["r_z"] + dr @ p["r_r"]
        if slip == "nothing from the step after" and t:
            dh = 0.0 * dh
    return {**gradients, "h": dh}
