"""The module whose backward is wrong is named, in nets of several kinds; right modules are never named."""

from __future__ import annotations

import re
from textwrap import dedent

import pytest

from gradcheck_cli import Verdict, check, load_spec
from gradcheck_cli.code.torch_modules import Modules
from gradcheck_cli.subject.code import read_function

torch = pytest.importorskip("torch")

HEAD = """
import torch
from torch import nn

torch.manual_seed(SEED)


class WrongSilu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * torch.sigmoid(x)


class Silu(nn.Module):
    def forward(self, x):
        return WrongSilu.apply(x)


class WrongProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x @ w.t()

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g @ w, 1.5 * g.flatten(0, -2).t() @ x.flatten(0, -2)


class Linear(nn.Linear):
    def forward(self, x):
        return WrongProduct.apply(x, self.weight) + self.bias


class WrongScale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 1.0 * x

    @staticmethod
    def backward(ctx, g):
        return 1.01 * g


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Tanh()

    def forward(self, x):
        return WrongScale.apply(self.inner(x))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 4, batch_first=True)

    def forward(self, x):
        return self.lstm(x)[0]


class Block(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.norm, self.up, self.act, self.down = nn.LayerNorm(4), nn.Linear(4, 6), act, nn.Linear(6, 4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        h = self.norm(x)
        x = x + self.attention(h, h, h, need_weights=False)[0]
        return x + self.down(self.act(self.up(x)))


def data():
    return torch.randn(2, 3, 4).numpy(), None


def build():
    return NET, lambda out, y=None: (out**2).flatten(1).sum(1)
"""

NETS = {
    "mlp": "nn.Sequential(nn.Linear(4, 5), {}, nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2))",
    "conv": "nn.Sequential(nn.Conv1d(3, 3, 2), {}, nn.Conv1d(3, 2, 2), nn.Flatten(), nn.Linear(4, 2))",
    "lstm": "nn.Sequential(Recurrent(), {}, Recurrent(), nn.Linear(4, 3))",
    "transformer": "nn.Sequential(Block(nn.GELU()), Block({}), nn.Linear(4, 2))",
}


def spec_of(tmp_path, net, seed):
    (tmp_path / "net.py").write_text(dedent(HEAD).replace("NET,", f"{net},").replace("SEED", str(seed)))
    (tmp_path / "net.yaml").write_text("gradients: {torch: net.py:build}\n")
    return load_spec(tmp_path / "net.yaml")


@pytest.mark.parametrize(("act", "kind"), [("Silu()", "Silu"), ("Scale()", "Scale")])
@pytest.mark.parametrize("net", NETS)
def test_the_module_with_the_wrong_backward_is_named(net, act, kind, tmp_path):
    report = check(spec_of(tmp_path, NETS[net].format(act), 1))
    assert report.verdict is Verdict.WRONG
    (place,) = report.diagnosis.places
    inside = ", outside its submodules," if kind == "Scale" else ""
    assert re.match(
        rf"the backward pass of module '[\d.]+(act)?' \({kind}, net\.py:\d+\){inside} is wrong: ", place
    )


def test_a_module_with_a_wrong_parameter_is_named_with_it(tmp_path):
    report = check(
        spec_of(tmp_path, "nn.Sequential(nn.Linear(4, 4), Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))", 2)
    )
    (place,) = report.diagnosis.places
    assert re.match(r"the backward pass of module '1' \(Linear, net\.py:\d+\) is wrong: ", place)
    assert place.endswith("but the gradient of its weight is wrong")


def test_a_fault_between_modules_is_that_of_the_module_around_them(tmp_path):
    net = "type('Net', (nn.Sequential,), {'forward': lambda self, x: self[1](WrongSilu.apply(self[0](x)))})"
    report = check(spec_of(tmp_path, f"{net}(nn.Linear(4, 4), nn.Linear(4, 2))", 5))
    (place,) = report.diagnosis.places
    assert place.startswith("the backward pass of the module (Net")
    assert ", outside its submodules, is wrong: it receives the right gradient" in place


def test_a_module_of_torch_has_no_line(tmp_path):
    spec = spec_of(tmp_path, "nn.Sequential(nn.Linear(4, 4), nn.Tanh())", 3)
    modules = of(spec)
    assert "(Linear)" in modules._sentence("0", ["bias"])


def of(spec):
    function, _ = read_function(spec, spec.gradients)
    return Modules(function.graph, function.graph.forward, function.parameters, function.upstream)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("net", NETS)
def test_no_right_module_is_named(net, dtype, tmp_path):
    modules = of(spec_of(tmp_path, f"{NETS[net].format('nn.SiLU()')}.to(torch.{dtype})", 4))
    assert list(modules.faults(())) == []
    assert modules.received
