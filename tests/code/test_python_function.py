"""The user's Python function: what it may return, and where its parameters and data come from."""

from __future__ import annotations

import numpy as np
import pytest
from function_source import POINT, RIGHT, W, X, complaints_about, refused

from gradcheck_cli.code.function import Inputs
from gradcheck_cli.code.python_source import read
from gradcheck_cli.errors import InputError
from gradcheck_cli.spec.gradients import CODE_MODELS


def test_a_python_function_is_one_of_the_sources():
    assert CODE_MODELS["python"].kind.reader == read.__module__


# --- what is right ---------------------------------------------------------------------------------------


def test_losses_and_gradients_are_the_functions_own(written):
    function = read(written(RIGHT), POINT)
    z = X @ W.T + [0.5, -0.5] - np.eye(2)[[1, 0]]
    np.testing.assert_array_equal(function.losses(function.parameters), 0.5 * (z**2).sum(axis=1))
    gradients = function.gradients(function.parameters)
    np.testing.assert_array_equal(gradients["w"], z.T @ X)
    np.testing.assert_array_equal(gradients["b"], z.sum(axis=0))
    assert (function.origin, function.remarks) == ("f of net.py", ())


def test_it_can_be_evaluated_elsewhere(written):
    function = read(written(RIGHT), POINT)
    elsewhere = {name: array + 0.25 for name, array in function.parameters.items()}
    assert (function.losses(elsewhere) != function.losses(function.parameters)).any()
    assert (function.gradients(elsewhere)["w"] != function.gradients(function.parameters)["w"]).any()


@pytest.mark.parametrize("loss", ["loss.sum()", "float(loss.sum())", "[loss.sum()]", "np.array(loss.sum())"])
def test_a_loss_may_be_a_single_number(returning, loss):
    function = read(returning(f"{loss}, g"), POINT)
    losses = function.losses(function.parameters)
    assert (losses.shape, losses.dtype) == ((1,), np.float64)


def test_a_pair_may_be_a_list_and_gradients_lists_of_numbers(returning):
    function = read(returning("[loss, {'b': list(g['b']), 'w': g['w'].tolist()}]"), POINT)
    gradients = function.gradients(function.parameters)
    assert list(gradients) == ["w", "b"]
    assert gradients["w"].shape == (2, 3)


@pytest.mark.parametrize(
    ("written_as", "judged_as"),
    [("f8", "f8"), ("f4", "f4"), ("f2", "f2"), (">f4", "f4"), ("i8", "f8"), ("?", "f8"), ("g", "f8")],
)
def test_gradients_keep_the_type_they_were_computed_in(returning, written_as, judged_as):
    function = read(returning(f"loss, {{n: a.astype('{written_as}') for n, a in g.items()}}"), POINT)
    gradient = function.gradients(function.parameters)["w"]
    assert gradient.dtype == np.dtype(judged_as)
    assert gradient.dtype.isnative


def test_gradients_that_are_not_finite_are_wrong_rather_than_bad_input(returning):
    function = read(returning("loss, {**g, 'b': np.array([np.nan, np.inf])}"), POINT)
    np.testing.assert_array_equal(function.gradients(function.parameters)["b"], [np.nan, np.inf])


def test_arrays_that_are_reused_for_the_next_answer_do_not_change_the_last(returning):
    source = returning(
        "kept_loss, kept",
        "kept_loss[:] = loss; [kept[n].__setitem__(..., g[n]) for n in g]",
        "kept, kept_loss = {'w': np.zeros((2, 3)), 'b': np.zeros(2)}, np.zeros(2)",
    )
    function = read(source, POINT)
    losses, gradients = function.losses(function.parameters), function.gradients(function.parameters)
    before = losses.copy(), gradients["w"].copy()
    function.gradients({name: array + 1 for name, array in function.parameters.items()})
    np.testing.assert_array_equal(losses, before[0])
    np.testing.assert_array_equal(gradients["w"], before[1])


def test_what_it_prints_goes_to_stderr(returning, capsys):
    function = read(returning("loss, g", "print('hello')"), POINT)
    function.losses(function.parameters)
    out, err = capsys.readouterr()
    assert (out, err) == ("", 6 * "hello\n")


