"""Layers in numpy, as a course has people write them: forward returns (out, cache)."""

import numpy as np


def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-z))


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def affine_forward(x, w, b):
    return x.reshape(len(x), -1) @ w + b, (x, w)


def affine_backward(dout, cache):
    x, w = cache
    dx = (dout @ w.T).reshape(x.shape)
    dw = x.reshape(len(x), -1).T @ dout
    db = dout.sum(axis=0)
    return dx, dw, db


def conv_forward(x, w, b, conv_param):
    stride, pad = conv_param["stride"], conv_param["pad"]
    n, _, height, width = x.shape
    f, _, hh, ww = w.shape
    rows, columns = 1 + (height + 2 * pad - hh) // stride, 1 + (width + 2 * pad - ww) // stride
    xp = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    out = np.zeros((n, f, rows, columns))
    for i in range(rows):
        for j in range(columns):
            window = xp[:, :, i * stride : i * stride + hh, j * stride : j * stride + ww]
            out[:, :, i, j] = np.tensordot(window, w, axes=([1, 2, 3], [1, 2, 3])) + b
    return out, (x, w, conv_param)


def conv_backward(dout, cache):
    x, w, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    n, _, rows, columns = dout.shape
    hh, ww = w.shape[2:]
    xp = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    dxp = np.zeros_like(xp)
    dw = np.zeros_like(w)
    for k in range(n):
        for i in range(rows):
            for j in range(columns):
                at = (slice(None), slice(i * stride, i * stride + hh), slice(j * stride, j * stride + ww))
                dxp[k][at] += np.tensordot(dout[k, :, i, j], w, axes=1)
                dw += np.multiply.outer(dout[k, :, i, j], xp[k][at])
    dx = dxp[:, :, pad : pad + x.shape[2], pad : pad + x.shape[3]]
    db = dout.sum(axis=(0, 2, 3))
    return dx, dw, db


def max_pool_forward(x, pool_param):
    size, stride = pool_param["size"], pool_param["stride"]
    rows, columns = 1 + (x.shape[2] - size) // stride, 1 + (x.shape[3] - size) // stride
    out = np.zeros((*x.shape[:2], rows, columns))
    for i in range(rows):
        for j in range(columns):
            window = x[:, :, i * stride : i * stride + size, j * stride : j * stride + size]
            out[:, :, i, j] = window.max(axis=(2, 3))
    return out, (x, pool_param)


def max_pool_backward(dout, cache):
    x, pool_param = cache
    size, stride = pool_param["size"], pool_param["stride"]
    dx = np.zeros_like(x)
    for k in range(len(x)):
        for c in range(x.shape[1]):
            for i in range(dout.shape[2]):
                for j in range(dout.shape[3]):
                    rows = slice(i * stride, i * stride + size)
                    columns = slice(j * stride, j * stride + size)
                    window = x[k, c, rows, columns]
                    mask = window == window.max()
                    dx[k, c, rows, columns] += mask * dout[k, c, i, j]
    return dx


def avg_pool_forward(x, pool_param):
    size, stride = pool_param["size"], pool_param["stride"]
    rows, columns = 1 + (x.shape[2] - size) // stride, 1 + (x.shape[3] - size) // stride
    out = np.zeros((*x.shape[:2], rows, columns))
    for i in range(rows):
        for j in range(columns):
            window = x[:, :, i * stride : i * stride + size, j * stride : j * stride + size]
            out[:, :, i, j] = window.mean(axis=(2, 3))
    return out, (x, pool_param)


def avg_pool_backward(dout, cache):
    x, pool_param = cache
    size, stride = pool_param["size"], pool_param["stride"]
    dx = np.zeros_like(x)
    for i in range(dout.shape[2]):
        for j in range(dout.shape[3]):
            rows, columns = slice(i * stride, i * stride + size), slice(j * stride, j * stride + size)
            dx[:, :, rows, columns] += dout[:, :, i, j][:, :, None, None] / size**2
    return dx


def batchnorm_forward(x, gamma, beta, bn_param):
    mu, var = x.mean(axis=0), x.var(axis=0)
    std = np.sqrt(var + bn_param["eps"])
    xhat = (x - mu) / std
    return gamma * xhat + beta, (x, xhat, std, gamma)


