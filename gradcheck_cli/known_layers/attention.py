"""Guess attention of given queries, keys and values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product

from gradcheck_cli.code.call import Call
from gradcheck_cli.known_layers.sketch import Sketch, begun, in_roles, reshaped
from gradcheck_cli.network.graph import INPUT
from gradcheck_cli.network.steps.matmul import Matmul
from gradcheck_cli.network.steps.softmax import Softmax
from gradcheck_cli.types import Array


def attention(call: Call) -> Iterator[Sketch]:
    """Yield softmax(q kᵀ · scale) v, with and without a causal mask, and with the scale 1/√d or 1."""
    for names in in_roles(call, 3):
        given = {name: batched(call.arrays[name]) for name in names}
        if not _fit(*given.values()):
            continue
        q, k, _ = given.values()
        for causal, scale in product((False, True), (1.0 / math.sqrt(q.shape[-1]), 1.0)):
            if not causal or q.shape[-2] == k.shape[-2]:
                told = f"{'causal ' * causal}attention{' without the scale 1/√d' * (scale == 1.0)}"
                yield _sketch(told, given, Matmul(transposed=True, scale=scale), causal)


def batched(array: Array) -> Array:
    """Return the array with a batch axis, which is added if it has none."""
    return array if array.ndim > 2 else array.reshape(1, *array.shape)


def _fit(q: Array, k: Array, v: Array) -> bool:
    same = q.ndim == k.ndim == v.ndim and q.shape[:-2] == k.shape[:-2] == v.shape[:-2]
    return same and q.shape[-1] == k.shape[-1] and k.shape[-2] == v.shape[-2]


def _sketch(told: str, given: dict[str, Array], scores: Matmul, causal: bool) -> Sketch:
    (query, q), (key, k), (value, v) = given.items()
    builder = begun("attention", q.shape[1:])
    keys, values = builder.given(k, key), builder.given(v, value)
    softmax = Softmax.causal(q.shape[-2]) if causal else Softmax.plain()
    weights = builder.add(softmax, builder.add(scores, INPUT, keys, symbol="s"), symbol="a")
    builder.add(Matmul(), weights, values, symbol="o")
    forms = {name: reshaped(*array.shape) for name, array in given.items()}
    return Sketch(told, builder, q, forms, {query: INPUT, key: keys, value: values})
