"""Recurrent layers, attention and gated layers, with a forward and a backward pass written by hand."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from layers_by_hand import Array, Hand, Mistakes


def sigmoid(z: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-z))


class Recurrent(Hand):
    """A recurrent layer (N, T, inputs) → (N, T, hidden) in torch's layout, with initial state 0."""

    def forward(self, x: Array) -> Array:
        self.x, self.hidden = x, self.w("weight_hh_l0").shape[1]
        self.kept, h = [], np.zeros((len(x), self.hidden))
        state = self.begin(h)
        out = []
        for t in range(x.shape[1]):
            of_x = x[:, t] @ self.w("weight_ih_l0").T + self.w("bias_ih_l0")
            of_h = state[0] @ self.w("weight_hh_l0").T + self.w("bias_hh_l0")
            before, state = state, self.cell(of_x, of_h, state)
            self.kept[-1]["h_before"] = before[0]
            out.append(state[0])
        return np.stack(out, axis=1)

    def begin(self, zero: Array) -> tuple[Array, ...]:
        return (zero,)

    def cell(self, of_x: Array, of_h: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
        raise NotImplementedError

    def cell_backward(
        self, kept: dict[str, Array], d: tuple[Array, ...]
    ) -> tuple[Array, Array, tuple[Array, ...]]:
        """Return δ of the product with x, δ of that with h, and the rest of the previous state's gradient."""
        raise NotImplementedError

    def backward(self, d: Array) -> Array:
        below = np.zeros_like(self.x)
        carried = self.begin(np.zeros((len(d), self.hidden)))
        for t in reversed(range(self.x.shape[1])):
            of_h = d[:, t] if self.made("state's gradient not carried") else d[:, t] + carried[0]
            if self.made("upstream of the last step alone") and t < self.x.shape[1] - 1:
                of_h = carried[0]
            kept = self.kept[t]
            delta_x, delta_h, direct = self.cell_backward(kept, (of_h, *carried[1:]))
            self.found("weight_ih_l0", delta_x.T @ self.x[:, t])
            self.found("weight_hh_l0", delta_h.T @ kept["h_before"])
            self.found("bias_ih_l0", delta_x.sum(axis=0))
            self.found("bias_hh_l0", delta_h.sum(axis=0))
            below[:, t] = delta_x @ self.w("weight_ih_l0")
            carried = (direct[0] + delta_h @ self.w("weight_hh_l0"), *direct[1:])
        return below


LOOPS: Mistakes = {
    "state's gradient not carried": ("gradient not carried back",),
    "upstream of the last step alone": ("gradients of earlier outputs lost",),
}


class Rnn(Recurrent):
    MISTAKES: ClassVar[Mistakes] = {
        **LOOPS,
        "derivative of tanh missing": ("activation derivative missing",),
        "derivative at h": ("activation derivative at a",),
    }

    def cell(self, of_x: Array, of_h: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
        h = np.tanh(of_x + of_h)
        self.kept.append({"h": h})
        return (h,)

    def cell_backward(
        self, kept: dict[str, Array], d: tuple[Array, ...]
    ) -> tuple[Array, Array, tuple[Array, ...]]:
        slope = 1.0 - kept["h"] ** 2
        if self.made("derivative of tanh missing"):
            slope = np.ones_like(slope)
        if self.made("derivative at h"):
            slope = 1.0 - np.tanh(kept["h"]) ** 2
        delta = d[0] * slope
        return delta, delta, (np.zeros_like(delta),)


class Lstm(Recurrent):
    MISTAKES: ClassVar[Mistakes] = {
        **LOOPS,
        "cell's gradient not carried": ("gradient not carried back", "branch forgotten"),
        "forget gate's derivative missing": ("activation derivative missing",),
        "derivative of tanh c missing": ("activation derivative missing",),
        "gates joined i g f o": ("gates in another order",),
        "gates joined f i g o": ("gates in another order",),
        "output gate forgotten": ("other factor forgotten",),
        "i and g swapped": ("factors swapped",),
        "forget gate forgotten": ("other factor forgotten",),
    }

    def begin(self, zero: Array) -> tuple[Array, ...]:
        return zero, zero

    def cell(self, of_x: Array, of_h: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
        i, f, g, o = np.split(of_x + of_h, 4, axis=1)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        c = f * state[1] + i * g
        self.kept.append({"i": i, "f": f, "g": g, "o": o, "c": c, "c_before": state[1]})
        return o * np.tanh(c), c

    def cell_backward(
        self, kept: dict[str, Array], d: tuple[Array, ...]
    ) -> tuple[Array, Array, tuple[Array, ...]]:
        i, f, g, o, tanh_c = kept["i"], kept["f"], kept["g"], kept["o"], np.tanh(kept["c"])
        dh, dc = d
        through = dh if self.made("output gate forgotten") else dh * o
        slope = 1.0 if self.made("derivative of tanh c missing") else 1.0 - tanh_c**2
        dc = through * slope + (0.0 if self.made("cell's gradient not carried") else dc)
        di, dg = (dc * i, dc * g) if self.made("i and g swapped") else (dc * g, dc * i)
        df = dc * kept["c_before"]
        delta_f = df if self.made("forget gate's derivative missing") else df * f * (1.0 - f)
        parts = {
            "i": di * i * (1.0 - i),
            "f": delta_f,
            "g": dg * (1.0 - g**2),
            "o": dh * tanh_c * o * (1.0 - o),
        }
        order = "igfo" if self.made("gates joined i g f o") else "ifgo"
        order = "figo" if self.made("gates joined f i g o") else order
        delta = np.concatenate([parts[each] for each in order], axis=1)
        below = dc if self.made("forget gate forgotten") else dc * f
        return delta, delta, (np.zeros_like(dh), below)


class Gru(Recurrent):
    MISTAKES: ClassVar[Mistakes] = {
        **LOOPS,
        "reset gate's share forgotten": ("factor's gradient lost",),
        "reset gate not in backward": ("other factor forgotten",),
        "sign of 1 - z": ("complement's sign",),
        "h not carried past z": ("branch forgotten", "factor's gradient lost", "skip connection forgotten"),
        "derivative of tanh missing": ("activation derivative missing",),
        "gates joined z r n": ("gates in another order",),
    }

    def cell(self, of_x: Array, of_h: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
        (rx, zx, nx), (rh, zh, nh) = np.split(of_x, 3, axis=1), np.split(of_h, 3, axis=1)
        r, z = sigmoid(rx + rh), sigmoid(zx + zh)
        n = np.tanh(nx + r * nh)
        self.kept.append({"r": r, "z": z, "n": n, "nh": nh, "h": state[0]})
        return ((1.0 - z) * n + z * state[0],)

    def cell_backward(
        self, kept: dict[str, Array], d: tuple[Array, ...]
    ) -> tuple[Array, Array, tuple[Array, ...]]:
        r, z, n, nh, h, (dh,) = kept["r"], kept["z"], kept["n"], kept["nh"], kept["h"], d
        delta_n = dh * (1.0 - z) * (1.0 if self.made("derivative of tanh missing") else 1.0 - n**2)
        dz = dh * (h + n) if self.made("sign of 1 - z") else dh * (h - n)
        delta_z = dz * z * (1.0 - z)
        dr = np.zeros_like(dh) if self.made("reset gate's share forgotten") else delta_n * nh
        delta_r = dr * r * (1.0 - r)
        of_nh = delta_n if self.made("reset gate not in backward") else delta_n * r
        first = (delta_z, delta_r) if self.made("gates joined z r n") else (delta_r, delta_z)
        delta_x = np.concatenate([*first, delta_n], axis=1)
        delta_h = np.concatenate([*first, of_nh], axis=1)
        return delta_x, delta_h, (np.zeros_like(dh) if self.made("h not carried past z") else dh * z,)


class Attention(Hand):
    """Causal self-attention with several heads and a joint projection: (N, T, width)."""

    MISTAKES: ClassVar[Mistakes] = {
        "scale forgotten": ("scale forgotten in backward",),
        "scale twice": ("scale twice in backward",),
        "softmax's diagonal alone": ("softmax's diagonal alone",),
        "softmax's sum missing": ("softmax's sum missing", "softmax's diagonal alone"),
        "softmax left out": ("softmax left out",),
        "mask not in backward": ("mask not in backward",),
        "dq and dk swapped": ("factors swapped", "projections in another order"),
        "dk and dv swapped": ("projections in another order",),
        "keys not transposed": ("upstream not transposed",),
    }

    def _heads(self, x: Array) -> Array:
        n, t, _ = x.shape
        return x.reshape(n, t, self.options["heads"], -1).transpose(0, 2, 1, 3)

    def _joined(self, x: Array) -> Array:
        n, heads, t, size = x.shape
        return x.transpose(0, 2, 1, 3).reshape(n, t, heads * size)

    def forward(self, x: Array) -> Array:
        self.x = x
        projected = x @ self.w("in_proj_weight").T + self.w("in_proj_bias")
        self.q, self.k, self.v = (self._heads(each) for each in np.split(projected, 3, axis=-1))
        self.scale = 1.0 / math.sqrt(self.q.shape[-1])
        scores = self.scale * self.q @ self.k.transpose(0, 1, 3, 2)
        t = x.shape[1]
        self.seen = np.tril(np.ones((t, t), dtype=bool))
        e = np.where(self.seen, np.exp(scores - scores.max(axis=-1, keepdims=True)), 0.0)
        self.a = e / e.sum(axis=-1, keepdims=True)
        self.mixed = self._joined(self.a @ self.v)
        return self.mixed @ self.w("out_proj.weight").T + self.w("out_proj.bias")

    def backward(self, d: Array) -> Array:
        self.found("out_proj.weight", np.tensordot(d, self.mixed, ((0, 1), (0, 1))))
        self.found("out_proj.bias", d.sum(axis=(0, 1)))
        dm = self._heads(d @ self.w("out_proj.weight"))
        da, dv = dm @ self.v.transpose(0, 1, 3, 2), self.a.transpose(0, 1, 3, 2) @ dm
        ds = self._softmax(da)
        scale = {"scale forgotten": 1.0, "scale twice": self.scale**2}.get(self.mistake, self.scale)
        turned = ds if self.made("keys not transposed") else ds.transpose(0, 1, 3, 2)
        dq, dk = scale * ds @ self.k, scale * turned @ self.q
        if self.made("dq and dk swapped"):
            dq, dk = dk, dq
        if self.made("dk and dv swapped"):
            dk, dv = dv, dk
        delta = np.concatenate([self._joined(each) for each in (dq, dk, dv)], axis=-1)
        self.found("in_proj_weight", np.tensordot(delta, self.x, ((0, 1), (0, 1))))
        self.found("in_proj_bias", delta.sum(axis=(0, 1)))
        return delta @ self.w("in_proj_weight")

    def _softmax(self, da: Array) -> Array:
        a = self.a
        if self.made("softmax's diagonal alone"):
            return da * a * (1.0 - a)
        if self.made("softmax's sum missing"):
            return da * a
        if self.made("softmax left out"):
            return da
        if self.made("mask not in backward"):  # the softmax of all scores, as if no token were masked
            scores = self.scale * self.q @ self.k.transpose(0, 1, 3, 2)
            e = np.exp(scores - scores.max(axis=-1, keepdims=True))
            a = e / e.sum(axis=-1, keepdims=True)
        return a * (da - (da * a).sum(axis=-1, keepdims=True))


class Swiglu(Hand):
    MISTAKES: ClassVar[Mistakes] = {
        "branches swapped": ("factors swapped",),
        "silu's derivative missing": ("activation derivative missing",),
        "silu's derivative is sigmoid": (
            "slip in the activation's formula",
            "another activation's derivative",
        ),
        "gate's branch forgotten": ("factor's gradient lost",),
        "up's factor forgotten": ("other factor forgotten",),
    }

    def forward(self, x: Array) -> Array:
        self.x = x
        self.gate = x @ self.w("gate_proj.weight").T + self.w("gate_proj.bias")
        self.up = x @ self.w("up_proj.weight").T + self.w("up_proj.bias")
        self.silu = self.gate * sigmoid(self.gate)
        self.product = self.silu * self.up
        return self.product @ self.w("down_proj.weight").T + self.w("down_proj.bias")

    def backward(self, d: Array) -> Array:
        dm = self._dense("down_proj", self.product, d)
        d_silu = dm if self.made("up's factor forgotten") else dm * self.up
        d_up = dm * self.silu
        if self.made("branches swapped"):
            d_silu, d_up = d_up, d_silu
        if self.made("gate's branch forgotten"):
            d_silu = np.zeros_like(d_silu)
        s = sigmoid(self.gate)
        slope = s * (1.0 + self.gate * (1.0 - s))
        if self.made("silu's derivative missing"):
            slope = 1.0
        if self.made("silu's derivative is sigmoid"):
            slope = s
        return self._dense("gate_proj", self.x, d_silu * slope) + self._dense("up_proj", self.x, d_up)

    def _dense(self, own: str, x: Array, d: Array) -> Array:
        axes = tuple(range(d.ndim - 1))
        self.found(f"{own}.weight", np.tensordot(d, x, (axes, axes)))
        self.found(f"{own}.bias", d.sum(axis=axes))
        return d @ self.w(f"{own}.weight")
