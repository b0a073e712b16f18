"""A function passed directly: its arguments, and its possible faults."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from gradcheck_cli import check_gradients
from gradcheck_cli.code.given_function import ALONE, read
from gradcheck_cli.errors import InputError

W = np.array([[0.5, -1.0], [2.0, 0.25]])


def right(parameters, x, y):
    return 0.5 * (parameters["w"] ** 2).sum(axis=1), {"w": parameters["w"].copy()}


def refused(*given):
    with pytest.raises(InputError) as caught:
        read(*given)
    (complaint,) = caught.value.complaints
    assert complaint.where == ()
    return complaint.message


def given(function, parameters, x=None, y=None):
    return read(function, parameters, x, y)[0]


def test_losses_and_gradients_are_its_own():
    function = given(right, {"w": W})
    assert function.origin == "right"
    np.testing.assert_array_equal(function.losses(function.parameters), 0.5 * (W**2).sum(axis=1))
    np.testing.assert_array_equal(function.gradients(function.parameters)["w"], W)


def test_a_function_of_an_array_is_given_the_array():
    function = given(lambda w, x, y: (0.5 * (w**2).sum(), w.copy()), W)
    assert list(function.parameters) == [ALONE]
    np.testing.assert_array_equal(function.gradients({ALONE: 3 * W})[ALONE], 3 * W)


@pytest.mark.parametrize(
    "function",
    [
        lambda p: (p["w"].sum(), {"w": np.ones((2, 2))}),
        lambda p, scale=1.0: (scale * p["w"].sum(), {"w": np.full((2, 2), scale)}),
        lambda p, x=None, y=None: (p["w"].sum(), {"w": np.ones((2, 2))}),
        lambda *given: (given[0]["w"].sum(), {"w": np.ones((2, 2))}),
    ],
)
def test_a_function_of_only_parameters_is_called_without_data(function):
    np.testing.assert_array_equal(given(function, {"w": W}).losses({"w": W}), [W.sum()])


def test_a_function_with_data_gets_them_unchanged():
    seen = []

    def function(parameters, x, y):
        seen.append((x, y))
        return right(parameters, x, y)

    batch, labels = {"images": [1, 2]}, [0, 1]
    read(function, {"w": W}, batch, labels)
    assert all(x is batch and y is labels for x, y in seen)


@pytest.mark.parametrize(("function", "name"), [(right, "right"), (partial(right), "partial")])
def test_a_function_is_reported_by_its_name(function, name):
    assert given(function, {"w": W}).origin == name


def test_parameters_may_be_anything_made_of_numbers():
    function = given(lambda p: (float(np.sum(p["w"])), {"w": [1.0, 1.0]}), {"w": [1, 2]})
    assert function.parameters["w"].dtype == np.float64


def test_the_callers_own_arrays_are_neither_changed_nor_handed_out():
    parameters = {"w": W.copy()}
    function = given(right, parameters)
    parameters["w"][:] = 0.0
    np.testing.assert_array_equal(function.parameters["w"], W)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "there are no parameters; pass a dict of arrays by name, or an array"),
        ({"w": 1j * W}, "parameter 'w' has dtype complex128; real numbers are needed"),
        ({"w": [1.0, np.inf]}, "parameter 'w' holds numbers that are not finite"),
        ("abc", f"parameter '{ALONE}' has dtype <U3; real numbers are needed"),
    ],
)
def test_invalid_parameters_are_refused(parameters, message):
    assert refused(right, parameters, None, None) == message


def in_place(parameters, x, y):
    x += 1.0
    return right(parameters, x, y)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda p, x, y: 3.0, "<lambda> returns a float; (loss, gradients) is needed"),
        (lambda p, x, y: (3.0, {}), "there is no gradient for 'w'"),
        (lambda p, x, y: (np.nan, {"w": W}), "<lambda> returns nan for the loss; a finite number is needed"),
        (in_place, "in_place changes x in place"),
        (3.0, "a float cannot be called; a function is needed"),
    ],
)
def test_a_function_that_cannot_be_checked_is_refused(function, message):
    assert message in refused(function, {"w": W}, np.ones(3), None)


@pytest.mark.parametrize("result", [3.0, (1.0, 2.0, 3.0)])
def test_a_function_of_an_array_that_cannot_be_checked_is_refused(result):
    assert "(loss, gradients) is needed" in refused(lambda w: result, W, None, None)


def test_exceptions_of_the_function_propagate():
    with pytest.raises(ZeroDivisionError) as caught:
        read(lambda p: 1 // 0, {"w": W}, None, None)
    assert not hasattr(caught.value, "__notes__")


def test_exceptions_away_from_the_parameters_name_the_caller():
    function = given(lambda p: (1.0 / (p["w"] == W).all().astype(int).item(), {"w": 0.0 * W}), {"w": W})
    with pytest.raises(ZeroDivisionError) as caught:
        function.losses({"w": W + 1.0})
    assert caught.value.__notes__ == ["gradcheck called <lambda> with slightly changed parameters."]


def test_a_function_may_take_x_without_y():
    x = np.array([[1.0, -2.0], [0.5, 3.0]])
    report = check_gradients(lambda p, x: (((x @ p) ** 2).sum(), 2.0 * x.T @ (x @ p)), np.ones(2), x)
    assert report.passed


@pytest.mark.parametrize("function", [lambda w, b: 0.0, lambda p, *, x: 0.0], ids=["two", "keyword"])
def test_a_function_of_other_arguments_is_refused(function):
    with pytest.raises(InputError, match=r"cannot be called as f\(parameters, x, y\) or f\(parameters\)"):
        check_gradients(function, np.ones(2))


def test_a_loss_may_be_an_array_of_one_number():
    assert check_gradients(lambda p: ((p**2).sum(keepdims=True), 2.0 * p), np.ones((2, 2))).passed


def test_gradients_that_are_no_array_are_refused():
    with pytest.raises(InputError, match="returns a tuple for the gradient of 'parameters'"):
        check_gradients(lambda p: ((p**2).sum(), (2.0 * p, 1.0)), np.ones(3))
