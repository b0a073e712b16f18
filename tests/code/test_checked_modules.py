"""Checks of torch modules, starting from the spec, with one point or many points at once."""

from __future__ import annotations

from textwrap import dedent

import numpy as np
import pytest
from build import problem_of, right_gradients
from module_source import DATA, FUNCTION, X, Y, refused
from paths import ROOT

from gradcheck_cli import Verdict, check, load_spec
from gradcheck_cli.code.function import Inputs
from gradcheck_cli.code.torch_module import read

torch = pytest.importorskip("torch")


# --- the whole line --------------------------------------------------------------------------------------


def test_a_torch_network_agrees_with_gradchecks_backprop(built):
    problem = problem_of((4, "tanh"), (2, "identity"), inputs=3, loss="cross_entropy", samples=5)
    text = """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.hidden1, self.output = nn.Linear(3, 4), nn.Linear(4, 2)

            def forward(self, x):
                return self.output(torch.tanh(self.hidden1(x)))

        def build(): return Net().double(), cross_entropy
        """
    function = read(built(text), Inputs(problem.parameters, problem.x, problem.y, problem))
    gradients = function.gradients(function.parameters)
    for name, value in right_gradients(problem).items():
        np.testing.assert_allclose(gradients[name], value, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(function.losses(function.parameters).sum(), problem.objective.total)


SPEC = """
    data: {x: [[0.1, 0.2, 0.3], [0.4, -0.5, 0.6]], y: [[1, 0], [0, 1]]}
    gradients: {torch: net.py:build}
    """


@pytest.mark.parametrize("double", ["", ".double()"])
@pytest.mark.parametrize("factor", ["1", "2", "-1", "1.001"])
def test_the_backward_of_a_bare_function_is_judged(built, tmp_path, factor, double):
    built(
        dedent(FUNCTION).replace("FACTOR", factor) + "def build():\n"
        "    loss = lambda a, y: (a - y).square().mean(dim=1)\n"
        f"    return Product, loss, {{'w': torch.randn(3, 2){double}}}"
    )
    (tmp_path / "net.yaml").write_text(dedent(SPEC))
    report = check(load_spec(tmp_path / "net.yaml"))
    assert report.verdict is (Verdict.AGREES if factor == "1" else Verdict.WRONG)


@pytest.mark.parametrize("kind", ["float", "double", "bfloat16"])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_right_modules_agree(built, tmp_path, kind, mode):
    built(
        f"""
        def build():
            net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Sigmoid())
            return net.{kind}().{mode}(), lambda a, y: (a - y).square().mean(dim=1)
        """
    )
    (tmp_path / "net.yaml").write_text(dedent(SPEC))
    report = check(load_spec(tmp_path / "net.yaml"))
    assert not any(comparison.wrong.any() for comparison in report.comparisons)


def test_the_example_agrees():
    assert check(load_spec(ROOT / "tests" / "examples" / "torch_net.yaml")).verdict is Verdict.AGREES


# --- many points at once ---------------------------------------------------------------------------------

NETS = {
    "module": "def build(): return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), cross_entropy",
    "buffers": "def build(): return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).eval(), cross_entropy",
    "terms": (
        "def loss(o, y): return nn.functional.cross_entropy(o, y, reduction='none')\n"
        "def build(): return nn.Linear(3, 2), loss"
    ),
    "function": (
        "def build():\n"
        "    tensors = {'w': torch.randn(2, 3), 'b': torch.randn(2)}\n"
        "    return (lambda x, w, b: x @ w.T + b), cross_entropy, tensors"
    ),
}


@pytest.mark.parametrize("net", NETS)
def test_vmap_gives_what_single_runs_give(built, net):
    source = built(NETS[net])
    one, many = read(source, DATA), read(source.model_copy(update={"vectorized": True}), DATA)
    points = [{n: array * (1 + 0.1 * k) for n, array in one.parameters.items()} for k in range(3)]
    np.testing.assert_allclose(many.losses_at(points), one.losses_at(points), rtol=1e-12)


def test_what_vmap_cannot_run_is_refused_with_its_reason(built):
    text = "def loss(o, y): return cross_entropy(o, y) * (2.0 if o.sum() > 0 else 1.0)\n"
    source = built(text + "def build(): return nn.Linear(3, 2), loss")
    read(source, DATA)
    message = refused(source.model_copy(update={"vectorized": True}))
    assert message.startswith("under torch.func.vmap, which `vectorized` asks for")


def test_a_vectorized_module_is_checked_along_directions(built, tmp_path):
    built(NETS["terms"])
    np.savez(tmp_path / "data.npz", x=X, y=Y)
    text = "data: {file: data.npz}\ngradients: {torch: net.py:build, vectorized: true}\ncheck: {fast: true}\n"
    (tmp_path / "net.yaml").write_text(text)
    report = check(load_spec(tmp_path / "net.yaml"))
    assert (report.verdict, report.differences) == (Verdict.AGREES, "directions")
