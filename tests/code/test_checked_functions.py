"""Checks of Python functions, starting from the spec, and what other libraries may return."""

from __future__ import annotations

from textwrap import dedent

import numpy as np
import pytest
from build import problem_of, right_gradients, spec_of
from paths import ROOT

from gradcheck_cli import Verdict, check, load_spec
from gradcheck_cli.code.function import Inputs
from gradcheck_cli.code.given_inputs import read_inputs
from gradcheck_cli.code.python_source import read

# --- other libraries -------------------------------------------------------------------------------------


def test_torch_tensors_are_accepted_as_arrays(written):
    pytest.importorskip("torch")
    text = """
        import torch

        def f(p, x, y):
            w = torch.tensor(p["w"], dtype=torch.bfloat16 if y else torch.float32, requires_grad=True)
            loss = (w**2).sum()
            loss.backward()
            return loss, {"w": w.grad}
        """
    for bfloat in (0, 1):
        function = read(written(text), Inputs({"w": np.array([1.0, 2.0])}, np.ones(1), np.array(bfloat)))
        gradient = function.gradients(function.parameters)["w"]
        np.testing.assert_array_equal(gradient, np.float32([2.0, 4.0]))
        assert gradient.dtype == np.float32


def test_jax_arrays_are_accepted_as_arrays(written):
    pytest.importorskip("jax")
    text = """
        import jax.numpy as jnp

        def f(p, x, y):
            w = jnp.asarray(p["w"], dtype=jnp.bfloat16)
            return (w**2).sum(), {"w": 2 * w}
        """
    function = read(written(text), Inputs({"w": np.array([1.0, 2.0])}, None, None))
    gradient = function.gradients(function.parameters)["w"]
    np.testing.assert_array_equal(gradient, np.float32([2.0, 4.0]))
    assert gradient.dtype == np.float32


# --- the whole line --------------------------------------------------------------------------------------

SPEC = """
    network:
      inputs: 3
      layers: [{units: 4, activation: tanh}, {units: 2}]
      loss: cross_entropy
    data: {synthetic: normal, samples: 6}
    gradients: {python: net.py:f}
    """
HAND = """
    import numpy as np

    def f(p, x, y):
        h = np.tanh(x @ p["hidden1.weight"].T + p["hidden1.bias"])
        e = np.exp(h @ p["output.weight"].T + p["output.bias"])
        q = e / e.sum(axis=1, keepdims=True)
        delta = (q - np.eye(2)[y]) / len(x)
        below = delta @ p["output.weight"] * (1 - h**2)
        return -np.log(q[np.arange(len(x)), y]) / len(x), {
            "output.weight": FACTOR * delta.T @ h,
            "output.bias": delta.sum(axis=0),
            "hidden1.weight": below.T @ x,
            "hidden1.bias": below.sum(axis=0),
        }
    """


@pytest.mark.parametrize(
    ("factor", "wrong"), [("1", []), ("2", ["output.weight"]), ("-1", ["output.weight"])]
)
def test_a_function_is_judged_tensor_by_tensor(tmp_path, factor, wrong):
    (tmp_path / "net.py").write_text(dedent(HAND).replace("FACTOR", factor))
    (tmp_path / "net.yaml").write_text(dedent(SPEC))
    report = check(load_spec(tmp_path / "net.yaml"))
    assert [c.name for c in report.comparisons if c.wrong.any()] == wrong
    assert report.unresolved == 0
    assert report.verdict is (Verdict.WRONG if wrong else Verdict.AGREES)
    assert not report.unusual


@pytest.mark.parametrize("returned", ["loss", "float(loss)", "np.float64(loss)"])
@pytest.mark.parametrize("factor", ["1", "1e-4"])
def test_a_loss_that_float32_keeps_from_changing_makes_no_gradient_wrong(tmp_path, returned, factor):
    """Next to 1e5, float32 shows no changes below 0.004: there is neither noise nor slope to see."""
    text = f"""
        import numpy as np

        parameters = {{"w": {factor} * np.linspace(0.1, 1.0, 6)}}

        def f(p, x, y):
            w = p["w"].astype(np.float32)
            loss = np.float32(1e5) + (w * w).sum()
            return {returned}, {{"w": 2 * w}}
        """
    (tmp_path / "net.py").write_text(dedent(text))
    (tmp_path / "net.yaml").write_text("gradients: {python: net.py:f}")
    assert check(load_spec(tmp_path / "net.yaml")).verdict is Verdict.UNRESOLVED


def test_a_float32_function_is_judged_as_such(tmp_path):
    text = """
        import numpy as np

        parameters = {"w": np.linspace(0.1, 1.0, 6)}

        def f(p, x, y):
            w = p["w"].astype(np.float32)
            return np.tanh(w).sum(), {"w": FACTOR * (1 - np.tanh(w) ** 2)}
        """
    (tmp_path / "net.yaml").write_text("gradients: {python: net.py:f}")
    for factor, wrong in (("1", False), ("1.01", True)):
        (tmp_path / "net.py").write_text(dedent(text).replace("FACTOR", factor))
        assert (check(load_spec(tmp_path / "net.yaml")).verdict is Verdict.WRONG) is wrong


@pytest.mark.parametrize(
    ("y", "units", "dtype"),
    [([0, 1], 2, np.int64), ([[1, 0], [0, 1]], 2, np.float64), ([0, 1], 1, np.float64)],
)
def test_labels_of_a_spec_are_whole_and_targets_are_not(y, units, dtype):
    data = {"x": [[1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 0.0, 1.0]], "y": y}
    assert read_inputs(spec_of((units, "identity"), loss="mse", data=data)).y.dtype == dtype


def test_gradchecks_backprop_agrees_with_itself_through_a_function(written):
    problem = problem_of((3, "sigmoid"), (2, "sigmoid"))
    text = """
        import numpy as np

        def f(p, x, y):
            s = lambda z: 1 / (1 + np.exp(-z))
            h = s(x @ p["hidden1.weight"].T + p["hidden1.bias"])
            a = s(h @ p["output.weight"].T + p["output.bias"])
            delta = 2 * (a - np.eye(2)[y]) / len(x) * a * (1 - a)
            below = delta @ p["output.weight"] * h * (1 - h)
            gradients = {"output.weight": delta.T @ h, "output.bias": delta.sum(axis=0)}
            gradients |= {"hidden1.weight": below.T @ x, "hidden1.bias": below.sum(axis=0)}
            return ((a - np.eye(2)[y]) ** 2).sum(axis=1) / len(x), gradients
        """
    function = read(written(text), Inputs(problem.parameters, problem.x, problem.y, problem))
    gradients = function.gradients(function.parameters)
    for name, value in right_gradients(problem).items():
        np.testing.assert_allclose(gradients[name], value, rtol=1e-12, atol=1e-15)


def test_the_books_trap_is_ten_times_too_large_everywhere():
    report = check(load_spec(ROOT / "configs" / "code" / "book_trap.yaml"))
    assert report.verdict is Verdict.WRONG
    for comparison in report.comparisons:
        assert comparison.wrong.all()
        np.testing.assert_allclose(comparison.analytic, 10 * comparison.numerical, rtol=1e-5)


def test_softmax_regression_agrees():
    report = check(load_spec(ROOT / "configs" / "code" / "softmax_regression.yaml"))
    assert report.verdict is Verdict.AGREES


@pytest.mark.filterwarnings("default")
def test_a_network_in_jax_agrees():
    pytest.importorskip("jax")
    assert check(load_spec(ROOT / "tests" / "examples" / "jax_net.yaml")).verdict is Verdict.AGREES
