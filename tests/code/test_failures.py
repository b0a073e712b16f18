"""Runs that gradcheck can do without: the user's code may fail there, but no crash of gradcheck is hidden."""

from __future__ import annotations

from textwrap import dedent

import numpy as np
import pytest

from gradcheck_cli import Verdict, check, check_layer, load_spec
from gradcheck_cli.code.failures import RefusedError, may_fail
from gradcheck_cli.code.kernel import Kernel
from gradcheck_cli.errors import InputError, bad_input
from gradcheck_cli.subject.code import read_function


@pytest.fixture
def ours(monkeypatch):
    """Count the lines of this file as lines of gradcheck."""
    monkeypatch.setattr("gradcheck_cli.code.failures.PACKAGE", __file__)


def _broken(*_):
    return {}["missing"]


def breaks(monkeypatch, *names):
    for name in names:
        monkeypatch.setattr(f"gradcheck_cli.code.{name}", _broken)


def spec_of(tmp_path, text, source):
    (tmp_path / "net.py").write_text(dedent(text))
    (tmp_path / "net.yaml").write_text(f"gradients: {{{source}}}\n")
    return load_spec(tmp_path / "net.yaml")


# --- whose failure it is ------------------------------------------------------------------------------------


class _OwnKeyError(KeyError):
    """A kind of error that a library defines."""


def _with_note(note):
    error = TypeError("not a valid type")
    error.add_note(note)
    return error


@pytest.mark.parametrize(
    "error",
    [
        ValueError("out of the domain"),
        _OwnKeyError("a library's own kind"),
        _with_note("For simplicity, JAX has removed its internal frames from the traceback."),
    ],
)
def test_an_error_that_a_library_may_have_raised_is_not_ours(ours, error):
    with pytest.raises(RefusedError), may_fail(Exception):
        raise error


@pytest.mark.parametrize("kind", [AttributeError, NameError, KeyError, IndexError, TypeError, AssertionError])
def test_a_defect_passes_through_even_if_it_is_taken_for_a_failure_of_the_code(ours, kind):
    def fails():
        try:
            raise kind("a defect")
        except kind:
            raise bad_input("the code raises something") from None

    with pytest.raises(kind), may_fail():
        fails()


@pytest.mark.parametrize("name", ["read_losses", "read_gradients", "refuse_changed"])
def test_a_defect_in_the_first_run_of_a_function_is_not_blamed_on_it(ours, monkeypatch, tmp_path, name):
    breaks(monkeypatch, f"python_function.{name}")
    f = "def parameters(): return {'w': [1.0]}\ndef f(p): return (p['w'] ** 2).sum(), {'w': 2 * p['w']}\n"
    with pytest.raises(KeyError, match="missing"):
        check(spec_of(tmp_path, f, "python: net.py:f"))


@pytest.mark.parametrize("fails", ["{}['missing']", "missing", "[][0]", "p.missing", "p()", "1 / 0"])
def test_a_failure_in_the_first_run_of_a_function_is_blamed_on_it(tmp_path, fails):
    f = f"def parameters(): return {{'w': [1.0]}}\ndef f(p): return {fails}, p\n"
    with pytest.raises(InputError, match=r"raises \w+ at net.py:2"):
        check(spec_of(tmp_path, f, "python: net.py:f"))


# --- torch --------------------------------------------------------------------------------------------------

TORCH = """
    import torch
    from torch import nn

    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 2.5 * x * g

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 2), nn.Linear(2, 2)

        def forward(self, x):
            h = self.a(x)
            HOOKED
            return self.b(Square.apply(h + 0.5 * h.detach()))

    def build():
        torch.manual_seed(0)
        return Net().float(), lambda out, y=None: out.square().sum(1)

    def data():
        return torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), None
"""
TORCH_SOURCE = "torch: net.py:build"
AT_ITEM = {  # a crash where the module is run in another way: how to reach it
    "torch_graph.is_wide": lambda function: function.wide_gradients(),
    "torch_attached._mode": lambda function: list(function.attached()),
    "torch_modules._Hooks": lambda function: function.places({"a.weight"}, ()),
}


@pytest.fixture
def torch_function(tmp_path):
    pytest.importorskip("torch")
    spec = spec_of(tmp_path, TORCH.replace("HOOKED", ""), TORCH_SOURCE)
    return read_function(spec, spec.gradients)[0]


@pytest.mark.parametrize("at", AT_ITEM)
def test_a_crash_in_a_further_run_of_torch_is_not_hidden(ours, torch_function, monkeypatch, at):
    breaks(monkeypatch, at)
    with pytest.raises(KeyError, match="missing"), may_fail():
        AT_ITEM[at](torch_function)


