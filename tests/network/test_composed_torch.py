"""Composed layers match torch: outputs and all gradients, for random sizes and options."""

from __future__ import annotations

import numpy as np
import pytest
from layer_graphs import graph_of, ours
from step_kinds import Draw

from gradcheck_cli.network.composed.attention import GroupedAttention, MultiheadAttention
from gradcheck_cli.network.composed.gated import Gated
from gradcheck_cli.network.composed.recurrent import GruCell, Known, LstmCell, Recurrent, RnnCell
from gradcheck_cli.network.steps.rotary import Rotary
from gradcheck_cli.network.steps.softmax import Softmax

torch = pytest.importorskip("torch")
F = torch.nn.functional

DRAWS = 12


def compare(layer, draw, features, theirs):
    """Compare a layer with `theirs(p, x)`, where p holds torch's tensors by our names."""
    graph, rng = graph_of(layer, features), draw.rng
    p = {name: rng.normal(size=shape) for name, shape in graph.shapes.items()}
    x = rng.normal(size=(draw.size(1, 3), *features))
    tensors = {name: torch.tensor(value, requires_grad=True) for name, value in p.items()}
    leaf = torch.tensor(x, requires_grad=True)
    expected = theirs(tensors, leaf)
    upstream = rng.normal(size=expected.shape)
    expected.backward(torch.tensor(upstream))
    out, dL_dx, gradients = ours(graph, p, x, upstream)
    equal(out, expected.detach(), "output")
    equal(dL_dx, leaf.grad, "input")
    assert gradients.keys() == p.keys()
    for name, tensor in tensors.items():
        equal(gradients[name], tensor.grad, name)


def equal(one, other, what):
    other = other.numpy()
    assert one.shape == other.shape, what
    # The upstream is about 1. A gradient of 0, such as that of a bias of the keys, is a sum that cancels.
    assert np.abs(one - other).max() <= 1e-12 * max(np.abs(other).max(), 1.0), what


def called(module, p, *inputs, **options):
    return torch.func.functional_call(module.double(), p, inputs, options)


RECURRENT = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}


@pytest.mark.parametrize("seed", range(DRAWS))
@pytest.mark.parametrize("kind", RECURRENT)
def test_a_recurrent_layer(kind, seed):
    draw = Draw(seed)
    steps, inputs, hidden, levels, both = *draw.sizes(3, 1, 4), draw.size(1, 2), draw.coin()
    nonlinearity = "relu" if draw.coin() else "tanh"
    cell = {"rnn": RnnCell(nonlinearity), "lstm": LstmCell(), "gru": GruCell()}[kind]
    options = {"nonlinearity": nonlinearity} if kind == "rnn" else {}
    module = RECURRENT[kind](
        inputs, hidden, levels, batch_first=True, bidirectional=both, dtype=torch.float64, **options
    )
    shape = (levels * (1 + both), hidden)
    states = [draw.rng.normal(size=shape) for _ in range(cell.states)] if draw.coin() else []
    layer = Recurrent(cell, steps, inputs, hidden, levels, both, [Known(each) for each in states])

    def theirs(p, x):
        given = tuple(torch.tensor(each)[:, None].repeat(1, len(x), 1) for each in states)
        given = given if len(given) != 1 else given[0]
        return called(module, p, x, *((given,) if states else ()))[0]

    compare(layer, draw, (steps, inputs), theirs)


@pytest.mark.parametrize("seed", range(DRAWS))
def test_multihead_attention(seed):
    draw = Draw(seed)
    heads, tokens, causal = draw.size(1, 3), draw.size(1, 4), draw.coin()
    width = heads * draw.size(1, 3)
    softmax = Softmax.causal(tokens) if causal else Softmax.plain()
    module = torch.nn.MultiheadAttention(width, heads, batch_first=True, dtype=torch.float64)
    mask = torch.triu(torch.ones(tokens, tokens, dtype=torch.bool), 1) if causal else None
    compare(
        MultiheadAttention(tokens, width, heads, softmax),
        draw,
        (tokens, width),
        lambda p, x: called(module, p, x, x, x, attn_mask=mask, need_weights=False)[0],
    )


@pytest.mark.parametrize("seed", range(DRAWS))
def test_grouped_attention_with_rotation(seed):
    draw = Draw(seed)
    shared, groups, tokens, d = draw.size(1, 3), draw.size(1, 2), draw.size(1, 4), 2 * draw.size(1, 2)
    heads = shared * groups
    width, causal, rotary = heads * d, draw.coin(), Rotary.of_angles(tokens, d)
    rotations = (rotary,) if draw.coin() else ()
    softmax = Softmax.causal(tokens) if causal else Softmax.plain()

    def turned(x):
        if not rotations:
            return x
        cos, sin = (torch.tensor(np.tile(each, 2)) for each in (rotary.cos, rotary.sin))
        one, other = x.chunk(2, -1)
        return x * cos + torch.cat([-other, one], -1) * sin  # as transformers' apply_rotary_pos_emb

    def theirs(p, x):
        q, k, v = (
            F.linear(x, p[f"{name}_proj.weight"], p[f"{name}_proj.bias"]).unflatten(-1, (-1, d))
            for name in "qkv"
        )
        q, k, v = (each.transpose(1, 2) for each in (q, k, v))
        out = F.scaled_dot_product_attention(turned(q), turned(k), v, is_causal=causal, enable_gqa=True)
        return F.linear(out.transpose(1, 2).flatten(2), p["o_proj.weight"], p["o_proj.bias"])

    compare(
        GroupedAttention(tokens, width, heads, softmax, shared, rotations=rotations),
        draw,
        (tokens, width),
        theirs,
    )


@pytest.mark.parametrize("activation", ["silu", "gelu", "sigmoid"])
def test_a_gated_layer(activation):
    phi = {"silu": F.silu, "gelu": F.gelu, "sigmoid": torch.sigmoid}[activation]
    for seed in range(DRAWS):
        draw = Draw(seed)
        tokens, width, hidden = draw.sizes(3)

        def theirs(p, x):
            gate, up = (F.linear(x, p[f"{n}_proj.weight"], p[f"{n}_proj.bias"]) for n in ("gate", "up"))
            return F.linear(phi(gate) * up, p["down_proj.weight"], p["down_proj.bias"])

        compare(Gated(width, hidden, activation), draw, (tokens, width), theirs)
