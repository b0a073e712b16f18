"""Composed layers: their backprop, unit differences and rounding match their forward pass."""

from __future__ import annotations

import numpy as np
import pytest
from layer_graphs import above, graph_of, ours

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.composed.attention import GroupedAttention, MultiheadAttention
from gradcheck_cli.network.composed.gated import Gated
from gradcheck_cli.network.composed.recurrent import CELLS, Recurrent, RnnCell
from gradcheck_cli.network.graph import Graph, Node, heard, run
from gradcheck_cli.network.rounding import backward_errors, forward_errors
from gradcheck_cli.network.step import Upstream
from gradcheck_cli.network.steps.rearrange import Select
from gradcheck_cli.network.steps.rotary import Rotary
from gradcheck_cli.network.steps.softmax import Softmax

SAMPLES, TOKENS = 3, 4
FLOAT32 = Arithmetic.of(np.dtype(np.float32))
CAUSAL = Softmax.causal(TOKENS)
ROTATIONS = (Rotary.of_angles(TOKENS, 2),)

LAYERS = {
    "rnn": (Recurrent(CELLS["rnn"], TOKENS, 2, 3), 2),
    "rnn with relu": (Recurrent(RnnCell("relu"), TOKENS, 2, 3), 2),
    "lstm": (Recurrent(CELLS["lstm"], TOKENS, 2, 3), 2),
    "gru": (Recurrent(CELLS["gru"], TOKENS, 2, 3), 2),
    "lstm, two levels, both ways": (Recurrent(CELLS["lstm"], TOKENS, 2, 2, 2, True), 2),
    "attention": (MultiheadAttention(TOKENS, 4, 2, Softmax.plain()), 4),
    "causal attention": (MultiheadAttention(TOKENS, 4, 2, CAUSAL), 4),
    "grouped attention": (
        GroupedAttention(TOKENS, 4, 2, CAUSAL, 2, rotations=ROTATIONS),
        4,
    ),
    "gated": (Gated(4, 3), 4),
}


@pytest.fixture(params=LAYERS)
def drawn(request):
    """A graph, its parameters, its input and an upstream."""
    layer, width = LAYERS[request.param]
    graph, rng = graph_of(layer, (TOKENS, width)), np.random.default_rng(len(request.param))
    p = {name: rng.normal(size=shape) for name, shape in graph.shapes.items()}
    x = rng.normal(size=(SAMPLES, TOKENS, width))
    return graph, p, x, rng.normal(size=(SAMPLES, *graph.value_features[-1]))


def test_backprop_is_that_of_the_complex_step(drawn):
    graph, p, x, upstream = drawn
    _, _, gradients = ours(graph, p, x, upstream)
    for name, value in p.items():
        for entry in np.random.default_rng(1).integers(0, value.size, 6):
            moved = value.astype(complex)
            moved.flat[entry] += 1e-30j
            slope = (upstream * run(graph, {**p, name: moved}, x)[-1].imag).sum() / 1e-30
            assert gradients[name].flat[entry] == pytest.approx(slope, rel=1e-9, abs=1e-12)


def test_moved_numbers_and_factors_give_the_gradients(drawn):
    """∂L/∂w is the sum over its uses of Jᵀ D, with D from moved outputs of the nodes that use w."""
    graph, p, x, upstream = drawn
    _, _, gradients = ours(graph, p, x, upstream)
    values, found = run(graph, p, x), {}
    for i, node in enumerate(graph.nodes):
        if not node.names:
            continue
        d = differences(graph, p, values, i + 1, upstream)
        for own, name in node.names.items():
            share = node.step.factors(own, tuple(values[k] for k in node.inputs)).sums(d)
            found[name] = found.get(name, 0.0) + share
    assert found.keys() == p.keys()
    for name, gradient in gradients.items():
        np.testing.assert_allclose(found[name], gradient, rtol=1e-6, atol=1e-7)


def differences(graph, p, values, at, upstream):
    """Return ∂L/∂value by central differences, (F, N), each sample moved individually."""
    value, h = values[at], 1e-6
    numbers = value[0].size
    samples = np.repeat(np.arange(SAMPLES), numbers)
    which = np.tile(np.arange(numbers), SAMPLES)
    sides = []
    for by in (h, -h):
        moved = value[samples].copy()
        moved.reshape(len(moved), -1)[np.arange(len(moved)), which] += by
        output = above(graph, p, values, at, moved, samples)
        sides.append((output * upstream[samples]).reshape(len(moved), -1).sum(axis=1))
    return ((sides[0] - sides[1]) / (2 * h)).reshape(SAMPLES, numbers).T


def test_float32_stays_within_the_rounding_bounds(drawn):
    graph, p, x, upstream = drawn
    narrow_p, narrow_x = {n: v.astype(np.float32) for n, v in p.items()}, x.astype(np.float32)
    narrow_upstream = upstream.astype(np.float32)
    p, x = {n: v.astype(float) for n, v in narrow_p.items()}, narrow_x.astype(float)
    upstream = narrow_upstream.astype(float)
    values = run(graph, p, x)
    errors = forward_errors(graph, p, values, FLOAT32)
    zeros = np.zeros(upstream.shape)
    bounds = backward_errors(graph, p, values, errors, Upstream(upstream, zeros, zeros), FLOAT32, True)
    out, _, gradients = ours(graph, p, x, upstream)
    narrow, _, narrow_gradients = ours(graph, narrow_p, narrow_x, narrow_upstream)
    assert narrow.dtype == np.float32
    assert (np.abs(narrow - out) <= 3.0 * errors[-1]).all()
    for name, exact in gradients.items():
        seen, bound = np.abs(narrow_gradients[name] - exact), bounds.gradients[name]
        assert narrow_gradients[name].dtype == np.float32, name
        assert (seen <= 3.0 * bound).all(), name
        assert bound.max() <= 1e4 * seen.max(), name


def test_only_what_can_affect_the_output_is_heard(drawn):
    """The first output of a recurrent or a gated layer does not depend on later tokens."""
    graph, p, x, _ = drawn
    masks = heard(graph, p)
    assert [mask.shape for mask in masks] == list(graph.value_features)
    assert masks[0].all()
    first = Node(Select(2, 0, 0), "first", (len(graph.nodes),), {})
    graph = Graph((*graph.nodes, first), graph.features)
    (unheard,) = np.nonzero(~heard(graph, p)[0].any(axis=1))
    moved = x.copy()
    moved[:, unheard] += 0.5
    np.testing.assert_array_equal(run(graph, p, moved)[-1], run(graph, p, x)[-1])
