"""The examples with recurrent layers, attention, gated layers and tokens."""

from __future__ import annotations

from mistake_pages.alone import Alone

_SIGMOID = "\n\ndef sigmoid(z):\n    return 1 / (1 + np.exp(-z))\n\n"

_LAYER = {"weight_ih_l0": "w_ih", "weight_hh_l0": "w_hh", "bias_ih_l0": "b_ih", "bias_hh_l0": "b_hh"}


def _named(layer: str) -> dict[str, str]:
    return {f"{layer}.{name}": own for name, own in _LAYER.items()}


_EMPTY = """
dL_dw_ih, dL_dw_hh = np.zeros_like(w_ih), np.zeros_like(w_hh)
dL_db_ih, dL_db_hh = np.zeros_like(b_ih), np.zeros_like(b_hh)
dL_dx = np.zeros_like(x)
"""

RNN = Alone(
    "a single plain recurrent layer",
    features=(4, 2),
    layers=({"rnn": 3},),
    parameters=_named("rnn1"),
    forward_pass="""
h = [np.zeros((N, 3))]
for t in range(T):
    h.append(np.tanh(x[:, t] @ w_ih.T + b_ih + h[t] @ w_hh.T + b_hh))
a = np.stack(h[1:], axis=1)
""",
    backward_pass=f"""
{_EMPTY.strip()}
dL_dh = np.zeros((N, 3))
for t in reversed(range(T)):
    dL_da_t = dL_dh + y[:, t]
    dz = dL_da_t * (1 - h[t + 1] ** 2)
    dL_dw_ih += dz.T @ x[:, t]
    dL_dw_hh += dz.T @ h[t]
    dL_db_ih += dz.sum(axis=0)
    dL_db_hh += dz.sum(axis=0)
    dL_dx[:, t] = dz @ w_ih
    dL_dh = dz @ w_hh
""",
    constants="T = x.shape[1]",
)

_REVERSE = {name: f"{own}_r" for name, own in _named("rnn1").items()}

BIDIRECTIONAL = Alone(
    "a single bidirectional recurrent layer",
    features=(3, 2),
    layers=({"rnn": 2, "bidirectional": True},),
    parameters={**_named("rnn1"), **{f"{name}_reverse": own for name, own in _REVERSE.items()}},
    forward_pass="""
h, r = [np.zeros((N, 2))], [np.zeros((N, 2))]
for t in range(T):
    h.append(np.tanh(x[:, t] @ w_ih.T + b_ih + h[t] @ w_hh.T + b_hh))
for t in reversed(range(T)):
    r.insert(0, np.tanh(x[:, t] @ w_ih_r.T + b_ih_r + r[0] @ w_hh_r.T + b_hh_r))
a = np.concatenate([np.stack(h[1:], axis=1), np.stack(r[:-1], axis=1)], axis=2)
""",
    backward_pass="""
forth, back = y[:, :, :2], y[:, :, 2:]
dz, dz_r = np.zeros((T, N, 2)), np.zeros((T, N, 2))
dL_dh, dL_dr = np.zeros((N, 2)), np.zeros((N, 2))
for t in reversed(range(T)):
    dz[t] = (dL_dh + forth[:, t]) * (1 - h[t + 1] ** 2)
    dL_dh = dz[t] @ w_hh
for t in range(T):
    dz_r[t] = (dL_dr + back[:, t]) * (1 - r[t] ** 2)
    dL_dr = dz_r[t] @ w_hh_r
dL_dw_ih, dL_dw_ih_r = (np.einsum("tno,nti->oi", each, x) for each in (dz, dz_r))
dL_dw_hh = np.einsum("tno,tni->oi", dz, np.stack(h[:-1]))
dL_dw_hh_r = np.einsum("tno,tni->oi", dz_r, np.stack(r[1:]))
dL_db_ih, dL_db_hh = dz.sum(axis=(0, 1)), dz.sum(axis=(0, 1))
dL_db_ih_r, dL_db_hh_r = dz_r.sum(axis=(0, 1)), dz_r.sum(axis=(0, 1))
dL_dx = (dz @ w_ih + dz_r @ w_ih_r).swapaxes(0, 1)
""",
    constants="T = x.shape[1]",
)

