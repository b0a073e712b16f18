"""`order: 2` compares the gradient of ⟨∇L, v⟩, by double backward, with differences of ⟨∇L, v⟩."""

from __future__ import annotations

from textwrap import dedent

import numpy as np
import pytest
from module_source import HEAD

from gradcheck_cli import InputError, Verdict, check, load_spec
from gradcheck_cli.code.function import Inputs
from gradcheck_cli.code.torch_module import read
from gradcheck_cli.code.torch_saved import constants_saved

torch = pytest.importorskip("torch")

CUBE = """
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x ** 3

        @staticmethod
        def backward(ctx, up):
            x, = ctx.saved_tensors
            return BACKWARD

    class Slope(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, up):
            ctx.save_for_backward(x, up)
            return 3 * x ** 2 * up

        @staticmethod
        def backward(ctx, down):
            x, up = ctx.saved_tensors
            return SECOND

    def build():
        return Cube, LOSS{"x": torch.randn(3, dtype=torch.float64)}
    """
RIGHT_SECOND = "6 * x * up * down, 3 * x ** 2 * down"
NETWORK = """
network: {inputs: 3, layers: [{units: 2}], loss: mse}
data: {synthetic: normal, samples: 4, seed: 1}
"""
NET = """
    def data(): return torch.randn(4, 3), torch.randn(4, 2)

    def build():
        net = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2))
        return net, lambda out, y: ((out - y) ** 2).sum(dim=1)
    """


@pytest.fixture
def second(tmp_path):
    def report(text):
        (tmp_path / "net.py").write_text(HEAD + dedent(text))
        (tmp_path / "net.yaml").write_text("gradients: {torch: net.py:build}\ncheck: {order: 2}")
        return check(load_spec(tmp_path / "net.yaml"))

    return report


def cube(backward, second=RIGHT_SECOND, loss=""):
    return CUBE.replace("BACKWARD", backward).replace("SECOND", second).replace("LOSS", loss)


def verdicts(report):
    return {c.name: c.verdict for c in report.comparisons}


# --- right --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backward", ["3 * x ** 2 * up", "Slope.apply(x, up)"])
def test_a_right_backward_that_is_differentiated_rightly_agrees(second, backward):
    report = second(cube(backward))
    assert verdicts(report) == {"x": Verdict.AGREES, "upstream": Verdict.AGREES}
    assert (report.source, report.loss_name[:12]) == (
        "torch double backward of build of net.py",
        "g = ⟨∇L, v⟩,",
    )


def test_the_function_that_is_differenced_is_the_gradient_along_v(built):
    text = "def build(): return (lambda w: w ** 3), lambda out: out.sum(), {'w': torch.randn(4).double()}"
    first = read(built(text), Inputs(None, None, None))
    function = read(built(text), Inputs(None, None, None, order=2))
    w = function.parameters["w"]
    slopes = first.gradients({"w": w})["w"]
    v = function.losses({"w": w}) / slopes
    assert ((np.abs(v) >= 0.5) & (np.abs(v) <= 2.0)).all()
    np.testing.assert_allclose(function.gradients({"w": w})["w"], v * slopes / w * 2.0, rtol=1e-12)


COMPLEX = """
    def build():
        w = torch.randn(3, dtype=torch.complex128)
        return (lambda w: (w * w.conj()).real ** 2 + (w ** 3).imag), {"w": w}
    """


@pytest.mark.parametrize("text", [NET, COMPLEX], ids=["module", "complex"])
def test_modules_and_complex_parameters_agree(second, text):
    report = second(text)
    assert report.verdict is Verdict.AGREES
    assert "double backward" in report.source


# --- wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        cube("3 * x.detach() ** 2 * up"),
        cube("(3 * x ** 2 * up).detach()"),
        cube("Slope.apply(x, up)", "5 * x * up * down, 3 * x ** 2 * down"),
        cube("Slope.apply(x, up)", "6 * x * up * down, 2 * x ** 2 * down"),
        cube("Slope.apply(x, up)", "6 * x * up * down, None"),
        cube("Slope.apply(x, up)", "6 * x * up, 3 * x ** 2 * down"),
    ],
    ids=["detached", "gone", "second", "upstream", "no upstream", "its upstream ignored"],
)
def test_a_wrong_second_derivative_is_wrong_though_the_first_agrees(second, wrong):
    report = second(wrong)
    assert (report.verdict, report.source) == (Verdict.WRONG, "torch double backward of build of net.py")


