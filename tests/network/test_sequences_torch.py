"""Recurrent layers, attention and gated layers, as a spec writes them, against torch's modules."""

from __future__ import annotations

import numpy as np
import pytest
from build import spec_of
from test_graphs_torch import compared, dense, drawn, over_positions

torch = pytest.importorskip("torch")
nn, functional = torch.nn, torch.nn.functional

RECURRENT = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def called(module, p, name, *inputs, **options):
    """Call a module with the parameters of the layer of this name."""
    own = {key.removeprefix(f"{name}."): value for key, value in p.items() if key.startswith(f"{name}.")}
    assert own.keys() == dict(module.named_parameters()).keys()
    return torch.func.functional_call(module.double(), own, inputs, options)[0]


@pytest.mark.parametrize("seed", range(14))
@pytest.mark.parametrize("kind", RECURRENT)
def test_a_recurrent_layer_is_that_of_torch(kind, seed):
    rng = np.random.default_rng(seed)
    steps, inputs, hidden, samples = (int(n) for n in rng.integers(1, 6, 4))
    options = {"num_layers": int(rng.integers(1, 4)), "bidirectional": bool(rng.random() < 0.5)}
    if kind == "rnn" and rng.random() < 0.5:
        options["nonlinearity"] = "relu"
    layers = [{kind: hidden, **options}, {"units": 3}]
    spec = spec_of(*layers, inputs=[steps, inputs], loss="cross_entropy", samples=samples, seed=seed)
    module = RECURRENT[kind](inputs, hidden, batch_first=True, **options)

    def forward(x, p):
        return dense(called(module, p, f"{kind}1", x), p, "output")

    compared(spec, forward, over_positions("batchmean", samples))


@pytest.mark.parametrize("seed", range(40))
def test_attention_is_that_of_torch(seed):
    rng = np.random.default_rng(seed)
    heads, tokens, samples = (int(n) for n in rng.integers(1, 5, 3))
    width = heads * int(rng.integers(1, 4))
    causal, bias = (bool(flag) for flag in rng.integers(0, 2, 2))
    layers = [{"attention": heads, "causal": causal, "bias": bias}, {"units": 3}]
    spec = spec_of(*layers, inputs=[tokens, width], loss="cross_entropy", samples=samples, seed=seed)
    module = nn.MultiheadAttention(width, heads, bias=bias, batch_first=True)
    mask = nn.Transformer.generate_square_subsequent_mask(tokens) if causal else None

    def forward(x, p):
        mixed = called(module, p, "attention1", x, x, x, attn_mask=mask, need_weights=False)
        return dense(mixed, p, "output")

    compared(spec, forward, over_positions("batchmean", samples))


@pytest.mark.parametrize("seed", range(40))
def test_attention_with_shared_keys_and_values_is_that_of_torch(seed):
    rng = np.random.default_rng(seed)
    kv_heads, shared, tokens, samples = (int(n) for n in rng.integers(1, 4, 4))
    heads, causal, bias = kv_heads * shared, *(bool(flag) for flag in rng.integers(0, 2, 2))
    width = heads * int(rng.integers(1, 4))
    layers = [{"attention": heads, "kv_heads": kv_heads, "causal": causal, "bias": bias}, {"units": 3}]
    spec = spec_of(*layers, inputs=[tokens, width], loss="cross_entropy", samples=samples, seed=seed)

    def linear(x, p, name):
        return functional.linear(x, p[f"attention1.{name}.weight"], p.get(f"attention1.{name}.bias"))

    def forward(x, p):
        q, k, v = (
            linear(x, p, f"{name}_proj").unflatten(-1, (-1, width // heads)).transpose(1, 2) for name in "qkv"
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)
        return dense(linear(mixed.transpose(1, 2).flatten(2), p, "o_proj"), p, "output")

    compared(spec, forward, over_positions("batchmean", samples))


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize(("kind", "phi"), [("swiglu", functional.silu), ("geglu", functional.gelu)])
def test_a_gated_layer_is_its_formula_in_torch(kind, phi, seed):
    hidden, width, steps, samples = (int(n) for n in drawn(seed, 1, 6, 4))
    bias = bool(seed % 2)
    layers = [{kind: hidden, "bias": bias}, {"units": 3}]
    spec = spec_of(*layers, inputs=[steps, width], loss="cross_entropy", samples=samples, seed=seed)

    def linear(x, p, name):
        return functional.linear(x, p[f"{kind}1.{name}_proj.weight"], p.get(f"{kind}1.{name}_proj.bias"))

    def forward(x, p):
        hidden = phi(linear(x, p, "gate")) * linear(x, p, "up")
        return dense(linear(hidden, p, "down"), p, "output")

    compared(spec, forward, over_positions("batchmean", samples))


@pytest.mark.parametrize("seed", range(40))
def test_an_output_layer_tied_to_the_embedding_is_that_of_torch(seed):
    tokens, width, steps, samples = (int(n) for n in drawn(seed, 2, 7, 4))
    padding = 0 if seed % 2 else None
    embedding = {"embedding": tokens, "embedding_dim": width, "padding_idx": padding}
    middle = {"units": width, "activation": "tanh"}
    spec = spec_of(
        {key: value for key, value in embedding.items() if value is not None},
        middle,
        {**middle, "weight": "hidden1"},
        {"units": tokens, "weight": "embedding1"},
        inputs=steps,
        loss="cross_entropy",
        samples=samples,
        seed=seed,
    )

    def forward(x, p):
        x = functional.embedding(x.long(), p["embedding1.weight"], padding)
        x = torch.tanh(dense(x, p, "hidden1"))
        x = torch.tanh(functional.linear(x, p["hidden1.weight"], p["hidden2.bias"]))
        return functional.linear(x, p["embedding1.weight"], p["output.bias"])

    compared(spec, forward, over_positions("batchmean", samples))