LSTM = Alone(
    "a single LSTM",
    features=(3, 2),
    layers=({"lstm": 2},),
    parameters=_named("lstm1"),
    forward_pass="""
h, c, gates = [np.zeros((N, 2))], [np.zeros((N, 2))], []
for t in range(T):
    z_i, z_f, z_g, z_o = np.split(x[:, t] @ w_ih.T + b_ih + h[t] @ w_hh.T + b_hh, 4, axis=1)
    i, f, g_t, o = sigmoid(z_i), sigmoid(z_f), np.tanh(z_g), sigmoid(z_o)
    c.append(f * c[t] + i * g_t)
    h.append(o * np.tanh(c[t + 1]))
    gates.append((i, f, g_t, o))
a = np.stack(h[1:], axis=1)
""",
    backward_pass=f"""
{_EMPTY.strip()}
dL_dh, dL_dc = np.zeros((N, 2)), np.zeros((N, 2))
for t in reversed(range(T)):
    i, f, g_t, o = gates[t]
    dL_da_t = dL_dh + y[:, t]
    dL_dc_t = dL_dc + dL_da_t * o * (1 - np.tanh(c[t + 1]) ** 2)
    d_i, d_f = dL_dc_t * g_t * i * (1 - i), dL_dc_t * c[t] * f * (1 - f)
    d_g, d_o = dL_dc_t * i * (1 - g_t**2), dL_da_t * np.tanh(c[t + 1]) * o * (1 - o)
    dz_gates = np.concatenate([d_i, d_f, d_g, d_o], axis=1)
    dL_dw_ih += dz_gates.T @ x[:, t]
    dL_dw_hh += dz_gates.T @ h[t]
    dL_db_ih += dz_gates.sum(axis=0)
    dL_db_hh += dz_gates.sum(axis=0)
    dL_dx[:, t] = dz_gates @ w_ih
    dL_dh, dL_dc = dz_gates @ w_hh, dL_dc_t * f
""",
    functions=_SIGMOID,
    constants="T = x.shape[1]",
)

GRU = Alone(
    "a single GRU",
    features=(3, 2),
    layers=({"gru": 2},),
    parameters=_named("gru1"),
    forward_pass="""
h, gates = [np.zeros((N, 2))], []
for t in range(T):
    x_r, x_z, x_n = np.split(x[:, t] @ w_ih.T + b_ih, 3, axis=1)
    h_r, h_z, h_n = np.split(h[t] @ w_hh.T + b_hh, 3, axis=1)
    r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
    n = np.tanh(x_n + r * h_n)
    h.append((1 - z) * n + z * h[t])
    gates.append((r, z, n, h_n))
a = np.stack(h[1:], axis=1)
""",
    backward_pass=f"""
{_EMPTY.strip()}
dL_dh = np.zeros((N, 2))
for t in reversed(range(T)):
    r, z, n, h_n = gates[t]
    dL_da_t = dL_dh + y[:, t]
    dL_dupdate = dL_da_t * (h[t] - n)
    d_z = dL_dupdate * z * (1 - z)
    d_n = dL_da_t * (1 - z) * (1 - n**2)
    d_r = d_n * h_n * r * (1 - r)
    of_x = np.concatenate([d_r, d_z, d_n], axis=1)
    of_h = np.concatenate([d_r, d_z, d_n * r], axis=1)
    dL_dw_ih += of_x.T @ x[:, t]
    dL_dw_hh += of_h.T @ h[t]
    dL_db_ih += of_x.sum(axis=0)
    dL_db_hh += of_h.sum(axis=0)
    dL_dx[:, t] = of_x @ w_ih
    dL_dh = of_h @ w_hh + dL_da_t * z
""",
    functions=_SIGMOID,
    constants="T = x.shape[1]",
)