def batchnorm_backward(dout, cache):
    x, xhat, std, gamma = cache  # noqa: RUF059 - a slip uses x
    dxhat = dout * gamma
    dx = (dxhat - dxhat.mean(axis=0) - xhat * (dxhat * xhat).mean(axis=0)) / std
    dgamma = (dout * xhat).sum(axis=0)
    dbeta = dout.sum(axis=0)
    return dx, dgamma, dbeta


def layernorm_forward(x, gamma, beta, ln_param):
    mu, var = x.mean(axis=1, keepdims=True), x.var(axis=1, keepdims=True)
    std = np.sqrt(var + ln_param["eps"])
    xhat = (x - mu) / std
    return gamma * xhat + beta, (x, xhat, std, gamma)


def layernorm_backward(dout, cache):
    x, xhat, std, gamma = cache  # noqa: RUF059 - a slip uses x
    dxhat = dout * gamma
    m1 = dxhat.mean(axis=1, keepdims=True)
    m2 = (dxhat * xhat).mean(axis=1, keepdims=True)
    dx = (dxhat - m1 - xhat * m2) / std
    dgamma = (dout * xhat).sum(axis=0)
    dbeta = dout.sum(axis=0)
    return dx, dgamma, dbeta


def groupnorm_forward(x, gamma, beta, gn_param):
    xg = x.reshape(len(x), gn_param["groups"], -1)
    std = np.sqrt(xg.var(axis=2, keepdims=True) + gn_param["eps"])
    xhat = ((xg - xg.mean(axis=2, keepdims=True)) / std).reshape(x.shape)
    return gamma[:, None, None] * xhat + beta[:, None, None], (xhat, std, gamma, gn_param)


def groupnorm_backward(dout, cache):
    xhat, std, gamma, gn_param = cache
    dxhat = (dout * gamma[:, None, None]).reshape(len(dout), gn_param["groups"], -1)
    xh = xhat.reshape(dxhat.shape)
    m1 = dxhat.mean(axis=2, keepdims=True)
    m2 = (dxhat * xh).mean(axis=2, keepdims=True)
    dx = ((dxhat - m1 - xh * m2) / std).reshape(dout.shape)
    dgamma = (dout * xhat).sum(axis=(0, 2, 3))
    dbeta = dout.sum(axis=(0, 2, 3))
    return dx, dgamma, dbeta


def attention_forward(q, k, v):
    """Queries, keys and values are (batch, heads, tokens, width); the attention is causal."""
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    scores = np.where(np.tri(q.shape[2], dtype=bool), scores, -np.inf)
    weights = softmax(scores)
    return weights @ v, (q, k, v, weights)


def attention_backward(dout, cache):
    q, k, v, weights = cache
    dv = weights.swapaxes(-1, -2) @ dout
    dweights = dout @ v.swapaxes(-1, -2)
    dscores = weights * (dweights - (dweights * weights).sum(axis=-1, keepdims=True))
    dscores = dscores / np.sqrt(q.shape[-1])
    dq = dscores @ k
    dk = dscores.swapaxes(-1, -2) @ q
    return dq, dk, dv


def self_attention_forward(x, wq, wk, wv, wo, heads):
    """The tokens x are (batch, tokens, width); the attention is causal."""
    n, t, d = x.shape
    q, k, v = ((x @ w).reshape(n, t, heads, -1).transpose(0, 2, 1, 3) for w in (wq, wk, wv))
    out, (_, _, _, weights) = attention_forward(q, k, v)
    mixed = out.transpose(0, 2, 1, 3).reshape(n, t, d)
    return mixed @ wo, (x, wq, wk, wv, wo, heads, q, k, v, weights, mixed)


def self_attention_backward(dout, cache):
    x, wq, wk, wv, wo, heads, q, k, v, weights, mixed = cache
    n, t, d = x.shape
    dwo = mixed.reshape(-1, d).T @ dout.reshape(-1, d)
    dmixed = (dout @ wo.T).reshape(n, t, heads, -1).transpose(0, 2, 1, 3)
    dq, dk, dv = attention_backward(dmixed, (q, k, v, weights))
    dq, dk, dv = (each.transpose(0, 2, 1, 3).reshape(n, t, d) for each in (dq, dk, dv))
    dx = dq @ wq.T + dk @ wk.T + dv @ wv.T
    dwq, dwk, dwv = (x.reshape(-1, d).T @ each.reshape(-1, d) for each in (dq, dk, dv))
    return dx, dwq, dwk, dwv, dwo


