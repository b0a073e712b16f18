"""Kernels written by hand for `half_precision.py`, with their inputs and the same forward passes in torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn import functional

Array = np.ndarray
Round = Callable[[Array], Array]
"""Rounds the result of an operation. The reference and kernels that only round their results do nothing."""


@dataclass(frozen=True)
class Kernel:
    """A forward and a backward pass.

    inputs: draws the inputs in float64.  plain: the same forward pass in torch.
    forward: takes a `Round` and the inputs; returns the output and a cache.
    backward: takes a `Round`, the upstream and the cache; returns one gradient for each array of floats.
    """

    inputs: Callable[[np.random.Generator], dict[str, Array]]
    plain: Callable[..., torch.Tensor]
    forward: Callable[..., tuple[Array, Any]]
    backward: Callable[..., tuple[Array, ...]]


# --- the kernels --------------------------------------------------------------------------------------------


def linear(q: Round, x: Array, w: Array, b: Array) -> tuple[Array, Any]:
    return q(q(x @ w.T) + b), (x, w)


def linear_backward(q: Round, d: Array, cache: Any) -> tuple[Array, ...]:
    x, w = cache
    return q(d @ w), q(d.T @ x), q(d.sum(axis=0))


def layer_norm(q: Round, x: Array, gamma: Array, beta: Array) -> tuple[Array, Any]:
    centred = q(x - q(x.mean(axis=-1, keepdims=True)))
    size = q(np.sqrt(q((centred**2).mean(axis=-1, keepdims=True)) + 1e-5))
    z = q(centred / size)
    return q(q(gamma * z) + beta), (z, size, gamma)


def layer_norm_backward(q: Round, d: Array, cache: Any) -> tuple[Array, ...]:
    z, size, gamma = cache
    dz = q(d * gamma)
    means = q(dz.mean(axis=-1, keepdims=True)), q((dz * z).mean(axis=-1, keepdims=True))
    return q(q(dz - means[0] - z * means[1]) / size), q((d * z).sum(axis=0)), q(d.sum(axis=0))


def rms_norm(q: Round, x: Array, gamma: Array) -> tuple[Array, Any]:
    size = q(np.sqrt(q((x**2).mean(axis=-1, keepdims=True)) + 1e-6))
    z = q(x / size)
    return q(gamma * z), (z, size, gamma)


def rms_norm_backward(q: Round, d: Array, cache: Any) -> tuple[Array, ...]:
    z, size, gamma = cache
    dz = q(d * gamma)
    mean = q((dz * z).mean(axis=-1, keepdims=True))
    return q(q(dz - q(z * mean)) / size), q((d * z).sum(axis=0))


def softmax(q: Round, x: Array) -> tuple[Array, Any]:
    e = q(np.exp(q(x - x.max(axis=-1, keepdims=True))))
    p = q(e / q(e.sum(axis=-1, keepdims=True)))
    return p, p


def softmax_backward(q: Round, d: Array, p: Any) -> tuple[Array, ...]:
    return (q(p * q(d - q((p * d).sum(axis=-1, keepdims=True)))),)


_GELU = np.sqrt(2.0 / np.pi).item()


def gelu(q: Round, x: Array) -> tuple[Array, Any]:
    t = q(np.tanh(q(_GELU * (x + 0.044715 * x**3))))
    return q(0.5 * x * (1 + t)), (x, t)


def gelu_backward(q: Round, d: Array, cache: Any) -> tuple[Array, ...]:
    x, t = cache
    inner = q(_GELU * (1 + 3 * 0.044715 * x**2))
    return (q(d * q(0.5 * (1 + t) + 0.5 * x * (1 - t**2) * inner)),)


def silu(q: Round, x: Array) -> tuple[Array, Any]:
    s = q(1 / (1 + np.exp(-x)))
    return q(x * s), (x, s)


def silu_backward(q: Round, d: Array, cache: Any) -> tuple[Array, ...]:
    x, s = cache
    return (q(d * q(s * q(1 + x * (1 - s)))),)


def swiglu(q: Round, x: Array, w: Array, v: Array) -> tuple[Array, Any]:
    a, b = q(x @ w.T), q(x @ v.T)
    gate, cache = silu(q, a)
    return q(gate * b), (x, w, v, b, gate, cache)


def swiglu_backward(q: Round, d: Array, cache: Any) -> tuple[Array, ...]:
    x, w, v, b, gate, saved = cache
    (da,), db = silu_backward(q, q(d * b), saved), q(d * gate)
    return q(q(da @ w) + q(db @ v)), q(da.T @ x), q(db.T @ x)


def attention(q: Round, query: Array, key: Array, value: Array) -> tuple[Array, Any]:
    scale = 1 / np.sqrt(query.shape[-1]).item()
    scores = q(scale * (query @ key.swapaxes(-1, -2)))
    hidden = np.triu(np.ones(scores.shape[-2:], dtype=bool), 1)
    p, _ = softmax(q, np.where(hidden, np.float32(-1e4), scores).astype(scores.dtype))
    return q(p @ value), (query, key, value, p, scale)


def attention_backward(q: Round, d: Array, cache: Any) -> tuple[Array, ...]:
    query, key, value, p, scale = cache
    (ds,) = softmax_backward(q, q(d @ value.swapaxes(-1, -2)), p)
    ds = q(scale * ds)
    return q(ds @ key), q(ds.swapaxes(-1, -2) @ query), q(p.swapaxes(-1, -2) @ d)


def cross_entropy(q: Round, z: Array, labels: Array) -> tuple[Array, Any]:
    rows = np.arange(len(z))
    shifted = q(z - z.max(axis=-1, keepdims=True))
    lse = q(np.log(q(np.exp(shifted).sum(axis=-1, keepdims=True))))
    return q((lse - shifted[rows, labels][:, None])[:, 0]), (shifted, lse, labels)


def cross_entropy_backward(q: Round, d: Array, cache: Any) -> tuple[Array, ...]:
    shifted, lse, labels = cache
    p = q(np.exp(q(shifted - lse)))
    p[np.arange(len(p)), labels] -= 1
    return (q(q(p) * d[:, None]),)


def batch_norm(q: Round, x: Array, gamma: Array, beta: Array) -> tuple[Array, Any]:
    out, (z, size, _) = layer_norm(q, x.T, np.ones((), x.dtype), np.zeros((), x.dtype))
    return q(q(gamma * out.T) + beta), (z.T, size.T, gamma)


def batch_norm_backward(q: Round, d: Array, cache: Any) -> tuple[Array, ...]:
    z, size, gamma = cache
    dz = q(d * gamma)
    means = q(dz.mean(axis=0)), q((dz * z).mean(axis=0))
    return q(q(dz - means[0] - z * means[1]) / size), q((d * z).sum(axis=0)), q(d.sum(axis=0))


def conv1d(q: Round, x: Array, w: Array) -> tuple[Array, Any]:
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[-1], axis=-1)
    return q(np.einsum("nclk,ock->nol", windows, w)), (windows, w, x.shape)


def conv1d_backward(q: Round, d: Array, cache: Any) -> tuple[Array, ...]:
    windows, w, shape = cache
    dx = np.zeros(shape, d.dtype)
    for k in range(w.shape[-1]):
        dx[..., k : k + d.shape[-1]] += np.einsum("nol,oc->ncl", d, w[..., k])
    return q(dx), q(np.einsum("nol,nclk->ock", d, windows))


def embedding_sum(q: Round, table: Array, tokens: Array) -> tuple[Array, Any]:
    return q(table[tokens].sum(axis=1)), (table.shape, tokens)


def embedding_sum_backward(q: Round, d: Array, cache: Any) -> tuple[Array, ...]:
    shape, tokens = cache
    dtable = np.zeros(shape, d.dtype)
    for i in range(tokens.shape[1]):
        np.add.at(dtable, tokens[:, i], d)
    return (q(dtable),)


# --- their inputs and their torch references ----------------------------------------------------------------


def normal(**shapes: tuple[int, ...]) -> Callable[[np.random.Generator], dict[str, Array]]:
    return lambda rng: {name: rng.normal(size=shape) for name, shape in shapes.items()}


def with_labels(rng: np.random.Generator) -> dict[str, Array]:
    return {"z": 2 * rng.normal(size=(8, 6)), "labels": rng.integers(0, 6, 8)}


def with_tokens(rng: np.random.Generator) -> dict[str, Array]:
    return {"table": rng.normal(size=(7, 5)), "tokens": rng.integers(0, 7, (6, 4))}


def torch_swiglu(x: torch.Tensor, w: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return functional.silu(functional.linear(x, w)) * functional.linear(x, v)


def torch_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    scores = query @ key.mT / query.shape[-1] ** 0.5
    hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(hidden, -1e4).softmax(-1) @ value


KERNELS: Mapping[str, Kernel] = {
    "linear": Kernel(normal(x=(8, 12), w=(6, 12), b=(6,)), functional.linear, linear, linear_backward),
    "layer norm": Kernel(
        normal(x=(6, 10), gamma=(10,), beta=(10,)),
        lambda x, gamma, beta: functional.layer_norm(x, x.shape[-1:], gamma, beta),
        layer_norm,
        layer_norm_backward,
    ),
    "rms norm": Kernel(
        normal(x=(6, 10), gamma=(10,)),
        lambda x, gamma: functional.rms_norm(x, x.shape[-1:], gamma, 1e-6),
        rms_norm,
        rms_norm_backward,
    ),
    "softmax": Kernel(normal(x=(8, 8)), partial(torch.softmax, dim=-1), softmax, softmax_backward),
    "gelu": Kernel(normal(x=(8, 8)), partial(functional.gelu, approximate="tanh"), gelu, gelu_backward),
    "silu": Kernel(normal(x=(8, 8)), functional.silu, silu, silu_backward),
    "swiglu": Kernel(normal(x=(6, 8), w=(5, 8), v=(5, 8)), torch_swiglu, swiglu, swiglu_backward),
    "attention": Kernel(
        normal(query=(2, 6, 8), key=(2, 6, 8), value=(2, 6, 8)),
        torch_attention,
        attention,
        attention_backward,
    ),
    "cross entropy": Kernel(
        with_labels,
        partial(functional.cross_entropy, reduction="none"),
        cross_entropy,
        cross_entropy_backward,
    ),
    "batch norm": Kernel(
        normal(x=(12, 6), gamma=(6,), beta=(6,)),
        lambda x, gamma, beta: functional.batch_norm(x, None, None, gamma, beta, training=True),
        batch_norm,
        batch_norm_backward,
    ),
    "conv1d": Kernel(normal(x=(3, 2, 9), w=(4, 2, 3)), functional.conv1d, conv1d, conv1d_backward),
    "embedding sum": Kernel(
        with_tokens, lambda table, tokens: table[tokens].sum(1), embedding_sum, embedding_sum_backward
    ),
}
