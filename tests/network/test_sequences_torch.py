"""Recurrent layers, attention and gated layers of a spec match torch's modules."""

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
    names = dict(module.named_parameters()).keys()
    assert own.keys() - {"h0", "c0"} == names
    return torch.func.functional_call(module.double(), {key: own[key] for key in names}, inputs, options)[0]


def initial_states(rng, kind, levels, hidden, samples):
    """Return the initial states as a spec gives them, by key, and a function that returns torch's."""
    written, torchs = {}, []
    for key in ("h0", "c0") if kind == "lstm" else ("h0",):
        how = rng.integers(4)
        shape = (levels, samples, hidden) if how == 2 else (levels, hidden)
        array = np.zeros(shape) if how == 0 else rng.normal(size=shape)
        if how:
            written[key] = "parameter" if how == 1 else array.tolist()
        torchs.append((key, how, torch.tensor(array)))

    def states(p):
        for key, how, array in torchs:
            own = p[f"{kind}1.{key}"] if how == 1 else array
            yield own if how == 2 else own[:, None].expand(-1, samples, -1).contiguous()

    return written, lambda p: next(states(p)) if len(torchs) == 1 else tuple(states(p))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("kind", RECURRENT)
def test_a_recurrent_layer_is_that_of_torch(kind, seed):
    rng = np.random.default_rng(seed)
    steps, inputs, hidden, samples = (int(n) for n in rng.integers(1, 6, 4))
    options = {"num_layers": int(rng.integers(1, 4)), "bidirectional": bool(rng.random() < 0.5)}
    if kind == "rnn" and rng.random() < 0.5:
        options["nonlinearity"] = "relu"
    levels = options["num_layers"] * (1 + options["bidirectional"])
    written, initial = initial_states(rng, kind, levels, hidden, samples)
    layers = [{kind: hidden, **options, **written}, {"units": 3}]
    spec = spec_of(*layers, inputs=[steps, inputs], loss="cross_entropy", samples=samples, seed=seed)
    module = RECURRENT[kind](inputs, hidden, batch_first=True, **options)

    def forward(x, p):
        return dense(called(module, p, f"{kind}1", x, initial(p)), p, "output")

    compared(spec, forward, over_positions("batchmean", samples))


def padding_of(rng, samples, tokens):
    """Return which keys are padding; no token may see padding alone, not even the first one."""
    padding = rng.random((samples, tokens)) < 0.4
    padding[:, 0] = False
    return padding


def given_mask(rng, heads, tokens):
    """Return an attn_mask of booleans or of numbers, or none; every token sees at least the first one.

    Half of the masks are the same for all heads.
    """
    kind, per_head = int(rng.integers(3)), (heads,) * int(rng.integers(2))
    out = rng.random((*per_head, tokens, tokens)) < 0.4
    out[..., 0] = False
    numbers = np.where(out, -np.inf, rng.normal(size=out.shape))
    return [{}, {"attn_mask": out.tolist()}, {"attn_mask": numbers.tolist()}][kind]


@pytest.mark.parametrize("seed", range(40))
def test_attention_is_that_of_torch(seed):
    rng = np.random.default_rng(seed)
    heads, tokens, samples = (int(n) for n in rng.integers(1, 5, 3))
    width = heads * int(rng.integers(1, 4))
    causal, bias, padded = (bool(flag) for flag in rng.integers(0, 2, 3))
    padding = padding_of(rng, samples, tokens) & padded
    layer = {"attention": heads, "causal": causal, "bias": bias} | given_mask(rng, heads, tokens)
    layers = [layer | ({"key_padding_mask": padding.tolist()} if padded else {}), {"units": 3}]
    spec = spec_of(*layers, inputs=[tokens, width], loss="cross_entropy", samples=samples, seed=seed)
    module = nn.MultiheadAttention(width, heads, bias=bias, batch_first=True)
    mask = torch.tensor(np.array(layer.get("attn_mask", np.zeros((tokens, tokens), dtype=bool))))
    if causal:
        mask = (
            torch.zeros(mask.shape, dtype=torch.float64).masked_fill(mask, -torch.inf)
            if mask.dtype == torch.bool
            else mask
        )
        mask = mask.masked_fill(torch.ones(tokens, tokens).triu(1) > 0, -torch.inf)
    if mask.ndim == 3:  # torch wants a mask for every head of every sample
        mask = mask.repeat(samples, 1, 1)

    def forward(x, p):
        out = torch.tensor(padding)
        if mask.dtype != torch.bool:  # both masks have the same type
            out = torch.zeros(out.shape, dtype=x.dtype).masked_fill(out, -torch.inf)
        left_out = {"key_padding_mask": out} if padded else {}
        mixed = called(module, p, "attention1", x, x, x, attn_mask=mask, need_weights=False, **left_out)
        return dense(mixed, p, "output")

    compared(spec, forward, over_positions("batchmean", samples))


def turned(x, base):
    """Return x (…, tokens, d) rotated as transformers' apply_rotary_pos_emb does it."""
    half = x.shape[-1] // 2
    angles = torch.arange(x.shape[-2])[:, None] * base ** (-torch.arange(half, dtype=x.dtype) / half)
    one, other = x.chunk(2, -1)
    return x * angles.cos().repeat(1, 2) + torch.cat([-other, one], -1) * angles.sin().repeat(1, 2)


@pytest.mark.parametrize("seed", range(40))
def test_attention_with_shared_keys_and_values_is_that_of_torch(seed):
    rng = np.random.default_rng(seed)
    kv_heads, shared, tokens, samples = (int(n) for n in rng.integers(1, 4, 4))
    heads, causal, bias = kv_heads * shared, *(bool(flag) for flag in rng.integers(0, 2, 2))
    width = heads * 2 * int(rng.integers(1, 3))
    rotary, out_proj, padded = (bool(flag) for flag in rng.integers(0, 2, 3))
    padding = padding_of(rng, samples, tokens) & padded
    layer = {"attention": heads, "kv_heads": kv_heads, "causal": causal, "bias": bias}
    layer |= {"rotary": {"base": 50.0, "interleaved": False} if seed % 2 else True} if rotary else {}
    layer |= {"key_padding_mask": padding.tolist()} if padded else {}
    layers = [layer | ({} if out_proj else {"out_proj": False}), {"units": 3}]
    seen = torch.tril(torch.ones(tokens, tokens, dtype=torch.bool)) | (not causal)
    mask = seen & ~torch.tensor(padding)[:, None, None]
    spec = spec_of(*layers, inputs=[tokens, width], loss="cross_entropy", samples=samples, seed=seed)

    def linear(x, p, name):
        return functional.linear(x, p[f"attention1.{name}.weight"], p.get(f"attention1.{name}.bias"))

    def forward(x, p):
        q, k, v = (
            linear(x, p, f"{name}_proj").unflatten(-1, (-1, width // heads)).transpose(1, 2) for name in "qkv"
        )
        if rotary:
            q, k = (turned(each, 50.0 if seed % 2 else 10000.0) for each in (q, k))
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
        mixed = mixed.transpose(1, 2).flatten(2)
        return dense(linear(mixed, p, "o_proj") if out_proj else mixed, p, "output")

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
