"""Weights that torch computes from other parameters, such as those of a weight norm, have sites."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck_cli import Verdict, WrongGradientError, check_torch
from gradcheck_cli.code import torch_parametrized
from gradcheck_cli.code.given_module import read_torch
from gradcheck_cli.code.torch_parametrized import Through
from gradcheck_cli.numerical.estimate import Estimate
from gradcheck_cli.numerical.jacobian import jacobian
from gradcheck_cli.spec.check import CheckSpec

torch = pytest.importorskip("torch")
nn = torch.nn


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    for module in ("directions.plan", "subject.by_sites"):  # on a busy machine, code seems to wait
        monkeypatch.setattr(f"gradcheck_cli.{module}.PATIENCE", np.inf)


class Exp(nn.Module):
    def forward(self, p):
        return torch.exp(0.5 * p) - 1.0


class Coupled(nn.Module):
    """Each row of the weight depends on the mean over all rows."""

    def forward(self, p):
        return p - 0.5 * p.mean(0, keepdim=True)


class Kept(nn.Module):
    """A linear layer whose weight also enters elsewhere."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x) + self.inner.weight.sum()


weight_norm, parametrize = (
    nn.utils.parametrizations.weight_norm,
    nn.utils.parametrize.register_parametrization,
)


def with_weight_from(parametrization):
    layer = nn.Linear(20, 20)
    parametrize(layer, "weight", parametrization)
    return layer


NETS = {
    "weight norm": lambda: (weight_norm(nn.Linear(20, 20)), (4, 20)),
    "weight norm of a convolution": lambda: (weight_norm(nn.Conv1d(5, 20, 4, padding=1)), (3, 5, 4)),
    "exponential": lambda: (with_weight_from(Exp()), (4, 20)),
}


def built(name):
    """Return a module whose first layer has such a weight, and an input."""
    layer, shape = NETS[name]()
    net = nn.Sequential(layer, nn.Tanh(), nn.Flatten(), nn.LazyLinear(2)).double()
    x = torch.randn(shape, dtype=torch.float64)
    net(x)
    return net, x


def squared(output, y=None):
    return output.square().sum(1)


def sites(net, x):
    function, _ = read_torch(net, None, x, None, squared, CheckSpec())
    return function.sites(list(function.parameters))


def inside(net):
    """Return the parameters that the first layer's weight is computed from, by name."""
    return {name: p for name, p in net.named_parameters() if "parametrizations" in name}


@pytest.mark.parametrize("name", NETS)
def test_what_a_weight_is_computed_from_has_sites(name):
    net, x = built(name)
    uses = sites(net, x).uses
    assert inside(net).keys() <= uses.keys()
    assert all(type(use.factors) is Through for each in inside(net) for use in uses[each])


@pytest.mark.parametrize("name", NETS)
def test_right_gradients_of_them_agree_by_unit_differences(name):
    net, x = built(name)
    report = check_torch(net, x=x, loss=squared, only=["0.*"])
    assert (report.verdict, report.differences, report.unresolved) == (Verdict.AGREES, "units", 0)
    assert report.resolution.median < 1e-5


@pytest.mark.parametrize("name", NETS)
def test_an_entry_that_is_off_is_wrong_alone(name):
    net, x = built(name)
    for parameter in inside(net).values():
        factors = torch.ones_like(parameter)
        factors.view(-1)[parameter.numel() // 2] = 1.0001
        parameter.register_hook(lambda gradient, factors=factors: gradient * factors)
    with pytest.raises(WrongGradientError) as caught:
        check_torch(net, x=x, loss=squared, only=["0.*"])
    assert (caught.value.report.differences, caught.value.report.wrong) == ("units", len(inside(net)))


REFUSED = {
    "rows that depend on each other": lambda: with_weight_from(Coupled()),
    "a use elsewhere": lambda: Kept(weight_norm(nn.Linear(20, 20))),
    "columns that are normalised": lambda: weight_norm(nn.Linear(20, 20), dim=1),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_weights_give_no_sites(case):
    net = nn.Sequential(REFUSED[case](), nn.Tanh(), nn.Linear(20, 2)).double()
    x = torch.randn(4, 20, dtype=torch.float64)
    assert not inside(net).keys() & sites(net, x).uses.keys()


def test_literal_differences_overrule_wrong_slopes_of_a_weight(monkeypatch):
    def doubled(*given):
        found = jacobian(*given)
        return Estimate(2.0 * found.value, found.error)

    monkeypatch.setattr(torch_parametrized, "jacobian", doubled)
    net, x = built("weight norm")
    report = check_torch(net, x=x, loss=squared, only=["0.*"])
    assert report.verdict is Verdict.AGREES
    assert report.way == "Unit differences checked 0.bias. The other tensors were checked entry by entry."
