"""Layers with a forward and a backward pass written by hand, in which mistakes can be planted.

They use textbook formulas and no code of the package. `MISTAKES` of each class maps each mistake that people
make in its backward pass to the kinds that name it correctly. At the place of a mistake, the pass calls
`made` to ask whether to make it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

Array = np.ndarray
Parameters = Mapping[str, Array]
Mistakes = Mapping[str, tuple[str, ...]]


class Hand:
    """One layer, with its name in the spec and the parameters of the network.

    mistake: the mistake to make; empty for none.  gradients: the gradients of its parameters, by full name.
    options: the options in the layer's spec.
    """

    MISTAKES: ClassVar[Mistakes] = {}

    def __init__(self, name: str, p: Parameters, mistake: str = "", **options: Any) -> None:
        self.name, self.p, self.mistake, self.options = name, p, mistake, options
        self.gradients: dict[str, Array] = {}

    def w(self, own: str) -> Array:
        return self.p[f"{self.name}.{own}"]

    def made(self, mistake: str) -> bool:
        assert mistake in self.MISTAKES, mistake
        return self.mistake == mistake

    def found(self, own: str, gradient: Array) -> None:
        name = f"{self.name}.{own}"
        self.gradients[name] = self.gradients.get(name, 0.0) + gradient

    def forward(self, x: Array) -> Array:
        raise NotImplementedError

    def backward(self, d: Array) -> Array:
        """Return ∂L/∂x from d, the gradient of the output, and store the gradients of the parameters."""
        raise NotImplementedError


class Dense(Hand):
    """z = x wᵀ + b over the last axis, followed by tanh if the options say so."""

    def forward(self, x: Array) -> Array:
        self.x, self.a = x, x @ self.w("weight").T + self.w("bias")
        if self.options.get("tanh"):
            self.a = np.tanh(self.a)
        return self.a

    def backward(self, d: Array) -> Array:
        if self.options.get("tanh"):
            d = d * (1.0 - self.a**2)
        axes = tuple(range(d.ndim - 1))
        self.found("weight", np.tensordot(d, self.x, (axes, axes)))
        self.found("bias", d.sum(axis=axes))
        return d @ self.w("weight")


class Flatten(Hand):
    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, d: Array) -> Array:
        return d.reshape(self.shape)


class Conv2d(Hand):
    """A convolution with stride and padding, one kernel position after the other; optionally with tanh."""

    MISTAKES: ClassVar[Mistakes] = {
        "kernel not rotated": ("kernel not rotated",),
        "kernel's gradient rotated": ("kernel's gradient rotated",),
        "padding not cut off": ("padding not cut off",),
        "overlaps overwritten": ("windows overwritten",),
        "stride forgotten": ("stride forgotten on the way down",),
        "bias averaged over positions": ("bias averaged over positions",),
        "bias over channels": ("bias summed over the wrong axes",),
        "bias over everything": ("bias summed over everything",),
        "bias of the first position": ("bias gradient from one position",),
        "bias averaged over samples": ("bias averaged", "1/N twice"),
        "last sample lost": ("last sample lost",),
    }

    def _places(self) -> Iterator[tuple[int, int, tuple[slice, ...]]]:
        s = self.options.get("stride", 1)
        _, _, height, width = self.z_shape
        for i, j in np.ndindex(*self.w("weight").shape[2:]):
            yield i, j, (..., slice(i, i + s * height, s), slice(j, j + s * width, s))

    def forward(self, x: Array) -> Array:
        w, pad, s = self.w("weight"), self.options.get("padding", 0), self.options.get("stride", 1)
        self.x_shape = x.shape
        self.padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        size = [(n - k) // s + 1 for n, k in zip(self.padded.shape[2:], w.shape[2:], strict=True)]
        self.z_shape = (len(x), len(w), *size)
        z = np.zeros(self.z_shape) + self.w("bias")[:, None, None]
        for i, j, at in self._places():
            z += np.einsum("nchw,oc->nohw", self.padded[at], w[:, :, i, j])
        self.a = np.tanh(z) if self.options.get("tanh") else z
        return self.a

    def backward(self, d: Array) -> Array:
        d = d * (1.0 - self.a**2) if self.options.get("tanh") else d
        w, pad = self.w("weight"), self.options.get("padding", 0)
        dw, below = np.zeros_like(w), np.zeros_like(self.padded)
        down = w[:, :, ::-1, ::-1] if self.made("kernel not rotated") else w
        kept = slice(None, -1) if self.made("last sample lost") else slice(None)
        for i, j, at in self._places():
            dw[:, :, i, j] = np.einsum("nohw,nchw->oc", d[kept], self.padded[kept][at])
            share = np.einsum("nohw,oc->nchw", d, down[:, :, i, j])
            if self.made("overlaps overwritten"):
                below[at] = share
            elif self.made("stride forgotten"):
                below[:, :, i : i + share.shape[2], j : j + share.shape[3]] += share
            else:
                below[at] += share
        self.found("weight", dw[:, :, ::-1, ::-1] if self.made("kernel's gradient rotated") else dw)
        self.found("bias", self._of_bias(d))
        height, width = self.x_shape[2:]
        first = 0 if self.made("padding not cut off") else pad
        return below[:, :, first : first + height, first : first + width]

    def _of_bias(self, d: Array) -> Array:
        if self.made("bias averaged over positions"):
            return d.mean(axis=(2, 3)).sum(axis=0)
        if self.made("bias over channels") and d.shape[3] == d.shape[1]:
            return d.sum(axis=(0, 1, 2))
        if self.made("bias over everything"):
            return np.full(d.shape[1], d.sum())
        if self.made("bias of the first position"):
            return d[:, :, 0, 0].sum(axis=0)
        return (
            d.mean(axis=0).sum(axis=(1, 2))
            if self.made("bias averaged over samples")
            else d.sum(axis=(0, 2, 3))
        )


class Pool(Hand):
    """Pooling of k × k windows with stride s, by the largest number or by the mean."""

    def _windows(self) -> Iterator[tuple[tuple[int, ...], tuple[Any, ...]]]:
        k, s = self.options["kernel"], self.options["stride"]
        for place in np.ndindex(*self.out_shape):
            n, c, i, j = place
            yield place, (n, c, slice(s * i, s * i + k), slice(s * j, s * j + k))

    def forward(self, x: Array) -> Array:
        k, s = self.options["kernel"], self.options["stride"]
        self.x = x
        self.out_shape = (*x.shape[:2], *((size - k) // s + 1 for size in x.shape[2:]))
        out = np.empty(self.out_shape)
        for place, window in self._windows():
            out[place] = self.of(x[window])
        return out

    def of(self, window: Array) -> float:
        raise NotImplementedError

    def share(self, window: Array) -> Array:
        raise NotImplementedError

    def backward(self, d: Array) -> Array:
        below = np.zeros_like(self.x)
        for place, window in self._windows():
            share = d[place] * self.share(self.x[window])
            if self.made("overlaps overwritten"):
                below[window] = np.where(share != 0, share, below[window])
            else:
                below[window] += share
        return below


class MaxPool(Pool):
    MISTAKES: ClassVar[Mistakes] = {
        "overlaps overwritten": ("windows overwritten",),
        "every number": ("gradient to every value in a window",),
        "shared by all": ("gradient to every value in a window",),
        "the first number": ("gradient to the first value in a window",),
        "the smallest number": ("gradient to the smallest value",),
    }

    def of(self, window: Array) -> float:
        return float(window.max())

    def share(self, window: Array) -> Array:
        if self.made("every number"):
            return np.ones_like(window)
        if self.made("shared by all"):
            return np.full_like(window, 1.0 / window.size)
        one = np.zeros_like(window)
        place = window.argmin() if self.made("the smallest number") else window.argmax()
        one.flat[0 if self.made("the first number") else place] = 1.0
        return one


class AvgPool(Pool):
    MISTAKES: ClassVar[Mistakes] = {
        "overlaps overwritten": ("windows overwritten",),
        "not divided": ("average not divided in backward",),
        "the first number": ("gradient to the first value in a window",),
    }

    def of(self, window: Array) -> float:
        return float(window.mean())

    def share(self, window: Array) -> Array:
        if self.made("the first number"):
            one = np.zeros_like(window)
            one.flat[0] = 1.0
            return one
        return np.full_like(window, 1.0 if self.made("not divided") else 1.0 / window.size)


class Norm(Hand):
    """Subtract the mean, divide by the standard deviation, then apply γ and β. Subclasses choose the axes.

    eps: the eps of the spec.
    """

    KIND: ClassVar[str] = ""
    MISTAKES: ClassVar[Mistakes] = {}

    def grouped(self, x: Array) -> Array:
        """Return x as an array whose last axis is normalised."""
        raise NotImplementedError

    def apart(self, grouped: Array) -> Array:
        raise NotImplementedError

    def scale(self, own: str) -> Array:
        """Return γ or β in a shape that multiplies x."""
        return self.w(own)

    def over(self, array: Array) -> Array:
        """Return the sum of an array over all axes that γ lacks."""
        return array.sum(axis=tuple(range(array.ndim - 1)))

    GAMMA, BETA = "weight", "bias"

    def forward(self, x: Array) -> Array:
        self.x, self.shape = x, x.shape
        v = self.grouped(x)
        self.variance = v.var(axis=-1, keepdims=True)
        self.deviation = np.sqrt(self.variance + self.options["eps"])
        self.x_hat = (v - v.mean(axis=-1, keepdims=True)) / self.deviation
        return self.scale(self.GAMMA) * self.apart(self.x_hat) + self.scale(self.BETA)

    def backward(self, d: Array) -> Array:
        x_hat = self.apart(self.x_hat)
        self.found(self.GAMMA, self.over(d * (self.x if self.made("gamma gradient from x") else x_hat)))
        self.found(self.BETA, self.over(d))
        g = self.grouped(d if self.made("gamma forgotten") else self.scale(self.GAMMA) * d)
        mean, of_variance = g.mean(axis=-1, keepdims=True), (g * self.x_hat).mean(axis=-1, keepdims=True)
        if self.made("mean term missing"):
            mean = 0.0
        if self.made("mean subtracted twice"):
            mean = 2.0 * mean
        if self.made("variance term missing"):
            of_variance = 0.0
        if self.made("held constant"):
            mean = of_variance = 0.0
        if self.made("sums in place of means"):
            mean, of_variance = (each * g.shape[-1] for each in (mean, of_variance))
        deviation = self.deviation
        if self.made("divided by the variance"):
            deviation = self.variance + self.options["eps"]
        if self.made("eps outside the root"):
            deviation = np.sqrt(self.variance) + self.options["eps"]
        if self.made("not divided"):
            deviation = 1.0
        return self.apart((g - mean - self.x_hat * of_variance) / deviation)


def of_norm(kind: str) -> Mistakes:
    return {
        "gamma gradient from x": (f"{kind}: gamma gradient from z",),
        "gamma forgotten": (f"{kind}: gamma forgotten",),
        "mean term missing": (f"{kind}: mean term missing",),
        "mean subtracted twice": (f"{kind}: mean subtracted twice",),
        "variance term missing": (f"{kind}: variance term missing",),
        "held constant": (f"{kind}: statistics held constant",),
        "sums in place of means": (f"{kind}: sums in place of means",),
        "divided by the variance": (f"{kind}: divided by the variance",),
        "eps outside the root": (f"{kind}: eps outside the root",),
        "not divided": (f"{kind}: deviation forgotten",),
    }


class LayerNorm(Norm):
    MISTAKES: ClassVar[Mistakes] = of_norm("layer norm")

    def grouped(self, x: Array) -> Array:
        return x

    def apart(self, grouped: Array) -> Array:
        return grouped


class GroupNorm(Norm):
    """Group normalisation of (N, C, H, W), over the channels of each group and all positions."""

    MISTAKES: ClassVar[Mistakes] = of_norm("group norm")

    def grouped(self, x: Array) -> Array:
        return x.reshape(len(x), self.options["groups"], -1)

    def apart(self, grouped: Array) -> Array:
        return grouped.reshape(self.shape)

    def scale(self, own: str) -> Array:
        return self.w(own)[:, None, None]

    def over(self, array: Array) -> Array:
        return array.sum(axis=(0, 2, 3))


class BatchNormed(Norm):
    """A dense layer, batch normalisation over samples and positions, and tanh."""

    MISTAKES: ClassVar[Mistakes] = {
        key: ("batch norm: gamma gradient from z",) if key == "gamma gradient from x" else kinds
        for key, kinds in of_norm("batch norm").items()
    }
    GAMMA, BETA = "gamma", "beta"

    def grouped(self, x: Array) -> Array:
        return np.moveaxis(x, -1, 0).reshape(x.shape[-1], -1)

    def apart(self, grouped: Array) -> Array:
        return np.moveaxis(grouped.reshape(self.shape[-1], *self.shape[:-1]), 0, -1)

    def forward(self, x: Array) -> Array:
        self.dense = Dense(self.name, self.p)
        self.a = np.tanh(super().forward(self.dense.forward(x)))
        return self.a

    def backward(self, d: Array) -> Array:
        below = self.dense.backward(super().backward(d * (1.0 - self.a**2)))
        self.gradients |= self.dense.gradients
        return below


class RmsNorm(Hand):
    MISTAKES: ClassVar[Mistakes] = {
        "root held constant": ("rms norm: root held constant",),
        "mean subtracted": ("rms norm: mean subtracted",),
        "weight forgotten": ("rms norm: weight forgotten",),
        "weight's gradient of x": ("rms norm: gain's gradient from x",),
        "not divided": ("rms norm: root forgotten",),
        "sum for mean": ("rms norm: sum in place of mean",),
        "x for x_hat": ("rms norm: x in place of normalised x",),
    }

    def forward(self, x: Array) -> Array:
        self.x = x
        self.root = np.sqrt((x**2).mean(axis=-1, keepdims=True) + self.options["eps"])
        self.x_hat = x / self.root
        return self.w("weight") * self.x_hat

    def backward(self, d: Array) -> Array:
        normal = self.x if self.made("weight's gradient of x") else self.x_hat
        self.found("weight", (d * normal).sum(axis=tuple(range(d.ndim - 1))))
        g = d if self.made("weight forgotten") else self.w("weight") * d
        x_hat = self.x if self.made("x for x_hat") else self.x_hat
        of_root = (g * x_hat).mean(axis=-1, keepdims=True)
        if self.made("sum for mean"):
            of_root = of_root * g.shape[-1]
        if self.made("root held constant"):
            of_root = 0.0
        mean = g.mean(axis=-1, keepdims=True) if self.made("mean subtracted") else 0.0
        return (g - mean - x_hat * of_root) / (1.0 if self.made("not divided") else self.root)
