"""Write specs of torch modules with three layers, and find their sites."""

from __future__ import annotations

from textwrap import dedent

from gradcheck_cli import load_spec
from gradcheck_cli.subject.code import read_function

HEAD = """
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)


class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x @ w.t()

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        dw = g.flatten(0, -2).t() @ x.flatten(0, -2)
        MISTAKE
        return g @ w, dw


class Own(nn.Linear):
    def forward(self, x):
        return Product.apply(x, self.weight) + self.bias


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(SIZE, 20), PARTS

    def forward(self, x):
        FORWARD


def data():
    torch.manual_seed(0)
    return torch.randn(6, *SHAPE), torch.randn(6, *OUT)


def loss(output, y):
    terms = (output - y).square().flatten(1).mean(1)
    return LOSS


NET = Net().DTYPE()


def build():
    return NET, loss
"""


def spec_of(
    tmp_path,
    forward="return self.c(torch.tanh(self.b(torch.tanh(self.a(x)))))",
    parts="Own(20, 20), nn.Linear(20, 20)",
    shape=(20,),
    out=(20,),
    mistake="pass",
    loss="terms",
    dtype="double",
    how="",
):
    filled = {
        "MISTAKE": mistake,
        "PARTS": parts,
        "SIZE": str(shape[-1]),
        "SHAPE": str(shape),
        "OUT": str(out),
        "LOSS": loss,
        "DTYPE": dtype,
        "FORWARD": forward,
    }
    source = dedent(HEAD)
    for name, value in filled.items():
        source = source.replace(name, value)
    (tmp_path / "net.py").write_text(source)
    (tmp_path / "net.yaml").write_text(f"gradients: {{torch: net.py:build}}\n{how}\n")
    return load_spec(tmp_path / "net.yaml")


def sites_of(spec):
    function, _ = read_function(spec, spec.gradients)
    return function.sites(list(function.parameters))


LATER = "h = self.b(torch.tanh(self.a(x)))\n        return self.c({})"
NORMALISED = LATER.format("F.batch_norm(h, None, None, training=True)")
