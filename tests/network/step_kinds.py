"""Random steps of every kind, each with the torch function that it must equal. A new kind adds one row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from gradcheck_cli.network.step import Step
from gradcheck_cli.network.steps.adaptive_max_pool import AdaptiveMaxPool, AdaptiveMaxPool1d
from gradcheck_cli.network.steps.add import Add
from gradcheck_cli.network.steps.constant import Constant
from gradcheck_cli.network.steps.conv1d import Conv1d
from gradcheck_cli.network.steps.conv_transpose2d import ConvTranspose2d
from gradcheck_cli.network.steps.dense import Dense
from gradcheck_cli.network.steps.dropout import Dropout, SampleDropout
from gradcheck_cli.network.steps.fixed_norm import FixedNormalise
from gradcheck_cli.network.steps.gates import Complement, Multiply
from gradcheck_cli.network.steps.group_norm import GroupNormalise
from gradcheck_cli.network.steps.learned_state import LearnedState
from gradcheck_cli.network.steps.matmul import Matmul
from gradcheck_cli.network.steps.max_pool1d import MaxPool1d
from gradcheck_cli.network.steps.maxout import Maxout
from gradcheck_cli.network.steps.normalise import Normalise
from gradcheck_cli.network.steps.offset import Offset
from gradcheck_cli.network.steps.padded_softmax import PaddedSoftmax
from gradcheck_cli.network.steps.pooling import AdaptiveAvgPool, AdaptiveAvgPool1d, AvgPool, AvgPool1d, Mean
from gradcheck_cli.network.steps.positional import PositionalAdd
from gradcheck_cli.network.steps.prelu import PReLU
from gradcheck_cli.network.steps.rearrange import (
    Concatenate,
    Permute,
    Repeat,
    Reshape,
    Select,
    Slice,
    Stack,
)
from gradcheck_cli.network.steps.rms_norm import Gain, RootMeanSquare
from gradcheck_cli.network.steps.rotary import Rotary
from gradcheck_cli.network.steps.softmax import LogSoftmax, Softmax
from gradcheck_cli.network.steps.weight_norm import WeightNorm

Shape = tuple[int, ...]


class Drawn(NamedTuple):
    """A random step and the features of each of its inputs."""

    step: Step
    features: tuple[Shape, ...]


class Draw:
    """A source of random numbers, with a method for each sort that a draw needs."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def size(self, low: int = 1, high: int = 5) -> int:
        """Return a random integer from low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def sizes(self, count: int, low: int = 1, high: int = 5) -> Shape:
        return tuple(self.size(low, high) for _ in range(count))

    def shape(self, low: int = 1, high: int = 3) -> Shape:
        """Return a random shape with one to three axes, or with this number of axes."""
        return self.sizes(self.size(low, high), 1, 4)

    def coin(self) -> bool:
        return bool(self.rng.random() < 0.5)


def conv1d(draw: Draw) -> Drawn:
    groups, kernel, dilation, padding = draw.size(1, 2), draw.size(1, 4), draw.size(1, 2), draw.size(0, 2)
    inputs, channels = groups * draw.size(1, 3), groups * draw.size(1, 3)
    length = max(1, dilation * (kernel - 1) + 1 - 2 * padding) + draw.size(0, 5)
    step = Conv1d(inputs, channels, (kernel,), (draw.size(1, 3),), (padding,), (dilation,), groups)
    return Drawn(step, ((inputs, length),))


def conv_transpose2d(draw: Draw) -> Drawn:
    groups, kernel, dilation = draw.size(1, 2), draw.sizes(2, 1, 3), draw.sizes(2, 1, 2)
    inputs, channels = groups * draw.size(1, 2), groups * draw.size(1, 3)
    stride = draw.sizes(2, 1, 3)
    padding = tuple(draw.size(0, min(2, d * (k - 1) // 2)) for d, k in zip(dilation, kernel, strict=True))
    more = tuple(draw.size(0, s - 1) for s in stride)
    step = ConvTranspose2d(inputs, channels, kernel, stride, padding, more, dilation, groups)
    return Drawn(step, ((inputs, *draw.sizes(2, 1, 4)),))


def avg_pool(kind: type[AvgPool]) -> Callable[[Draw], Drawn]:
    def drawn(draw: Draw) -> Drawn:
        kernel = draw.sizes(kind.position_axes, 1, 3)
        padding = tuple(draw.size(0, k // 2) for k in kernel)
        size = tuple(k + draw.size(0, 4) for k in kernel)
        strides = draw.sizes(kind.position_axes, 1, 3)
        return Drawn(kind(kernel, strides, padding, draw.coin()), ((draw.size(1, 3), *size),))

    return drawn


def max_pool1d(draw: Draw) -> Drawn:
    kernel, dilation = draw.size(1, 3), draw.size(1, 2)
    options = (kernel,), (draw.size(1, 3),), (draw.size(0, kernel // 2),), (dilation,)
    length = dilation * (kernel - 1) + 1 + draw.size(0, 4)
    return Drawn(MaxPool1d(*options), ((draw.size(1, 3), length),))


def maxout(draw: Draw) -> Drawn:
    pieces, units = draw.size(2, 4), draw.size(1, 3)
    return Drawn(Maxout.of_pieces(pieces), ((*draw.shape(0, 1), units * pieces),))


def adaptive_pool(kind: type[AdaptiveAvgPool | AdaptiveMaxPool]) -> Callable[[Draw], Drawn]:
    def drawn(draw: Draw) -> Drawn:
        axes = kind.position_axes
        size = (1,) * axes if draw.size(0, 3) == 0 else draw.sizes(axes, 1, 4)
        return Drawn(kind(size), ((draw.size(1, 3), *draw.sizes(axes, 1, 7)),))

    return drawn


def mean(draw: Draw) -> Drawn:
    features = draw.shape()
    return Drawn(Mean(len(features), draw.size(0, len(features) - 1)), (features,))


def normalise(draw: Draw) -> Drawn:
    positions = draw.size(0, 2)
    step = replace(Normalise.over_batch(10.0 ** -draw.size(1, 6), positions + 1), unbiased=True)
    return Drawn(step, ((draw.size(1, 3), *draw.sizes(positions, 1, 4)),))


def group_norm(draw: Draw) -> Drawn:
    groups, positions = draw.size(1, 3), draw.size(0, 2)
    channels = groups * draw.size(
        3, 4
    )  # two numbers would become ±1, and their gradient would cancel completely
    step = GroupNormalise(eps=10.0 ** -draw.size(1, 6), positions=positions, groups=groups)
    return Drawn(step, ((channels, *draw.sizes(positions, 1, 4)),))


def instance_norm(draw: Draw) -> Drawn:
    positions, channels = draw.size(1, 2), draw.size(1, 3)
    step = GroupNormalise(eps=10.0 ** -draw.size(1, 6), positions=positions, groups=channels)
    return Drawn(step, ((channels, *draw.sizes(positions, 2, 4)),))


def fixed_norm(draw: Draw) -> Drawn:
    positions, channels = draw.size(0, 2), draw.size(1, 4)
    statistics = draw.rng.normal(size=channels), draw.rng.uniform(0.1, 4.0, channels)
    return Drawn(FixedNormalise(*statistics, 1e-5, positions), ((channels, *draw.sizes(positions, 1, 4)),))


def rms_norm(draw: Draw) -> Drawn:
    features = draw.shape()
    return Drawn(RootMeanSquare(10.0 ** -draw.size(1, 6), draw.size(1, len(features))), (features,))


def gain(draw: Draw) -> Drawn:
    features = draw.shape()
    return Drawn(Gain(features[draw.size(0, len(features) - 1) :]), (features,))


def add(draw: Draw) -> Drawn:
    features = draw.shape()
    return Drawn(Add(), (features, features))


def complement(draw: Draw) -> Drawn:
    return Drawn(Complement(), (draw.shape(),))


def multiply(draw: Draw) -> Drawn:
    features = draw.shape()
    return Drawn(Multiply(), (features, features))


def matmul(draw: Draw) -> Drawn:
    transposed, before, (t, k, s) = draw.coin(), draw.shape(0, 1), draw.sizes(3)
    scale = 1.0 if draw.coin() else float(draw.rng.normal())
    return Drawn(
        Matmul(transposed, scale), ((*before, t, k), (*before, s, k) if transposed else (*before, k, s))
    )


def weight_norm(draw: Draw) -> Drawn:
    inputs, units = draw.sizes(2)
    dense = Drawn(Dense(inputs, units), ((*draw.shape(0, 1), inputs),))
    step, features = (dense, conv1d(draw), conv_transpose2d(draw))[draw.size(0, 2)]
    alone = step.shapes["weight"][1:].count(1) == len(step.shapes["weight"]) - 1
    return (
        weight_norm(draw) if alone else Drawn(WeightNorm(step), features)
    )  # a single number would become ± g


def softmax(draw: Draw) -> Drawn:
    before, tokens = draw.shape(0, 1), draw.size(2, 5)
    steps = (Softmax.plain(), Softmax.causal(tokens), Softmax(_mask(draw, tokens)))
    return Drawn(steps[draw.size(0, 2)], ((*before, tokens, tokens),))


def padded_softmax(draw: Draw) -> Drawn:
    heads, tokens = draw.size(1, 5), draw.size(2, 6)
    mask = np.tri(tokens, dtype=bool) if draw.coin() else np.array(True)
    return Drawn(PaddedSoftmax(mask), ((heads, tokens, tokens), (tokens,)))


def _mask(draw: Draw, tokens: int) -> np.ndarray:
    return (draw.rng.random((tokens, tokens)) < 0.6) | np.eye(tokens, dtype=bool)


def log_softmax(draw: Draw) -> Drawn:
    return Drawn(LogSoftmax(), ((*draw.shape(0, 2), draw.size(2, 5)),))


def reshape(draw: Draw) -> Drawn:
    features = draw.shape()
    return Drawn(Reshape(len(features), (1, *features[::-1])), (features,))


def permute(draw: Draw) -> Drawn:
    features = draw.shape()
    return Drawn(
        Permute(len(features), tuple(int(i) for i in draw.rng.permutation(len(features)))), (features,)
    )


def slice_(draw: Draw) -> Drawn:
    features = draw.shape()
    axis = draw.size(0, len(features) - 1)
    start = draw.size(0, features[axis] - 1)
    return Drawn(Slice(len(features), axis, start, draw.size(start + 1, features[axis])), (features,))


def select(draw: Draw) -> Drawn:
    features = draw.shape()
    axis = draw.size(0, len(features) - 1)
    return Drawn(Select(len(features), axis, draw.size(-1, features[axis] - 1)), (features,))


def concatenate(draw: Draw) -> Drawn:
    features = draw.shape()
    axis = draw.size(0, len(features) - 1)
    parts = ((*features[:axis], draw.size(), *features[axis + 1 :]) for _ in range(draw.size(1, 3)))
    return Drawn(Concatenate(len(features), axis), tuple(parts))


def stack(draw: Draw) -> Drawn:
    features = draw.shape()
    return Drawn(Stack(len(features), draw.size(0, len(features))), (features,) * draw.size(1, 3))


def repeat(draw: Draw) -> Drawn:
    features = draw.shape()
    return Drawn(Repeat(len(features), draw.size(0, len(features) - 1), draw.size(1, 3)), (features,))


def constant(draw: Draw) -> Drawn:
    features = draw.shape()
    return Drawn(Constant(draw.rng.normal(size=draw.shape()), len(features)), (features,))


def dropout(draw: Draw) -> Drawn:
    features = draw.shape()
    return Drawn(Dropout.drawn(features, draw.rng.uniform(0.1, 0.7), draw.size(0, 99)), (features,))


def sample_dropout(draw: Draw) -> Drawn:
    features = draw.shape()
    return Drawn(SampleDropout(float(draw.rng.uniform(1.0, 3.0))), (features, features))


def rotary(draw: Draw) -> Drawn:
    before, tokens, d = draw.shape(0, 1), draw.size(), 2 * draw.size(1, 3)
    return Drawn(Rotary.of_angles(tokens, d, interleaved=draw.coin()), ((*before, tokens, d),))


def offset(draw: Draw) -> Drawn:
    features = draw.shape(1, 3)
    return Drawn(Offset(draw.rng.normal(size=features[-2:])), (features,))


def positional(draw: Draw) -> Drawn:
    features = draw.shape()
    return Drawn(PositionalAdd(features), (features,))


def learned_state(draw: Draw) -> Drawn:
    features = draw.sizes(2, 1, 8)
    return Drawn(LearnedState(features), (features,))


def prelu(draw: Draw) -> Drawn:
    positions, channels = draw.size(0, 2), draw.size(1, 4)
    step = PReLU(1 if draw.coin() else channels, positions)
    return Drawn(step, ((channels, *draw.sizes(positions, 1, 3)),))


KINDS: dict[str, Callable[[Draw], Drawn]] = {
    "conv1d": conv1d,
    "conv_transpose2d": conv_transpose2d,
    "max_pool1d": max_pool1d,
    "maxout": maxout,
    "avg_pool1d": avg_pool(AvgPool1d),
    "avg_pool2d": avg_pool(AvgPool),
    "adaptive_avg_pool1d": adaptive_pool(AdaptiveAvgPool1d),
    "adaptive_avg_pool2d": adaptive_pool(AdaptiveAvgPool),
    "adaptive_max_pool1d": adaptive_pool(AdaptiveMaxPool1d),
    "adaptive_max_pool2d": adaptive_pool(AdaptiveMaxPool),
    "mean": mean,
    "batch_norm, unbiased": normalise,
    "group_norm": group_norm,
    "instance_norm": instance_norm,
    "batch_norm, fixed": fixed_norm,
    "rms_norm": rms_norm,
    "gain": gain,
    "add": add,
    "complement": complement,
    "multiply": multiply,
    "matmul": matmul,
    "weight_norm": weight_norm,
    "softmax": softmax,
    "padded softmax": padded_softmax,
    "log_softmax": log_softmax,
    "reshape": reshape,
    "permute": permute,
    "slice": slice_,
    "select": select,
    "concatenate": concatenate,
    "stack": stack,
    "repeat": repeat,
    "constant": constant,
    "dropout": dropout,
    "dropout of each sample": sample_dropout,
    "rotary": rotary,
    "offset": offset,
    "positional": positional,
    "learned state": learned_state,
    "prelu": prelu,
}
