"""A function of jax that gradcheck differentiates itself, to the first and to the second order."""

from __future__ import annotations

from textwrap import dedent

import numpy as np
import pytest

from gradcheck_cli import InputError, Verdict, check, load_spec
from gradcheck_cli.code.function import Inputs
from gradcheck_cli.code.jax_function import _Gradients, read
from gradcheck_cli.spec.gradients import CODE_MODELS, Code

pytest.importorskip("jax")

HEAD = """
import jax, jax.numpy as jnp, numpy as np

@jax.custom_vjp
def cube(z): return z ** 3
cube.defvjp(lambda z: (z ** 3, z), lambda z, up: (RULE,))

parameters = {"layers": [{"w": np.array([1.0, -2.0, 0.5])}], "c": np.array([1.0 + 2.0j, 0.5 - 1.0j])}
"""
REAL = "def f(p): return cube(p['layers'][0]['w'])"
COMPLEX = "def f(p): return {'a': p['c'] ** 2 * cube(p['layers'][0]['w'])[:2], 'b': 3}"
LOSS = """
data = np.ones(3), None
def f(p, x, y): return (cube(p['layers'][0]['w']) * x).sum()
"""
RIGHT = "3 * z ** 2 * up"


@pytest.fixture
def jax_code(tmp_path):
    def write(text, rule=RIGHT):
        (tmp_path / "net.py").write_text(dedent(HEAD).replace("RULE", rule) + text)
        return CODE_MODELS["jax"](jax=Code(tmp_path / "net.py", "f"))

    return write


@pytest.fixture
def checked(jax_code, tmp_path):
    def report(text, rule=RIGHT, order=1):
        jax_code(text, rule)
        (tmp_path / "net.yaml").write_text(f"gradients: {{jax: net.py:f}}\ncheck: {{order: {order}}}")
        return check(load_spec(tmp_path / "net.yaml"))

    return report


def of_order(order):
    return Inputs(None, None, None, order=order)


# --- what is checked -------------------------------------------------------------------------------------


def test_parameters_are_named_by_their_path_and_a_complex_one_is_two(jax_code):
    function = read(jax_code(COMPLEX), of_order(1))
    assert list(function.parameters) == ["layers.0.w", "c.real", "c.imag"]
    assert (function.origin, function.weighted) == (
        "jax.grad of f of net.py",
        "L = Σ c · out, with c drawn at random.",
    )
    gradients = function.gradients(function.parameters)
    assert {gradient.dtype for gradient in gradients.values()} == {np.dtype(np.float64)}


def test_a_real_number_is_the_loss_itself(jax_code):
    function = read(jax_code(LOSS), of_order(1))
    assert (function.loss_name, function.weighted, function.losses(function.parameters).shape) == (
        "its own loss",
        "",
        (1,),
    )
    assert function.loss == pytest.approx(1.0 - 8.0 + 0.125)


def test_the_losses_are_computed_without_a_derivative(jax_code, monkeypatch):
    function = read(jax_code(REAL), of_order(1))
    monkeypatch.setattr(_Gradients, "_computed", property(lambda gradients: 1 / 0))
    np.testing.assert_allclose(function.losses(function.parameters).sum(), function.loss)
    with pytest.raises(InputError, match="ZeroDivisionError"):
        function.gradients(function.parameters)


def test_a_function_that_cannot_be_compiled_runs_as_it_is(jax_code):
    text = "def f(p): return p['layers'][0]['w'].sum() ** (2 if p['layers'][0]['w'][0] > 0 else 3)"
    function = read(jax_code(text), of_order(1))
    assert function.losses(function.parameters) == 0.25
    assert function.losses({**function.parameters, "layers.0.w": np.array([-1.0, -1.0, 0.0])}) == -8.0


# --- verdicts --------------------------------------------------------------------------------------------


def test_right_rules_agree_to_the_second_order(checked):
    assert checked(COMPLEX, order=2).verdict is Verdict.AGREES


@pytest.mark.parametrize(
    ("rule", "order", "source"),
    [
        ("2 * z ** 2 * up", 2, "jax.grad of f"),
        ("3 * jax.lax.stop_gradient(z) ** 2 * up", 2, "jax.grad of jax.grad of f"),
    ],
)
def test_wrong_rules_are_wrong_at_their_order(checked, rule, order, source):
    report = checked(REAL, rule, order)
    assert (report.verdict, report.source) == (Verdict.WRONG, f"{source} of net.py")


def test_a_rule_that_ignores_its_upstream_is_named(checked):
    report = checked(REAL, "3 * z ** 2")
    (sentence,) = report.diagnosis.trials
    assert sentence.startswith("a derivative rule in f of net.py does not use its upstream gradient: ")


# --- refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rule", "order", "message", "help"),
    [
        ("def f(p): return np.exp(p['c'])", RIGHT, 1, "raises TracerArrayConversionError", "jax.numpy"),
        (REAL, "3 * np.asarray(z) ** 2 * np.asarray(up)", 2, "raises TracerArrayConv", "only 'order: 1'"),
        ("def f(p): return {}", RIGHT, 1, "returns no array of floats", "outputs"),
        ("parameters = None\n" + REAL, RIGHT, 1, "has no parameters", "define 'parameters' in net.py"),
    ],
)
def test_what_jax_cannot_differentiate_is_refused(checked, text, rule, order, message, help):
    with pytest.raises(InputError) as caught:
        checked(text, rule, order)
    (complaint,) = caught.value.complaints
    assert message in complaint.message
    assert help in complaint.help
