"""All possible faults of the user's Python function are refused with a reason."""

from __future__ import annotations

import numpy as np
import pytest
from function_source import POINT, complaints_about, refused

from gradcheck_cli.code.function import Inputs
from gradcheck_cli.code.python_source import read
from gradcheck_cli.errors import InputError


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("None", "returns None; (loss, gradients) is needed"),
        ("1.0", "returns a float; (loss, gradients) is needed"),
        ("(loss, g, 3)", "returns 3 values; (loss, gradients) is needed"),
        ("(g, loss)", "returns a dict first; return the loss first, then the gradients"),
        ("'no', g", "returns a str as its loss; a number or one term per sample is needed"),
        ("None, g", "returns None as its loss; a number or one term per sample is needed"),
        ("1j, g", "returns a complex as its loss; a number or one term per sample is needed"),
        ("np.ones((2, 2)), g", "returns an array of shape [2, 2] as its loss; "),
        ("[], g", "returns an array of shape [0] as its loss; "),
        ("float('nan'), g", "returns nan for the loss; a finite number is needed"),
        ("loss / [1, 0], g", "returns inf for loss term 1 of 2; a finite number is needed"),
        (
            "loss, g['w']",
            "returns an array as its gradients; a dict of arrays by parameter name is needed",
        ),
        ("loss, {**g, 'b': None}", "returns None for the gradient of 'b'"),
        ("loss, {**g, 'b': ['x', 'y']}", "returns a list for the gradient of 'b'"),
        ("loss, {**g, 'b': g['b'] + 0j}", "returns numbers of type complex128 for the gradient of 'b'"),
    ],
)
def test_a_wrong_answer_is_refused(returning, expression, message):
    with np.errstate(all="ignore"):
        assert refused(returning(expression)).startswith(f"f of net.py {message}")


def test_missing_extra_misshapen_and_transposed_gradients_are_all_named(returning):
    found = complaints_about(returning("loss, {'w': g['w'].T, 'bias': g['b']}"))
    assert [complaint.message for complaint in found] == [
        "there is no gradient for 'b', whose shape is [2]",
        "the gradient for 'w' has shape [3, 2], not [2, 3]: it is transposed",
        "'bias' is not a parameter",
    ]


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("raise ValueError('no')", "f of net.py raises ValueError at net.py:12: no"),
        ("import sys; sys.exit(3)", "f of net.py calls sys.exit(3) at net.py:12"),
        ("p['v']", "f of net.py raises KeyError at net.py:12: 'v'"),
    ],
)
def test_a_function_that_fails_is_refused_with_its_line(returning, statement, message):
    assert refused(returning("loss, g", statement)) == message


def test_a_function_that_takes_other_arguments_is_refused(written):
    message = refused(written("def f(p): return 1.0, {}"))
    assert message.startswith("f of net.py raises TypeError: f() takes 1 positional argument but 3 were")


def test_ctrl_c_passes(returning):
    with pytest.raises(KeyboardInterrupt):
        read(returning("loss, g", "raise KeyboardInterrupt"), POINT)


@pytest.mark.parametrize(
    ("statement", "changed"),
    [
        ("p['w'] -= 0.1 * g['w']", "parameter 'w'"),
        ("p['b'][0] = 7", "parameter 'b'"),
        ("x *= 2", "x"),
        ("y[0] = 0", "y"),
        ("x.shape = (3, 2)", "x"),
        ("p['w'] += 1; x += 1", "parameter 'w' and x"),
    ],
)
@pytest.mark.filterwarnings("ignore:Setting the shape")
def test_an_argument_changed_in_place_is_named(returning, statement, changed):
    inputs = Inputs(dict(POINT.parameters), POINT.x.copy(), POINT.y.copy())
    assert refused(returning("loss, g", statement), inputs) == f"f of net.py changes {changed} in place"


def test_a_random_loss_is_refused(returning):
    (complaint,) = complaints_about(
        returning("loss + rng.random(), g", at_first="rng = np.random.default_rng(0)")
    )
    assert complaint.message.startswith(
        "f of net.py returns different losses when called twice with the same arguments: "
    )
    assert "dropout" in complaint.help


def test_random_gradients_are_refused(returning):
    at_first = "rng = np.random.default_rng(0)"
    (complaint,) = complaints_about(
        returning("loss, {**g, 'w': g['w'] * rng.random((2, 3))}", at_first=at_first)
    )
    assert (
        complaint.message
        == "f of net.py returns different gradients when called twice with the same arguments, for 'w'"
    )
    assert "the mask that forward used" in complaint.help


def test_another_number_of_terms_is_another_loss(returning):
    message = refused(returning("loss[: len(calls) - 1], g", "calls.append(1)", "calls = []"))
    assert "returns different losses" in message


def test_gradients_that_accumulate_are_named_as_such(returning):
    at_first = "total = {'w': np.zeros((2, 3)), 'b': np.zeros(2)}"
    (complaint,) = complaints_about(
        returning("loss, total", "[total[n].__iadd__(g[n]) for n in g]", at_first)
    )
    assert complaint.message == (
        "f of net.py seems to accumulate its gradients across calls: every call adds the same to those of "
        "'w', 'b'"
    )


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_the_rounding_of_racing_threads_does_not_count_as_randomness(returning, scale):
    noisy = f"{{n: {scale} * a * (1 + 1e-14 * len(calls)) for n, a in g.items()}}"
    assert read(
        returning(f"loss * (1 + 1e-14 * len(calls)), {noisy}", "calls.append(1)", "calls = []"), POINT
    )


def test_a_gradient_that_is_nan_twice_is_the_same(returning):
    assert read(returning("loss, {**g, 'b': [float('nan'), 1.0]}"), POINT)


MOVED = {**POINT.parameters, "b": np.array([1.0, 1.0])}


def test_a_failure_at_perturbed_parameters_says_so(returning):
    function = read(returning("loss, g", "assert p['b'][0] == 0.5"), POINT)
    for call in (function.losses, function.gradients):
        with pytest.raises(
            InputError, match=r"with slightly changed parameters, f of .* raises AssertionError"
        ):
            call(MOVED)


def test_another_number_of_terms_at_perturbed_parameters_is_refused(returning):
    function = read(returning("loss if p['b'][0] == 0.5 else loss.sum(), g"), POINT)
    with pytest.raises(InputError, match="returns 1 loss terms, but returned 2 in an earlier call"):
        function.losses(MOVED)


def test_a_loss_that_is_infinite_elsewhere_gets_a_verdict(returning):
    function = read(returning("loss if p['b'][0] == 0.5 else loss * np.inf, g"), POINT)
    assert np.isinf(function.losses(MOVED)).all()
