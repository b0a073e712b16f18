"""torch modules: with custom backwards, with complex parameters, and from torch's own layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from kinds.function import Draw, chance, normal, one_of, weights, whole

Tensor = torch.Tensor


class Linear(torch.autograd.Function):
    """x wᵀ + b with a custom backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor, slip: str) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.slip = slip
        return x @ w.T + b

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        (x, w), slip = ctx.saved_tensors, ctx.slip
        dw = (x.T @ dy).reshape(w.shape) if slip == "reshape instead of transpose" else dy.T @ x
        db = dy.mean(0) if slip == "bias averaged" else dy.sum(0)
        if slip == "bias of one sample":
            db = dy[0]
        down = w.T if slip == "weights transposed on the way down" and w.shape[0] == w.shape[1] else w
        return dy @ down, dw, db, None


class Silu(torch.autograd.Function):
    """z σ(z) with a custom backward."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, slip: str) -> Tensor:
        ctx.save_for_backward(z)
        ctx.slip = slip
        return z * torch.sigmoid(z)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        (z,), slip = ctx.saved_tensors, ctx.slip
        s = torch.sigmoid(z)
        slope = {
            "silu's derivative is σ": s,
            "z forgotten in silu's derivative": s * (2.0 - s),
            "silu's derivative at its value": (v := torch.sigmoid(z * s)) * (1.0 + z * s * (1.0 - v)),
        }.get(slip, s * (1.0 + z * (1.0 - s)))
        upstream = torch.ones_like(dy) if slip == "silu ignores its upstream" else dy
        return upstream * slope, None


class LayerNorm(torch.autograd.Function):
    """γ (x − mean) / deviation with a custom backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, slip: str) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        deviation = (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
        ctx.save_for_backward(centred / deviation, deviation, gamma)
        ctx.slip = slip
        return gamma * centred / deviation

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        (ahead, deviation, gamma), slip = ctx.saved_tensors, ctx.slip
        g = dy if slip == "gamma forgotten" else dy * gamma
        mean = 0.0 if slip == "mean term forgotten" else g.mean(1, keepdim=True)
        bend = 0.0 if slip == "deviation term forgotten" else (g * ahead).mean(1, keepdim=True)
        dgamma = dy.sum(0) if slip == "gamma's gradient without x̂" else (dy * ahead).sum(0)
        return (g - mean - ahead * bend) / deviation, dgamma, None


class Layers(nn.Module):
    def __init__(self, rng: Draw, slip: str) -> None:
        super().__init__()
        n, inputs, units, outputs = whole(rng, 2, 4), whole(rng, 1, 3), whole(rng, 2, 4), whole(rng, 1, 3)
        self.slip = slip
        self.register_buffer("x", torch.tensor(normal(rng, n, inputs)))
        self.w = nn.Parameter(torch.tensor(weights(rng, units, inputs)))
        self.b = nn.Parameter(torch.tensor(normal(rng, units, scale=0.3)))
        self.gamma = nn.Parameter(torch.tensor(rng.uniform(0.5, 1.5, units)))
        self.v = nn.Parameter(torch.tensor(weights(rng, outputs, units)))
        self.c = nn.Parameter(torch.tensor(normal(rng, outputs, scale=0.3)))

    def forward(self) -> Tensor:
        z = Silu.apply(Linear.apply(self.x, self.w, self.b, self.slip), self.slip)
        return Linear.apply(LayerNorm.apply(z, self.gamma, self.slip), self.v, self.c, self.slip)


LAYERS_SLIPS = (
    "reshape instead of transpose",
    "bias averaged",
    "bias of one sample",
    "weights transposed on the way down",
    "silu's derivative is σ",
    "z forgotten in silu's derivative",
    "silu's derivative at its value",
    "silu ignores its upstream",
    "gamma forgotten",
    "mean term forgotten",
    "deviation term forgotten",
    "gamma's gradient without x̂",
)


class Power(torch.autograd.Function):
    """x³ / 3, elementwise. The sum follows directly, so the upstream gradient is that of the sum."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slip: str) -> Tensor:
        ctx.save_for_backward(x)
        ctx.slip = slip
        return x**3 / 3.0

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        (x,), slip = ctx.saved_tensors, ctx.slip
        slope = {"cube for the square": x**3, "3 left standing": 3.0 * x**2}.get(slip, x**2)
        return (slope if slip == "upstream ignored" else slope * dy), None


class Plain(nn.Module):
    def __init__(self, rng: Draw, slip: str) -> None:
        super().__init__()
        self.slip = slip
        self.x = nn.Parameter(torch.tensor(normal(rng, whole(rng, 2, 4), whole(rng, 1, 3))))

    def forward(self) -> Tensor:
        return Power.apply(self.x, self.slip)


PLAIN_SLIPS = ("upstream ignored", "cube for the square", "3 left standing")


# --- complex parameters -------------------------------------------------------------------------------------


class Product(torch.autograd.Function):
    """x · w for complex numbers. As the gradient, torch passes on the conjugate of ∂L/∂z."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, slip: str) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.slip = slip
        return x * w

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        (x, w), slip = ctx.saved_tensors, ctx.slip
        dx = dy * (w if slip == "conj of w forgotten" else w.conj())
        dw = dy * (x if slip == "conj of x forgotten" else x.conj())
        dw = {
            "real part alone": lambda: dw.real + 0j,
            "imaginary part's sign": dw.conj,
            "times i": lambda: 1j * dw,
        }.get(slip, lambda: dw)()
        return dx, dw.sum(0), None


class Filter(nn.Module):
    """A complex filter between Fourier transforms, for real or complex input."""

    def __init__(self, rng: Draw, slip: str) -> None:
        super().__init__()
        n, size = whole(rng, 1, 3), whole(rng, 2, 5)
        complex_input = chance(rng, 0.5)
        x = normal(rng, n, size) + (1j * normal(rng, n, size) if complex_input else 0.0)
        self.slip = slip
        self.x = nn.Parameter(torch.tensor(x))
        self.w = nn.Parameter(torch.tensor(normal(rng, size) + 1j * normal(rng, size)))

    def forward(self) -> Tensor:
        return Product.apply(torch.fft.fft(self.x), self.w, self.slip)


FILTER_SLIPS = (
    "conj of w forgotten",
    "conj of x forgotten",
    "real part alone",
    "imaginary part's sign",
    "times i",
)


# --- modules of torch's own ---------------------------------------------------------------------------------


class Stock(nn.Module):
    """A network of torch's own layers, with its input."""

    def __init__(self, rng: Draw, slip: str) -> None:
        super().__init__()
        torch.manual_seed(whole(rng, 0, 2**31 - 1))
        self.net, shape = one_of(rng, STOCK)()
        self.register_buffer("x", torch.tensor(normal(rng, *shape)))

    def forward(self) -> Tensor:
        out = self.net(self.x)
        return out[0] if isinstance(out, tuple) else out


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


STOCK: tuple[Callable[[], tuple[nn.Module, tuple[int, ...]]], ...] = (
    lambda: (nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2)), (4, 3)),
    lambda: (nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()), (2, 1, 6, 6)),
    lambda: (nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)), (5, 2)),
    lambda: (nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.SiLU()), (3, 3)),
    lambda: (nn.GRU(2, 3, batch_first=True), (2, 3, 2)),
    lambda: (nn.LSTM(2, 2, batch_first=True), (2, 3, 2)),
    lambda: (Attending(), (2, 3, 4)),
)
