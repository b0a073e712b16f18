"""The example with convolutions: two of them and a dense layer, in plain numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mistake_pages.programs import MSE, TANH, Example

_FUNCTIONS = '''
CONVOLVE = "nchwij,ocij->nohw"


def windows(x, stride):
    """What the kernel sees at every position, (N, channels, height, width, 3, 3)."""
    x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    seen = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
    return seen[:, :, ::stride, ::stride]


def spread(parts, stride, size):
    """Windows, added where they came from in a padded image of this size."""
    image = np.zeros((*parts.shape[:2], size, size))
    for i, j in np.ndindex(parts.shape[2:4]):
        rows, columns = slice(stride * i, stride * i + 3), slice(stride * j, stride * j + 3)
        image[:, :, rows, columns] += parts[:, :, i, j]
    return image

'''


@dataclass(frozen=True)
class Convolutional(Example):
    """Two convolutions, whose names end in `_h` and `_k`, below the output layer."""

    @property
    def features(self) -> list[int]:
        return [1, 5, 5]

    @property
    def layers(self) -> Sequence[Any]:
        of_all: Mapping[str, Any] = {"kernel": 3, "padding": 1, "activation": self.layer}
        return [
            {"conv2d": 2, **of_all},
            {"conv2d": 3, "stride": 2, **of_all},
            "flatten",
            {"units": self.sizes[-1], "activation": self.outer},
        ]

    @property
    def up_to_output(self) -> Sequence[str]:
        return [
            "z_h = np.einsum(CONVOLVE, windows(x, 1), w_h) + b_h[:, None, None]",
            self.hidden,
            "z_k = np.einsum(CONVOLVE, windows(a_h, 2), w_k) + b_k[:, None, None]",
            "a_k = np.tanh(z_k)",
            "flat = a_k.reshape(N, -1)",
            "z = flat @ w.T + b",
            self.output,
        ]

    @property
    def backward(self) -> Sequence[str]:
        return [
            self.dL_da,
            self.delta,
            "dL_dw = delta.T @ flat",
            "dL_db = delta.sum(axis=0)",
            "dL_da_k = (delta @ w).reshape(a_k.shape)",
            "delta_k = dL_da_k * (1 - a_k**2)",
            'dL_dw_k = np.einsum("nohw,nchwij->ocij", delta_k, windows(a_h, 2))',
            "dL_db_k = delta_k.sum(axis=(0, 2, 3))",
            'parts = np.einsum("nohw,ocij->nchwij", delta_k, w_k)',
            "dL_da_h = spread(parts, 2, 7)[:, :, 1:-1, 1:-1]",
            self.delta_h,
            'dL_dw_h = np.einsum("nohw,nchwij->ocij", delta_h, windows(x, 1))',
            "dL_db_h = delta_h.sum(axis=(0, 2, 3))",
        ]


CONVOLUTION = Convolutional(
    "a network of two convolutions with 3 × 3 kernels, the second with stride 2",
    layer="tanh",
    outer="identity",
    loss_spec={"name": "mse", "reduction": "mean"},
    hidden="a_h = np.tanh(z_h)",
    output="a = z",
    loss="((a - y) ** 2).mean()",
    dL_da=MSE,
    delta="delta = dL_da",
    delta_h=TANH,
    functions=_FUNCTIONS,
    sizes=(11, 25, 2, 2),
)