def lstm_step_forward(x, prev_h, prev_c, wx, wh, b):
    i, f, o, g = np.split(x @ wx + prev_h @ wh + b, 4, axis=1)
    i, f, o, g = sigmoid(i), sigmoid(f), sigmoid(o), np.tanh(g)
    next_c = f * prev_c + i * g
    return o * np.tanh(next_c), next_c, (x, prev_h, prev_c, wx, wh, i, f, o, g, next_c)


def lstm_step_backward(dnext_h, dnext_c, cache):
    x, prev_h, prev_c, wx, wh, i, f, o, g, next_c = cache
    t = np.tanh(next_c)
    dc = dnext_c + dnext_h * o * (1 - t**2)
    di = dc * g * i * (1 - i)
    df = dc * prev_c * f * (1 - f)
    do = dnext_h * t * o * (1 - o)
    dg = dc * i * (1 - g**2)
    da = np.hstack([di, df, do, dg])
    dx = da @ wx.T
    dprev_h = da @ wh.T
    dprev_c = dc * f
    dwx = x.T @ da
    dwh = prev_h.T @ da
    db = da.sum(axis=0)
    return dx, dprev_h, dprev_c, dwx, dwh, db


def lstm_forward(x, h0, wx, wh, b):
    h, c, caches, states = h0, np.zeros_like(h0), [], []
    for t in range(x.shape[1]):
        h, c, cache = lstm_step_forward(x[:, t], h, c, wx, wh, b)
        caches.append(cache)
        states.append(h)
    return np.stack(states, axis=1), caches


def lstm_backward(dh, caches):
    n, steps, _ = dh.shape
    x, h, _, wx, wh = caches[0][:5]
    dx, dwx, dwh, db = (
        np.zeros((n, steps, x.shape[1])),
        np.zeros_like(wx),
        np.zeros_like(wh),
        np.zeros(wx.shape[1]),
    )
    dprev_h, dprev_c = np.zeros_like(h), np.zeros_like(h)
    for s in reversed(range(steps)):
        x, prev_h, prev_c, wx, wh, i, f, o, g, next_c = caches[s]
        t = np.tanh(next_c)
        dnext_h = dh[:, s] + dprev_h
        dc = dprev_c + dnext_h * o * (1 - t**2)
        da = np.hstack(
            [dc * g * i * (1 - i), dc * prev_c * f * (1 - f), dnext_h * t * o * (1 - o), dc * i * (1 - g**2)]
        )
        dx[:, s] = da @ wx.T
        dprev_h = da @ wh.T
        dprev_c = dc * f
        dwx += x.T @ da
        dwh += prev_h.T @ da
        db += da.sum(axis=0)
    return dx, dprev_h, dwx, dwh, db


def joint_lstm_forward(x, h0, w, b):
    """One weight multiplies [x, h], and its columns are the gates i, f, o and g."""
    h, c, caches, states = h0, np.zeros_like(h0), [], []
    for t in range(x.shape[1]):
        joined, prev_c = np.hstack([x[:, t], h]), c
        i, f, o, g = np.split(joined @ w + b, 4, axis=1)
        i, f, o, g = sigmoid(i), sigmoid(f), sigmoid(o), np.tanh(g)
        c = f * prev_c + i * g
        h = o * np.tanh(c)
        caches.append((joined, prev_c, i, f, o, g, c))
        states.append(h)
    return np.stack(states, axis=1), (w, x, h0, caches)


def joint_lstm_backward(dh, cache):
    w, x, h0, caches = cache
    d, steps = x.shape[2], x.shape[1]
    dx, dw, db = np.zeros_like(x), np.zeros_like(w), np.zeros(w.shape[1])
    dprev_h, dprev_c = np.zeros_like(h0), np.zeros_like(h0)
    for s in reversed(range(steps)):
        joined, prev_c, i, f, o, g, c = caches[s]
        t = np.tanh(c)
        dnext_h = dh[:, s] + dprev_h
        dc = dprev_c + dnext_h * o * (1 - t**2)
        da = np.hstack(
            [dc * g * i * (1 - i), dc * prev_c * f * (1 - f), dnext_h * t * o * (1 - o), dc * i * (1 - g**2)]
        )
        djoined = da @ w.T
        dx[:, s] = djoined[:, :d]
        dprev_h = djoined[:, d:]
        dprev_c = dc * f
        dw += joined.T @ da
        db += da.sum(axis=0)
    return dx, dprev_h, dw, db