@pytest.mark.parametrize("at", ["torch_graph.is_wide", "torch_graph.real", "torch_trials._recorder"])
def test_a_crash_while_torch_is_read_is_not_hidden(ours, tmp_path, monkeypatch, at):
    pytest.importorskip("torch")
    breaks(monkeypatch, at)
    spec = spec_of(tmp_path, TORCH.replace("HOOKED", ""), TORCH_SOURCE)
    with pytest.raises(KeyError, match="missing"):
        read_function(spec, spec.gradients)


def test_a_report_says_why_the_place_of_a_mistake_is_unknown(tmp_path):
    pytest.importorskip("torch")
    hooked = "assert not self.a._forward_pre_hooks, 'hooked'"
    text = TORCH.replace("HOOKED", hooked)
    report = check(spec_of(tmp_path, text, TORCH_SOURCE))
    line = dedent(text).splitlines().index(f"        {hooked}") + 1
    assert (report.verdict, report.diagnosis.places) == (Verdict.WRONG, ())
    assert report.diagnosis.observations[-1] == (
        "gradcheck could not find the place of the mistake: with its modules watched, build of net.py raises "
        f"AssertionError at net.py:{line}: hooked"
    )


# --- jax ----------------------------------------------------------------------------------------------------

JAX = """
    import jax.numpy as jnp, numpy as np
    from jax.lax import stop_gradient

    parameters = {"w": np.array([1.0, -2.0, 0.5])}

    def f(p):
        w = p["w"]
        return w * stop_gradient(w) if BRANCH else w ** 3
"""


def jax_spec(tmp_path, branch="True"):
    pytest.importorskip("jax")
    return spec_of(tmp_path, JAX.replace("BRANCH", branch), "jax: net.py:f")


def test_a_report_says_why_a_function_of_jax_is_not_compiled(tmp_path):
    report = check(jax_spec(tmp_path, "w[0] < 0"))
    (note,) = report.unusual
    assert report.verdict is Verdict.AGREES
    assert note.startswith(
        "jax.jit cannot compile the function, so the check takes longer: compiled by jax.jit, f of net.py "
    )
    assert "TracerBoolConversionError at net.py:9" in note


def test_a_crash_while_jax_compiles_is_not_hidden(ours, tmp_path, monkeypatch):
    spec = jax_spec(tmp_path)
    from gradcheck_cli.code import jax_function

    pair = jax_function._pair

    def broken(jax, terms, data, compiled, mode=None):
        return _broken if compiled is jax.jit else pair(jax, terms, data, compiled, mode)

    monkeypatch.setattr(jax_function, "_pair", broken)
    with pytest.raises(KeyError, match="missing"):
        read_function(spec, spec.gradients)


def test_a_crash_while_stop_gradient_is_ignored_is_not_hidden(ours, tmp_path, monkeypatch):
    spec = jax_spec(tmp_path)
    function, _ = read_function(spec, spec.gradients)
    breaks(monkeypatch, "jax_attached._passing_through")
    with pytest.raises(KeyError, match="missing"):
        list(function.attached())


# --- layers and kernels -------------------------------------------------------------------------------------

LAYER = """
    import numpy as np

    inputs = {"x": np.array([[0.3, -1.2, 2.0]])}

    def forward(x):
        return np.sin(x), x

    def backward(dout, x):
        return dout * np.cos(x)
"""


def test_a_crash_while_a_layer_gets_another_upstream_is_not_hidden(ours, tmp_path, monkeypatch):
    breaks(monkeypatch, "layer_function.strided")
    spec = spec_of(tmp_path, LAYER, "python: net.py, forward: forward, backward: backward")
    with pytest.raises(KeyError, match="missing"):
        read_function(spec, spec.gradients)


def test_a_report_says_why_a_reference_shows_no_rounding():
    def forward(x):
        return np.sin(x), x

    def backward(dout, x):
        return dout * np.cos(x)

    def plain(x):
        if x.dtype != np.float64:
            raise TypeError("only float64")
        return np.sin(x), x

    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    report = check_layer(forward, backward, {"x": x}, reference=(plain, backward))
    assert report.verdict is Verdict.AGREES
    assert (
        "rounding is only measured on the kernel, since the reference does not run in float32: TypeError: "
        "only float64"
    ) in report.unusual


def test_a_crash_while_a_reference_shows_its_rounding_is_not_hidden(ours):
    float32 = {"x": np.dtype(np.float32)}
    kernel = Kernel(
        None, "plain", {"x": np.ones(3)}, float32, float32, _broken, _broken, ((_broken, _broken),)
    )
    with pytest.raises(KeyError, match="missing"):
        list(kernel.remarks)
