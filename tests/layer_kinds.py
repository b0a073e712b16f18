"""Random layers of every kind, in the form of a spec. A new kind adds one row.

Each row draws the layer and the shape of one sample of its input.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from build import spec_of

from gradcheck_cli.spec.spec import Spec
from tests.network.step_kinds import Draw, Shape

SAMPLES = 5
"""The number of samples in a batch, for arrays that have a row for each sample."""


class Drawn(NamedTuple):
    """A layer in the form of a spec, and the shape of one sample of its input."""

    layer: Any
    features: Shape

    @property
    def below(self) -> dict[str, Any]:
        """Return a layer of the same shape to put below, so that a gradient passes through this layer."""
        if len(self.features) == 3:
            return {"conv2d": self.features[0], "kernel": 1, "activation": "tanh"}
        return {"units": self.features[-1], "activation": "tanh"}

    def spec(self, seed: int, **rest: Any) -> Spec:
        """Return a network with this layer between two others."""
        layers = [self.below, self.layer, {"flatten": True}, {"units": 3}]
        return spec_of(
            *layers, inputs=list(self.features), loss="cross_entropy", seed=seed, samples=SAMPLES, **rest
        )


def _image(draw: Draw, low: int = 3, high: int = 6, channels: int = 3) -> Shape:
    return (draw.size(1, channels), *draw.sizes(2, low, high))


def avg_pool2d(draw: Draw) -> Drawn:
    kernel = draw.sizes(2, 1, 3)
    layer: dict[str, Any] = {"avg_pool2d": list(kernel), "padding": [draw.size(0, k // 2) for k in kernel]}
    layer |= {"stride": list(draw.sizes(2, 1, 3))} if draw.coin() else {}
    layer |= {"count_include_pad": False} if draw.coin() else {}
    return Drawn(layer, _image(draw))


def adaptive_pool2d(key: str) -> Callable[[Draw], Drawn]:
    return lambda draw: Drawn({key: 1 if draw.coin() else list(draw.sizes(2, 1, 4))}, _image(draw))


def pool1d(key: str) -> Callable[[Draw], Drawn]:
    def drawn(draw: Draw) -> Drawn:
        kernel, dilation = draw.size(1, 3), draw.size(1, 2) if key == "max_pool1d" else 1
        layer: dict[str, Any] = {key: kernel, "padding": draw.size(0, kernel // 2)}
        layer |= {"stride": draw.size(1, 3)} if draw.coin() else {}
        layer |= {"dilation": dilation} if key == "max_pool1d" else {"count_include_pad": draw.coin()}
        return Drawn(layer, (draw.size(1, 3), dilation * (kernel - 1) + 1 + draw.size(0, 4)))

    return drawn


def adaptive_pool1d(key: str) -> Callable[[Draw], Drawn]:
    return lambda draw: Drawn({key: draw.size(1, 4)}, (draw.size(1, 3), draw.size(2, 7)))


def maxout(draw: Draw) -> Drawn:
    layer = {"maxout": draw.size(1, 3), "pieces": draw.size(2, 4)}
    return Drawn(layer, draw.sizes(draw.size(1, 2), 2, 4))


def weight_norm(draw: Draw) -> Drawn:
    if draw.coin():
        return Drawn({"units": draw.size(2, 4), "weight_norm": True}, draw.sizes(draw.size(1, 2), 2, 4))
    layer, features = conv1d(draw)
    return Drawn({**layer, "kernel": 2, "weight_norm": True}, (features[0], features[1] + 2))


def without_bias(draw: Draw) -> Drawn:
    normed = {"weight_norm": True} if draw.coin() else {}
    return Drawn({"units": draw.size(2, 4), "bias": False, **normed}, draw.sizes(draw.size(1, 2), 2, 4))


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


def _last_axes(draw: Draw, key: str) -> Drawn:
    features = draw.sizes(draw.size(1, 3), 2, 4)
    axes = draw.size(1, len(features))
    written = True if axes == 1 and draw.coin() else list(features[-axes:])
    layer = {key: written, "elementwise_affine": False} if draw.size(0, 3) == 0 else {key: written}
    return Drawn(layer | {"eps": 10.0 ** -draw.size(1, 6)}, features)


def layer_norm(draw: Draw) -> Drawn:
    return _last_axes(draw, "layer_norm")


def rms_norm(draw: Draw) -> Drawn:
    layer, features = _last_axes(draw, "rms_norm")
    if draw.coin():
        del layer["eps"]
    return Drawn(layer, features)


def group_norm(draw: Draw) -> Drawn:
    groups, positions = draw.size(1, 3), draw.size(0, 2)
    features = (groups * draw.size(3, 4), *draw.sizes(positions, 1, 3))
    layer = {"group_norm": groups, "affine": draw.size(0, 3) > 0, "eps": 10.0 ** -draw.size(1, 6)}
    return Drawn(layer, features)


def instance_norm(draw: Draw) -> Drawn:
    features = (draw.size(1, 3), *draw.sizes(draw.size(1, 2), 3, 4))
    return Drawn("instance_norm" if draw.coin() else {"instance_norm": True, "affine": True}, features)


def batch_norm(draw: Draw) -> Drawn:
    norm = {"unbiased": True, "eps": 10.0 ** -draw.size(1, 6)}
    features = draw.sizes(draw.size(1, 2), 2, 4)
    return Drawn({"units": draw.size(2, 4), "batch_norm": norm, "activation": "tanh"}, features)


def fixed_norm(draw: Draw) -> Drawn:
    units, features = draw.size(2, 4), draw.sizes(draw.size(1, 2), 2, 4)
    statistics = {"running_mean": draw.rng.normal(size=units).tolist()}
    statistics |= {"running_var": draw.rng.uniform(0.1, 4.0, units).tolist()}
    layer: dict[str, Any] = {"conv1d": units, "kernel": 1} if len(features) == 2 else {"units": units}
    return Drawn({**layer, "batch_norm": statistics}, features)


def rotary(draw: Draw) -> Drawn:
    features = (*draw.sizes(draw.size(1, 2), 2, 3), 2 * draw.size(1, 3))
    options = {"base": float(10.0 ** draw.size(0, 4)), "interleaved": draw.coin()} if draw.coin() else {}
    return Drawn({"rotary": True, **options}, features)


def positional_embedding(draw: Draw) -> Drawn:
    return Drawn("positional_embedding", draw.sizes(draw.size(1, 3), 2, 4))


def dropout(draw: Draw) -> Drawn:
    layer = {"dropout": float(draw.rng.uniform(0.0, 0.6)), "seed": draw.size(0, 99)}
    return Drawn(layer, draw.sizes(draw.size(1, 3), 3, 4))


def given_dropout(draw: Draw) -> Drawn:
    features = draw.sizes(draw.size(1, 2), 3, 4)
    shape = (SAMPLES, *features) if draw.coin() else features
    mask = (draw.rng.random(shape) < 0.6).astype(int).tolist()
    return Drawn(
        {"dropout": float(draw.rng.uniform(0.1, 0.6)), "mask": mask, "inverted": draw.coin()}, features
    )


def prelu(draw: Draw) -> Drawn:
    features = draw.sizes(draw.size(1, 3), 2, 4)
    return Drawn("prelu" if draw.coin() else {"prelu": True, "num_parameters": features[0]}, features)


def over_an_axis(key: str) -> Callable[[Draw], Drawn]:
    def drawn(draw: Draw) -> Drawn:
        axes = draw.size(1, 3)
        layer = {key: True, "dim": draw.size(-axes, axes - 1)} if draw.coin() else key
        return Drawn(layer, draw.sizes(axes, 2, 4))

    return drawn


def mean(draw: Draw) -> Drawn:
    axes = draw.size(2, 3)
    return Drawn({"mean": True, "dim": draw.size(-axes, axes - 1)}, draw.sizes(axes, 2, 4))


def select(draw: Draw) -> Drawn:
    features = draw.sizes(draw.size(2, 3), 2, 4)
    dim = draw.size(-len(features), len(features) - 1)
    index = draw.size(-features[dim], features[dim] - 1)
    return Drawn({"select": index, "dim": dim} if dim else {"select": index}, features)


def permute(draw: Draw) -> Drawn:
    features = draw.sizes(draw.size(1, 3), 2, 4)
    return Drawn({"permute": [int(i) for i in draw.rng.permutation(len(features))]}, features)


def reshape(draw: Draw) -> Drawn:
    features = draw.sizes(draw.size(2, 3), 2, 4)
    shape = list(features[::-1])
    if draw.coin():
        shape[draw.size(0, len(shape) - 1)] = -1
    return Drawn({"reshape": shape}, features)


KINDS: dict[str, Callable[[Draw], Drawn]] = {
    "max_pool1d": pool1d("max_pool1d"),
    "avg_pool1d": pool1d("avg_pool1d"),
    "adaptive_avg_pool1d": adaptive_pool1d("adaptive_avg_pool1d"),
    "adaptive_max_pool1d": adaptive_pool1d("adaptive_max_pool1d"),
    "maxout": maxout,
    "weight_norm": weight_norm,
    "units, without bias": without_bias,
    "batch_norm, fixed": fixed_norm,
    "rotary": rotary,
    "dropout, given": given_dropout,
    "avg_pool2d": avg_pool2d,
    "adaptive_avg_pool2d": adaptive_pool2d("adaptive_avg_pool2d"),
    "adaptive_max_pool2d": adaptive_pool2d("adaptive_max_pool2d"),
    "conv1d": conv1d,
    "conv_transpose2d": conv_transpose2d,
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "group_norm": group_norm,
    "instance_norm": instance_norm,
    "batch_norm, unbiased": batch_norm,
    "positional_embedding": positional_embedding,
    "dropout": dropout,
    "prelu": prelu,
    "softmax": over_an_axis("softmax"),
    "log_softmax": over_an_axis("log_softmax"),
    "mean": mean,
    "select": select,
    "permute": permute,
    "reshape": reshape,
}
