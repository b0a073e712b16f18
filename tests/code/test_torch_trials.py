"""Faults that a single run of backward does not show: complex parts, ignored upstreams, unwritten memory."""

from __future__ import annotations

from textwrap import dedent, indent

import numpy as np
import pytest

from gradcheck_cli import Verdict, check, load_spec
from gradcheck_cli.errors import InputError
from gradcheck_cli.formats.words.remarks import details, remarks
from gradcheck_cli.formats.words.why import diagnosed
from gradcheck_cli.report import Outcome

torch = pytest.importorskip("torch")

HEAD = """
import numpy as np
import torch
from torch import nn

def drawn(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=dtype, generator=generator).requires_grad_()

"""

FUNCTION = """
class Fn(torch.autograd.Function):
    @staticmethod
    def forward(ctx, ARGUMENTS):
        ctx.save_for_backward(ARGUMENTS)
        return FORWARD

    @staticmethod
    def backward(ctx, g):
        ARGUMENTS, = ctx.saved_tensors
BACKWARD
"""

SUM = "lambda output: output.sum()"
SQUARES = "lambda output: output.abs().square().sum()"


def function(arguments, forward, backward):
    text = FUNCTION.replace("ARGUMENTS", arguments).replace("FORWARD", forward)
    return text.replace("BACKWARD", indent(dedent(backward), " " * 8))


@pytest.fixture
def checked(tmp_path):
    def run(text, build):
        (tmp_path / "net.py").write_text(f"{HEAD}{dedent(text)}\ndef build():\n    return {build}\n")
        (tmp_path / "net.yaml").write_text("gradients: {torch: net.py:build}\n")
        return check(load_spec(tmp_path / "net.yaml"))

    return run


def why(report):
    return " ".join(said.text for said in diagnosed(report.diagnosis))


# --- complex numbers -------------------------------------------------------------------------------------

PAIR = "{'a': drawn(2, 3, dtype=T), 'b': drawn(3, 2, seed=1, dtype=T)}"

CONJUGATED = {  # the forward pass, and backward with and without the steps that are easily forgotten
    "product": ("a * b.mT", "return g * b.mH, (g * a.conj()).mT", "return g * b.mT, (g * a.conj()).mT"),
    "matmul": ("a @ b", "return g @ b.mH, a.mH @ g", "return g @ b.mH, a.mT @ g"),
    "square": ("a * a + b.mT", "return 2 * g * a.conj(), g.mT", "return 2 * g * a, g.mT"),
    "conjugate": ("a.conj() * b.mT", "return g.conj() * b.mT, (g * a).mT", "return g * b.mT, (g * a).mT"),
    "absolute": (
        "a.abs() + b.mT.abs()",
        "return g * a / a.abs(), (g * b.mT / b.mT.abs()).mT",
        "return g * a.conj() / a.abs(), (g * b.mT / b.mT.abs()).mT",
    ),
    "fourier": (
        "torch.fft.fft(a) * b.mT",
        "return torch.fft.fft((g * b.mH).conj()).conj(), (g * torch.fft.fft(a).conj()).mT",
        "return torch.fft.fft(g * b.mH), (g * torch.fft.fft(a).conj()).mT",
    ),
}


@pytest.mark.parametrize("dtype", ["complex128", "complex64"])
@pytest.mark.parametrize("kind", CONJUGATED)
def test_real_and_imaginary_part_are_checked_as_two_tensors(checked, kind, dtype):
    forward, right, wrong = CONJUGATED[kind]
    build = f"Fn.apply, {SQUARES}, {PAIR.replace('T)', f'torch.{dtype})')}"
    report = checked(function("a, b", forward, right), build)
    assert [c.name for c in report.comparisons] == ["a.real", "a.imag", "b.real", "b.imag"]
    assert report.verdict is Verdict.AGREES
    assert checked(function("a, b", forward, wrong), build).verdict is Verdict.WRONG


def test_half_a_gradient_as_others_define_it_is_wrong(checked):
    """∂L/∂z* is half of torch's gradient."""
    text = function("a", "a.abs()", "return 0.5 * g * a / a.abs()")
    report = checked(text, f"Fn.apply, {SQUARES}, {{'a': drawn(3, dtype=torch.complex128)}}")
    assert report.ratio == pytest.approx(0.5)


FOURIER = """
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.w = nn.Parameter(torch.randn(3, dtype=torch.complex64))
            self.register_buffer("shift", torch.randn(3, dtype=torch.complex64))
            self.dense = nn.Linear(4, 4)

        def forward(self, x):
            return torch.fft.irfft(torch.fft.rfft(self.dense(x)) * self.w + self.shift, n=4)

    data = np.arange(8.0).reshape(2, 4) / 8, None
    """


