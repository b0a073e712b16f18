"""Random networks with every kind of layer that a spec knows, and with every loss.

A network features one kind of layer, with random layers below and above it. A twist makes the network harder:
float32, bad scaling, numbers on kinks, or depth. A new kind of layer adds a row to `FEATURES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from build import units_for

from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.builder import Builder
from gradcheck_cli.network.graph import INPUT
from gradcheck_cli.network.losses import LOSSES
from gradcheck_cli.network.step import UnfitError
from gradcheck_cli.spec.network import NetworkSpec

Raw = dict[str, Any]
Shape = tuple[int, ...]
Rng = np.random.Generator

MOST_NUMBERS = 48
"""The largest number of values per sample between two layers."""

LEAST_NORMALISED = 3
"""The smallest group to normalise. Two numbers would become ±1, and their gradient would cancel."""

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


# --- the kinds of layer ------------------------------------------------------------------------------------


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


# --- networks ----------------------------------------------------------------------------------------------


@dataclass
class Stack:
    """Layers drawn so far.

    inputs: the shape of one sample of x.  shape: the shape of one sample of the output of the last layer.
    """

    inputs: Shape
    rng: Rng
    activations: tuple[str, ...]

    def __post_init__(self) -> None:
        self.layers: list[Any] = []
        self.shape = self.inputs

    @property
    def here(self) -> Here:
        return Here(self.shape, self.rng, self.activations)

    def add(self, layer: Any) -> bool:
        """Add a layer, unless it does not fit or its output is too large; return whether it was added."""
        if 0 < _normalised(layer, self.shape) < LEAST_NORMALISED:
            return False
        try:
            shape = _shape_of(self.inputs, [*self.layers, layer])
        except UnfitError:
            return False
        if math.prod(shape) > MOST_NUMBERS:
            return False
        self.layers.append(layer)
        self.shape = shape
        return True

    def feature(self, kind: str) -> bool:
        """Add a layer of this kind; return whether one of several draws fits."""
        draw, axes = FEATURES[kind]
        if kind == "tied":
            return self._tie()
        return len(self.shape) in axes and any(self.add(draw(self.here)) for _ in range(20))

    def _tie(self) -> bool:
        """Add two layers that share a weight: that of the embedding, if there is one."""
        if _has_tokens(self.layers):
            tokens, width = self.layers[0]["embedding"], self.layers[0]["embedding_dim"]
            return (self.shape[-1] == width or self.add({"units": width, "activation": "tanh"})) and self.add(
                {"units": tokens, "weight": self.layers[0]["name"], **self.here.around()}
            )
        if len(self.shape) > 2 or any(isinstance(each, dict) and "weight" in each for each in self.layers):
            return False
        width = self.shape[-1]
        first = {"units": width, "name": "shared", **self.here.around()}
        return self.add(first) and self.add({"units": width, "weight": "shared", **self.here.around()})

    def grow(self, count: int) -> None:
        """Add up to `count` random layers."""
        for _ in range(count):
            for kind in self.rng.permutation(list(FEATURES)):
                if kind not in ("embedding", "softmax", "log_softmax") and self.feature(str(kind)):
                    break


def _normalised(layer: Any, shape: Shape) -> int:
    """Return how many numbers a layer normalises together after subtracting their mean; 0 if it does not."""
    if not isinstance(layer, dict):
        return 0
    if "residual" in layer:
        return min((n for each in layer["residual"] if (n := _normalised(each, shape))), default=0)
    if "layer_norm" in layer:
        return shape[-1] if layer["layer_norm"] is True else math.prod(layer["layer_norm"])
    groups = layer.get("group_norm", shape[0] if "instance_norm" in layer else 0)
    return math.prod(shape) // groups if groups else 0


def _has_tokens(layers: list[Any]) -> bool:
    return bool(layers) and isinstance(layers[0], dict) and "embedding" in layers[0]


def _shape_of(inputs: Shape, layers: list[Any]) -> Shape:
    spec = NetworkSpec.model_validate({"inputs": list(inputs), "layers": layers, "loss": "mse"})
    builder = Builder(spec.features, spec.names)
    return builder.features(builder.through(spec.layers, INPUT))


def random_layers(seed: int, kind: str, twist: str = "plain") -> Raw:
    """Draw a network that features a kind of layer, and return its spec.

    twist: one of `TWISTS`.
    """
    rng = np.random.default_rng([seed, list(FEATURES).index(kind), list(TWISTS).index(twist)])
    while True:
        stack = _stack(kind, rng, KINKED if twist == "kinked" else tuple(ACTIVATIONS))
        depth = int(rng.integers(3, 7)) if twist == "deep" else int(rng.integers(0, 3))
        below = int(rng.integers(0, depth + 1))
        stack.grow(below if kind != "embedding" else 0)
        if kind != "embedding" and not stack.feature(kind):
            continue
        stack.grow(depth - below)
        raw = _with_loss(stack, rng)
        if raw is not None:
            raw["parameters"] |= {"seed": seed, "bias": str(rng.choice(["zeros", "same"]))}
            TWISTS[twist](raw, rng)
            return raw


def _stack(kind: str, rng: Rng, activations: tuple[str, ...]) -> Stack:
    """Return a stack whose input suits a layer of this kind, or one that begins with an embedding."""
    axes = FEATURES[kind][1] or (2,)
    if kind == "embedding" or (2 in axes and rng.random() < 0.2):
        stack = Stack((int(rng.integers(2, 5)),), rng, activations)
        padding = {"padding_idx": 0} if rng.random() < 0.3 else {}
        layer = {"embedding": int(rng.integers(3, 7)), "embedding_dim": int(rng.choice([2, 4, 6]))}
        stack.add(layer | padding | {"name": "words"})
        return stack
    shapes = {
        1: (int(rng.integers(3, 9)),),
        2: (int(rng.integers(2, 5)), int(rng.choice([2, 4, 6]))),
        3: (int(rng.choice([1, 2, 4])), int(rng.integers(3, 6)), int(rng.integers(3, 6))),
    }
    return Stack(shapes[int(rng.choice(axes))], rng, activations)


def _with_loss(stack: Stack, rng: Rng) -> Raw | None:
    """Return the network with an output layer and a random loss; None if the output layer does not fit."""
    loss = str(rng.choice(list(LOSSES)))
    if len(stack.shape) == 3 or (len(stack.shape) == 2 and rng.random() < 0.5):
        stack.add({"flatten": True})
    units = units_for(loss, int(rng.integers(2, 5)))
    output: Raw = {"units": units}
    if not LOSSES[loss].unbounded and rng.random() < 0.5:
        output |= {"activation": str(rng.choice(stack.activations))}
    if not stack.add(output):
        return None
    if loss in ("nll", "kl_div") and rng.random() < 0.7:
        stack.add("log_softmax")
    strengths = [0.0, 0.0, 0.0, 1e-3]
    return {
        "network": {
            "inputs": list(stack.inputs) if len(stack.inputs) > 1 else stack.inputs[0],
            "layers": stack.layers,
            "loss": _loss(loss, units, rng),
            "penalty": {name: float(rng.choice(strengths)) for name in ("l1", "l2")},
        },
        "parameters": {"init": "xavier"},
        "data": {
            "synthetic": str(rng.choice(["normal", "uniform"])),
            "samples": int(rng.integers(3, 8)),
            "seed": int(rng.integers(10**6)),
        },
        "check": {"inputs": True} if not _has_tokens(stack.layers) and rng.random() < 0.3 else {},
    }


OPTIONS: Mapping[str, Callable[[Rng, int], Any]] = {
    "beta": lambda rng, units: float(rng.uniform(0.2, 2.0)),
    "delta": lambda rng, units: float(rng.uniform(0.2, 2.0)),
    "alpha": lambda rng, units: float(rng.choice([-1.0, 0.25, 0.9])),
    "gamma": lambda rng, units: float(rng.choice([0.0, 0.5, 1.0, 2.0, 3.0])),
    "smooth": lambda rng, units: float(rng.choice([1e-3, 1.0])),
    "margin": lambda rng, units: float(rng.uniform(0.5, 3.0)),
    "eps": lambda rng, units: float(rng.choice([1e-8, 1e-6])),
    "p": lambda rng, units: int(rng.choice([1, 2])),
    "label_smoothing": lambda rng, units: float(rng.uniform(0.0, 0.3)),
    "pos_weight": lambda rng, units: [float(each) for each in rng.uniform(0.0, 4.0, size=units)],
    "weight": lambda rng, units: [float(each) for each in rng.uniform(0.5, 2.0, size=units)],
    "ignore_index": lambda rng, units: int(rng.integers(units)),
}


def _loss(name: str, units: int, rng: Rng) -> Raw:
    """Return a loss with some of its options. One of the classes 0 to `units` − 1 may be ignored."""
    row = LOSSES[name]
    known = [option for option in (*row.options, *row.of_target) if option in OPTIONS]
    chosen = [option for option in known if rng.random() < 0.3]
    options = {option: OPTIONS[option](rng, units) for option in chosen}
    reduction = str(rng.choice(["batchmean", "mean", "sum"]))
    return {"name": name, "reduction": reduction, "scale": float(rng.choice([0.5, 1.0])), **options}


# --- the twists --------------------------------------------------------------------------------------------


def _badly_scaled(raw: Raw, rng: Rng) -> None:
    """Scale the inputs by 1e±4, or the weights by 1e−2 to 10. Tokens cannot be scaled."""
    if _has_tokens(raw["network"]["layers"]) or rng.random() < 0.5:
        raw["parameters"]["scale"] = float(10 ** rng.uniform(-2, 1))
    else:
        raw["data"]["scale"] = float(10 ** rng.uniform(-4, 4))


def _kinked(raw: Raw, rng: Rng) -> None:
    """Set x to integers, one sample to 0 and all biases to 0, so that numbers lie on kinks and maxima tie."""
    raw["parameters"]["bias"] = "zeros"
    if _has_tokens(raw["network"]["layers"]):
        return
    loss, samples = LOSSES[raw["network"]["loss"]["name"]], raw["data"]["samples"]
    inputs, outputs = raw["network"]["inputs"], _shape_of(_features(raw), raw["network"]["layers"])
    x = rng.integers(-1, 2, size=(samples, int(np.prod(inputs)))).astype(float)
    x[0] = 0.0
    labels = rng.integers(2 if loss.target == "pairs" else outputs[-1], size=(samples, *outputs[:-1]))
    takes_values = loss.target in ("values", "upstream") and not loss.applies
    width = int(np.prod(outputs)) // max(1, len(loss.vectors))
    y = rng.normal(size=(samples, width)) if takes_values else labels
    if loss.target == "nothing":
        y = np.zeros(samples)
    if not takes_values and not loss.takes_labels and loss.target != "nothing":
        y = rng.random((samples, width))
    raw["data"] = {"x": x.tolist(), "y": np.abs(y).tolist() if loss.limits[0] == 0 else y.tolist()}


def _features(raw: Raw) -> Shape:
    inputs = raw["network"]["inputs"]
    return tuple(inputs) if isinstance(inputs, list) else (inputs,)


TWISTS: Mapping[str, Callable[[Raw, Rng], None]] = {
    "plain": lambda raw, rng: None,
    "float32": lambda raw, rng: raw.update(dtype="float32"),
    "badly scaled": _badly_scaled,
    "kinked": _kinked,
    "deep": lambda raw, rng: None,
}


def kinds_of(raw: Raw) -> Iterator[str]:
    """Yield the kind of every layer, including layers inside residuals, and then the loss."""
    yield from _kinds(raw["network"]["layers"])
    yield f"loss {raw['network']['loss']['name']}"


def _kinds(layers: list[Any]) -> Iterator[str]:
    for layer in layers:
        keys = [layer] if isinstance(layer, str) else list(layer)
        yield next(key for key in keys if key in FEATURES or key == "flatten")
        if not isinstance(layer, str):
            yield from ("batch_norm" for _ in [0] if layer.get("batch_norm") and "units" in layer)
            yield from ("tied" for _ in [0] if "units" in layer and "weight" in layer)
            yield from _kinds(layer.get("residual", []))
