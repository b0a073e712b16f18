"""Random layers of every kind, as a spec writes them. A new kind adds one row.

Each row draws the layer and the shape of one sample of its input.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from build import spec_of

from gradcheck_cli.spec.spec import Spec
from tests.network.step_kinds import Draw, Shape


class Drawn(NamedTuple):
    """A layer as a spec writes it, and the shape of one sample of its input."""

    layer: Any
    features: Shape

    @property
    def below(self) -> dict[str, Any]:
        """A layer below, so that the gradient passes through this one; it keeps the shape."""
        if len(self.features) == 3:
            return {"conv2d": self.features[0], "kernel": 1, "activation": "tanh"}
        return {"units": self.features[-1], "activation": "tanh"}

    def spec(self, seed: int, **rest: Any) -> Spec:
        """Return a network with this layer between two others."""
        layers = [self.below, self.layer, {"flatten": True}, {"units": 3}]
        return spec_of(*layers, inputs=list(self.features), loss="cross_entropy", seed=seed, **rest)


def _image(draw: Draw, low: int = 3, high: int = 6, channels: int = 3) -> Shape:
    return (draw.size(1, channels), *draw.sizes(2, low, high))


def avg_pool2d(draw: Draw) -> Drawn:
    kernel = draw.sizes(2, 1, 3)
    layer: dict[str, Any] = {"avg_pool2d": list(kernel), "padding": [draw.size(0, k // 2) for k in kernel]}
    layer |= {"stride": list(draw.sizes(2, 1, 3))} if draw.coin() else {}
    layer |= {"count_include_pad": False} if draw.coin() else {}
    return Drawn(layer, _image(draw))


def adaptive_avg_pool2d(draw: Draw) -> Drawn:
    return Drawn({"adaptive_avg_pool2d": 1 if draw.coin() else list(draw.sizes(2, 1, 4))}, _image(draw))


def conv1d(draw: Draw) -> Drawn:
    groups, kernel, dilation = draw.size(1, 2), draw.size(1, 3), draw.size(1, 2)
    layer = {"conv1d": groups * draw.size(1, 3), "kernel": kernel, "dilation": dilation, "groups": groups}
    layer |= {"stride": draw.size(1, 3), "padding": draw.size(0, 2)}
    return Drawn(layer, (groups * draw.size(1, 2), dilation * (kernel - 1) + 1 + draw.size(0, 3)))


def conv_transpose2d(draw: Draw) -> Drawn:
    groups, kernel, dilation = draw.size(1, 2), draw.sizes(2, 1, 3), draw.sizes(2, 1, 2)
    stride = draw.sizes(2, 1, 3)
    layer = {"conv_transpose2d": groups * draw.size(1, 2), "kernel": list(kernel), "groups": groups}
    layer |= {"stride": list(stride), "dilation": list(dilation)}
    layer |= {"padding": [draw.size(0, d * (k - 1) // 2) for d, k in zip(dilation, kernel, strict=True)]}
    layer |= {"output_padding": [draw.size(0, s - 1) for s in stride]}
    return Drawn(layer, (groups * draw.size(1, 2), *draw.sizes(2, 1, 3)))


KINDS: dict[str, Callable[[Draw], Drawn]] = {
    "avg_pool2d": avg_pool2d,
    "adaptive_avg_pool2d": adaptive_avg_pool2d,
    "conv1d": conv1d,
    "conv_transpose2d": conv_transpose2d,
}
