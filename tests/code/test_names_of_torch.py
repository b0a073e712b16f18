"""Torch modules whose parameters have their own names and layout, checked with a network section."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck_cli import InputError, Report, check, load_spec
from gradcheck_cli.explain.explain import explain

pytest.importorskip("torch")

NETWORK = "network: {inputs: 3, layers: [{units: 4, activation: tanh}, {units: 4}], loss: mse}\n"

SEQUENTIAL = """
import numpy as np, torch
from torch import nn

class Tanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        a = z.tanh()
        ctx.save_for_backward(a)
        return a

    @staticmethod
    def backward(ctx, upstream):
        (a,) = ctx.saved_tensors
        return upstream * SLOPE

class Activation(nn.Module):
    def forward(self, z):
        return Tanh.apply(z)

def build():
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(3, 4), Activation(), nn.Linear(4, 4)).double()
    return module, lambda a, y: ((a - y) ** 2).sum(1) / len(y)

data = np.arange(15.0).reshape(5, 3) / 7 - 1, np.linspace(-1.0, 1.0, 20).reshape(5, 4)
"""
NAMES = (
    "names: {0.weight: hidden1.weight, 0.bias: hidden1.bias, 2.weight: output.weight, 2.bias: output.bias}"
)

IN_OUT = SEQUENTIAL.replace(
    "def build():",
    """class Own(nn.Module):
    def __init__(self):
        super().__init__()
        for name, shape in {"W1": (3, 4), "b1": (4,), "W2": (4, 4), "b2": (4,)}.items():
            setattr(self, name, nn.Parameter(torch.zeros(shape, dtype=torch.float64)))

    def forward(self, x):
        return Tanh.apply(x @ self.W1 + self.b1) @ self.W2 + self.b2

def build():
    return Own(), lambda a, y: ((a - y) ** 2).sum(1) / len(y)

