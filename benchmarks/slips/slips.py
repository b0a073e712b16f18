"""The slips: for each layer its inputs, and what is written instead of what in its backward."""

from __future__ import annotations

import numpy as np


def inputs_of(seed: int) -> dict[str, dict[str, object]]:
    """Return the inputs of each layer, drawn with this seed."""
    rng = np.random.default_rng(seed)

    def drawn(**shapes):
        return {name: rng.normal(size=shape) for name, shape in shapes.items()}

    return {
        "affine": drawn(x=(4, 2, 3), w=(6, 6), b=(6,)),
        "conv": {**drawn(x=(3, 2, 5, 5), w=(3, 2, 3, 3), b=(3,)), "conv_param": {"stride": 2, "pad": 1}},
        "max_pool": {**drawn(x=(3, 2, 5, 5)), "pool_param": {"size": 3, "stride": 2}},
        "avg_pool": {**drawn(x=(3, 2, 5, 5)), "pool_param": {"size": 3, "stride": 2}},
        "batchnorm": {**drawn(x=(5, 4), gamma=(4,), beta=(4,)), "bn_param": {"eps": 1e-5}},
        "layernorm": {**drawn(x=(5, 4), gamma=(4,), beta=(4,)), "ln_param": {"eps": 1e-5}},
        "groupnorm": {
            **drawn(x=(3, 4, 2, 3), gamma=(4,), beta=(4,)),
            "gn_param": {"groups": 2, "eps": 1e-5},
        },
        "attention": drawn(q=(2, 3, 4, 5), k=(2, 3, 4, 5), v=(2, 3, 4, 5)),
        "self_attention": {**drawn(x=(2, 3, 6), **{f"w{name}": (6, 6) for name in "qkvo"}), "heads": 2},
        "lstm_step": drawn(x=(3, 4), prev_h=(3, 5), prev_c=(3, 5), wx=(4, 20), wh=(5, 20), b=(20,)),
        "lstm": drawn(x=(3, 4, 2), h0=(3, 3), wx=(2, 12), wh=(3, 12), b=(12,)),
        "joint_lstm": drawn(x=(3, 4, 2), h0=(3, 3), w=(5, 12), b=(12,)),
        "gru_step": drawn(x=(3, 4), h=(3, 5), wx=(4, 15), wh=(5, 15), b=(15,)),
        "rnn": drawn(x=(3, 4, 2), h0=(3, 5), wx=(2, 5), wh=(5, 5), b=(5,)),
        "dropout": {**drawn(x=(4, 6)), "dropout_param": {"p": 0.6, "seed": seed}},
        "embedding": {**drawn(w=(6, 4)), "tokens": np.array([[0, 3, 3], [5, 3, 1]])},
        "rmsnorm": drawn(x=(5, 4), gamma=(4,)),
        "swiglu": drawn(x=(4, 5), w=(5, 6), v=(5, 6)),
        "softmax_loss": {**drawn(x=(5, 4)), "y": np.array([0, 3, 1, 1, 2])},
    }


