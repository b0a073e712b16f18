"""Layers in the form that a course prescribes: forward returns (out, cache), backward takes (dout, cache).

Each backward follows the textbook's formula. An additional argument, a set of words, says which mistakes to
make.
"""

from __future__ import annotations

import numpy as np

RIGHT = frozenset()


def _drawn(*shapes):
    rng = np.random.default_rng(5)
    return [rng.normal(size=shape) for shape in shapes]


def affine_forward(x, w, b):
    return x.reshape(len(x), -1) @ w + b, (x, w, b)


def affine_backward(dout, cache, slips=RIGHT):
    x, w, _ = cache
    db = dout.mean(axis=0) if "mean" in slips else dout.sum(axis=0)
    dx = dout @ (w if "forgets the transpose" in slips else w.T)
    return dx.reshape(x.shape), x.reshape(len(x), -1).T @ dout, db


def relu_forward(x):
    return np.maximum(x, 0.0), x


def relu_backward(dout, cache, slips=RIGHT):
    if "masks by dout" in slips:
        return np.where(dout > 0.0, dout, 0.0)
    return 1.0 * (cache > 0.0) if "ignores dout" in slips else dout * (cache > 0.0)


def batchnorm_forward(x, gamma, beta, bn_param):
    mean, var = x.mean(axis=0), x.var(axis=0)
    bn_param["running_mean"] = 0.9 * bn_param.get("running_mean", 0.0) + 0.1 * mean  # as the course does
    std = np.sqrt(var + bn_param["eps"])
    z = (x - mean) / std
    return gamma * z + beta, (z, std, gamma)


def batchnorm_backward(dout, cache, slips=RIGHT, axis=0):
    z, std, gamma = cache
    dz = dout if "forgets gamma" in slips else dout * gamma
    dx = dz - dz.mean(axis=axis, keepdims=True)
    if "variance constant" not in slips:
        dx = dx - z * (dz * z).mean(axis=axis, keepdims=True)
    return dx / std, (dout * z).sum(axis=0), dout.sum(axis=0)


def layernorm_forward(x, gamma, beta, ln_param):
    std = np.sqrt(x.var(axis=1, keepdims=True) + ln_param["eps"])
    z = (x - x.mean(axis=1, keepdims=True)) / std
    return gamma * z + beta, (z, std, gamma)


def layernorm_backward(dout, cache, slips=RIGHT):
    return batchnorm_backward(dout, cache, slips, axis=0 if "wrong axis" in slips else 1)


def dropout_forward(x, dropout_param):
    rng = np.random.default_rng(dropout_param["seed"])
    mask = (rng.random(x.shape) < dropout_param["p"]) / dropout_param["p"]
    return x * mask, mask


def dropout_backward(dout, cache, slips=RIGHT):
    if "forgets the mask" in slips:
        return dout
    return dout * (cache > 0.0) if "forgets the scale" in slips else dout * cache


def _windows(x, size, stride, pad):
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    rows = range(0, x.shape[2] - size + 1, stride)
    columns = range(0, x.shape[3] - size + 1, stride)
    return x, [
        (i, j, (slice(None), slice(None), slice(r, r + size), slice(c, c + size)))
        for i, r in enumerate(rows)
        for j, c in enumerate(columns)
    ]


def conv_forward(x, w, b, conv_param):
    padded, windows = _windows(x, w.shape[2], conv_param["stride"], conv_param["pad"])
    height, width = (n + 1 for n in windows[-1][:2])
    out = np.empty((len(x), len(w), height, width))
    for i, j, window in windows:
        out[:, :, i, j] = np.tensordot(padded[window], w, axes=([1, 2, 3], [1, 2, 3])) + b
    return out, (x, w, conv_param)


