"""Multi-head attention and embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np

from kinds.function import Array, Arrays, Draw, Function, chance, normal, weights, whole

ATTENTION_SLIPS = (
    "1/√d forgotten",
    "1/√d twice",
    "mean term of softmax forgotten",
    "row sum over the wrong axis",
    "dk from untransposed scores",
    "dv from scores before softmax",
    "dq and dk swapped",
    "residual dropped",
    "values' part of dx forgotten",
    "mask added to the gradient's scores",
    "heads summed",
    "dw_o from the residual",
    "key bias gets the query's gradient",
    "bias of the last token",
    "tanh's derivative forgotten",
)


def attention(rng: Draw) -> Function:
    """Self-attention with biases, heads and a residual, sometimes with a causal mask.

    The key bias has no effect.
    """
    n, tokens, heads, size = whole(rng, 1, 2), whole(rng, 2, 4), whole(rng, 1, 2), whole(rng, 1, 3)
    units = heads * size
    causal = chance(rng, 0.5)
    mask = np.triu(np.full((tokens, tokens), -30.0), 1) if causal else np.zeros((tokens, tokens))
    parameters = {f"w_{part}": weights(rng, units, units) for part in "qkvo"}
    parameters |= {f"b_{part}": normal(rng, units, scale=0.3) for part in "qkv"}
    return Function(
        {**parameters, "x": normal(rng, n, tokens, units)},
        {"upstream": normal(rng, n, tokens, units), "mask": mask},
        lambda p, d: _attention_forward(p, d, heads),
        lambda p, d, saved, slip: _attention_backward(p, d, saved, slip, heads),
    )


def _split(x: Array, heads: int) -> Array:
    """Reshape [sample, token, unit] → [sample, head, token, size]."""
    return x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)


def _merged(x: Array) -> Array:
    return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1)


def _attention_forward(p: Arrays, d: Arrays, heads: int) -> tuple[Array, Any]:
    q, k, v = (_split(p["x"] @ p[f"w_{part}"].T + p[f"b_{part}"], heads) for part in "qkv")
    scale = 1.0 / q.shape[3] ** 0.5
    scores = scale * (q @ k.swapaxes(2, 3)) + d["mask"]
    e = np.exp(scores - scores.max(3)[..., None])
    s = e / e.sum(3)[..., None]
    mixed = _merged(s @ v)
    out = np.tanh(p["x"] + mixed @ p["w_o"].T)
    return (d["upstream"] * out).sum((1, 2)), (q, k, v, scores, s, mixed, out)


def _attention_backward(p: Arrays, d: Arrays, saved: Any, slip: str, heads: int) -> Arrays:
    q, k, v, scores, s, mixed, out = saved
    x, scale = p["x"], 1.0 / q.shape[3] ** 0.5
    delta = d["upstream"] * (1.0 if slip == "tanh's derivative forgotten" else 1.0 - out**2)
    dmixed = _split(delta @ p["w_o"], heads)
    ds = dmixed @ v.swapaxes(2, 3)
    mean = {
        "mean term of softmax forgotten": 0.0,
        "row sum over the wrong axis": (s * ds).sum(2, keepdims=True),
    }.get(slip, (s * ds).sum(3, keepdims=True))
    dscores = s * (ds - mean)
    if slip == "mask added to the gradient's scores":
        dscores = dscores + 0.1 * (d["mask"] < 0)
    factor = {"1/√d forgotten": 1.0, "1/√d twice": scale**2}.get(slip, scale)
    if slip == "heads summed":
        dscores = dscores.sum(1, keepdims=True) + 0.0 * dscores
    dq = factor * (dscores @ k)
    dk = factor * ((dscores if slip == "dk from untransposed scores" else dscores.swapaxes(2, 3)) @ q)
    if slip == "dq and dk swapped":
        dq, dk = dk, dq
    dv = (scores if slip == "dv from scores before softmax" else s).swapaxes(2, 3) @ dmixed
    parts = dict(zip("qkv", (_merged(dq), _merged(dk), _merged(dv)), strict=True))
    gradients = {f"w_{part}": np.einsum("ntj,nti->ji", dpart, x) for part, dpart in parts.items()}
    gradients |= {f"b_{part}": dpart.sum((0, 1)) for part, dpart in parts.items()}
    if slip == "key bias gets the query's gradient":
        gradients["b_k"] = gradients["b_q"]
    if slip == "bias of the last token":
        gradients["b_v"] = parts["v"][:, -1].sum(0)
    gradients["w_o"] = np.einsum("ntj,nti->ji", delta, x if slip == "dw_o from the residual" else mixed)
    down = "qk" if slip == "values' part of dx forgotten" else "qkv"
    dx = sum(parts[part] @ p[f"w_{part}"] for part in down)
    gradients["x"] = dx + (0.0 if slip == "residual dropped" else delta)
    return gradients


# --- embeddings -------------------------------------------------------------------------------------------

EMBEDDING_SLIPS = (
    "repeated tokens counted once",
    "padding gets a gradient",
    "√d forgotten",
    "√d twice",
    "positions of one sample",
    "averaged over the tokens",
    "tied output weights forgotten",
    "target not subtracted",
    "rows shifted by one",
    "last token left out",
)


def embedding(rng: Draw) -> Function:
    """Token and position embeddings with repeated tokens and padding; the logits reuse the embeddings."""
    n, tokens, letters, units = whole(rng, 1, 3), whole(rng, 2, 4), whole(rng, 3, 6), whole(rng, 2, 4)
    codes = rng.integers(letters, size=(n, tokens))
    codes[0, -1] = codes[0, 0]
    used = np.ones((n, tokens))
    if chance(rng, 0.5):
        used[-1, -1] = 0.0
    return Function(
        {"table": normal(rng, letters, units, scale=0.6), "positions": normal(rng, tokens, units, scale=0.3)},
        {"used": used, "hot": np.eye(letters)[rng.integers(letters, size=n)]},
        lambda p, d: _embedding_forward(p, d, codes),
        lambda p, d, saved, slip: _embedding_backward(p, d, saved, slip, codes),
    )


def _embedding_forward(p: Arrays, d: Arrays, codes: Array) -> tuple[Array, Any]:
    root = p["table"].shape[1] ** 0.5
    a = np.tanh(root * p["table"][codes] + p["positions"])
    pooled = (d["used"][:, :, None] * a).sum(1) / d["used"].sum(1)[:, None]
    z = pooled @ p["table"].T
    z = z - z.max(1)[:, None]
    s = np.exp(z) / np.exp(z).sum(1)[:, None]
    return -(d["hot"] * np.log(s)).sum(1), (a, pooled, s)


def _embedding_backward(p: Arrays, d: Arrays, saved: Any, slip: str, codes: Array) -> Arrays:
    a, pooled, s = saved
    root = p["table"].shape[1] ** 0.5
    delta = s - (0.0 if slip == "target not subtracted" else d["hot"])
    used = np.ones_like(d["used"]) if slip == "padding gets a gradient" else d["used"].copy()
    if slip == "last token left out":
        used[:, -1] = 0.0
    dpooled = (delta @ p["table"])[:, None] / d["used"].sum(1)[:, None, None]
    dz = used[:, :, None] * dpooled * (1.0 - a**2)
    rows = dz * {"√d forgotten": 1.0, "√d twice": root**2}.get(slip, root)
    if slip == "averaged over the tokens":
        rows = rows / a.shape[1]
    table = np.zeros_like(p["table"]) if slip == "tied output weights forgotten" else delta.T @ pooled
    at = (codes + 1) % len(table) if slip == "rows shifted by one" else codes
    if slip == "repeated tokens counted once":
        table[at] += rows
    else:
        np.add.at(table, at, rows)
    return {"table": table, "positions": dz[0] if slip == "positions of one sample" else dz.sum(0)}