def test_a_function_may_take_what_it_is_given_out_of_the_dict(returning):
    function = read(returning("loss, g", "p.clear()"), POINT)
    function.losses(function.parameters)
    assert set(function.parameters) == {"w", "b"}


@pytest.mark.parametrize("gradient", ["p['w']", "x", "p['w'][:]"])
def test_a_gradient_in_the_memory_of_an_argument_is_noted(written, gradient):
    source = written(f"def f(p, x, y): return 1.0, {{'w': {gradient}}}")
    inputs = Inputs({"w": np.ones((2, 3))}, np.ones((2, 3)), None)
    argument = "x" if gradient == "x" else "parameter 'w'"
    assert read(source, inputs).remarks == (f"the gradient of 'w' shares the memory of {argument}",)


# --- what it starts from ---------------------------------------------------------------------------------

OWN = "def f(p, x, y): return (p['w'] ** 2).sum(), {'w': 2 * p['w']}\n"


@pytest.mark.parametrize(
    "parameters",
    [
        "parameters = {'w': [1.0, 2.0]}",
        "def parameters(): return {'w': (1, 2)}",
        "import numpy as np\nparameters = {'w': np.float32([1, 2])}",
    ],
)
def test_parameters_may_be_the_modules_own(written, parameters):
    function = read(written(OWN + parameters), Inputs(None, None, None))
    np.testing.assert_array_equal(function.parameters["w"], [1.0, 2.0])
    assert function.parameters["w"].dtype == np.float64


def test_parameters_of_the_spec_come_first(written):
    inputs = Inputs({"w": np.array([3, 4])}, None, None)
    function = read(written(OWN + "parameters = {'w': [1.0, 2.0]}"), inputs)
    np.testing.assert_array_equal(function.parameters["w"], [3.0, 4.0])


def test_without_any_parameters_it_says_what_to_do(written):
    (complaint,) = complaints_about(written(OWN), Inputs(None, None, None))
    assert complaint.message == (
        "f of net.py has no parameters to start from: neither the spec nor the function's file defines any"
    )
    assert complaint.help.startswith("define 'parameters' in net.py")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("[1.0]", "'parameters' in net.py is a list; a dict of arrays by name is needed"),
        ("{}", "'parameters' in net.py is a dict; a dict of arrays by name is needed"),
        ("{'w': 'x'}", "parameter 'w' in net.py has dtype <U1; real numbers are needed"),
        ("{'w': [1j]}", "parameter 'w' in net.py has dtype complex128; real numbers are needed"),
        ("{'w': [float('nan')]}", "parameter 'w' holds numbers that are not finite"),
    ],
)
def test_impossible_parameters_are_refused(written, parameters, message):
    assert refused(written(f"{OWN}parameters = {parameters}"), Inputs(None, None, None)) == message


def test_parameters_of_the_spec_must_be_finite(written):
    with pytest.raises(InputError) as caught:
        read(written(OWN), Inputs({"w": np.array([np.inf])}, None, None))
    (complaint,) = caught.value.complaints
    assert complaint.where == ("parameters", "file")


@pytest.mark.parametrize("data", ["data = [[1.0, 2.0]], [3]", "def data(): return [[1.0, 2.0]], [3]"])
def test_data_may_be_the_modules_own(written, data):
    text = f"def f(p, x, y): return (x @ p['w'] - y).sum(), {{'w': x.sum(axis=0)}}\n{data}"
    function = read(written(text), Inputs({"w": np.array([1.0, 1.0])}, None, None))
    np.testing.assert_array_equal(function.losses(function.parameters), [0.0])


def test_data_of_the_spec_come_first(returning):
    assert read(returning("loss, g", at_first="data = None, None"), POINT)


def test_without_data_the_function_is_given_none(written):
    source = written("def f(p, x, y):\n    assert x is None and y is None\n    return 1.0, {'w': 0 * p['w']}")
    assert read(source, Inputs({"w": np.ones(2)}, None, None))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("[1.0]", "'data' in net.py is a list; a pair (x, y) is needed"),
        ("('a', 1)", "'data' in net.py has dtype <U1; real numbers are needed"),
    ],
)
def test_impossible_data_are_refused(written, data, message):
    assert refused(written(f"{OWN}data = {data}"), Inputs({"w": np.ones(2)}, None, None)) == message
