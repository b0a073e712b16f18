"""A torch module or function without a loss: L = Σ c · out, with c drawn at random."""

from __future__ import annotations

from textwrap import dedent

import numpy as np
import pytest
from module_source import DATA, HEAD, refused

from gradcheck_cli import Verdict, check, load_spec
from gradcheck_cli.code.drawn import MOST_TERMS
from gradcheck_cli.code.function import Inputs
from gradcheck_cli.code.torch_module import read

torch = pytest.importorskip("torch")

ALONE = Inputs(None, None, None)

CENTRED = """
    class Centred(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x - x.mean()

        @staticmethod
        def backward(ctx, up):
            return BACKWARD

    def build():
        return Centred, {"x": torch.randn(5, dtype=torch.float64)}
    """


@pytest.fixture
def verdict(tmp_path):
    def of(text, check_section=""):
        (tmp_path / "net.py").write_text(HEAD + dedent(text))
        (tmp_path / "net.yaml").write_text(f"gradients: {{torch: net.py:build}}\n{check_section}")
        return check(load_spec(tmp_path / "net.yaml"))

    return of


def test_a_module_alone_is_checked_with_random_weights_of_both_signs(built):
    function = read(built("def build(): return nn.Linear(3, 2).double()"), DATA)
    assert (function.loss_name, function.weighted) == ("Σ c · out", "L = Σ c · out, with c drawn at random.")
    upstream = function.gradients(function.parameters)["bias"]  # Σ c over the samples
    terms = function.losses(function.parameters)
    assert terms.shape == (10,)
    moved = {**function.parameters, "bias": function.parameters["bias"] + 1.0}
    c = function.losses(moved) - terms
    assert np.count_nonzero(c < 0) == 5
    assert len(np.unique(np.abs(c).round(6))) > 5
    np.testing.assert_allclose(c.reshape(5, 2).sum(axis=0), upstream)


@pytest.mark.parametrize(
    ("backward", "expected"),
    [("up - up.mean()", Verdict.AGREES), ("up", Verdict.WRONG), ("0 * up", Verdict.WRONG)],
)
def test_a_term_that_an_upstream_of_ones_hides_is_found(verdict, backward, expected):
    assert verdict(CENTRED.replace("BACKWARD", backward)).verdict is expected


@pytest.mark.parametrize(
    ("backward", "expected"),
    [("3 * up", Verdict.AGREES), ("3 * up.clamp(-2.0, 2.0)", Verdict.WRONG)],
)
def test_an_upstream_that_a_single_draw_leaves_alone_is_found(verdict, backward, expected):
    """The first c is at most 2 in size, so a clip at 2 changes only the sum of two draws."""
    report = verdict(CENTRED.replace("x - x.mean()", "3 * x").replace("BACKWARD", backward))
    assert report.verdict is expected
    if expected is Verdict.WRONG:
        (said,) = report.diagnosis.trials
        assert said.startswith(
            "The backward of Centred is not linear in its upstream gradient: for the sum of two "
        )


def test_backward_receives_c_in_another_memory_layout_as_well(verdict):
    text = CENTRED.replace("x - x.mean()", "3 * x").replace("randn(5", "randn(5, 3")
    backward = "3 * torch.as_strided(up, up.shape, (up.shape[1], 1))"
    report = verdict(text.replace("BACKWARD", backward))
    assert (report.verdict, "another memory layout" in report.weighted) == (Verdict.WRONG, True)


@pytest.mark.parametrize(
    "outputs",
    [
        "w ** 2, w.sin()",
        "{'a': w ** 2, 'b': [w.sum(), 'text', torch.arange(3)]}",
        "w * (1 + 2j)",
        "(w ** 2).to_sparse()",
    ],
)
def test_outputs_may_be_several_nested_complex_or_sparse(built, outputs):
    text = f"def build(): return (lambda w: ({outputs})), {{'w': torch.randn(4, dtype=torch.float64)}}"
    function = read(built(text), ALONE)
    assert np.any(function.gradients(function.parameters)["w"])
    assert function.remarks == ()


def test_many_outputs_are_added_up_in_groups(built):
    function = read(built("def build(): return (lambda w: w ** 2), {'w': torch.rand(50, 100)}"), ALONE)
    assert function.losses(function.parameters).shape == (MOST_TERMS,)
    gradient = function.gradients(function.parameters)["w"]
    total = (gradient * function.parameters["w"] / 2).sum()  # c w², as the gradient is 2 c w
    np.testing.assert_allclose(function.losses(function.parameters).sum(), total, rtol=1e-4)


def test_an_output_without_floats_is_refused(built):
    message = refused(built("def build(): return (lambda w: w > 0), {'w': torch.rand(3)}"), ALONE)
    assert message == "build of net.py has no loss, and its output, a Tensor, holds no tensor of floats"


def test_a_network_section_needs_a_loss(tmp_path):
    (tmp_path / "net.py").write_text(HEAD + "def build(): return nn.Sequential(nn.Linear(3, 2))")
    (tmp_path / "net.yaml").write_text(
        "network: {inputs: 3, layers: [{units: 2}], loss: cross_entropy}\n"
        "data: {synthetic: normal, samples: 5, seed: 1}\n"
        "gradients: {torch: net.py:build, names: {0.weight: output.weight, 0.bias: output.bias}}\n"
    )
    with pytest.raises(Exception, match="a module without a loss does not work with a network section"):
        check(load_spec(tmp_path / "net.yaml"))


# --- a forward pass that differentiates ---------------------------------------------------------------------

DIFFERENTIATING = {
    "forces": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.a = nn.Linear(3, 4).double()

            def forward(self):
                x = torch.ones(2, 3, dtype=torch.float64).requires_grad_()
                return -torch.autograd.grad(self.a(x).tanh().sum(), x, create_graph=True)[0]

        def build(): return Net()
        """,
    "equation": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.a = nn.Linear(1, 4).double()

            def forward(self, x):
                x.requires_grad_(True)
                u = self.a(x).tanh().sum(dim=1)
                du, = torch.autograd.grad(u.sum(), x, create_graph=True)
                return du[:, 0] - u

        def data(): return torch.linspace(0, 1, 5).reshape(5, 1), None
        def build(): return Net()
        """,
    "penalty": """
        def build():
            net, x = nn.Linear(3, 1).double(), torch.ones(2, 3, dtype=torch.float64).requires_grad_()

            def loss(out):
                slope, = torch.autograd.grad(net(x).tanh().sum(), x, create_graph=True)
                return (out ** 2).sum() + (slope.norm() - 1) ** 2

            return (lambda w: net(x) * w), loss, {"w": torch.ones(1, dtype=torch.float64), "a": net.weight}
        """,
}


@pytest.mark.parametrize("name", DIFFERENTIATING)
def test_a_forward_pass_or_a_loss_may_compute_derivatives(verdict, name):
    text = DIFFERENTIATING[name].replace("lambda w: ", "lambda w, a: ")
    assert verdict(text).verdict is Verdict.AGREES
