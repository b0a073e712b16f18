"""Draw one layer of any kind that a spec knows. A new kind of layer adds a row to `FEATURES`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcheck_cli.network.activations import ACTIVATIONS

Raw = dict[str, Any]
Shape = tuple[int, ...]
Rng = np.random.Generator

KINKED = tuple(name for name, row in ACTIVATIONS.items() if row.pieces)


@dataclass(frozen=True)
class Here:
    """The information for drawing a layer: the shape of one sample of its input, and a random generator.

    activations: the activations to choose from.
    """

    shape: Shape
    rng: Rng
    activations: tuple[str, ...] = tuple(ACTIVATIONS)

    def size(self, low: int, high: int) -> int:
        """Return a random integer from low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def sizes(self, count: int, low: int, high: int) -> list[int]:
        return [self.size(low, high) for _ in range(count)]

    def coin(self, probability: float = 0.5) -> bool:
        return bool(self.rng.random() < probability)

    def choice(self, *values: Any) -> Any:
        return values[self.size(0, len(values) - 1)]

    def divisor(self, number: int) -> int:
        return self.choice(*(k for k in range(1, number + 1) if number % k == 0))

    def around(self) -> Raw:
        """Return a random activation and batch normalisation for a layer with weights."""
        activation: Any = str(self.rng.choice(self.activations))
        if activation == "gelu" and self.coin():
            activation = {"name": "gelu", "approximate": "tanh"}
        norm = {"batch_norm": self.choice(True, {"unbiased": True}, {"eps": 1e-2})}
        return {"activation": activation, **(norm if self.coin(0.25) else {})}

    def at(self, shape: Shape) -> Here:
        return Here(shape, self.rng, self.activations)


Draw = Callable[[Here], Any]


def dense(here: Here) -> Raw:
    return {"units": here.size(2, 6), **here.around()}


def batch_norm(here: Here) -> Raw:
    return {**dense(here), "batch_norm": here.choice(True, {"unbiased": True}, {"eps": 1e-3})}


def conv2d(here: Here) -> Raw:
    groups = here.choice(1, here.divisor(here.shape[0]))
    return {
        "conv2d": groups * here.size(1, 2),
        "kernel": here.sizes(2, 1, 3),
        "stride": here.sizes(2, 1, 2),
        "padding": here.sizes(2, 0, 1),
        "dilation": here.sizes(2, 1, 2),
        "groups": groups,
        **here.around(),
    }


def conv1d(here: Here) -> Raw:
    groups = here.choice(1, here.divisor(here.shape[0]))
    return {
        "conv1d": groups * here.size(1, 2),
        "kernel": here.size(1, 3),
        "stride": here.size(1, 2),
        "padding": here.size(0, 1),
        "dilation": here.size(1, 2),
        "groups": groups,
        **here.around(),
    }


def conv_transpose2d(here: Here) -> Raw:
    groups, stride = here.choice(1, here.divisor(here.shape[0])), here.sizes(2, 1, 2)
    return {
        "conv_transpose2d": groups * here.size(1, 2),
        "kernel": here.sizes(2, 1, 3),
        "stride": stride,
        "padding": here.sizes(2, 0, 1),
        "output_padding": [here.size(0, s - 1) for s in stride],
        "groups": groups,
        **here.around(),
    }


def max_pool2d(here: Here) -> Raw:
    layer = {"max_pool2d": here.sizes(2, 1, 3)}
    return layer | ({"stride": here.sizes(2, 1, 2)} if here.coin() else {})