def test_the_upstream_of_the_first_backward_is_exercised_by_a_loss(second):
    text = cube(
        "Slope.apply(x, up)", "6 * x * up * down, 2 * x ** 2 * down", "lambda out: (out ** 2).sum(), "
    )
    assert second(text).verdict is Verdict.WRONG


def test_a_wrong_first_gradient_is_wrong_though_its_own_derivative_agrees(second):
    report = second(cube("2 * x ** 2 * up"))
    assert (report.verdict, report.source) == (Verdict.WRONG, "torch backward of build of net.py")


# --- refused ------------------------------------------------------------------------------------------------


def test_a_backward_marked_once_differentiable_is_refused(second):
    text = cube("3 * x ** 2 * up").replace(
        "@staticmethod\n        def backward(ctx, up)",
        "@staticmethod\n        @torch.autograd.function.once_differentiable\n        def backward(ctx, up)",
    )
    with pytest.raises(InputError) as caught:
        second(text)
    (complaint,) = caught.value.complaints
    assert "differentiate twice a function that was marked with @once_differentiable" in complaint.message
    assert "write it with operations that torch can differentiate and" in complaint.help


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gradients: {python: net.py:f}", "'order: 2' does not work with a Python function"),
        (NETWORK, "'order: 2' does not work with the gradients of a network"),
    ],
)
def test_other_sources_have_no_second_order(tmp_path, spec, message):
    (tmp_path / "net.py").write_text("def f(p): return 0.0, {}")
    (tmp_path / "net.yaml").write_text(f"{spec}\ncheck: {{order: 2}}")
    with pytest.raises(InputError) as caught:
        check(load_spec(tmp_path / "net.yaml"))
    assert (caught.value.complaints[0].message, caught.value.complaints[0].where) == (
        message,
        ("check", "order"),
    )


SAVING = """
    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, factor):
            e = torch.exp(x)
            ctx.factor, ctx.two = factor, torch.tensor(2.0)
            SAVE
            return factor * x * e

        @staticmethod
        def backward(ctx, up):
            x, *saved = ctx.saved_tensors
            e = BACK
            return up * ctx.factor * (e + x * e), None

    def build():
        x, factor = torch.randn(3, dtype=torch.float64), torch.full((3,), 2.0, dtype=torch.float64)
        return (lambda x: Product.apply(x, factor)), {"x": x}
    """


@pytest.mark.parametrize(
    ("save", "back", "named"),
    [
        ("ctx.save_for_backward(x, e)", "saved[0]", "argument 2 of save_for_backward"),
        ("ctx.save_for_backward(x); ctx.e = e", "ctx.e", "ctx.e"),
    ],
)
def test_an_intermediate_result_that_forward_saves_is_named(second, save, back, named):
    report = second(SAVING.replace("SAVE", save).replace("BACK", back))
    assert report.verdict is Verdict.WRONG
    (where,) = report.diagnosis.places
    assert f"saves an intermediate result, {named}, which double backward sees as a constant" in where


def test_saved_constants_and_inputs_are_not_named(second):
    wrong = "torch.exp(x.detach())"
    report = second(SAVING.replace("SAVE", "ctx.save_for_backward(x)").replace("BACK", wrong))
    assert report.verdict is Verdict.WRONG
    assert report.diagnosis.places == ()


def test_a_function_keeps_its_own_forward_after_it_was_watched():
    class Exp(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.e = torch.exp(x)
            return 2 * ctx.e

    own = vars(Exp)["forward"]
    x = torch.ones(2, requires_grad=True)
    (sentence,) = constants_saved(torch, lambda: Exp.apply(x))
    assert sentence.startswith("Exp.forward (test_second_order.py:")
    assert vars(Exp)["forward"] is own
