"""Mistakes in attention, recurrent layers, pooling, dropout and normalisation are named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from diagnose.graphs import why_drawn
from diagnose.networks import kinds

from gradcheck_cli.network.composed.attention import MultiheadAttention
from gradcheck_cli.network.composed.nodes import Nodes
from gradcheck_cli.network.composed.recurrent import GruCell, LstmCell, Recurrent, RnnCell
from gradcheck_cli.network.graph import Graph, Node, run
from gradcheck_cli.network.steps.dense import Dense
from gradcheck_cli.network.steps.dropout import Dropout
from gradcheck_cli.network.steps.gates import Multiply
from gradcheck_cli.network.steps.matmul import Matmul
from gradcheck_cli.network.steps.pooling import AvgPool, Mean
from gradcheck_cli.network.steps.rearrange import Reshape, Select
from gradcheck_cli.network.steps.rms_norm import Gain, RootMeanSquare
from gradcheck_cli.network.steps.softmax import Softmax
from gradcheck_cli.problem.problem import Problem, build_problem
from gradcheck_cli.spec.spec import Spec

Array = np.ndarray
Build = Callable[[Nodes, int], int]

TOKENS, WIDTH = 3, 4


def drawn(build: Build, seed: int = 1) -> Problem:
    """Return tokens → first (dense) → what is built → last (dense), on random samples and parameters."""
    nodes: list[Node] = []

    def adds(layer: str) -> Nodes:
        def add(step: Any, *inputs: int, names: Any, symbol: str = "") -> int:
            nodes.append(Node(step, layer, inputs, names, symbol=symbol))
            return len(nodes)

        return Nodes(add, f"{layer}.")

    first, last = adds("first"), adds("last")
    value = build(adds("middle"), first.dense(0, WIDTH, WIDTH, "weight", "bias"))
    shape = Graph(tuple(nodes), (TOKENS, WIDTH)).value_features[value]
    size = int(np.prod(shape))
    last.dense(last.add(Reshape(len(shape), (size,)), value), size, 3, "weight", "bias")
    graph, rng = Graph(tuple(nodes), (TOKENS, WIDTH)), np.random.default_rng(seed)
    spec = {
        "network": {"inputs": 2, "layers": [{"units": 3}], "loss": {"name": "mse", "reduction": "batchmean"}},
        "data": {"synthetic": "normal", "samples": 5, "seed": seed},
    }
    plain = build_problem(Spec.model_validate(spec))
    network = replace(plain.network, graph=graph)
    parameters = {name: rng.normal(size=shape) for name, shape in graph.shapes.items()}
    return replace(plain, network=network, parameters=parameters, x=rng.normal(size=(5, TOKENS, WIDTH)))


Vjp = Callable[..., Any]


def backprop(of: Problem, kind: type | None = None, wrong: Vjp | None = None) -> dict[str, Array]:
    """Return the gradients with `wrong` in place of the `vjp` of every step of a kind."""
    graph, values = of.network.graph, run(of.network.graph, of.parameters, of.x)
    upstream = {len(values) - 1: of.network.coefficient * of.network.loss.gradient(values[-1], of.target)}
    found: dict[str, Array] = {}
    for i in reversed(range(len(graph.nodes))):
        node, inputs = graph.nodes[i], tuple(values[k] for k in graph.nodes[i].inputs)
        shares, own = node.step.vjp(node.own(of.parameters), inputs, values[i + 1], upstream[i + 1])
        if kind is not None and isinstance(node.step, kind) and node.layer == "middle":
            shares = wrong(node.step, inputs, values[i + 1], upstream[i + 1], shares)
        for k, share in zip(node.inputs, shares, strict=True):
            upstream[k] = upstream[k] + share if k in upstream else share
        for name, value in own.items():
            full = node.names[name]
            found[full] = found[full] + value if full in found else value
    return found


def _attention(nodes: Nodes, x: int) -> int:
    return MultiheadAttention(TOKENS, WIDTH, 2, Softmax.causal(TOKENS)).build(nodes, x)


def _recurrent(cell: Any) -> Build:
    return lambda nodes, x: nodes.add(Select(2, 0, -1), Recurrent(cell, TOKENS, WIDTH, 3).build(nodes, x))


def _rms(nodes: Nodes, x: int) -> int:
    return nodes.add_node(
        Gain((WIDTH,)), nodes.add(RootMeanSquare(0.1), x), names={"weight": "middle.weight"}
    )


def _dropout(nodes: Nodes, x: int) -> int:
    return nodes.add(Dropout.drawn((TOKENS, WIDTH), 0.4, 3), x)


def _pool(nodes: Nodes, x: int) -> int:
    return nodes.add(AvgPool((2,), (1,), (0,)), x)


MASK = Dropout.drawn((TOKENS, WIDTH), 0.4, 3).mask


def row_sum(array: Array) -> Array:
    return array.sum(axis=-1, keepdims=True)


def unmasked(z: Array, g: Array) -> Array:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    a = e / row_sum(e)
    return a * (g - row_sum(g * a))


def masked(a: Array, g: Array, k: int) -> Array:
    seen = a * np.tri(TOKENS, k=k)
    return seen * (g - row_sum(g * seen))


def with_next(z: Array, g: Array) -> Array:
    e = np.exp(z) * np.tri(TOKENS, k=1)
    a = e / row_sum(e)
    return a * (g - row_sum(g * a))


def queries_of_queries(s: Matmul, i: Any, g: Array, shares: Any) -> Any:
    return (s.scale * g @ i[0], shares[1]) if s.transposed else shares


def keys_of_keys(s: Matmul, i: Any, g: Array, shares: Any) -> Any:
    return (shares[0], s.scale * np.swapaxes(g, -1, -2) @ i[1]) if s.transposed else shares


def overwritten(x: Array, g: Array) -> Array:
    handed = np.zeros_like(x)
    for j in range(g.shape[-1]):
        handed[..., j] = g[..., j] / 2
        handed[..., j + 1] = g[..., j] / 2
    return handed


MISTAKES: tuple[tuple[str, Build, type, Vjp], ...] = (
    ("softmax's diagonal alone", _attention, Softmax, lambda s, i, a, g, _: (g * a * (1 - a),)),
    ("softmax's sum missing", _attention, Softmax, lambda s, i, a, g, _: (g * a,)),
    ("mask not in backward", _attention, Softmax, lambda s, i, a, g, _: (unmasked(i[0], g),)),
    ("causal mask shifted", _attention, Softmax, lambda s, i, a, g, _: (masked(a, g, -1),)),
    ("causal mask shifted", _attention, Softmax, lambda s, i, a, g, _: (with_next(i[0], g),)),
    (
        "own factor in place of the other",
        _attention,
        Matmul,
        lambda s, i, a, g, shares: queries_of_queries(s, i, g, shares),
    ),
    (
        "own factor in place of the other",
        _attention,
        Matmul,
        lambda s, i, a, g, shares: keys_of_keys(s, i, g, shares),
    ),
    ("dropout: mask drawn again", _dropout, Dropout, lambda s, i, y, g, _: (g * np.roll(MASK, 1, axis=0),)),
    (
        "scale forgotten in backward",
        _attention,
        Matmul,
        lambda s, i, a, g, shares: tuple(share / s.scale for share in shares),
    ),
    (
        "factors swapped",
        _attention,
        Matmul,
        lambda s, i, a, g, shares: shares[::-1] if s.transposed else shares,
    ),
    ("factors swapped", _recurrent(LstmCell()), Multiply, lambda s, i, a, g, _: (g * i[0], g * i[1])),
    (
        "other factor forgotten",
        _recurrent(LstmCell()),
        Multiply,
        lambda s, i, a, g, shares: (shares[0], g),
    ),
    ("factor's gradient lost", _recurrent(GruCell()), Multiply, lambda s, i, a, g, sh: (sh[0], 0 * sh[1])),
    ("rms norm: root held constant", _rms, RootMeanSquare, lambda s, i, y, g, _: (g * y / i[0],)),
    (
        "rms norm: x in place of normalised x",
        _rms,
        RootMeanSquare,
        lambda s, i, y, g, _: (rms_back(i[0], y, g, i[0] / y),),
    ),
    ("rms norm: root's term added", _rms, RootMeanSquare, lambda s, i, y, g, _: (rms_back(i[0], y, g, -1),)),
    (
        "rms norm: divided by the mean square",
        _rms,
        RootMeanSquare,
        lambda s, i, y, g, _: (rms_back(i[0], y, g) * y / i[0],),
    ),
    ("rms norm: weight forgotten", _rms, Gain, lambda s, i, y, g, _: (g,)),
    ("dropout: mask not in backward", _dropout, Dropout, lambda s, i, y, g, _: (g,)),
    ("dropout: mask not in backward", _dropout, Dropout, lambda s, i, y, g, _: (g / 0.6,)),
    ("dropout: another scale", _dropout, Dropout, lambda s, i, y, g, _: (g * (MASK > 0) * 0.6,)),
    ("dropout: another scale", _dropout, Dropout, lambda s, i, y, g, _: (g * (MASK > 0) / 0.4,)),
    ("dropout: mask applied twice", _dropout, Dropout, lambda s, i, y, g, _: (g * MASK**2,)),
    ("dropout: scale forgotten", _dropout, Dropout, lambda s, i, y, g, _: (g * (MASK > 0),)),
    ("average not divided in backward", _pool, AvgPool, lambda s, i, y, g, shares: (2 * shares[0],)),
    ("windows overwritten", _pool, AvgPool, lambda s, i, y, g, _: (overwritten(i[0], g),)),
    (
        "average not divided in backward",
        lambda nodes, x: nodes.add(Mean(2, 0), x),
        Mean,
        lambda s, i, y, g, _: (np.repeat(g[:, None], TOKENS, axis=1),),
    ),
    (
        "gradient to every index",
        _recurrent(RnnCell()),
        Select,
        lambda s, i, y, g, shares: (np.repeat(g[:, None], TOKENS, axis=1),) if s.index == -1 else shares,
    ),
    (
        "gradient not carried back",
        _recurrent(RnnCell()),
        Dense,
        lambda s, i, y, g, shares: dropped(s, i, shares),
    ),
)


def rms_back(x: Array, y: Array, g: Array, factor: Any = 1) -> Array:
    """Return ∂L/∂x of y = x / root over the last axis; `factor` multiplies the term from the root."""
    return (g - factor * y * (g * y).mean(axis=-1, keepdims=True)) * y / x


def dropped(step: Dense, inputs: Any, shares: Any) -> Any:
    """Return no gradient for the state before, which has 3 numbers."""
    return (0 * shares[0],) if step.inputs == 3 else shares


@pytest.mark.parametrize(
    ("kind", "build", "step", "wrong"), MISTAKES, ids=[f"{k}-{n}" for n, (k, *_) in enumerate(MISTAKES)]
)
def test_a_mistake_of_a_step_is_named_first(kind, build, step, wrong):
    of = drawn(build)
    found = why_drawn(of, backprop(of, step, wrong), backprop(of))
    assert kinds(found)[0] == (kind,)
    assert found.answers[0].causes[0].where == ("middle",)