def test_a_module_of_both_kinds_of_numbers_agrees(checked):
    report = checked(FOURIER, "Layer(), lambda output: output.square().sum(dim=1)")
    assert report.verdict is Verdict.AGREES
    assert [c.name for c in report.comparisons][:2] == ["w.real", "w.imag"]
    assert max(c.error.max() for c in report.comparisons) < 1e-6  # losses in float64


def test_data_may_be_complex_and_a_loss_may_take_the_imaginary_part(checked):
    text = "data = np.arange(6).reshape(2, 3) * (1 + 0.5j), np.array([1j, 2])"
    build = "(lambda x, w: x @ w.to(x.dtype)), lambda o, y: (o - y).imag.square() + o.real, {'w': drawn(3)}"
    assert checked(text, build).verdict is Verdict.AGREES


def test_a_name_that_collides_with_a_complex_part_is_refused(checked):
    tensors = "{'w': drawn(2, dtype=torch.complex64), 'w.real': drawn(2)}"
    with pytest.raises(
        InputError, match=r"names a tensor 'w.real', but that name stands for a part of the complex 'w'"
    ):
        checked("", f"(lambda w, r: (w.real * r)), {SUM}, {tensors}")


# --- the upstream ----------------------------------------------------------------------------------------

IGNORED = {
    "elementwise": (function("x", "x**3", "return 3 * x**2"), SUM),
    "mean": (function("x", "x**3", "return 3 * x**2 / x.numel()"), "lambda output: output.mean()"),
    "scalar": (function("x", "(x**3).sum()", "return 3 * x**2"), SUM),
    "terms": (function("x", "(x**3).sum(1)", "return 3 * x**2"), "lambda output: output"),
    "matmul": (
        function("x", "x @ x.t()", "return 2 * torch.ones(len(x), len(x), dtype=x.dtype) @ x"),
        SUM,
    ),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", IGNORED)
def test_a_backward_that_ignores_its_upstream_is_named(checked, kind, dtype):
    text, loss = IGNORED[kind]
    report = checked(text, f"Fn.apply, {loss}, {{'x': drawn(4, 3, dtype=torch.{dtype})}}")
    assert report.verdict is Verdict.WRONG
    assert why(report).startswith("Why: The backward of Fn does not use its upstream gradient: ")


HIDDEN_BY_ONES = {
    "mean": function("x", "x**3", "return 3 * x**2 * g.mean()"),
    "first": function("x", "x**3", "return 3 * x**2 * g.reshape(-1)[0]"),
    "centred": function("x", "x - x.mean(1, keepdim=True)", "return g - g"),
    "squared": function("x", "x**3", "return 3 * x**2 * g**2"),
    "size": function("x", "x**3", "return 3 * x**2 * g.abs()"),
}


@pytest.mark.parametrize("loss", [SUM, "lambda output: output.sum(dim=1)", "lambda output: 2 * output.sum()"])
@pytest.mark.parametrize("kind", HIDDEN_BY_ONES)
def test_what_an_upstream_of_ones_hides_is_wrong(checked, kind, loss):
    report = checked(HIDDEN_BY_ONES[kind], f"Fn.apply, {loss}, {{'x': drawn(4, 3)}}")
    assert report.verdict is Verdict.WRONG


@pytest.mark.parametrize(
    ("upstream", "said"),
    [
        (
            "g * g",
            "uses its upstream gradient twice: with the loss multiplied by -0.5, the gradient of x is 0.25",
        ),
        ("g.abs()", "is not linear in its upstream gradient: with the loss multiplied by -0.5"),
    ],
)
def test_a_backward_that_is_not_linear_is_named(checked, upstream, said):
    text = function("x", "(x**3).sum()", f"return 3 * x**2 * {upstream}")
    report = checked(text, f"Fn.apply, {SUM}, {{'x': drawn(4, 3)}}")
    assert f"The backward of Fn {said}" in why(report)


RIGHT = {
    "elementwise": function("x", "x**3", "return 3 * x**2 * g"),
    "matmul": function("x", "x @ x.t()", "return (g + g.t()) @ x"),
    "scalar": function("x", "(x**3).sum()", "return 3 * x**2 * g"),
    "reshaped": function("x", "x**3", "return 3 * x**2 * g.reshape(-1).reshape(x.shape)"),
    "expanded": function("x", "x.sum(1)", "return g[:, None].expand(x.shape)"),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("loss", [SUM, SQUARES])
@pytest.mark.parametrize("kind", RIGHT)
def test_right_modules_agree_without_a_note(checked, kind, loss, dtype):
    report = checked(RIGHT[kind], f"Fn.apply, {loss}, {{'x': drawn(4, 3, dtype=torch.{dtype})}}")
    assert (report.verdict, report.unusual) == (Verdict.AGREES, ())


MISREAD = {
    "rows": ("g = torch.as_strided(g, g.shape, (g.shape[1], 1))", "lambda o: o.square().sum()"),
    "column-major": (
        "g = torch.as_strided(g, g.shape, (g.shape[1], 1))",
        "lambda o: o.t().pow(2).cumsum(1)[:, 2]",
    ),
    "storage": (
        "g = torch.as_strided(g, (12 if g.stride(0) else 1,), (1,), 0).expand(12).reshape(g.shape)",
        "lambda o: o.square().sum()",
    ),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", MISREAD)
def test_a_backward_that_reads_any_memory_as_contiguous_is_named(checked, kind, dtype):
    misread, loss = MISREAD[kind]
    text = function("x, w", "x * w", f"{misread}\nreturn g * w, g * x")
    tensors = f"{{'x': drawn(4, 3, dtype=torch.{dtype}), 'w': drawn(4, 3, seed=1, dtype=torch.{dtype})}}"
    report = checked(text, f"Fn.apply, {loss}, {tensors}")
    assert report.verdict is Verdict.WRONG
    assert why(report).startswith(
        "Why: The backward of Fn reads its upstream gradient as if it were contiguous: "
    )


SKIPPED = "(lambda a: a**2 + Fn.apply(a))"  # backward runs the later step first


@pytest.mark.parametrize(
    "statement", ["return g.mul_(2)", "g *= 2; return g", "torch.mul(g, 2, out=g); return g"]
)
def test_a_backward_that_overwrites_its_upstream_is_named_where_others_read_it(checked, statement):
    text = function("a", "2 * a", statement)
    assert (
        checked(text, f"(lambda a: Fn.apply(a)), {SQUARES}, {{'a': drawn(3, 2)}}").verdict is Verdict.AGREES
    )
    report = checked(text, f"{SKIPPED}, {SQUARES}, {{'a': drawn(3, 2)}}")
    assert report.verdict is Verdict.WRONG
    assert "The backward of Fn changes its upstream gradient in place" in why(report)


def test_a_backward_that_refuses_another_layout_is_right_with_a_note(checked):
    text = function("x", "x**3", "return 3 * x**2 * g.view(-1).view(x.shape)")
    report = checked(text, f"Fn.apply, {SQUARES}, {{'x': drawn(4, 3)}}")
    assert report.verdict is Verdict.AGREES
    (remark,) = report.unusual
    assert remark.startswith(
        "with an upstream gradient that is not contiguous, build of net.py raises RuntimeError at net"
    )


def test_a_backward_for_ones_only_is_judged_under_them_with_a_note(checked):
    text = function("x", "x**3", "assert (g == 1).all()\nreturn 3 * x**2")
    report = checked(text, f"Fn.apply, {SUM}, {{'x': drawn(4, 3)}}")
    assert report.verdict is Verdict.AGREES
    assert report.unusual[0].startswith(
        "with its loss weighted at random, build of net.py raises AssertionError"
    )


def test_the_reported_loss_is_the_authors_and_details_explain_the_weights(checked):
    report = checked("", "(lambda x: x**2), lambda o: o.sum(dim=1), {'x': torch.full((2, 3), 2.0)}")
    assert report.loss == 24.0
    assert "The 2 loss terms are weighted at random. " in " ".join(details(Outcome("a"), report))
    assert report.weighted not in remarks(report)


def test_a_wrong_module_says_that_its_numbers_are_of_the_weighted_loss(checked):
    text = function("x", "x**3", "return 2 * x**2 * g")
    report = checked(text, f"Fn.apply, {SUM}, {{'x': drawn(4, 3)}}")
    assert report.weighted in remarks(report)
    assert "upstream" not in why(report)


# --- memory that was never written -----------------------------------------------------------------------

UNWRITTEN = {
    "half": "d = torch.empty_like(x)\nd[::2] = (2 * x * g)[::2]\nreturn d",
    "but one": "d = x.new_empty(x.shape)\nd[1:] = (2 * x * g)[1:]\nreturn d",
    "added to": "d = torch.empty(x.shape, dtype=x.dtype)\nd += 2 * x * g\nreturn d",
    "numpy": "d = np.empty(x.shape)\nd[1:] = (2 * x * g)[1:]\nreturn torch.from_numpy(d).to(x.dtype)",
}


@pytest.mark.parametrize("size", [5, 3000])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", UNWRITTEN)
def test_memory_that_backward_never_wrote_is_named(checked, kind, dtype, size):
    text = function("x", "x**2", UNWRITTEN[kind])
    with pytest.raises(
        InputError, match=r"^error: .*the gradient of x changes from call to call: build of net"
    ):
        checked(text, f"Fn.apply, {SQUARES}, {{'x': drawn({size}, dtype=torch.{dtype})}}")


@pytest.mark.parametrize(
    "backward",
    [
        "d = torch.empty_like(x)\nd.copy_(2 * x * g)\nreturn d",
        "d = torch.empty_like(x)\nd[1:] = (2 * x * g)[1:]\nreturn torch.where(x == x[0], 2 * x * g, d)",
        "return torch.add(x * g, x * g, out=torch.empty(5, dtype=x.dtype))",
    ],
)
def test_memory_that_is_written_before_it_is_read_is_right(checked, backward):
    report = checked(function("x", "x**2", backward), f"Fn.apply, {SQUARES}, {{'x': drawn(5)}}")
    assert report.verdict is Verdict.AGREES


# --- what needs autograd, or has none --------------------------------------------------------------------

FORCES = """
    class Forces(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 1)

        def forward(self, x):
            x = x.clone().requires_grad_()
            return -torch.autograd.grad(self.b(self.a(x).tanh()).sum(), x, create_graph=True)[0]

    data = torch.linspace(-1, 1, 6).view(2, 3), None
    """


def test_a_forward_pass_may_take_derivatives_itself(checked):
    assert checked(FORCES, "Forces(), lambda f: f.square().sum(dim=1)").verdict is Verdict.AGREES


@pytest.mark.parametrize(("factor", "verdict"), [(1, Verdict.AGREES), (3, Verdict.WRONG)])
def test_the_second_derivative_of_a_function_is_judged(checked, factor, verdict):
    text = function(
        "x", "x**4", f"return (4 * x**3 if not torch.is_grad_enabled() else {factor} * 4 * x**3) * g"
    )
    text += "\ndef gradient(x, v):\n    return torch.autograd.grad(Fn.apply(x), x, v, create_graph=True)[0]\n"
    text = text.replace(
        f"{factor} * 4 * x**3) * g", f"{factor} * 4 * x**3 + {1 - factor} * 4 * x.detach()**3) * g"
    )
    report = checked(text, f"gradient, {SQUARES}, {{'x': drawn(4), 'v': drawn(4, seed=1)}}")
    assert report.verdict is verdict


def test_sparse_gradients_and_sparse_constants_are_accepted(checked):
    text = """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                torch.manual_seed(0)
                self.table, self.out = nn.Embedding(7, 3, sparse=True), nn.Linear(3, 2)

            def forward(self):
                return self.out(self.table(torch.tensor([1, 4, 1])))
        """
    assert checked(text, f"Net(), {SQUARES}").verdict is Verdict.AGREES
    tensors = "{'w': drawn(3, 2, dtype=torch.float32), 's': torch.eye(3).to_sparse()}"
    build = f"(lambda w, s: torch.sparse.mm(s, w)), {SQUARES}, {tensors}"
    assert checked("", build).verdict is Verdict.AGREES


@pytest.mark.parametrize(
    ("forward", "verdict"),
    [("torch.ones(3, dtype=x.dtype)", Verdict.UNRESOLVED), ("x.detach()**2", Verdict.WRONG)],
)
def test_a_loss_that_autograd_does_not_connect_has_a_gradient_of_zero(checked, forward, verdict):
    report = checked("", f"(lambda x: {forward}), {SUM}, {{'x': drawn(3)}}")
    assert report.verdict is verdict
    assert "backward computes no gradient for 'x', so this gradient counts as 0" in report.unusual
    np.testing.assert_array_equal(report.comparisons[0].analytic, np.zeros(3))


def test_a_kernel_for_one_type_gets_help(checked):
    text = function("x", "x @ torch.ones(3, 2)", "return g @ torch.ones(2, 3)")
    with pytest.raises(InputError) as caught:
        checked(text, f"Fn.apply, {SQUARES}, {{'x': drawn(2, 3, dtype=torch.float32)}}")
    (complaint,) = caught.value.complaints
    assert complaint.help.startswith(
        "if a kernel takes only one type, name the same forward pass for float64 as "
    )