def conv_backward(dout, cache, slips=RIGHT):
    x, w, conv_param = cache
    pad = conv_param["pad"]
    padded, windows = _windows(x, w.shape[2], conv_param["stride"], pad)
    dx, dw = np.zeros_like(padded), np.zeros_like(w)
    for i, j, window in windows:
        passed = np.tensordot(dout[:, :, i, j], w, axes=(1, 0))
        dx[window] = passed if "= for +=" in slips else dx[window] + passed
        dw += np.tensordot(dout[:, :, i, j], padded[window], axes=(0, 0))
    dx = dx[:, :, pad:-pad, pad:-pad] if pad else dx
    return dx, dw[:, :, ::-1] if "flips the kernel" in slips else dw, dout.sum(axis=(0, 2, 3))


def pool_forward(x, pool_param):
    size = pool_param["size"]
    _, windows = _windows(x, size, size, 0)
    out = np.empty((*x.shape[:2], *(n + 1 for n in windows[-1][:2])))
    for i, j, window in windows:
        out[:, :, i, j] = x[window].max(axis=(2, 3))
    return out, (x, size)


def pool_backward(dout, cache, slips=RIGHT):
    x, size = cache
    _, windows = _windows(x, size, size, 0)
    dx = np.zeros_like(x)
    for i, j, window in windows:
        each = x[window]
        chosen = each.min(axis=(2, 3)) if "takes the least" in slips else each.max(axis=(2, 3))
        mask = each == chosen[:, :, None, None]
        dx[window] = (1.0 / size**2 if "averages" in slips else mask) * dout[:, :, i, j][:, :, None, None]
    return dx


def rnn_forward(x, h0, wx, wh, b):
    h, states = h0, []
    for t in range(x.shape[1]):
        h = np.tanh(x[:, t] @ wx + h @ wh + b)
        states.append(h)
    return np.stack(states, axis=1), (x, h0, wx, wh, states)


def rnn_backward(dh, cache, slips=RIGHT):
    x, h0, wx, wh, states = cache
    dx, dwx, dwh, db = np.zeros_like(x), np.zeros_like(wx), np.zeros_like(wh), np.zeros(len(wh))
    carried = np.zeros_like(h0)
    for t in reversed(range(x.shape[1])):
        delta = (dh[:, t] + carried) * (1.0 if "forgets tanh" in slips else 1.0 - states[t] ** 2)
        dx[:, t] = delta @ wx.T
        dwx += x[:, t].T @ delta
        dwh += (states[t - 1] if t else h0).T @ delta
        db += delta.sum(axis=0)
        carried = 0.0 * carried if "does not carry dh" in slips else delta @ wh.T
    return dx, carried, dwx, dwh, db


def _sigmoid(z):
    return 1.0 / (1.0 + np.exp(-z))


def lstm_forward(x, prev_h, prev_c, wx, wh, b):
    """One step, with two outputs."""
    i, f, o, g = np.split(x @ wx + prev_h @ wh + b, 4, axis=1)
    i, f, o, g = _sigmoid(i), _sigmoid(f), _sigmoid(o), np.tanh(g)
    next_c = f * prev_c + i * g
    return o * np.tanh(next_c), next_c, (x, prev_h, prev_c, wx, wh, i, f, o, g, next_c)


def lstm_backward(dnext_h, dnext_c, cache, slips=RIGHT):
    x, prev_h, prev_c, wx, wh, i, f, o, g, next_c = cache
    t = np.tanh(next_c)
    dc = dnext_h * o * (1.0 - t**2) + (0.0 if "ignores dc" in slips else dnext_c)
    gate = (lambda s: 1.0) if "forgets the gates" in slips else (lambda s: s * (1.0 - s))
    parts = [dc * g * gate(i), dc * prev_c * gate(f), dnext_h * t * gate(o), dc * i * (1.0 - g**2)]
    delta = np.concatenate(parts, axis=1)
    return delta @ wx.T, delta @ wh.T, dc * f, x.T @ delta, prev_h.T @ delta, delta.sum(axis=0)


