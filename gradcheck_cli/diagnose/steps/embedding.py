"""Mistakes in the gradient of an embedding's weight."""

from __future__ import annotations

import numpy as np

from gradcheck_cli.diagnose.families import EMBEDDING as EMBEDDING_FAMILY
from gradcheck_cli.diagnose.mistake import Wrong
from gradcheck_cli.diagnose.variant import Of, Variant, Visit, gradient
from gradcheck_cli.network.steps.embedding import Embedding
from gradcheck_cli.types import Array


def _tokens(visit: Visit) -> Array:
    return visit.inputs[0].astype(np.intp).ravel()


def _rows(visit: Visit) -> Array:
    return visit.upstream.reshape(-1, visit.upstream.shape[-1])


def _kept(visit: Visit, weight: Array) -> Array:
    """Set the padding token's row of a weight gradient to 0, in place, and return the gradient."""
    step = visit.step
    assert isinstance(step, Embedding)
    if step.padding_idx is not None:
        weight[step.padding_idx] = 0.0
    return weight


def _last_alone(visit: Visit) -> Array:
    weight = np.zeros_like(visit.p["weight"])
    weight[_tokens(visit)] = _rows(visit)
    return _kept(visit, weight)


def _first_alone(visit: Visit) -> Array:
    weight = np.zeros_like(visit.p["weight"])
    weight[_tokens(visit)[::-1]] = _rows(visit)[::-1]
    return _kept(visit, weight)


def _last_in_each_sample(visit: Visit) -> Array:
    weight = np.zeros_like(visit.p["weight"])
    tokens = visit.inputs[0].astype(np.intp)
    for row, upstream in zip(tokens.reshape(len(tokens), -1), visit.upstream, strict=True):
        weight[row] += upstream.reshape(len(row), -1)  # a token that is repeated counts once
    return _kept(visit, weight)


def _summed(visit: Visit) -> Array:
    weight = np.zeros_like(visit.p["weight"])
    np.add.at(weight, _tokens(visit), _rows(visit))
    return weight


def _averaged(visit: Visit) -> Array:
    counts = np.bincount(_tokens(visit), minlength=len(visit.p["weight"]))
    return _kept(visit, _summed(visit) / np.maximum(counts, 1)[:, None])


_ROWS: tuple[tuple[str, Of, str, str, str], ...] = (
    (
        "repeated tokens counted once",
        _last_alone,
        "a token that occurs several times gets the gradient of its last position alone (= instead of +=)",
        "∂L/∂w[v] = δ at the last position of v",
        "dL_dtable = np.zeros_like(table)\ndL_dtable[x] = upstream",
    ),
    (
        "repeated tokens counted once",
        _first_alone,
        "a token that occurs several times gets the gradient of its first position alone",
        "∂L/∂w[v] = δ at the first position of v",
        ("dL_dtable = np.zeros_like(table)\ndL_dtable[x.ravel()[::-1]] = upstream.reshape(-1, 2)[::-1]"),
    ),
    (
        "repeated tokens counted once",
        _last_in_each_sample,
        "a token that occurs several times in a sample gets only the gradient of its last position there",
        "∂L/∂w[v] = Σ over samples of δ at the last position of v",
        ("dL_dtable = np.zeros_like(table)\nfor n in range(N):\n    dL_dtable[x[n]] += upstream[n]"),
    ),
    (
        "padding row trained",
        _summed,
        "the row of the padding token has a gradient",
        "∂L/∂w[v] = Σ δ, for the padding too",
        (
            "upstream = y.reshape(N, -1, 2)\n"
            "dL_dtable = np.stack([upstream[x == token].sum(axis=0) for token in range(5)])"
        ),
    ),
    (
        "repeated tokens averaged",
        _averaged,
        "the gradient of a token is averaged over its positions, not summed",
        "∂L/∂w[v] = mean of δ over the positions of v",
        (
            "counts = np.maximum(np.bincount(x.ravel(), minlength=5), 1)\n"
            "dL_dtable = dL_dtable / counts[:, None]"
        ),
    ),
)

_RIGHT = "∂L/∂w[v] = Σ δ over the positions of v"

EMBEDDING = tuple(
    Variant(
        Wrong(
            kind,
            EMBEDDING_FAMILY,
            f"in {{where}}, {sentence}",
            wrong,
            "∂L/∂w[v] = Σ δ over the positions of v",
            "∂L/∂w",
            code=code,
        ),
        Embedding,
        gradient("weight", of),
    )
    for kind, of, sentence, wrong, code in _ROWS
)
