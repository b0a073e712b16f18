"""The examples with masks, fixed statistics, rotations, weight norm and a trained initial state."""

from __future__ import annotations

from mistake_pages.alone import Alone
from mistake_pages.sequences import ATTENTION, RNN

ROTARY = Alone(
    "a rotary embedding of base 4 above a dense layer",
    features=(3, 2),
    layers=({"units": 4, "name": "output"}, {"rotary": True, "base": 4.0}),
    parameters={"output.weight": "w_r", "output.bias": "b_r"},
    forward_pass="a = turned(x @ w_r.T + b_r, angles)",
    backward_pass="""
dL_dunturned = turned(y, -angles)
dL_dw_r, dL_db_r = np.einsum("nto,nti->oi", dL_dunturned, x), dL_dunturned.sum(axis=(0, 1))
dL_dx = dL_dunturned @ w_r
""",
    functions='''

def turned(array, angles):
    """Return the array with each pair of numbers, i and i + d / 2, rotated by its angle."""
    one, other, cos, sin = *np.split(array, 2, axis=-1), np.cos(angles), np.sin(angles)
    return np.concatenate([one * cos - other * sin, one * sin + other * cos], axis=-1)

''',
    constants="angles = np.arange(3)[:, None] * np.array([1, 1 / 2])",
)

_MASKS = [[1, 0, 1, 1], [0, 1, 1, 0], [1, 1, 0, 1]]

SAMPLE_DROPOUT = Alone(
    "a dropout layer with p = 0.5 and a mask for each sample, above a dense layer",
    features=(3,),
    layers=({"units": 4, "name": "output"}, {"dropout": 0.5, "mask": _MASKS}),
    parameters={"output.weight": "w_d", "output.bias": "b_d"},
    forward_pass="a = mask * (x @ w_d.T + b_d)",
    backward_pass="""
dL_dkept = mask * y
dL_dw_d, dL_db_d = dL_dkept.T @ x, dL_dkept.sum(axis=0)
dL_dx = dL_dkept @ w_d
""",
    constants=f"mask = 2 * np.array({_MASKS})",
)

_STATISTICS = {"running_mean": [0.3, -0.2, 0.5], "running_var": [0.4, 2.5, 1.7], "eps": 0.1}

FIXED_NORM = Alone(
    "a dense layer with batch normalisation in eval mode",
    features=(4,),
    layers=({"units": 3, "name": "output", "batch_norm": _STATISTICS},),
    parameters={
        "output.weight": "w_e",
        "output.bias": "b_e",
        "output.gamma": "gamma",
        "output.beta": "beta",
    },
    forward_pass="""
z = x @ w_e.T + b_e
root = np.sqrt(running_var + eps)
z_hat = (z - running_mean) / root
a = gamma * z_hat + beta
""",
    backward_pass="""
g = gamma * y
dL_dz_fixed = g / root
dL_dgamma = (y * z_hat).sum(axis=0)
dL_dbeta = y.sum(axis=0)
dL_dw_e, dL_db_e = dL_dz_fixed.T @ x, dL_dz_fixed.sum(axis=0)
dL_dx = dL_dz_fixed @ w_e
""",
    constants=(
        "running_mean, running_var = np.array([0.3, -0.2, 0.5]), np.array([0.4, 2.5, 1.7])\neps = 0.1"
    ),
    data={"synthetic": "normal", "samples": 6, "seed": 2},
)

WEIGHT_NORM = Alone(
    "a single dense layer with weight normalisation",
    features=(4,),
    layers=({"units": 3, "name": "output", "weight_norm": True},),
    parameters={"output.weight_g": "g", "output.weight_v": "v", "output.bias": "b_v"},
    forward_pass="""
length = np.sqrt((v**2).sum(axis=1, keepdims=True))
unit = v / length
a = x @ (g * unit).T + b_v
""",
    backward_pass="""
dL_dweight = y.T @ x
along = (dL_dweight * unit).sum(axis=1, keepdims=True)
dL_dg = along
dL_dv = g / length * (dL_dweight - unit * along)
dL_db_v = y.sum(axis=0)
dL_dx = y @ (g * unit)
""",
)

_PADDING = [[0, 0, 1], [0, 1, 0], [0, 0, 0]]

PADDED = Alone(
    "a single causal self-attention layer with two heads, where some tokens are padding",
    features=ATTENTION.features,
    layers=({"attention": 2, "causal": True, "key_padding_mask": _PADDING},),
    parameters=ATTENTION.parameters,
    forward_pass=ATTENTION.forward_pass.replace(
        "np.tril(np.ones((T, T)))", "causal * kept[:, None, None, :]"
    ),
    backward_pass=ATTENTION.backward_pass,
    functions=ATTENTION.functions,
    constants=f"{ATTENTION.constants}\ncausal, kept = np.tril(np.ones((T, T))), 1 - np.array({_PADDING})",
)

LEARNED_STATE = Alone(
    "a single plain recurrent layer whose initial state is a parameter",
    features=RNN.features,
    layers=({"rnn": 3, "h0": "parameter"},),
    parameters={**RNN.parameters, "rnn1.h0": "h_0"},
    forward_pass=RNN.forward_pass.replace("[np.zeros((N, 3))]", "[np.repeat(h_0, N, axis=0)]"),
    backward_pass=f"{RNN.backward_pass.rstrip()}\ndL_dh_0 = dL_dh.sum(axis=0, keepdims=True)",
    constants=RNN.constants,
)

GIVEN = (ROTARY, SAMPLE_DROPOUT, FIXED_NORM, WEIGHT_NORM, PADDED, LEARNED_STATE)