def gru_step_forward(x, h, wx, wh, b):
    m = h.shape[1]
    ax, ah = x @ wx + b, h @ wh
    r = sigmoid(ax[:, :m] + ah[:, :m])
    z = sigmoid(ax[:, m : 2 * m] + ah[:, m : 2 * m])
    n = np.tanh(ax[:, 2 * m :] + r * ah[:, 2 * m :])
    return (1 - z) * n + z * h, (x, h, wx, wh, r, z, n, ah[:, 2 * m :])


def gru_step_backward(dout, cache):
    x, h, wx, wh, r, z, n, ahn = cache
    dn = dout * (1 - z) * (1 - n**2)
    dz = dout * (h - n) * z * (1 - z)
    dr = dn * ahn * r * (1 - r)
    dax = np.hstack([dr, dz, dn])
    dah = np.hstack([dr, dz, dn * r])
    dx = dax @ wx.T
    dh = dah @ wh.T + dout * z
    dwx = x.T @ dax
    dwh = h.T @ dah
    db = dax.sum(axis=0)
    return dx, dh, dwx, dwh, db


def rnn_forward(x, h0, wx, wh, b):
    h, states = h0, []
    for t in range(x.shape[1]):
        h = np.tanh(x[:, t] @ wx + h @ wh + b)
        states.append(h)
    return np.stack(states, axis=1), (x, h0, wx, wh, np.stack(states, axis=1))


def rnn_backward(dh, cache):
    x, h0, wx, wh, states = cache
    dx, dwx, dwh, db = np.zeros_like(x), np.zeros_like(wx), np.zeros_like(wh), np.zeros(len(wh))
    dprev = np.zeros_like(h0)
    for t in reversed(range(x.shape[1])):
        prev = states[:, t - 1] if t else h0
        da = (dh[:, t] + dprev) * (1 - states[:, t] ** 2)
        dx[:, t] = da @ wx.T
        dwx += x[:, t].T @ da
        dwh += prev.T @ da
        db += da.sum(axis=0)
        dprev = da @ wh.T
    return dx, dprev, dwx, dwh, db


def dropout_forward(x, dropout_param):
    rng = np.random.default_rng(dropout_param["seed"])
    mask = (rng.random(x.shape) < dropout_param["p"]) / dropout_param["p"]
    return x * mask, mask


def dropout_backward(dout, mask):
    return dout * mask


def embedding_forward(w, tokens):
    return w[tokens], (tokens, w.shape)


def embedding_backward(dout, cache):
    tokens, shape = cache
    dw = np.zeros(shape)
    np.add.at(dw, tokens, dout)
    return dw


def rmsnorm_forward(x, gamma):
    rms = np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6)
    return gamma * x / rms, (x, rms, gamma)


def rmsnorm_backward(dout, cache):
    x, rms, gamma = cache
    dxhat = dout * gamma
    dx = (dxhat - x / rms**2 * (dxhat * x).mean(axis=-1, keepdims=True)) / rms
    dgamma = (dout * x / rms).sum(axis=0)
    return dx, dgamma


def swiglu_forward(x, w, v):
    a, b = x @ w, x @ v
    s = sigmoid(a)
    return a * s * b, (x, w, v, a, b, s)


def swiglu_backward(dout, cache):
    x, w, v, a, b, s = cache
    da = dout * b * s * (1 + a * (1 - s))
    db = dout * a * s
    dx = da @ w.T + db @ v.T
    dw = x.T @ da
    dv = x.T @ db
    return dx, dw, dv


def softmax_loss_forward(x, y):
    p = softmax(x)
    return -np.log(p[np.arange(len(x)), y]).mean(), (p, y)


def softmax_loss_backward(dout, cache):
    p, y = cache
    n = len(p)
    dx = p.copy()
    dx[np.arange(n), y] -= 1
    return dout * dx / n
