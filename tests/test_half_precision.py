"""Kernels for one type, which are held against a reference in float64."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from gradcheck_cli import (
    InputError,
    UndecidedGradientError,
    Verdict,
    WrongGradientError,
    check_gradients,
    check_layer,
    check_torch,
    tap,
)
from gradcheck_cli.cli import main
from gradcheck_cli.formats.words.verdicts import sentence

RNG = np.random.default_rng(5)
X = RNG.normal(size=(4, 3))


def layer(dtype, factor=1.0):
    """Return tanh(x w) as a pair of functions for one type."""

    def forward(x, w):
        assert x.dtype == w.dtype == dtype
        x, w = x.astype(np.float32), w.astype(np.float32)
        out = np.tanh(x @ w)
        return out.astype(dtype), (x, w, out)

    def backward(dout, cache):
        assert dout.dtype == dtype
        x, w, out = cache
        dz = dout.astype(np.float32) * (1 - out**2)
        return (factor * dz @ w.T).astype(dtype), (x.T @ dz).astype(dtype)

    return forward, backward


def plain(x, w):
    assert x.dtype == w.dtype == np.float64
    return np.tanh(x @ w)


def inputs_in(dtype):
    rng = np.random.default_rng(3)
    return {"x": rng.normal(size=(5, 4)).astype(dtype), "w": rng.normal(size=(4, 3)).astype(dtype)}


# --- types --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn])
def test_a_kernel_runs_in_its_own_type_and_its_reference_in_float64(dtype):
    report = check_layer(*layer(dtype), inputs_in(dtype), reference=plain)
    assert report.passed
    name = np.dtype(dtype).name
    assert report.weighted.endswith(
        f"Differences are taken of plain, in float64; forward computes in {name}."
    )


def test_a_coarse_type_is_named():
    dtype = ml_dtypes.float8_e4m3fn
    report = check_layer(*layer(dtype), inputs_in(dtype), reference=plain)
    assert "but coarsely: in float8 (e4m3)" in sentence(report)


def test_a_kernel_for_one_type_is_told_of_references():
    with pytest.raises(AssertionError) as caught:
        check_layer(*layer(np.float32), inputs_in(np.float32))
    (note,) = caught.value.__notes__
    assert "if it takes only float32, name a function that computes the same forward pass" in note


# --- references ---------------------------------------------------------------------------------------------


def refused(*arguments, **options):
    with pytest.raises(InputError) as caught:
        check_layer(*arguments, **options)
    return str(caught.value)


def test_a_reference_that_computes_something_else_is_refused():
    message = refused(*layer(np.float32), inputs_in(np.float32), reference=lambda x, w: 1.1 * np.tanh(x @ w))
    assert "forward does not compute the same as its reference, <lambda>: loss term" in message
    assert "but the reference gives" in message


def test_a_reference_with_other_outputs_is_refused():
    message = refused(*layer(np.float32), inputs_in(np.float32), reference=lambda x, w: np.tanh(x @ w)[:2])
    assert "returns an output of shape [2, 3], but of shape [5, 3] in an earlier call" in message


def test_a_reference_must_be_a_function():
    assert "reference is an int" in refused(*layer(np.float32), inputs_in(np.float32), reference=3)


def test_a_plain_backward_that_is_wrong_excuses_nothing():
    def wrong(dout, cache):
        return tuple(1.5 * gradient for gradient in backward_in_any_type(dout, cache))

    with pytest.raises(WrongGradientError):
        check_layer(*layer(np.float32, 1.5), inputs_in(np.float32), reference=(in_any_type, wrong))


def in_any_type(x, w):
    out = np.tanh(x @ w)
    return out, (x, w, out)


def backward_in_any_type(dout, cache):
    x, w, out = cache
    dz = dout * (1 - out**2)
    return dz @ w.T, x.T @ dz


def test_an_imprecise_kernel_is_noticed():
    forward, backward = layer(np.float32)

    def coarse(dout, cache):
        return tuple(g.astype(np.float16).astype(np.float32) for g in backward(dout, cache))

    for reference, said in (
        ((in_any_type, backward_in_any_type), "as large as in the reference, run in float32"),
        (plain, "hidden"),
    ):
        with pytest.raises(UndecidedGradientError) as caught:
            check_layer(forward, coarse, inputs_in(np.float32), reference=reference)
        assert any(said in remark for remark in caught.value.report.unusual)


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, Verdict.AGREES), (1.1, Verdict.WRONG)])
@pytest.mark.parametrize("with_gradients", [False, True])
def test_a_python_function_has_a_reference(factor, verdict, with_gradients):
    def gradients(p, x):
        h = np.tanh(x @ p["w"])
        return 2 * h * (1 - h**2) / h.size, (h**2).mean()

    def kernel(p, x, y):
        assert p["w"].dtype == ml_dtypes.bfloat16
        x, w = x.astype(np.float32), {"w": p["w"].astype(np.float32)}
        dz, loss = gradients(w, x)
        return loss.astype(ml_dtypes.bfloat16), {"w": (factor * x.T @ dz).astype(ml_dtypes.bfloat16)}

    def reference(p, x, y):
        assert p["w"].dtype == x.dtype == np.float64
        dz, loss = gradients(p, x)
        return (loss, {"w": x.T @ dz}) if with_gradients else loss

    point = {"w": RNG.normal(size=(3, 2)).astype(ml_dtypes.bfloat16)}
    x = X.astype(ml_dtypes.bfloat16)
    try:
        found = check_gradients(kernel, point, x, reference=reference).verdict
    except WrongGradientError:
        found = Verdict.WRONG
    assert found is verdict


# --- torch --------------------------------------------------------------------------------------------------


def torch_kernel(torch, dtype, factor):
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            if x.dtype != dtype:
                raise TypeError(f"expected scalar type {dtype}")
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, grad):
            return factor * 2 * grad * ctx.saved_tensors[0]

    return Square


@pytest.mark.parametrize("of_a_module", [False, True])
def test_a_torch_kernel_has_a_reference(of_a_module):
    torch = pytest.importorskip("torch")
    x = torch.linspace(0.5, 2.0, 12).reshape(3, 4).bfloat16()

    class Module(torch.nn.Module):
        def __init__(self, function, dtype):
            super().__init__()
            self.function = function
            self.w = torch.nn.Parameter(x.to(dtype))

        def forward(self):
            return self.function(self.w)

    def verdict(factor):
        kernel = torch_kernel(torch, torch.bfloat16, factor)
        try:
            if of_a_module:
                wide = Module(torch.square, torch.float64)
                return check_torch(Module(kernel.apply, torch.bfloat16), reference=wide).verdict
            return check_torch(kernel, {"x": x}, reference=torch.square).verdict
        except WrongGradientError:
            return Verdict.WRONG

    assert [verdict(factor) for factor in (1.0, 1.1)] == [Verdict.AGREES, Verdict.WRONG]


def cubed_in_float32(torch, of_backward, of_double_backward, of_jvp, for_batches):
    """Return x ↦ x³ for float32, with a factor on each of its derivatives."""

    class Slope(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(grad, x):
            assert x.dtype == torch.float32
            batched = torch._C._functorch.maybe_current_level() is not None
            return (for_batches if batched else 1.0) * of_backward * 3 * x**2 * grad

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx, upstream):
            grad, x = ctx.saved_tensors
            return 3 * x**2 * upstream, of_double_backward * 6 * x * grad * upstream

    class Cube(torch.autograd.Function):
        generate_vmap_rule = False

        @staticmethod
        def forward(x):
            assert x.dtype == torch.float32
            return x**3

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)
            ctx.save_for_forward(*inputs)

        @staticmethod
        def backward(ctx, grad):
            return Slope.apply(grad, ctx.saved_tensors[0])

        @staticmethod
        def jvp(ctx, tangent):
            return of_jvp * 3 * ctx.saved_tensors[0] ** 2 * tangent

    return Cube


@pytest.mark.parametrize("wrong", [None, "of_backward", "option"])
@pytest.mark.parametrize(
    ("option", "factor"),
    [
        ({"order": 2}, "of_double_backward"),
        ({"forward_mode": True}, "of_jvp"),
        ({"batched": True}, "for_batches"),
    ],
    ids=["order 2", "forward mode", "batched"],
)
def test_further_derivatives_of_a_kernel_are_checked_against_its_reference(option, factor, wrong):
    torch = pytest.importorskip("torch")
    names = "of_backward", "of_double_backward", "of_jvp", "for_batches"
    spoilt = factor if wrong == "option" else wrong
    kernel = cubed_in_float32(torch, *(1.1 if name == spoilt else 1.0 for name in names))
    x = torch.from_numpy(np.random.default_rng(1271).uniform(0.5, 2.0, (3, 4))).float()
    try:
        report = check_torch(kernel, {"x": x}, reference=lambda x: x**3, **option)
    except WrongGradientError as error:
        report = error.report
    assert report.verdict is (Verdict.WRONG if wrong else Verdict.AGREES)


# --- taps ---------------------------------------------------------------------------------------------------


def tapped(wrong=""):
    """Return forward and backward of a layer for float32, with a tap, and one of its gradients too large."""

    def forward(x, w):
        assert x.dtype == np.float32
        h = tap("h", np.tanh(x @ w))
        return h * h, (x, w, h)

    def backward(dout, cache):
        x, w, h = cache
        dh = np.float32(1.1 if wrong == "h" else 1.0) * 2 * h * dout
        dz = np.float32(1.1 if wrong == "x" else 1.0) * (1 - h * h) * dh
        return {"x": dz @ w.T, "w": x.T @ dz, "h": dh}

    return forward, backward


def tapped_reference(x, w):
    return tap("h", np.tanh(x @ w)) ** 2


def of_function(forward, backward):
    """Return the layer as a function of parameters that returns a loss and gradients."""

    def function(p, x, y):
        out, cache = forward(p["x"], p["w"])
        return out.sum(axis=1), backward(np.ones_like(out), cache)

    return function


def checked_with_taps(as_function, wrong, reference):
    forward, backward = tapped(wrong)
    if not as_function:
        return check_layer(forward, backward, inputs_in(np.float32), reference=reference)
    function = of_function(forward, backward)
    wide = lambda p, x, y: reference(p["x"], p["w"]).sum(axis=1)  # noqa: E731
    return check_gradients(function, inputs_in(np.float32), reference=wide)


@pytest.mark.parametrize("as_function", [False, True])
@pytest.mark.parametrize(("wrong", "names"), [("", set()), ("x", {"x", "w"}), ("h", {"x", "w", "h"})])
def test_taps_of_a_kernel_are_checked_at_the_taps_of_its_reference(as_function, wrong, names):
    try:
        report = checked_with_taps(as_function, wrong, tapped_reference)
    except WrongGradientError as error:
        report = error.report
        assert any("the fault lies" in place for place in report.diagnosis.places)
    assert {c.name for c in report.comparisons} == {"x", "w", "h"}
    assert {c.name for c in report.comparisons if c.verdict is Verdict.WRONG} == names


@pytest.mark.parametrize("as_function", [False, True])
@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (plain, "does not call tap('h', …), which"),
        (lambda x, w: tap("h", np.tanh(x @ w)[:1]) ** 2, "calls tap('h', …) with shape [1, "),
    ],
)
def test_a_reference_without_the_taps_of_the_kernel_is_refused(as_function, reference, message):
    with pytest.raises(InputError) as caught:
        checked_with_taps(as_function, "", reference)
    assert message in str(caught.value)


# --- in a spec ----------------------------------------------------------------------------------------------

LAYERS = """
import numpy as np

inputs = {"x": np.linspace(-1, 2, 6, dtype=np.float32)}

def cube_forward(x):
    assert x.dtype == np.float32
    return x**3, x

def cube_backward(dout, x):
    return FACTOR * x**2 * dout

def plain_forward(x):
    return x**3

def another(x):
    return x**2
"""


@pytest.mark.parametrize(
    ("reference", "factor", "code"),
    [
        ("plain_forward", 3, 0),
        ("plain_forward", 2, 1),
        ("another", 3, 2),
        ("other.py:plain", 3, 0),
        ("no", 3, 2),
    ],
)
def test_a_spec_names_the_reference(reference, factor, code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cube.py").write_text(LAYERS.replace("FACTOR", str(factor)))
    (tmp_path / "other.py").write_text("def plain(x): return x**3")
    (tmp_path / "net.yaml").write_text(
        f"gradients: {{forward: 'cube.py:cube_forward', reference: '{reference}'}}"
    )
    with pytest.raises(SystemExit) as left:
        main(["check", "net.yaml"])
    assert left.value.code == code
