"""Functions with their own names, layouts and arguments."""

from __future__ import annotations

from textwrap import dedent

import numpy as np
import pytest
from book import NAMES, NETWORK, SPEC, book

from gradcheck_cli import InputError, Report, check, load_spec
from gradcheck_cli.subject.load import subject_of


@pytest.fixture
def checked(tmp_path):
    """Return the report on a spec in the folder of this code."""

    def run(code: str, spec: str) -> Report:
        (tmp_path / "net.py").write_text(dedent(code), encoding="utf-8")
        (tmp_path / "net.yaml").write_text(spec, encoding="utf-8")
        return check(load_spec(tmp_path / "net.yaml"))

    return run


@pytest.mark.parametrize("name", ["python: net.py:f", "python: net.py:many, vectorized: true"])
@pytest.mark.parametrize("network", [NETWORK, ""], ids=["network", "no network"])
def test_a_function_has_its_own_names_and_layout_and_the_report_has_gradchecks(checked, network, name):
    report = checked(book(), f"{network}gradients: {{{name}, {NAMES}, layout: in_out}}\n")
    assert report.passed
    shapes = {c.name: c.shape for c in report.comparisons}
    assert shapes == {
        "hidden1.weight": (4, 3), "hidden1.bias": (4,), "output.weight": (4, 4), "output.bias": (4,),
    }  # fmt: skip


def test_a_mistake_is_named_in_the_networks_terms(checked):
    report = checked(book("a"), SPEC)
    assert report.exit_code == 1
    wrong = {c.name for c in report.comparisons if c.wrong.any()}
    assert wrong == {"hidden1.weight", "hidden1.bias"}
    assert report.diagnosis.layers == ("hidden1",)


def test_a_square_weight_in_the_wrong_layout_is_another_function(checked):
    """Both weights fit their shapes when transposed, so only the layout decides."""
    with pytest.raises(InputError):
        checked(book(), f"{NETWORK}gradients: {{python: net.py:f, {NAMES}}}\n")


def test_unknown_names_are_refused_at_their_place(checked):
    names = NAMES.replace("output.bias", "outptu.bias")
    spec = f"{NETWORK}parameters: {{init: xavier}}\n"
    with pytest.raises(InputError, match=r"outptu\.bias") as caught:
        checked(book("1.0"), f"{spec}gradients: {{python: net.py:f, {names}, layout: in_out}}\n")
    assert ("gradients", "names", "b2") in {complaint.where for complaint in caught.value.complaints}


def test_a_name_that_the_code_lacks_is_reported_with_the_existing_ones(checked):
    with pytest.raises(InputError, match="raises KeyError") as caught:
        checked(book("1.0"), f"{NETWORK}parameters: {{init: xavier}}\ngradients: {{python: net.py:f}}\n")
    (complaint,) = caught.value.complaints
    assert "hidden1.weight" in complaint.help
    assert "names:" in complaint.help


# --- parameters --------------------------------------------------------------------------------------------


def test_with_a_network_the_parameters_are_the_codes_own(tmp_path):
    (tmp_path / "net.py").write_text(book("1.0"), encoding="utf-8")
    (tmp_path / "net.yaml").write_text(SPEC, encoding="utf-8")
    parameters = subject_of(load_spec(tmp_path / "net.yaml")).inputs.problem.parameters
    drawn = np.random.default_rng(3).normal(size=(3, 4))
    np.testing.assert_array_equal(parameters["hidden1.weight"].T, drawn)


def test_parameters_of_the_spec_take_precedence(tmp_path):
    (tmp_path / "net.py").write_text(book("1.0"), encoding="utf-8")
    (tmp_path / "net.yaml").write_text(f"{SPEC}parameters: {{init: zeros}}\n", encoding="utf-8")
    parameters = subject_of(load_spec(tmp_path / "net.yaml")).inputs.problem.parameters
    assert not any(value.any() for value in parameters.values())


def test_a_mistake_that_shows_only_at_the_codes_own_parameters_is_found(checked):
    """Drawn parameters have biases of 0, where a penalty on them has no gradient."""
    penalised = book().replace("len(x), gradients", "len(x) + p['b1'] @ p['b1'] / 50, gradients")
    assert checked(penalised, SPEC).exit_code == 1


