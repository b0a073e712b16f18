"""Torch code that computes in float64 throughout: its jumps are intended, not rounding."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck_cli import Verdict, check, load_spec

torch = pytest.importorskip("torch")

from gradcheck_cli.code.torch_types import is_wide  # noqa: E402

X = torch.tensor([0.3, -1.2, 2.0], dtype=torch.float64)

WIDE = {
    "arithmetic": lambda x: x.round() * 2 + x.max(),
    "a product": lambda x: torch.mm(x[None], x[:, None]),
    "complex numbers": lambda x: torch.fft.fft(x).abs(),
    "whole numbers": lambda x: x[x.argsort()] * (x > 0),
}

NARROW = {
    "float32": lambda x: x.float().double(),
    "bfloat16": lambda x: x.bfloat16().double(),
    "complex64": lambda x: x.to(torch.complex64).abs().double(),
    "autocast": lambda x: _autocast(x),
    "numpy": lambda x: torch.from_numpy(x.numpy().astype(np.float16).astype(float)),
    "an array": lambda x: torch.from_numpy(np.asarray(x.detach())),
    "a list": lambda x: torch.tensor([float(np.float32(v)) for v in x.tolist()], dtype=torch.float64),
    "a number": lambda x: x * float(np.float16(x[0].item())),
    "a pointer": lambda x: (x.data_ptr(), x)[1],
}


def _autocast(x):
    with torch.autocast("cpu", torch.bfloat16):
        return torch.mm(x.float()[None], x.float()[:, None]).double()


@pytest.mark.parametrize("how", WIDE)
def test_float64_throughout_is_wide(how):
    assert is_wide(torch, lambda: WIDE[how](X))


@pytest.mark.parametrize("how", NARROW)
def test_narrow_code_or_code_outside_torch_is_not_wide(how):
    assert not is_wide(torch, lambda: NARROW[how](X))


@pytest.mark.parametrize("how", [*WIDE, *NARROW])
def test_float64_inside_an_autograd_function_is_wide(how):
    class Inside(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return (WIDE | NARROW)[how](x)

    assert is_wide(torch, lambda: Inside.apply(X)) == (how in WIDE)


STRAIGHT_THROUGH = """
import torch

class Quantise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return {forward}

    @staticmethod
    def backward(ctx, g):
        return g

def build():
    x = torch.randn(12, dtype=torch.float64, generator=torch.Generator().manual_seed({seed}))
    return Quantise, lambda out: 0.37 * (out**2).sum() + 0.21 * out.sum(), {{"x": x}}
"""
QUANTISERS = {
    "of its range": "((x - x.min()) / (x.max() - x.min()) * 7).round() / 7 * (x.max() - x.min()) + x.min()",
    "of a fixed step": "(x / 0.1).round() * 0.1",
    "of eight bits": "(x / 0.02).round().clamp(-128, 127) * 0.02",
    "a sign": "x.sign()",
    "a threshold": "(x > 0.2).double()",
}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("quantiser", QUANTISERS)
def test_a_straight_through_estimator_is_not_a_derivative(tmp_path, quantiser, seed):
    written = STRAIGHT_THROUGH.format(forward=QUANTISERS[quantiser], seed=seed)
    assert _verdict(tmp_path, written) is Verdict.WRONG


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("quantiser", [name for name in QUANTISERS if name != "of its range"])
def test_a_path_around_a_quantiser_has_a_derivative(tmp_path, quantiser, seed):
    written = STRAIGHT_THROUGH.format(forward=f"x + ({QUANTISERS[quantiser]})", seed=seed)
    assert _verdict(tmp_path, written.replace("0.37 * (out**2).sum() + ", "")) is Verdict.AGREES


def _verdict(folder, written):
    (folder / "net.py").write_text(written)
    (folder / "net.yaml").write_text("gradients: {torch: net.py:build}\n")
    return check(load_spec(folder / "net.yaml")).verdict


LOOKED_UP = """
import torch
from torch import nn

class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x @ w.t()

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return {factor} * {g} @ w, {g}.t() @ x

class Looked(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6, bias=False)
        self.table = nn.Embedding(30, 6)

    def forward(self, x):
        h = self.first(x)
        h = torch.tanh(h + self.table((10 * h).long().remainder(30)).sum(1))
        return Product.apply(h, self.second.weight)

def build():
    torch.manual_seed({seed})
    return Looked().{dtype}(), lambda out, y: (out - y).square().mean(1)

def data():
    generator = torch.Generator().manual_seed({seed})
    return torch.randn(5, 6, generator=generator), torch.randn(5, 6, generator=generator)
"""


@pytest.mark.parametrize("dtype", ["float", "double"])
@pytest.mark.parametrize(("factor", "verdict"), [(1.0, Verdict.AGREES), (0.99, Verdict.WRONG)])
@pytest.mark.parametrize("seed", range(2))
def test_jumps_of_a_computed_index_are_not_rounding(tmp_path, seed, factor, verdict, dtype):
    written = LOOKED_UP.format(factor=factor, dtype=dtype, seed=seed, g="g")
    assert _verdict(tmp_path, written) is verdict


@pytest.mark.parametrize("seed", range(2))
def test_half_precision_inside_a_backward_of_float32_is_never_blamed(tmp_path, seed):
    written = LOOKED_UP.format(factor=1.0, dtype="float", seed=seed, g="g.bfloat16().to(g.dtype)")
    assert _verdict(tmp_path, written) is not Verdict.WRONG
