"""The examples with pooling, grouped and transposed convolutions, and other layers over channels."""

from __future__ import annotations

from gradcheck_cli.network.steps.dropout import Dropout
from mistake_pages.alone import Alone

_BELOW = {"output.weight": "kernel", "output.bias": "shift"}
_POINTWISE = {"conv2d": 1, "kernel": 1, "name": "output"}
"""A convolution with a single weight, below a layer without parameters."""

_TO_KERNEL = """
dL_dkernel, dL_dshift = (dL_dz * x).sum().reshape(1, 1, 1, 1), dL_dz.sum().reshape(1)
dL_dx = kernel[0, 0, 0, 0] * dL_dz
"""

_WINDOWS = '''

def windows(image, size, stride):
    """All windows of an image (N, C, H, W), as (N, C, rows, columns, size, size)."""
    seen = np.lib.stride_tricks.sliding_window_view(image, (size, size), axis=(2, 3))
    return seen[:, :, ::stride, ::stride]


def added_back(parts, stride, shape):
    """Windows, added where they came from in an image of this shape."""
    image, (height, width) = np.zeros(shape), parts.shape[4:]
    for r, c in np.ndindex(parts.shape[2:4]):
        top, left = stride * r, stride * c
        image[:, :, top : top + height, left : left + width] += parts[:, :, r, c]
    return image

'''

MAX_POOL = Alone(
    "a max pooling over windows that overlap, above a convolution with one weight",
    features=(1, 5, 5),
    layers=(_POINTWISE, {"max_pool2d": 3, "stride": 2}),
    parameters=_BELOW,
    forward_pass="""
z = kernel[0, 0, 0, 0] * x + shift[0]
seen = windows(z, 3, 2)
a = seen.max(axis=(4, 5))
""",
    backward_pass=f"""
largest = seen == a[..., None, None]
dL_dz = added_back(largest * y[..., None, None], 2, z.shape)
{_TO_KERNEL.strip()}
""",
    functions=_WINDOWS,
)

TIES = Alone(
    "a max pooling of windows in which two numbers may be equal, above a convolution with one weight",
    features=(6,),
    layers=({"reshape": [1, 1, 6]}, _POINTWISE, {"max_pool2d": [1, 3]}, "flatten"),
    parameters=_BELOW,
    forward_pass="""
z = kernel[0, 0, 0, 0] * x + shift[0]
seen = z.reshape(N, 2, 3)
a = seen.max(axis=2)
""",
    backward_pass="""
gets = np.eye(3)[seen.argmax(axis=2)]
dL_dz = (y[:, :, None] * gets).reshape(N, 6)
dL_dkernel, dL_dshift = (dL_dz * x).sum().reshape(1, 1, 1, 1), dL_dz.sum().reshape(1)
""",
    has_inputs=False,
    data={
        "x": [
            [1.4, 1.4, -1.1, 0.2, 0.9, -0.8],
            [1.7, 1.7, 0.9, -0.5, 1.3, 0.4],
            [0.3, -0.2, 0.6, 1.1, 1.1, 0.2],
        ],
        "y": [[0.3, -1.2], [0.7, 0.5], [1.1, -0.4]],
    },
    init={"init": "normal", "scale": 1.0, "seed": 3},
)

AVG_POOL = Alone(
    "an average pooling over windows that overlap, above a convolution with one weight",
    features=(1, 5, 5),
    layers=(_POINTWISE, {"avg_pool2d": 3, "stride": 2}),
    parameters=_BELOW,
    forward_pass="""
z = kernel[0, 0, 0, 0] * x + shift[0]
a = windows(z, 3, 2).mean(axis=(4, 5))
""",
    backward_pass=f"""
dL_dmean = y[..., None, None] * np.ones((3, 3)) / 9
dL_dz = added_back(dL_dmean, 2, z.shape)
{_TO_KERNEL.strip()}
""",
    functions=_WINDOWS,
)