def test_other_names_are_one_error_with_the_line_to_paste(checked):
    with pytest.raises(InputError) as caught:
        checked(book("1.0"), f"{NETWORK}gradients: {{python: net.py:f}}\n")
    (complaint,) = caught.value.complaints
    assert f"under 'gradients', add {NAMES}, layout: in_out" in complaint.help


# --- data --------------------------------------------------------------------------------------------------


def test_with_a_network_the_data_are_the_codes_own(tmp_path):
    (tmp_path / "net.py").write_text(book("1.0"), encoding="utf-8")
    (tmp_path / "net.yaml").write_text(SPEC, encoding="utf-8")
    problem = subject_of(load_spec(tmp_path / "net.yaml")).inputs.problem
    np.testing.assert_array_equal(problem.x, np.arange(15.0).reshape(5, 3) / 7.0 - 1.0)
    np.testing.assert_array_equal(problem.target, np.linspace(-1.0, 1.0, 20).reshape(5, 4))


def test_without_any_data_it_says_where_they_may_be(checked):
    code = book("1.0").replace("data =", "nothing =")
    with pytest.raises(InputError, match="neither the spec nor the function's file defines any") as caught:
        checked(code, SPEC)
    assert "data: {file: batch.npz}" in caught.value.complaints[0].help


ALONE = """
    import numpy as np
    parameters = {"w": np.array([1.5, -2.0])}

    def f(p):
        return (p["w"] ** 2).sum(), {"w": FACTOR * p["w"]}
    """


@pytest.mark.parametrize(("factor", "code"), [("2.0", 0), ("2.1", 1)])
def test_a_function_of_the_parameters_alone_is_called_so(checked, factor, code):
    report = checked(ALONE.replace("FACTOR", factor), "gradients: {python: net.py:f}\n")
    assert report.exit_code == code


def test_a_function_of_the_parameters_alone_is_not_called_so_where_there_are_data(checked):
    with pytest.raises(InputError, match="TypeError"):
        checked(
            ALONE.replace("FACTOR", "2.0"), "data: {x: [[1.0]], y: [1.0]}\ngradients: {python: net.py:f}\n"
        )


TORCH = """
    import torch

    def build():
        torch.manual_seed(0)
        return (lambda w: w.tanh()), LOSS, {"w": torch.randn(3, dtype=torch.float64)}
    """


@pytest.mark.parametrize("loss", ["lambda out: out.sum()", "lambda out, y: (out * (y is None)).sum()"])
def test_without_data_a_torch_loss_takes_the_output_or_none_as_well(checked, loss):
    pytest.importorskip("torch")
    assert checked(TORCH.replace("LOSS", loss), "gradients: {torch: net.py:build}\n").passed


# --- what hides mistakes -----------------------------------------------------------------------------------


SCALED = """
    import numpy as np
    parameters = {"w": np.array([1.5, -2.0]), "gamma": GAMMA, "beta": np.zeros(2)}

    def f(p):
        s = p["w"] * p["gamma"] + p["beta"]
        return (s ** 2).sum(), {"w": 2 * s, "gamma": 2 * s * p["w"], "beta": 2 * s}
    """


def test_parameters_that_hide_a_mistake_are_reported(checked):
    report = checked(SCALED.replace("GAMMA", "np.ones(2)"), "gradients: {python: net.py:f}\n")
    assert report.passed  # the gradient of w wrongly lacks the factor gamma
    assert [line.partition(":")[0] for line in report.unexercised] == [
        "gamma is 1 in every entry",
        "beta is 0 in every entry",
    ]


def test_drawn_parameters_hide_nothing_and_the_mistake_shows(checked):
    report = checked(SCALED.replace("GAMMA", "np.array([0.5, 3.0])"), "gradients: {python: net.py:f}\n")
    assert report.exit_code == 1
    assert [line.partition(":")[0] for line in report.unexercised] == ["beta is 0 in every entry"]