def unused():""",
)
OWN_NAMES = "names: {W1: hidden1.weight, b1: hidden1.bias, W2: output.weight, b2: output.bias}"
RIGHT, WRONG = "(1 - a**2)", "(1 - a)"


@pytest.fixture
def checked(tmp_path):
    """The report on a spec in the folder of this code."""

    def run(code: str, spec: str) -> Report:
        (tmp_path / "net.py").write_text(code, encoding="utf-8")
        (tmp_path / "net.yaml").write_text(spec, encoding="utf-8")
        return check(load_spec(tmp_path / "net.yaml"))

    return run


def of_torch(*options: str, network: str = NETWORK) -> str:
    return f"{network}gradients: {{{', '.join(['torch: net.py:build', *options])}}}\n"


@pytest.mark.parametrize("vectorized", [[], ["vectorized: true"]], ids=["one by one", "vectorized"])
@pytest.mark.parametrize(
    ("code", "options"),
    [(SEQUENTIAL, [NAMES]), (IN_OUT, [OWN_NAMES, "layout: in_out"])],
    ids=["Sequential", "in_out"],
)
def test_a_right_module_agrees_under_the_networks_names(checked, code, options, vectorized):
    if vectorized:  # vmap does not take a Function without a rule of its own
        code = code.replace("Tanh.apply(", "torch.tanh(")
    report = checked(code.replace("SLOPE", RIGHT), of_torch(*options, *vectorized))
    assert report.passed
    assert {c.name: c.shape for c in report.comparisons} == {
        "hidden1.weight": (4, 3), "hidden1.bias": (4,), "output.weight": (4, 4), "output.bias": (4,),
    }  # fmt: skip
    assert report.unusual == ()  # the loss is the network's: its weights are where they belong


@pytest.mark.parametrize(
    ("code", "options"),
    [(SEQUENTIAL, [NAMES]), (IN_OUT, [OWN_NAMES, "layout: in_out"])],
    ids=["Sequential", "in_out"],
)
def test_a_mistake_is_named_in_the_networks_terms(checked, code, options):
    report = checked(code.replace("SLOPE", WRONG), of_torch(*options))
    assert report.exit_code == 1
    assert {c.name for c in report.comparisons if c.wrong.any()} == {"hidden1.weight", "hidden1.bias"}
    assert report.diagnosis.layers == ("hidden1",)


def test_its_gradients_have_a_derivation(checked, tmp_path):
    checked(SEQUENTIAL.replace("SLOPE", WRONG), of_torch(NAMES))
    explanation = explain(load_spec(tmp_path / "net.yaml"))
    wrong = [factor.comparison.name for factor in explanation.factors if factor.comparison.wrong.any()]
    assert wrong == ["hidden1.weight", "hidden1.bias"]


def test_other_names_are_one_error_with_the_line_to_paste(checked):
    with pytest.raises(InputError) as caught:
        checked(SEQUENTIAL.replace("SLOPE", RIGHT), of_torch())
    (complaint,) = caught.value.complaints
    assert complaint.where == ("gradients", "torch")
    assert complaint.message.startswith("net.py uses names that the network does not have: 0.weight, 0.bias")
    assert 'names: {"0.weight": hidden1.weight, "0.bias": hidden1.bias' in complaint.help


def test_the_layout_is_part_of_the_line(checked):
    with pytest.raises(InputError) as caught:
        checked(IN_OUT.replace("SLOPE", RIGHT), of_torch())
    assert ", layout: in_out" in caught.value.complaints[0].help


def test_a_name_that_the_module_does_not_have_is_told_where_it_stands(checked):
    with pytest.raises(InputError) as caught:
        checked(SEQUENTIAL.replace("SLOPE", RIGHT), of_torch(NAMES.replace("0.bias:", "0.bais:")))
    (complaint,) = caught.value.complaints
    assert complaint.where == ("gradients", "names", "0.bais")
    assert complaint.message == "'0.bais' is not a parameter of the module"
    assert complaint.help == "did you mean '0.bias'?"


def test_a_name_of_nothing_is_told_where_it_stands(checked):
    with pytest.raises(InputError, match=r"'outptu\.bias' is not a parameter") as caught:
        checked(SEQUENTIAL.replace("SLOPE", RIGHT), of_torch(NAMES.replace("output.bias", "outptu.bias")))
    assert ("gradients", "names", "2.bias") in {complaint.where for complaint in caught.value.complaints}


def test_without_a_network_a_name_renames_in_the_report(checked):
    report = checked(SEQUENTIAL.replace("SLOPE", RIGHT), of_torch("names: {0.weight: first}", network=""))
    assert [c.name for c in report.comparisons] == ["first", "0.bias", "2.weight", "2.bias"]
    assert report.passed


def test_a_complex_parameter_in_the_other_layout_keeps_its_parts(checked):
    code = """
import numpy as np, torch

def build():
    torch.manual_seed(0)
    tensors = {"W": torch.randn(2, 3, dtype=torch.complex128)}
    return (lambda W: W @ W.mH), lambda out: out.abs().square().sum(), tensors
"""
    report = checked(code, of_torch("names: {W: a.weight}", "layout: in_out", network=""))
    assert report.passed
    assert {c.name: c.shape for c in report.comparisons} == {"a.weight.real": (3, 2), "a.weight.imag": (3, 2)}


def test_padding_rows_are_the_modules_in_either_layout(checked):
    code = """
import numpy as np, torch
from torch import nn

def build():
    torch.manual_seed(0)
    embedding = nn.Embedding(4, 3, padding_idx=1).double()
    return embedding, lambda out, y: ((out - 1) ** 2).sum()

data = np.array([0, 1, 2, 3, 1]), np.zeros(5)
"""
    report = checked(code, of_torch("names: {weight: a.weight}", "layout: in_out", network=""))
    assert report.passed
    (comparison,) = report.comparisons
    assert comparison.shape == (3, 4)
    np.testing.assert_array_equal(comparison.analytic[:, 1], 0.0)
