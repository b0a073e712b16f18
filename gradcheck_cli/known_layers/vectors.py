"""Guess layers of vectors: dense and gated layers, activations, dropout and embeddings."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gradcheck_cli.code.call import Call
from gradcheck_cli.known_layers.sketch import Form, Sketch, as_it_is, begun, in_roles, reshaped, transposed
from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.graph import INPUT
from gradcheck_cli.network.step import Step
from gradcheck_cli.network.steps.dense import Dense
from gradcheck_cli.network.steps.dropout import SampleDropout
from gradcheck_cli.network.steps.embedding import Embedding
from gradcheck_cli.network.steps.gates import Multiply
from gradcheck_cli.network.steps.pointwise import Pointwise
from gradcheck_cli.network.steps.softmax import LogSoftmax, Softmax
from gradcheck_cli.types import Array

_GATES = "silu", "gelu", "sigmoid", "relu", "identity"
"""The activations of gated layers."""


def dense(call: Call) -> Iterator[Sketch]:
    """Yield dense layers with every activation, x w + b, for both layouts of the weight."""
    units = call.outputs[0].shape[-1:]
    for x, w, *b in in_roles(call, 2, 3):
        for inputs, form in layouts(call.arrays[w], units):
            given = _with_inputs(call.arrays[x], inputs)
            if given is None or any(call.arrays[name].size != units[0] for name in b):
                continue
            forms = {x: reshaped(*given.shape), w: form, **dict.fromkeys(b, reshaped(-1))}
            for activation in ACTIVATIONS:
                builder = begun("dense", given.shape[1:])
                names = dict(zip(("weight", "bias"), (w, *b), strict=False))
                z = builder.add(Dense(inputs, units[0], bool(b)), INPUT, names=names)
                if activation != "identity":
                    builder.add(_activation(activation), z)
                yield Sketch(_dense_in_words(activation), builder, given, forms, {x: INPUT})


def layouts(w: Array, units: tuple[int, ...]) -> Iterator[tuple[int, Form]]:
    """Yield the number of inputs of a weight, with its form, for each layout with this number of units."""
    if w.ndim == 2 and w.shape[1:] == units:
        yield w.shape[0], transposed
    if w.ndim == 2 and w.shape[:1] == units:
        yield w.shape[1], as_it_is


def _with_inputs(x: Array, inputs: int) -> Array | None:
    """Return x with this length of its last axis; None if neither x nor the flattened x has it."""
    if x.ndim > 1 and x.shape[-1] == inputs:
        return x
    return x.reshape(len(x), -1) if x.ndim > 1 and x.size == len(x) * inputs else None


def _dense_in_words(activation: str) -> str:
    return "a dense layer" if activation == "identity" else f"a dense layer with the activation {activation}"


def _activation(name: str) -> Pointwise:
    return Pointwise(ACTIVATIONS[name].with_options())


def elementwise(call: Call) -> Iterator[Sketch]:
    """Yield each activation, softmax and log_softmax."""
    for (name,) in in_roles(call, 1):
        x = call.arrays[name]
        activations = {each: _activation(each) for each in ACTIVATIONS if each != "identity"}
        steps: dict[str, Step] = {**activations, "softmax": Softmax.plain(), "log_softmax": LogSoftmax()}
        for told, step in steps.items() if x.ndim > 1 else ():
            builder = begun(told, x.shape[1:])
            builder.add(step, INPUT)
            yield Sketch(told, builder, x, {name: as_it_is}, {name: INPUT})


def dropout(call: Call) -> Iterator[Sketch]:
    """Yield a dropout with the mask that the output shows."""
    for (name,) in in_roles(call, 1):
        x, out = call.arrays[name], call.outputs[0]
        if x.ndim < 2 or x.shape != out.shape or not x.all() or not out.any():
            return
        builder = begun("dropout", x.shape[1:])
        mask = builder.given(np.where(out == 0.0, 0.0, 1.0), "mask")
        builder.add(SampleDropout(float(np.abs(out / x).max())), INPUT, mask)
        yield Sketch("dropout", builder, x, {name: as_it_is}, {name: INPUT})


def embedding(call: Call) -> Iterator[Sketch]:
    """Yield an embedding of each array of integers."""
    for (name,) in in_roles(call, 1):
        w = call.arrays[name]
        for tokens in call.integers.values():
            if w.ndim == 2 and tokens.size and tokens.min() >= 0 and tokens.max() < len(w):
                builder = begun("embedding", tokens.shape[1:])
                builder.add(Embedding(*w.shape), INPUT, names={"weight": name})
                yield Sketch("an embedding", builder, tokens.astype(np.float64), {name: as_it_is}, {})


def gated(call: Call) -> Iterator[Sketch]:
    """Yield gated layers, φ(x w) ⊙ (x v), as in SwiGLU."""
    units = call.outputs[0].shape[-1:]
    for x, w, v in in_roles(call, 3):
        for inputs, form in layouts(call.arrays[w], units):
            if call.arrays[v].shape == call.arrays[w].shape and call.arrays[x].shape[-1:] == (inputs,):
                for activation in _GATES:
                    yield _gated(call, x, {w: form, v: form}, Dense(inputs, units[0], False), activation)


def _gated(call: Call, x: str, weights: dict[str, Form], step: Dense, activation: str) -> Sketch:
    value = call.arrays[x]
    builder = begun("gated", value.shape[1:])
    gate, up = (builder.add(step, INPUT, names={"weight": name}) for name in weights)
    builder.add(Multiply(), builder.add(_activation(activation), gate, symbol="φ"), up)
    told = f"a gated layer with the activation {activation}"
    return Sketch(told, builder, value, {x: as_it_is, **weights}, {x: INPUT})
