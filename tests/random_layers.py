"""Random networks with every kind of layer that a spec knows, and with every loss.

A network features one kind of layer, with random layers below and above it. A twist makes the network harder:
float32, bad scaling, numbers on kinks, or depth. `drawn_layers.FEATURES` has a row for each kind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from build import units_for
from drawn_layers import FEATURES, KINKED, Here, Raw, Rng, Shape

from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.builder import Builder
from gradcheck_cli.network.graph import INPUT
from gradcheck_cli.network.losses import LOSSES
from gradcheck_cli.network.step import UnfitError
from gradcheck_cli.spec.network import NetworkSpec

MOST_NUMBERS = 48
"""The largest number of values per sample between two layers."""

LEAST_NORMALISED = 3
"""The smallest group to normalise. Two numbers would become ±1, and their gradient would cancel."""


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
