"""Guess convolutions and poolings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from gradcheck_cli.code.call import Call
from gradcheck_cli.known_layers.sketch import Sketch, as_it_is, begun, in_roles, reshaped
from gradcheck_cli.network.graph import INPUT
from gradcheck_cli.network.step import Step
from gradcheck_cli.network.steps.conv1d import Conv1d
from gradcheck_cli.network.steps.conv2d import Conv2d
from gradcheck_cli.network.steps.max_pool1d import MaxPool1d
from gradcheck_cli.network.steps.max_pool2d import MaxPool2d
from gradcheck_cli.network.steps.pooling import AvgPool, AvgPool1d
from gradcheck_cli.types import Shape

_MOST = 4
"""The largest stride and padding to try."""

_CONVOLUTIONS: Mapping[int, tuple[str, type[Step]]] = {3: ("conv1d", Conv1d), 4: ("conv2d", Conv2d)}
"""The convolution of arrays with this number of axes, with the batch axis."""

_POOLINGS: Mapping[int, tuple[tuple[str, type[Step], Mapping[str, Any]], ...]] = {
    3: (
        ("max_pool1d", MaxPool1d, {"dilation": 1}),
        ("avg_pool1d", AvgPool1d, {"count_include_pad": True}),
    ),
    4: (
        ("max_pool2d", MaxPool2d, {"dilation": (1, 1)}),
        ("avg_pool2d", AvgPool, {"count_include_pad": True}),
    ),
}
"""The poolings of arrays with this number of axes, with their other options."""


def convolution(call: Call) -> Iterator[Sketch]:
    """Yield convolutions with each stride and padding that gives the output's shape."""
    out = call.outputs[0].shape
    for x, w, *b in in_roles(call, 2, 3) if len(out) in _CONVOLUTIONS else ():
        image, kernel = call.arrays[x].shape, call.arrays[w].shape
        units = [call.arrays[name].size for name in b]
        if not len(image) == len(kernel) == len(out) or image[1] != kernel[1] or units not in ([], [out[1]]):
            continue
        forms = {x: as_it_is, w: as_it_is, **dict.fromkeys(b, reshaped(-1))}
        kind, step = _CONVOLUTIONS[len(out)]
        for stride, padding in _windows(image[2:], kernel[2:], out[2:]):
            options = {"stride": stride, "padding": padding, "dilation": 1}
            along = {key: _along(number, len(out)) for key, number in options.items()}
            size = kernel[2] if len(out) == 3 else kernel[2:]
            builder = begun(kind, image[1:])
            own = step.of(image[1:], **{kind: kernel[0]}, kernel=size, groups=1, bias=bool(b), **along)
            builder.add(own, INPUT, names=dict(zip(("weight", "bias"), (w, *b), strict=False)))
            told = f"{kind} with stride {stride} and padding {padding}"
            yield Sketch(told, builder, call.arrays[x], forms, {x: INPUT})


def pooling(call: Call) -> Iterator[Sketch]:
    """Yield poolings with each square window, stride and padding that give the output's shape."""
    out = call.outputs[0].shape
    for (name,) in in_roles(call, 1):
        x = call.arrays[name]
        for size in range(2, 1 + max(x.shape[2:], default=0)) if x.ndim == len(out) else ():
            for kind, step, other in _POOLINGS.get(x.ndim, ()):
                for stride, padding in _windows(x.shape[2:], (size,) * (x.ndim - 2), out[2:]):
                    if 2 * padding > size:
                        continue
                    options = {kind: size, "stride": stride, "padding": padding}
                    along = {key: _along(number, x.ndim) for key, number in options.items()}
                    builder = begun(kind, x.shape[1:])
                    builder.add(step.of(x.shape[1:], **along, **other), INPUT)
                    told = f"{kind} with a window of {size}, stride {stride} and padding {padding}"
                    yield Sketch(told, builder, x, {name: as_it_is}, {name: INPUT})


def _along(number: int, axes: int) -> int | tuple[int, int]:
    """Return an option as the steps take it: a pair for images, which have four axes."""
    return (number, number) if axes == 4 else number


def _windows(size: Shape, kernel: Shape, out: Shape) -> Iterator[tuple[int, int]]:
    """Yield each stride and padding with which windows of the shape `kernel` give the output's shape."""
    for stride, padding in product(range(1, _MOST + 1), range(_MOST + 1)):
        rooms = [s + 2 * padding - k for s, k in zip(size, kernel, strict=True)]
        if min(rooms) >= 0 and tuple(1 + room // stride for room in rooms) == out:
            yield stride, padding