GROUPED = Alone(
    "a single convolution with two groups of two channels",
    features=(4, 4, 4),
    layers=({"conv2d": 4, "kernel": 3, "groups": 2},),
    parameters={"output.weight": "w_g", "output.bias": "b_g"},
    forward_pass="""
seen = windows(x, 3, 1)
parts = [np.einsum(CONVOLVE, seen[:, group], w_g[group]) for group in groups]
a = np.concatenate(parts, axis=1) + b_g[:, None, None]
""",
    backward_pass="""
dL_dw_g = np.concatenate([np.einsum(FOR_W, y[:, group], seen[:, group]) for group in groups])
dL_db_g = y.sum(axis=(0, 2, 3))
back = [np.einsum(BACK, y[:, group], w_g[group]) for group in groups]
dL_dx = added_back(np.concatenate(back, axis=1), 1, x.shape)
""",
    functions=_WINDOWS,
    constants=(
        'CONVOLVE, FOR_W, BACK = "nchwij,ocij->nohw", "nohw,nchwij->ocij", "nohw,ocij->nchwij"\n'
        "groups = [slice(0, 2), slice(2, 4)]"
    ),
)

TRANSPOSED = Alone(
    "a single transposed convolution with stride 2 and padding 1",
    features=(2, 3, 3),
    layers=({"conv_transpose2d": 2, "kernel": 3, "stride": 2, "padding": 1},),
    parameters={"output.weight": "w_up", "output.bias": "b_up"},
    forward_pass="""
wide = added_back(np.einsum("nihw,iokl->nohwkl", x, w_up), 2, (N, 2, 7, 7))
a = wide[:, :, 1:-1, 1:-1] + b_up[:, None, None]
""",
    backward_pass="""
padded = np.pad(y, ((0, 0), (0, 0), (1, 1), (1, 1)))
dL_dx = np.einsum("nohwkl,iokl->nihw", windows(padded, 3, 2), w_up)
dL_dw_up = np.einsum("nihw,nohwkl->iokl", x, windows(padded, 3, 2))
dL_db_up = y.sum(axis=(0, 2, 3))
""",
    functions=_WINDOWS,
)

PRELU = Alone(
    "a single PReLU with one slope for all channels",
    features=(3, 4),
    layers=({"prelu": True},),
    parameters={"prelu1.weight": "slope"},
    forward_pass="a = np.where(x > 0, x, slope * x)",
    backward_pass="""
dL_dx = np.where(x > 0, 1, slope) * y
dL_dslope = (y * np.minimum(x, 0)).sum(keepdims=True).reshape(1)
""",
)

_MASK = Dropout.drawn((6,), 0.5, 0).mask

DROPOUT = Alone(
    "a dropout with p = 0.5, whose mask is 2 or 0, above a dense layer",
    features=(4,),
    layers=({"units": 6, "name": "output"}, {"dropout": 0.5, "seed": 0}),
    parameters={"output.weight": "w_d", "output.bias": "b_d"},
    forward_pass="a = mask * (x @ w_d.T + b_d)",
    backward_pass="""
dL_dkept = mask * y
dL_dw_d, dL_db_d = dL_dkept.T @ x, dL_dkept.sum(axis=0)
dL_dx = dL_dkept @ w_d
""",
    constants=f"mask = np.array({_MASK.astype(int).tolist()})",
)

LOG_SOFTMAX = Alone(
    "a log-softmax above a dense layer",
    features=(4,),
    layers=({"units": 3, "name": "output"}, "log_softmax"),
    parameters={"output.weight": "w_l", "output.bias": "b_l"},
    forward_pass="""
z = x @ w_l.T + b_l
a = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
""",
    backward_pass="""
dL_dlogits = y - np.exp(a) * y.sum(axis=1, keepdims=True)
dL_dw_l, dL_db_l = dL_dlogits.T @ x, dL_dlogits.sum(axis=0)
dL_dx = dL_dlogits @ w_l
""",
)

WINDOWS = (MAX_POOL, TIES, AVG_POOL, GROUPED, TRANSPOSED, PRELU, DROPOUT, LOG_SOFTMAX)
