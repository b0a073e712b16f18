"""Functions of tensors of several shapes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from planted_patterns.case import Array, Arrays, Case, drawn_by, of_numpy, of_pair

SHAPES = {"b": (7,), "w": (3, 4), "k": (2, 3, 3), "c": (2, 3, 4, 4), "q": (3, 3, 3), "t": (4, 4, 2)}


def tensors() -> Iterator[Case]:
    """Yield right functions of a tensor of each shape."""
    return (case for name in SHAPES for case in of_a_tensor(name))


def of_a_tensor(name: str) -> tuple[Case, Case]:
    """Return a function and a pair of forward and backward, both of a parameter with this name's shape."""
    seed = list(SHAPES).index(name)
    weights = drawn_by(30 + seed).normal(size=SHAPES[name])
    at = {name: drawn_by(seed).normal(size=SHAPES[name]), "other": drawn_by(50 + seed).normal(size=3)}

    def loss(p: Arrays) -> float:
        return float((np.tanh(p[name]) * weights).sum() * (p["other"] ** 2).sum())

    def gradients(p: Arrays) -> Arrays:
        of_other = 2 * p["other"] * (np.tanh(p[name]) * weights).sum()
        return {name: weights / np.cosh(p[name]) ** 2 * (p["other"] ** 2).sum(), "other": of_other}

    forward, backward = partial(_weighted_tanh, weights), partial(_weighted_tanh_backward, weights)
    return of_numpy(f"tensor {name}", loss, gradients, at), of_pair(f"pair {name}", forward, backward, at)


def _weighted_tanh(weights: Array, x: Array, w: Array) -> Array:
    return np.tanh(x) * weights * w.sum()


def _weighted_tanh_backward(weights: Array, d: Array, x: Array, w: Array) -> tuple[Array, Array]:
    return d * weights / np.cosh(x) ** 2 * w.sum(), np.full(3, (d * np.tanh(x) * weights).sum())
