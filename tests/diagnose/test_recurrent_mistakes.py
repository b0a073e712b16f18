"""Mistakes in the loop of a recurrent layer's handwritten backprop are named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from diagnose.graphs import why_drawn
from diagnose.networks import kinds, right
from diagnose.test_step_mistakes import TOKENS, WIDTH, backprop, drawn

from gradcheck_cli.diagnose.graph_search import _ENOUGH
from gradcheck_cli.network.composed.recurrent import GruCell, LstmCell, Recurrent
from gradcheck_cli.network.steps.rearrange import Select
from gradcheck_cli.problem.problem import Problem

Array = np.ndarray
Part = Callable[..., Any]
Gradients = dict[str, Array]

HIDDEN = 3


def recurrent(cell: Any) -> Problem:
    def build(nodes: Any, x: int) -> int:
        return nodes.add(Select(2, 0, -1), Recurrent(cell, TOKENS, WIDTH, HIDDEN).build(nodes, x))

    return drawn(build)


LSTM, GRU = recurrent(LstmCell()), recurrent(GruCell())


def sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


def parts(z: Array) -> list[Array]:
    return np.split(z, z.shape[-1] // HIDDEN, axis=-1)


def around(of: Problem, run: Callable[[Array, Mapping[str, Array]], tuple[Array, Part]]) -> Gradients:
    """Return all gradients, given a function that runs the layer and returns h and its backprop."""
    p = of.parameters
    x = of.x @ p["first.weight"].T + p["first.bias"]
    h, back = run(x, {name.removeprefix("middle."): value for name, value in p.items()})
    delta = of.network.coefficient * of.network.loss.gradient(
        h @ p["last.weight"].T + p["last.bias"], of.target
    )
    dx, own = back(delta @ p["last.weight"])
    found = {"last.weight": delta.T @ h, "last.bias": delta.sum(axis=0)}
    found |= {f"middle.{name}": value for name, value in own.items()}
    rows = dx.reshape(-1, WIDTH)
    return found | {"first.weight": rows.T @ of.x.reshape(-1, WIDTH), "first.bias": rows.sum(axis=0)}


def summed(p: Mapping[str, Array], steps: list[tuple[Array, ...]]) -> Gradients:
    """Return the gradients, given x, h, and the gradients of both sums at every step."""
    own = {
        name: np.zeros_like(p[name]) for name in ("weight_ih_l0", "bias_ih_l0", "weight_hh_l0", "bias_hh_l0")
    }
    for x, h, of_x, of_h in steps:
        own["weight_ih_l0"] += of_x.T @ x
        own["bias_ih_l0"] += of_x.sum(axis=0)
        own["weight_hh_l0"] += of_h.T @ h
        own["bias_hh_l0"] += of_h.sum(axis=0)
    return own


RIGHT_LSTM: Mapping[str, Part] = {
    "f": lambda dc, c, f: dc * c * f * (1 - f),
    "o": lambda dh, c, o: dh * np.tanh(c) * o * (1 - o),
    "join": lambda i, f, g, o: np.concatenate([i, f, g, o], axis=1),
    "rows": lambda own: own,
    "carry": lambda dc, f: dc * f,
    "dc": lambda dh, o, c: dh * o * (1 - np.tanh(c) ** 2),
}


def lstm(of: Problem, **wrong: Part) -> Gradients:
    """Return the gradients with these parts replaced."""
    part = {**RIGHT_LSTM, **wrong}

    def run(x: Array, p: Mapping[str, Array]) -> tuple[Array, Part]:
        h = c = np.zeros((len(x), HIDDEN))
        kept = []
        for t in range(TOKENS):
            z = x[:, t] @ p["weight_ih_l0"].T + p["bias_ih_l0"] + h @ p["weight_hh_l0"].T + p["bias_hh_l0"]
            zi, zf, zg, zo = parts(z)
            i, f, g, o = sigmoid(zi), sigmoid(zf), np.tanh(zg), sigmoid(zo)
            new = f * c + i * g
            kept.append((h, c, new, i, f, g, o))
            c, h = new, o * np.tanh(new)

        def back(dh: Array) -> tuple[Array, Gradients]:
            dx, dc, steps = np.zeros_like(x), np.zeros_like(dh), []
            for t in reversed(range(TOKENS)):
                before, c, new, i, f, g, o = kept[t]
                dc = dc + part["dc"](dh, o, new)
                di, dg = dc * g * i * (1 - i), dc * i * (1 - g * g)
                dz = part["join"](di, part["f"](dc, c, f), dg, part["o"](dh, new, o))
                steps.append((x[:, t], before, dz, dz))
                dx[:, t], dh, dc = dz @ p["weight_ih_l0"], dz @ p["weight_hh_l0"], part["carry"](dc, f)
            return dx, part["rows"](summed(p, steps))

        return h, back

    return around(of, run)


RIGHT_GRU: Mapping[str, Part] = {
    "reset": lambda dn, r: dn * r,
    "r": lambda dn, of_h, r: dn * of_h * r * (1 - r),
    "z": lambda dh, h, n, z: dh * (h - n) * z * (1 - z),
    "n": lambda dh, n, z: dh * (1 - z) * (1 - n * n),
    "join": lambda r, z, n: np.concatenate([r, z, n], axis=1),
}


def gru(of: Problem, **wrong: Part) -> Gradients:
    """Return the gradients with these parts replaced."""
    part = {**RIGHT_GRU, **wrong}

    def run(x: Array, p: Mapping[str, Array]) -> tuple[Array, Part]:
        h, kept = np.zeros((len(x), HIDDEN)), []
        for t in range(TOKENS):
            of_x = parts(x[:, t] @ p["weight_ih_l0"].T + p["bias_ih_l0"])
            of_h = parts(h @ p["weight_hh_l0"].T + p["bias_hh_l0"])
            r, z = sigmoid(of_x[0] + of_h[0]), sigmoid(of_x[1] + of_h[1])
            n = np.tanh(of_x[2] + r * of_h[2])
            kept.append((h, of_h[2], r, z, n))
            h = (1 - z) * n + z * h

        def back(dh: Array) -> tuple[Array, Gradients]:
            dx, steps = np.zeros_like(x), []
            for t in reversed(range(TOKENS)):
                before, of_h, r, z, n = kept[t]
                dn, dz = part["n"](dh, n, z), part["z"](dh, before, n, z)
                dr = part["r"](dn, of_h, r)
                to_x, to_h = part["join"](dr, dz, dn), part["join"](dr, dz, part["reset"](dn, r))
                steps.append((x[:, t], before, to_x, to_h))
                dx[:, t], dh = to_x @ p["weight_ih_l0"], to_h @ p["weight_hh_l0"] + dh * z
            return dx, summed(p, steps)

        return h, back

    return around(of, run)


def reordered(own: Gradients) -> Gradients:
    return {
        name: np.concatenate([np.split(value, 4)[k] for k in (1, 0, 2, 3)]) for name, value in own.items()
    }


MISTAKES: tuple[tuple[str, Callable[..., Gradients], Problem, dict[str, Part]], ...] = (
    ("gates in another order", lstm, LSTM, {"join": lambda i, f, g, o: np.concatenate([i, f, o, g], axis=1)}),
    ("gates in another order", lstm, LSTM, {"join": lambda i, f, g, o: np.concatenate([f, i, g, o], axis=1)}),
    ("gates in another order", lstm, LSTM, {"rows": reordered}),
    ("activation derivative missing", lstm, LSTM, {"f": lambda dc, c, f: dc * c}),
    ("activation derivative missing", lstm, LSTM, {"o": lambda dh, c, o: dh * np.tanh(c)}),
    ("activation derivative missing", lstm, LSTM, {"dc": lambda dh, o, c: dh * o}),
    ("other factor forgotten", lstm, LSTM, {"carry": lambda dc, f: dc}),
    ("factor's gradient lost", lstm, LSTM, {"carry": lambda dc, f: 0 * dc}),
    ("gates in another order", gru, GRU, {"join": lambda r, z, n: np.concatenate([z, r, n], axis=1)}),
    ("other factor forgotten", gru, GRU, {"reset": lambda dn, r: dn}),
    ("factor's gradient lost", gru, GRU, {"r": lambda dn, of_h, r: 0 * dn}),
    ("activation derivative missing", gru, GRU, {"n": lambda dh, n, z: dh * (1 - z)}),
    ("complement's sign", gru, GRU, {"z": lambda dh, h, n, z: dh * (h + n) * z * (1 - z)}),
)


@pytest.mark.parametrize(("by_hand", "of"), [(lstm, LSTM), (gru, GRU)], ids=["lstm", "gru"])
def test_the_backprop_by_hand_is_right(by_hand, of):
    exact = backprop(of)
    for name, gradient in by_hand(of).items():
        np.testing.assert_allclose(gradient, exact[name], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize(
    ("kind", "by_hand", "of", "wrong"), MISTAKES, ids=[f"{k}-{n}" for n, (k, *_) in enumerate(MISTAKES)]
)
def test_a_mistake_in_a_loop_over_time_is_named_first(kind, by_hand, of, wrong):
    found = why_drawn(of, by_hand(of, **wrong), backprop(of))
    assert kinds(found)[0] == (kind,)
    assert found.answers[0].causes[0].where == ("middle",)


def test_a_search_that_finds_nothing_has_tried_every_pair_of_mistakes():
    """One sweep for each mistake at each time step would use up all visits at the last steps."""
    rng = np.random.default_rng(0)
    wrong = {
        name: value * rng.normal(1.0, 0.3, value.shape) if "hh" in name else value
        for name, value in right(LSTM).items()
    }
    found = why_drawn(LSTM, wrong, right(LSTM))
    assert not found.answers
    assert 0 < found.tried < _ENOUGH