def _softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def attention_forward(q, k, v):
    weights = _softmax(q @ k.swapaxes(1, 2) / np.sqrt(q.shape[2]))
    return weights @ v, (q, k, v, weights)


def attention_backward(dout, cache, slips=RIGHT):
    q, k, v, weights = cache
    dweights = dout @ v.swapaxes(1, 2)
    inner = 0.0 if "diagonal alone" in slips else (dweights * weights).sum(axis=2, keepdims=True)
    dscores = weights * (dweights - inner)
    dscores = dscores if "forgets the scale" in slips else dscores / np.sqrt(q.shape[2])
    return dscores @ k, dscores.swapaxes(1, 2) @ q, weights.swapaxes(1, 2) @ dout


def softmax_loss_forward(x, y):
    p = _softmax(x)
    return -np.log(p[np.arange(len(x)), y]).mean(), (p, y)


def softmax_loss_backward(dout, cache, slips=RIGHT):
    p, y = cache
    dx = p.copy()
    if "forgets the labels" not in slips:
        dx[np.arange(len(p)), y] -= 1.0
    return dout * (dx if "forgets to divide by N" in slips else dx / len(p))


X, H, C = _drawn((3, 4), (3, 5), (3, 5))

LAYERS = {
    "affine": (
        affine_forward,
        affine_backward,
        dict(zip("xwb", _drawn((3, 2, 3), (6, 6), 6), strict=True)),
        ("mean", "forgets the transpose"),
    ),
    "relu": (relu_forward, relu_backward, {"x": X}, ("ignores dout", "masks by dout")),
    "batch norm": (
        batchnorm_forward,
        batchnorm_backward,
        {"x": X, "gamma": C[0, :4], "beta": C[1, :4], "bn_param": {"eps": 1e-5}},
        ("forgets gamma", "variance constant"),
    ),
    "layer norm": (
        layernorm_forward,
        layernorm_backward,
        {"x": X, "gamma": C[0, :4], "beta": C[1, :4], "ln_param": {"eps": 1e-5}},
        ("wrong axis", "variance constant"),
    ),
    "dropout": (
        dropout_forward,
        dropout_backward,
        {"x": X, "dropout_param": {"p": 0.6, "seed": 3}},
        ("forgets the mask", "forgets the scale"),
    ),
    "conv": (
        conv_forward,
        conv_backward,
        {
            **dict(zip("xwb", _drawn((2, 2, 5, 5), (3, 2, 3, 3), 3), strict=True)),
            "conv_param": {"stride": 1, "pad": 1},
        },
        ("= for +=", "flips the kernel"),
    ),
    "pool": (
        pool_forward,
        pool_backward,
        {"x": _drawn((2, 2, 4, 4))[0], "pool_param": {"size": 2}},
        ("takes the least", "averages"),
    ),
    "rnn": (
        rnn_forward,
        rnn_backward,
        dict(zip(("x", "h0", "wx", "wh", "b"), _drawn((3, 4, 2), (3, 5), (2, 5), (5, 5), 5), strict=True)),
        ("forgets tanh", "does not carry dh"),
    ),
    "lstm": (
        lstm_forward,
        lstm_backward,
        {
            "x": X,
            "prev_h": H,
            "prev_c": C,
            **dict(zip(("wx", "wh", "b"), _drawn((4, 20), (5, 20), 20), strict=True)),
        },
        ("ignores dc", "forgets the gates"),
    ),
    "attention": (
        attention_forward,
        attention_backward,
        dict(zip("qkv", _drawn((2, 3, 4), (2, 3, 4), (2, 3, 5)), strict=True)),
        ("diagonal alone", "forgets the scale"),
    ),
    "softmax loss": (
        softmax_loss_forward,
        softmax_loss_backward,
        {"x": X, "y": np.array([0, 3, 1])},
        ("forgets the labels", "forgets to divide by N"),
    ),
}
"""For each layer: forward, backward, the arguments of forward, and two mistakes that backward can make."""