def avg_pool2d(here: Here) -> Raw:
    kernel = here.sizes(2, 1, 3)
    layer: Raw = {"avg_pool2d": kernel, "padding": [here.size(0, k // 2) for k in kernel]}
    layer |= {"stride": here.sizes(2, 1, 2)} if here.coin() else {}
    return layer | ({"count_include_pad": False} if here.coin() else {})


def adaptive_pool2d(key: str) -> Draw:
    return lambda here: {key: here.choice(1, here.sizes(2, 1, 3))}


def pool1d(key: str) -> Draw:
    def drawn(here: Here) -> Raw:
        kernel = here.size(1, 3)
        layer: Raw = {key: kernel, "padding": here.size(0, kernel // 2)}
        return layer | ({"stride": here.size(1, 2)} if here.coin() else {})

    return drawn


def last_axes(key: str) -> Draw:
    def drawn(here: Here) -> Raw:
        written = here.choice(True, list(here.shape[-here.size(1, len(here.shape)) :]))
        layer = {key: written} | ({"eps": 10.0 ** -here.size(1, 6)} if here.coin() else {})
        return layer | ({"elementwise_affine": False} if here.coin(0.25) else {})

    return drawn


def group_norm(here: Here) -> Raw:
    return {"group_norm": here.divisor(here.shape[0]), "affine": here.coin(0.75)}


def prelu(here: Here) -> Any:
    return here.choice("prelu", {"prelu": True, "num_parameters": here.shape[0]})


def dropout(here: Here) -> Raw:
    return {"dropout": float(here.rng.uniform(0.0, 0.5)), "seed": here.size(0, 99)}


def select(here: Here) -> Raw:
    dim = here.size(0, len(here.shape) - 2)
    return {"select": here.size(0, here.shape[dim] - 1), "dim": dim}


def mean(here: Here) -> Raw:
    return {"mean": True, "dim": here.size(0, len(here.shape) - 1)}


def permute(here: Here) -> Raw:
    return {"permute": [int(i) for i in here.rng.permutation(len(here.shape))]}


def reshape(here: Here) -> Raw:
    rows = here.divisor(math.prod(here.shape))
    return {"reshape": [rows, -1]}


def recurrent(key: str) -> Draw:
    def drawn(here: Here) -> Raw:
        layer: Raw = {key: here.size(1, 3)}
        layer |= {"num_layers": 2} if here.coin(0.25) else {}
        layer |= {"bidirectional": True} if here.coin(0.3) else {}
        relu = key == "rnn" and here.coin(0.9 if here.activations == KINKED else 0.3)
        return layer | ({"nonlinearity": "relu"} if relu else {})

    return drawn


def attention(here: Here) -> Raw:
    heads = here.divisor(here.shape[-1])
    layer: Raw = {"attention": heads, "causal": here.coin(), "bias": here.coin(0.7)}
    if here.coin(0.3):
        tokens = here.shape[0]
        layer["attn_mask"] = [[0.3 * (q - k) for k in range(tokens)] for q in range(tokens)]
    return layer | ({"kv_heads": here.divisor(heads)} if here.coin(0.3) else {})


def gated(key: str) -> Draw:
    return lambda here: {key: here.size(2, 4), "bias": here.coin()}


def residual(here: Here) -> Raw:
    """Return a residual whose last layer has the shape of its input."""
    width = here.shape[-1]
    inner: list[Any] = [{here.choice("layer_norm", "rms_norm"): True}] if here.coin() else []
    if len(here.shape) == 3:
        inner += [{"conv2d": here.shape[0], "kernel": 3, "padding": 1, **here.around()}]
    elif len(here.shape) == 2 and here.coin():
        inner += [attention(here)]
    elif here.coin(0.3):
        inner += [gated(here.choice("swiglu", "geglu"))(here)]
    else:
        inner += [dense(here), {"units": width, **here.around()}]
    return {"residual": inner}


IMAGE, SEQUENCE, ROWS, ANY = (3,), (2,), (1, 2), (1, 2, 3)

FEATURES: Mapping[str, tuple[Draw, tuple[int, ...]]] = {
    "units": (dense, ROWS),
    "batch_norm": (batch_norm, ROWS),
    "conv2d": (conv2d, IMAGE),
    "conv1d": (conv1d, SEQUENCE),
    "conv_transpose2d": (conv_transpose2d, IMAGE),
    "max_pool2d": (max_pool2d, IMAGE),
    "avg_pool2d": (avg_pool2d, IMAGE),
    "adaptive_avg_pool2d": (adaptive_pool2d("adaptive_avg_pool2d"), IMAGE),
    "adaptive_max_pool2d": (adaptive_pool2d("adaptive_max_pool2d"), IMAGE),
    "max_pool1d": (pool1d("max_pool1d"), SEQUENCE),
    "avg_pool1d": (pool1d("avg_pool1d"), SEQUENCE),
    "adaptive_avg_pool1d": (lambda here: {"adaptive_avg_pool1d": here.size(1, 3)}, SEQUENCE),
    "adaptive_max_pool1d": (lambda here: {"adaptive_max_pool1d": here.size(1, 3)}, SEQUENCE),
    "layer_norm": (last_axes("layer_norm"), ANY),
    "rms_norm": (last_axes("rms_norm"), ANY),
    "group_norm": (group_norm, ANY),
    "instance_norm": (lambda here: {"instance_norm": True, "affine": here.coin()}, (2, 3)),
    "embedding": (lambda here: {"embedding": 6, "embedding_dim": 4}, ()),
    "positional_embedding": (lambda here: "positional_embedding", ANY),
    "rotary": (lambda here: {"rotary": True, "interleaved": here.coin()}, SEQUENCE),
    "prelu": (prelu, ANY),
    "maxout": (lambda here: {"maxout": here.size(2, 4), "pieces": here.size(2, 3)}, ROWS),
    "dropout": (dropout, ANY),
    "softmax": (lambda here: "softmax", ANY),
    "log_softmax": (lambda here: "log_softmax", ANY),
    "mean": (mean, (2, 3)),
    "select": (select, (2, 3)),
    "permute": (permute, (2, 3)),
    "reshape": (reshape, ANY),
    "residual": (residual, ANY),
    "rnn": (recurrent("rnn"), SEQUENCE),
    "lstm": (recurrent("lstm"), SEQUENCE),
    "gru": (recurrent("gru"), SEQUENCE),
    "attention": (attention, SEQUENCE),
    "swiglu": (gated("swiglu"), ROWS),
    "geglu": (gated("geglu"), ROWS),
    "tied": (lambda here: {"units": here.shape[-1], **here.around()}, ROWS),
}
"""For each kind of layer, a function that draws one, and the numbers of axes that its input may have."""