_HEADS = '''

def heads(array, count):
    """(N, T, count · d) as (N, count, T, d)."""
    return array.reshape(N, T, count, -1).transpose(0, 2, 1, 3)


def joined(array):
    """(N, count, T, d) as (N, T, count · d)."""
    return array.transpose(0, 2, 1, 3).reshape(N, T, -1)


def turned(array):
    """Each matrix transposed."""
    return np.swapaxes(array, -1, -2)

'''

_SCORES = """
dL_ds = p * (dL_dp - (dL_dp * p).sum(axis=-1, keepdims=True))
dL_dq, dL_dk = dL_ds @ k * scale, turned(dL_ds) @ q * scale
"""

ATTENTION = Alone(
    "a single causal self-attention layer with two heads",
    features=(3, 4),
    layers=({"attention": 2, "causal": True},),
    parameters={
        "attention1.in_proj_weight": "w_in",
        "attention1.in_proj_bias": "b_in",
        "attention1.out_proj.weight": "w_out",
        "attention1.out_proj.bias": "b_out",
    },
    forward_pass="""
q, k, v = (heads(part, 2) for part in np.split(x @ w_in.T + b_in, 3, axis=2))
s = q @ turned(k) * scale
e = np.exp(s) * np.tril(np.ones((T, T)))
p = e / e.sum(axis=-1, keepdims=True)
mixed = joined(p @ v)
a = mixed @ w_out.T + b_out
""",
    backward_pass=f"""
dL_dmixed = heads(y @ w_out, 2)
dL_dp, dL_dv = dL_dmixed @ turned(v), turned(p) @ dL_dmixed
{_SCORES.strip()}
dL_dv_joined = joined(dL_dv)
dL_dqkv = np.concatenate([joined(dL_dq), joined(dL_dk), dL_dv_joined], axis=2)
dL_dw_in, dL_db_in = np.einsum("nto,nti->oi", dL_dqkv, x), dL_dqkv.sum(axis=(0, 1))
dL_dw_out, dL_db_out = np.einsum("nto,nti->oi", y, mixed), y.sum(axis=(0, 1))
dL_dx = dL_dqkv @ w_in
""",
    functions=_HEADS,
    constants="T, scale = x.shape[1], 1 / np.sqrt(2)",
)

_PROJECTIONS = ("q", "k", "v", "o")

GROUPED_QUERIES = Alone(
    "a single self-attention layer in which four heads share two heads of keys and values",
    features=(3, 4),
    layers=({"attention": 4, "kv_heads": 2, "bias": False},),
    parameters={f"attention1.{name}_proj.weight": f"w_{name}" for name in _PROJECTIONS},
    forward_pass="""
q = heads(x @ w_q.T, 4)
k, v = (np.repeat(heads(x @ w.T, 2), 2, axis=1) for w in (w_k, w_v))
e = np.exp(q @ turned(k) * scale)
p = e / e.sum(axis=-1, keepdims=True)
mixed = joined(p @ v)
a = mixed @ w_o.T
""",
    backward_pass=f"""
dL_dmixed = heads(y @ w_o, 4)
dL_dp, dL_dv = dL_dmixed @ turned(v), turned(p) @ dL_dmixed
{_SCORES.strip()}
shared_k = dL_dk.reshape(N, 2, 2, T, -1).sum(axis=2)
shared_v = dL_dv.reshape(N, 2, 2, T, -1).sum(axis=2)
of_q, of_k, of_v = joined(dL_dq), joined(shared_k), joined(shared_v)
dL_dw_q, dL_dw_k, dL_dw_v = (np.einsum("nto,nti->oi", each, x) for each in (of_q, of_k, of_v))
dL_dw_o = np.einsum("nto,nti->oi", y, mixed)
dL_dx = of_q @ w_q + of_k @ w_k + of_v @ w_v
""",
    functions=_HEADS,
    constants="T, scale = x.shape[1], 1.0",
)