SLIPS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "affine": (
        ("db is a mean", "db = dout.sum(axis=0)", "db = dout.mean(axis=0)"),
        ("dx not transposed", "dout @ w.T", "dout @ w"),
        ("db of the first sample", "db = dout.sum(axis=0)", "db = dout[0]"),
        ("dw with x reversed", "x.reshape(len(x), -1).T", "x[::-1].reshape(len(x), -1).T"),
    ),
    "conv": (
        ("= for += in dx", "dxp[k][at] +=", "dxp[k][at] ="),
        ("= for += in dw", "dw +=", "dw ="),
        (
            "padding not removed",
            "pad : pad + x.shape[2], pad : pad + x.shape[3]",
            ": x.shape[2], : x.shape[3]",
        ),
        (
            "kernel rotated",
            "np.tensordot(dout[k, :, i, j], w, axes=1)",
            "np.tensordot(dout[k, :, i, j], w[:, :, ::-1, ::-1], axes=1)",
        ),
        ("returns inside the loop", "for k in range(n):", "for k in range(n)[:1]:"),
        ("db over samples and the first row", "dout.sum(axis=(0, 2, 3))", "dout[:, :, 0].sum(axis=(0, 2))"),
        ("last column left out", "for j in range(columns):", "for j in range(columns - 1):"),
        (
            "channels of w in the wrong order",
            "np.tensordot(dout[k, :, i, j], w, axes=1)",
            "np.tensordot(dout[k, ::-1, i, j], w, axes=1)",
        ),
    ),
    "max_pool": (
        ("= for +=", "columns] += mask", "columns] = mask"),
        ("every entry gets it", "mask * dout", "dout"),
        ("divided by size", "mask * dout[k, c, i, j]", "mask * dout[k, c, i, j] / size**2"),
        ("minimum", "window.max()", "window.min()"),
    ),
    "avg_pool": (
        ("= for +=", "+= dout[:, :, i, j]", "= dout[:, :, i, j]"),
        ("divided by size", "/ size**2", "/ size"),
        ("not divided", "[:, :, None, None] / size**2", "[:, :, None, None]"),
    ),
    "batchnorm": (
        ("mean term missing", "dxhat - dxhat.mean(axis=0) - xhat", "dxhat - xhat"),
        ("variance constant", " - xhat * (dxhat * xhat).mean(axis=0)", ""),
        ("gamma forgotten", "dxhat = dout * gamma", "dxhat = dout"),
        ("x for xhat in dgamma", "dgamma = (dout * xhat)", "dgamma = (dout * x)"),
        ("divided by the variance", ") / std", ") / std**2"),
        (
            "statistics constant",
            "(dxhat - dxhat.mean(axis=0) - xhat * (dxhat * xhat).mean(axis=0)) / std",
            "dxhat / std",
        ),
        ("not divided by std", ") / std", ")"),
        ("N − 1", "(dxhat * xhat).mean(axis=0)", "(dxhat * xhat).sum(axis=0) / (len(x) - 1)"),
    ),
    "layernorm": (
        ("mean term missing", " - m1", ""),
        ("variance constant", " - xhat * m2", ""),
        ("gamma forgotten", "dxhat = dout * gamma", "dxhat = dout"),
        ("wrong axis", "m1 = dxhat.mean(axis=1, keepdims=True)", "m1 = dxhat.mean(axis=0, keepdims=True)"),
        ("dgamma without xhat", "(dout * xhat).sum(axis=0)", "dout.sum(axis=0)"),
        ("sign of the variance term", "- xhat * m2", "+ xhat * m2"),
    ),
    "groupnorm": (
        ("variance constant", " - xh * m2", ""),
        ("mean term missing", " - m1", ""),
        ("gamma forgotten", "(dout * gamma[:, None, None])", "dout"),
        (
            "means over all groups",
            "m1 = dxhat.mean(axis=2, keepdims=True)",
            "m1 = dxhat.mean(axis=(1, 2), keepdims=True)",
        ),
        ("dbeta of the first sample", "dbeta = dout.sum(axis=(0, 2, 3))", "dbeta = dout[0].sum(axis=(1, 2))"),
        ("groups swapped", "/ std)", "/ std[:, ::-1])"),
    ),
    "attention": (
        (
            "diagonal alone",
            "(dweights - (dweights * weights).sum(axis=-1, keepdims=True))",
            "dweights * (1 - weights)",
        ),
        ("scale forgotten", "dscores = dscores / np.sqrt(q.shape[-1])", "dscores = dscores / 1"),
        (
            "softmax forgotten",
            "dscores = weights * (dweights - (dweights * weights).sum(axis=-1, keepdims=True))",
            "dscores = dweights",
        ),
        (
            "mean for sum",
            "(dweights * weights).sum(axis=-1, keepdims=True)",
            "(dweights * weights).mean(axis=-1, keepdims=True)",
        ),
        ("dk not transposed", "dk = dscores.swapaxes(-1, -2) @ q", "dk = dscores @ q"),
        ("dv not transposed", "dv = weights.swapaxes(-1, -2) @ dout", "dv = weights @ dout"),
        ("heads in the wrong order", "dq = dscores @ k", "dq = dscores[:, ::-1] @ k"),
        ("dq and dk swapped", "return dq, dk, dv", "return dk, dq, dv"),
        (
            "sum over queries",
            "(dweights * weights).sum(axis=-1, keepdims=True)",
            "(dweights * weights).sum(axis=-2, keepdims=True)",
        ),
    ),
    "self_attention": (
        ("dx without the keys", "dq @ wq.T + dk @ wk.T + dv @ wv.T", "dq @ wq.T + dv @ wv.T"),
        ("dx through swapped weights", "dq @ wq.T + dk @ wk.T + dv", "dq @ wk.T + dk @ wq.T + dv"),
        ("weight not transposed", "(dout @ wo.T)", "(dout @ wo)"),
        ("heads not transposed", ".transpose(0, 2, 1, 3).reshape(n, t, d) for", ".reshape(n, t, d) for"),
        ("dwo with the input", "dwo = mixed.reshape(-1, d).T", "dwo = x.reshape(-1, d).T"),
        ("dwq and dwk swapped", "dx, dwq, dwk, dwv", "dx, dwk, dwq, dwv"),
        ("dq and dk swapped", "dq, dk, dv = attention_backward", "dk, dq, dv = attention_backward"),
        (
            "heads in the wrong order",
            "transpose(0, 2, 1, 3)\n    dq",
            "transpose(0, 2, 1, 3)[:, ::-1]\n    dq",
        ),
    ),
    "lstm_step": (
        ("dc ignored", "dc = dnext_c + dnext_h", "dc = dnext_h"),
        ("dh ignored in dc", "dc = dnext_c + dnext_h * o * (1 - t**2)", "dc = dnext_c"),
        ("f for i", "dprev_c = dc * f", "dprev_c = dc * i"),
        ("f forgotten", "dprev_c = dc * f", "dprev_c = dc"),
        ("forget gate's derivative", "f * (1 - f)", "1"),
        ("output gate's derivative", "o * (1 - o)", "o"),
        ("gates in another order", "[di, df, do, dg]", "[di, df, dg, do]"),
        ("tanh's derivative forgotten", "dnext_h * o * (1 - t**2)", "dnext_h * o"),
        ("recurrent weight with c", "dwh = prev_h.T @ da", "dwh = prev_c.T @ da"),
    ),
    "lstm": (
        ("dh not carried", "dnext_h = dh[:, s] + dprev_h", "dnext_h = dh[:, s]"),
        ("dc not carried", "dc = dprev_c + dnext_h", "dc = dnext_h"),
        (
            "only the last step's dh",
            "dnext_h = dh[:, s] + dprev_h",
            "dnext_h = dh[:, s] * (s == steps - 1) + dprev_h",
        ),
        ("= for += in dwh", "dwh +=", "dwh ="),
        ("= for += in db", "db +=", "db ="),
        ("times reversed in dx", "dx[:, s] =", "dx[:, steps - 1 - s] ="),
    ),
    "joint_lstm": (
        ("dh not carried", "dnext_h = dh[:, s] + dprev_h", "dnext_h = dh[:, s]"),
        ("dc not carried", "dc = dprev_c + dnext_h", "dc = dnext_h"),
        ("f forgotten", "dprev_c = dc * f", "dprev_c = dc"),
        ("= for += in dw", "dw +=", "dw ="),
        ("forget gate's derivative", "f * (1 - f)", "1"),
        (
            "gates in another order",
            "dnext_h * t * o * (1 - o), dc * i * (1 - g**2)]",
            "dc * i * (1 - g**2), dnext_h * t * o * (1 - o)]",
        ),
        ("first step left out", "reversed(range(steps))", "reversed(range(1, steps))"),
        ("columns of dx", "djoined[:, :d]", "djoined[:, -d:]"),
        ("tanh's derivative forgotten", "dnext_h * o * (1 - t**2)", "dnext_h * o"),
    ),
    "gru_step": (
        ("direct share forgotten", " + dout * z", ""),
        ("reset gate forgotten", "dn * r]", "dn]"),
        ("1 − z forgotten", "dout * (1 - z) * (1 - n**2)", "dout * (1 - n**2)"),
        ("z for 1 − z", "dout * (1 - z) * (1 - n**2)", "dout * z * (1 - n**2)"),
        ("h for h − n", "(h - n)", "h"),
    ),
    "rnn": (
        ("dh not carried", "(dh[:, t] + dprev)", "dh[:, t]"),
        ("tanh's derivative forgotten", " * (1 - states[:, t] ** 2)", ""),
        ("later state in dwh", "dwh += prev.T @ da", "dwh += states[:, t].T @ da"),
        ("= for += in dwx", "dwx +=", "dwx ="),
        ("first step left out", "reversed(range(x.shape[1]))", "reversed(range(1, x.shape[1]))"),
        ("dx one step late", "dx[:, t] =", "dx[:, t - 1] ="),
    ),
    "dropout": (
        ("mask forgotten", "dout * mask", "1 * dout"),
        ("scale forgotten", "dout * mask", "dout * (mask > 0)"),
        ("mask twice", "dout * mask", "dout * mask * mask"),
    ),
    "embedding": (
        ("repeated tokens once", "np.add.at(dw, tokens, dout)", "dw[tokens] += dout"),
        ("one token late", "np.add.at(dw, tokens, dout)", "np.add.at(dw, tokens - 1, dout)"),
    ),
    "rmsnorm": (
        ("second term missing", "dxhat - x / rms**2 * (dxhat * x).mean(axis=-1, keepdims=True)", "dxhat"),
        ("gamma forgotten", "dxhat = dout * gamma", "dxhat = dout"),
        ("sum for mean", "(dxhat * x).mean(", "(dxhat * x).sum("),
        ("dgamma without rms", "(dout * x / rms)", "(dout * x)"),
    ),
    "swiglu": (
        ("branches swapped", "da @ w.T + db @ v.T", "db @ w.T + da @ v.T"),
        ("one branch forgotten", "da @ w.T + db @ v.T", "da @ w.T"),
        ("gate's derivative s alone", "s * (1 + a * (1 - s))", "s"),
        ("dv with da", "dv = x.T @ db", "dv = x.T @ da"),
    ),
    "softmax_loss": (
        ("labels forgotten", "dx[np.arange(n), y] -= 1", "pass"),
        ("not divided by N", "dout * dx / n", "dout * dx"),
        ("one label late", "y] -= 1", "y - 1] -= 1"),
    ),
}
"""For each layer, its slips: a name, the right statement and the wrong one."""
