"""Convolutions and pooling of [sample, channel, row, column]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kinds.function import Array, Arrays, Draw, Function, chance, normal, whole


@dataclass(frozen=True)
class Window:
    """A window that slides over rows and columns."""

    size: int
    stride: int
    padding: int = 0
    dilation: int = 1

    def outputs(self, inputs: int) -> int:
        return (inputs + 2 * self.padding - self.dilation * (self.size - 1) - 1) // self.stride + 1

    def padded(self, x: Array) -> Array:
        around = (self.padding, self.padding)
        return np.pad(x, ((0, 0), (0, 0), around, around))

    def cropped(self, x: Array, by: int = 0) -> Array:
        """Remove the padding.

        by: a shift, for a planted mistake.
        """
        start = self.padding + by
        return x[:, :, start : x.shape[2] - 2 * self.padding + start, start:][
            ..., : x.shape[3] - 2 * self.padding
        ]

    def places(self) -> list[tuple[int, int]]:
        return [(u, v) for u in range(self.size) for v in range(self.size)]

    def under(self, u: int, v: int, rows: int, columns: int) -> tuple[Any, ...]:
        """Return the values at place (u, v) of every window, for this number of outputs."""
        s, u, v = self.stride, u * self.dilation, v * self.dilation
        return (
            slice(None),
            slice(None),
            slice(u, u + s * (rows - 1) + 1, s),
            slice(v, v + s * (columns - 1) + 1, s),
        )


def _image(rng: Draw, window: Window) -> tuple[int, int, int, int]:
    least = max(1, window.dilation * (window.size - 1) + 1 - 2 * window.padding)
    return (whole(rng, 1, 2), whole(rng, 1, 2), whole(rng, least, least + 3), whole(rng, least, least + 3))


CONV_SLIPS = (
    "stride forgotten in dw",
    "dilation forgotten in dw",
    "kernel turned in dx",
    "= for += in dx",
    "padding cropped one off",
    "bias of one sample",
    "bias averaged over pixels",
    "last row of outputs left out",
    "activation derivative forgotten",
    "dw of one sample",
    "channels swapped in dx",
    "rows and columns swapped in dw",
)


def conv(rng: Draw) -> Function:
    """A convolution with stride, padding and dilation, followed by tanh."""
    window = Window(whole(rng, 1, 3), whole(rng, 1, 2), whole(rng, 0, 1), whole(rng, 1, 2))
    n, channels, height, width = _image(rng, window)
    outputs = whole(rng, 1, 3)
    rows, columns = window.outputs(height), window.outputs(width)
    return Function(
        {
            "w": normal(rng, outputs, channels, window.size, window.size, scale=0.5),
            "b": normal(rng, outputs, scale=0.3),
            "x": normal(rng, n, channels, height, width),
        },
        {"upstream": normal(rng, n, outputs, rows, columns)},
        lambda p, d: _conv_forward(p, d, window),
        lambda p, d, out, slip: _conv_backward(p, d, out, slip, window),
    )


def _conv_forward(p: Arrays, d: Arrays, window: Window) -> tuple[Array, Any]:
    x, (rows, columns) = window.padded(p["x"]), d["upstream"].shape[2:]
    out = p["b"][None, :, None, None] + sum(
        np.einsum("oc,ncij->noij", p["w"][:, :, u, v], x[window.under(u, v, rows, columns)])
        for u, v in window.places()
    )
    return (d["upstream"] * np.tanh(out)).sum((1, 2, 3)), out


def _conv_backward(p: Arrays, d: Arrays, out: Array, slip: str, window: Window) -> Arrays:
    x, w, (rows, columns) = window.padded(p["x"]), p["w"], out.shape[2:]
    delta = d["upstream"] * (1.0 if slip == "activation derivative forgotten" else 1.0 - np.tanh(out) ** 2)
    if slip == "last row of outputs left out":
        delta[:, :, -1] = 0.0
    look = {
        "stride forgotten in dw": Window(window.size, 1, window.padding, window.dilation),
        "dilation forgotten in dw": Window(window.size, window.stride, window.padding, 1),
    }.get(slip, window)
    dw, dx = np.zeros_like(w), np.zeros_like(x)
    for u, v in window.places():
        seen = x[look.under(u, v, rows, columns)]
        samples = 1 if slip == "dw of one sample" else len(x)
        dw[:, :, u, v] = np.einsum("noij,ncij->oc", delta[:samples], seen[:samples])
        kernel = w[:, :, -1 - u, -1 - v] if slip == "kernel turned in dx" else w[:, :, u, v]
        if slip == "channels swapped in dx" and w.shape[0] == w.shape[1]:
            kernel = kernel.T
        below, share = window.under(u, v, rows, columns), np.einsum("oc,noij->ncij", kernel, delta)
        dx[below] = share if slip == "= for += in dx" else dx[below] + share
    if slip == "rows and columns swapped in dw":
        dw = dw.swapaxes(2, 3)
    db = {
        "bias of one sample": delta[0].sum((1, 2)),
        "bias averaged over pixels": delta.mean((2, 3)).sum(0),
    }.get(slip, delta.sum((0, 2, 3)))
    by = -1 if slip == "padding cropped one off" and window.padding else 0
    return {"w": dw, "b": db, "x": window.cropped(dx, by)}


# --- pooling ----------------------------------------------------------------------------------------------

TIED_SLIPS = (
    "mask forgotten",
    "shared by all of the window",
    "minimum for maximum",
    "stride forgotten",
    "last row of outputs left out",
    "upstream forgotten",
    "square's derivative forgotten",
)
MAX_POOL_SLIPS = (*TIED_SLIPS, "= for +=")


def max_pool(rng: Draw) -> Function:
    """Maxima of distinct numbers, over windows that may overlap."""
    size = whole(rng, 2, 3)
    return _max_pool(rng, Window(size, whole(rng, 1, size)), lambda x: x, shared=False)


def max_pool_ties(rng: Draw) -> Function:
    """Maxima of small integers, with many ties: the first maximum gets the gradient, or each gets a share.

    The windows do not overlap. If a number tied in several windows at once, its slope would not reveal the
    convention.
    """
    size = whole(rng, 2, 3)
    return _max_pool(rng, Window(size, size), np.round, shared=chance(rng, 0.3))


def _max_pool(rng: Draw, window: Window, rounded: Any, shared: bool) -> Function:
    n, channels, height, width = _image(rng, window)
    rows, columns = window.outputs(height), window.outputs(width)
    return Function(
        {"x": rounded(normal(rng, n, channels, height, width, scale=1.5))},
        {"upstream": normal(rng, n, channels, rows, columns)},
        lambda p, d: _max_pool_forward(p, d, window),
        lambda p, d, out, slip: _max_pool_backward(p, d, out, slip, window, shared),
    )


def _windows(x: Array, window: Window, rows: int, columns: int) -> Array:
    """Return the values of all windows as [place, sample, channel, row, column]."""
    return np.stack([x[window.under(u, v, rows, columns)] for u, v in window.places()])


def _max_pool_forward(p: Arrays, d: Arrays, window: Window) -> tuple[Array, Any]:
    out = _windows(p["x"], window, *d["upstream"].shape[2:]).max(0)
    return (d["upstream"] * (out + 0.5 * out**2)).sum((1, 2, 3)), out


def _max_pool_backward(p: Arrays, d: Arrays, out: Array, slip: str, window: Window, shared: bool) -> Arrays:
    x, (rows, columns) = p["x"], out.shape[2:]
    upstream = 1.0 if slip == "upstream forgotten" else d["upstream"]
    delta = upstream * (1.0 if slip == "square's derivative forgotten" else 1.0 + out)
    if slip == "last row of outputs left out":
        delta[:, :, -1] = 0.0
    numbers = _windows(x, window, rows, columns)
    first = numbers.argmin(0) if slip == "minimum for maximum" else numbers.argmax(0)
    masks = np.stack([first == k for k in range(len(numbers))]).astype(x.dtype)
    if shared:
        masks = (numbers == out).astype(x.dtype) / (numbers == out).sum(0).astype(x.dtype)
    if slip in ("mask forgotten", "shared by all of the window"):
        masks = np.ones_like(masks) / (1 if slip == "mask forgotten" else len(masks))
    look = Window(window.size, 1) if slip == "stride forgotten" else window
    dx = np.zeros_like(x)
    for (u, v), mask in zip(window.places(), masks, strict=True):
        below = look.under(u, v, rows, columns)
        dx[below] = mask * delta if slip == "= for +=" else dx[below] + mask * delta
    return {"x": dx}


AVERAGE_POOL_SLIPS = (
    "area forgotten",
    "area is the side",
    "padding not counted",
    "= for +=",
    "last row of outputs left out",
    "tanh's derivative forgotten",
    "upstream forgotten",
)


def average_pool(rng: Draw) -> Function:
    """Means over windows, including the padding, followed by tanh."""
    size = whole(rng, 2, 3)
    window = Window(size, whole(rng, 1, size), whole(rng, 0, 1))
    n, channels, height, width = _image(rng, window)
    rows, columns = window.outputs(height), window.outputs(width)
    return Function(
        {"x": normal(rng, n, channels, height, width)},
        {"upstream": normal(rng, n, channels, rows, columns)},
        lambda p, d: _average_pool_forward(p, d, window),
        lambda p, d, out, slip: _average_pool_backward(p, d, out, slip, window),
    )


def _average_pool_forward(p: Arrays, d: Arrays, window: Window) -> tuple[Array, Any]:
    out = _windows(window.padded(p["x"]), window, *d["upstream"].shape[2:]).sum(0) / window.size**2
    return (d["upstream"] * np.tanh(out)).sum((1, 2, 3)), out


def _average_pool_backward(p: Arrays, d: Arrays, out: Array, slip: str, window: Window) -> Arrays:
    rows, columns = out.shape[2:]
    x = window.padded(p["x"])
    delta = 1.0 if slip == "tanh's derivative forgotten" else 1.0 - np.tanh(out) ** 2
    delta = delta * (1.0 + 0.0 * out if slip == "upstream forgotten" else d["upstream"])
    if slip == "last row of outputs left out":
        delta[:, :, -1] = 0.0
    inside = _windows(window.padded(np.ones_like(p["x"])), window, rows, columns).sum(0)
    area = {
        "area forgotten": 1.0,
        "area is the side": window.size,
        "padding not counted": inside,
    }.get(slip, window.size**2)
    dx = np.zeros_like(x)
    for u, v in window.places():
        below = window.under(u, v, rows, columns)
        dx[below] = delta / area if slip == "= for +=" else dx[below] + delta / area
    return {"x": window.cropped(dx)}