SWIGLU = Alone(
    "a single SwiGLU layer",
    features=(4,),
    layers=({"swiglu": 3, "bias": False},),
    parameters={f"swiglu1.{name}_proj.weight": f"w_{name}" for name in ("gate", "up", "down")},
    forward_pass="""
gate, up = x @ w_gate.T, x @ w_up.T
silu = gate * sigmoid(gate)
product = silu * up
a = product @ w_down.T
""",
    backward_pass="""
dL_dproduct = y @ w_down
dL_dsilu, dL_dup = dL_dproduct * up, dL_dproduct * silu
dL_dgate = dL_dsilu * sigmoid(gate) * (1 + gate * (1 - sigmoid(gate)))
dL_dw_gate, dL_dw_up, dL_dw_down = dL_dgate.T @ x, dL_dup.T @ x, y.T @ product
dL_dx = dL_dgate @ w_gate + dL_dup @ w_up
""",
    functions=_SIGMOID,
)

_TOKENS = [[1, 2, 2, 0], [3, 1, 1, 1], [2, 0, 4, 4]]
_UPSTREAM = [
    [0.3, -1.2, 0.7, 0.5, 1.1, -0.4, -0.9, 0.2],
    [1.4, 0.1, -0.6, 0.8, -1.3, 0.9, 0.4, -0.7],
    [-0.2, 0.6, 1.2, -0.5, 0.3, 1.5, -1.1, 0.9],
]

EMBEDDING = Alone(
    "a single embedding in which token 0 is padding",
    features=(4,),
    layers=({"embedding": 5, "embedding_dim": 2, "padding_idx": 0}, "flatten"),
    parameters={"embedding1.weight": "table"},
    forward_pass="""
a = table[x].reshape(N, -1)
""",
    backward_pass="""
upstream = y.reshape(N, -1, 2) * (x != 0)[:, :, None]
dL_dtable = np.stack([upstream[x == token].sum(axis=0) for token in range(5)])
""",
    constants="x = x.astype(int)",
    has_inputs=False,
    data={"x": _TOKENS, "y": _UPSTREAM},
)

POSITIONAL = Alone(
    "a single learned positional embedding",
    features=(4, 2),
    layers=("positional_embedding",),
    parameters={"positional_embedding1.weight": "positions"},
    forward_pass="a = x + positions",
    backward_pass="""
dL_dx = y
dL_dpositions = y.sum(axis=0)
""",
)

SELECTED = Alone(
    "the state after the second of three steps of a dense layer",
    features=(3, 2),
    layers=({"units": 2, "name": "output"}, {"select": 1}),
    parameters={"output.weight": "w_t", "output.bias": "b_t"},
    forward_pass="a = (x @ w_t.T + b_t)[:, 1]",
    backward_pass="""
dL_dsteps = np.zeros((N, 3, 2))
dL_dsteps[:, 1] = y
dL_dw_t, dL_db_t = np.einsum("nto,nti->oi", dL_dsteps, x), dL_dsteps.sum(axis=(0, 1))
dL_dx = dL_dsteps @ w_t
""",
)

TIED = Alone(
    "two layers with one weight",
    features=(3,),
    layers=(
        {"units": 3, "name": "first", "activation": "tanh"},
        {"units": 3, "name": "second", "weight": "first"},
    ),
    parameters={"first.weight": "w_both", "first.bias": "b_1", "second.bias": "b_2"},
    forward_pass="""
a_1 = np.tanh(x @ w_both.T + b_1)
a = a_1 @ w_both.T + b_2
""",
    backward_pass="""
d_1 = (y @ w_both) * (1 - a_1**2)
dL_dw_both = y.T @ a_1 + d_1.T @ x
dL_db_1, dL_db_2 = d_1.sum(axis=0), y.sum(axis=0)
dL_dx = d_1 @ w_both
""",
)

SEQUENCES = (
    RNN,
    BIDIRECTIONAL,
    LSTM,
    GRU,
    ATTENTION,
    GROUPED_QUERIES,
    SWIGLU,
    EMBEDDING,
    POSITIONAL,
    SELECTED,
    TIED,
)
