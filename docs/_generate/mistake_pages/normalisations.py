"""The examples with layer, group and RMS normalisation, and with a skip connection around one."""

from __future__ import annotations

from mistake_pages.alone import Alone

_ROW_MEAN = '''

def mean(array):
    """Return the mean over the units of each sample."""
    return array.mean(axis=-1, keepdims=True)

'''

_GROUP_MEAN = '''

def mean(array):
    """The mean over the channels and positions of each group, for every channel."""
    means = array.reshape(len(array), GROUPS, -1).mean(axis=2)
    return np.repeat(means, array.shape[1] // GROUPS, axis=1)[:, :, None]

'''

_FORWARD = """
deviation = np.sqrt(mean((x - mean(x)) ** 2) + eps)
z_hat = (x - mean(x)) / deviation
a = {gamma} * z_hat + {beta}
"""

_BACKWARD = """
dL_dy = y
g = {gamma} * dL_dy
dL_dx = (g - mean(g) - z_hat * mean(g * z_hat)) / deviation
dL_dgamma = (dL_dy * z_hat).sum(axis=over)
dL_dbeta = dL_dy.sum(axis=over)
"""

_ROWS = {"gamma": "gamma", "beta": "beta"}
_CHANNELS = {"gamma": "gamma[:, None]", "beta": "beta[:, None]"}

LAYER_NORM = Alone(
    "a single layer normalisation",
    features=(5,),
    layers=({"layer_norm": True, "eps": 0.1},),
    parameters={"layer_norm1.weight": "gamma", "layer_norm1.bias": "beta"},
    forward_pass=_FORWARD.format(**_ROWS),
    backward_pass=_BACKWARD.format(**_ROWS),
    functions=_ROW_MEAN,
    constants="n, eps, over = 5, 0.1, 0",
)

GROUP_NORM = Alone(
    "a single group normalisation with two groups of two channels",
    features=(4, 3),
    layers=({"group_norm": 2, "eps": 0.1},),
    parameters={"group_norm1.weight": "gamma", "group_norm1.bias": "beta"},
    forward_pass=_FORWARD.format(**_CHANNELS),
    backward_pass=_BACKWARD.format(**_CHANNELS),
    functions=_GROUP_MEAN,
    constants="GROUPS = 2\nn, eps, over = 6, 0.1, (0, 2)",
)

RMS_NORM = Alone(
    "a single RMS normalisation",
    features=(5,),
    layers=({"rms_norm": True, "eps": 0.1},),
    parameters={"rms_norm1.weight": "gain"},
    forward_pass="""
root = np.sqrt(mean(x**2) + eps)
x_hat = x / root
a = gain * x_hat
""",
    backward_pass="""
dL_dx_hat = gain * y
dL_dx = (dL_dx_hat - x_hat * mean(dL_dx_hat * x_hat)) / root
dL_dgain = (y * x_hat).sum(axis=0)
""",
    functions=_ROW_MEAN,
    constants="eps = 0.1",
)

PRE_NORM = Alone(
    "a residual block, a + f(norm(a)), above a dense layer",
    features=(4,),
    layers=({"units": 4, "name": "first"}, {"residual": ["layer_norm", {"units": 4, "name": "second"}]}),
    parameters={
        "first.weight": "w_1",
        "first.bias": "b_1",
        "layer_norm1.weight": "gamma",
        "layer_norm1.bias": "beta",
        "second.weight": "w_2",
        "second.bias": "b_2",
    },
    forward_pass="""
a_1 = x @ w_1.T + b_1
deviation = np.sqrt(mean((a_1 - mean(a_1)) ** 2) + 1e-5)
hat = (a_1 - mean(a_1)) / deviation
normed = gamma * hat + beta
a = a_1 + normed @ w_2.T + b_2
""",
    backward_pass="""
dL_dnormed = y @ w_2
dL_dhat = gamma * dL_dnormed
of_norm = (dL_dhat - mean(dL_dhat) - hat * mean(dL_dhat * hat)) / deviation
dL_da_1 = of_norm + y
dL_dw_2, dL_db_2 = y.T @ normed, y.sum(axis=0)
dL_dgamma, dL_dbeta = (dL_dnormed * hat).sum(axis=0), dL_dnormed.sum(axis=0)
dL_dw_1, dL_db_1 = dL_da_1.T @ x, dL_da_1.sum(axis=0)
dL_dx = dL_da_1 @ w_1
""",
    functions=_ROW_MEAN,
)

LAYER_NORM_OF_VECTORS = Alone(
    "a layer normalisation of samples with three vectors each, alone",
    features=(3, 4),
    layers=({"layer_norm": True, "eps": 0.1},),
    parameters={"layer_norm1.weight": "gamma", "layer_norm1.bias": "beta"},
    forward_pass="""
means, deviations = x.mean(axis=2).ravel(), np.sqrt(x.var(axis=2).ravel() + 0.1)
a = gamma * (x - means.reshape(N, 3, 1)) / deviations.reshape(N, 3, 1) + beta
""",
    backward_pass="""
M = 3 * N
v, dL_dy = x.reshape(M, -1), y.reshape(M, -1)
hat = (v - means[:M, None]) / deviations[:M, None]
g = np.tile(gamma, v.shape[1] // 4) * dL_dy
dL_dz = (g - mean(g) - hat * mean(g * hat)) / deviations[:M, None]
dL_dgamma, dL_dbeta = (dL_dy * hat).sum(axis=0)[:4], dL_dy.sum(axis=0)[:4]
dL_dx = dL_dz.reshape(x.shape)
""",
    functions=_ROW_MEAN,
)

NORMALISATIONS = (LAYER_NORM, GROUP_NORM, RMS_NORM, PRE_NORM, LAYER_NORM_OF_VECTORS)
