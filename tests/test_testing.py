"""`check_gradients` as used in other projects' tests."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from reports import RIGHT, WRONG, diagnosis, report

from gradcheck_cli import (
    ExitCode,
    GradcheckError,
    InputError,
    UndecidedGradientError,
    Verdict,
    WrongGradientError,
    check_gradients,
)

RNG = np.random.default_rng(20)
P = {"weight": RNG.normal(size=(3, 4)), "bias": RNG.normal(size=3)}
X, Y = RNG.normal(size=(5, 4)), RNG.normal(size=(5, 3))


def right(parameters, x, y):
    delta = x @ parameters["weight"].T + parameters["bias"] - y
    return (delta**2).sum(axis=1) / len(x), {
        "weight": 2.0 * delta.T @ x / len(x),
        "bias": 2.0 * delta.sum(axis=0) / len(x),
    }


def halved(parameters, x, y):
    loss, gradients = right(parameters, x, y)
    return loss, {**gradients, "bias": gradients["bias"] / 2.0}


def off(parameters, x, y):
    loss, gradients = right(parameters, x, y)
    gradients["weight"][2, 1] *= 1.001
    return loss, gradients


def nothing(parameters):
    return 0.0, {name: np.zeros_like(array) for name, array in parameters.items()}


def test_a_right_gradient_passes_and_is_reported():
    report = check_gradients(right, P, X, Y)
    assert report.passed
    assert [comparison.name for comparison in report.comparisons] == ["weight", "bias"]
    assert (report.source, report.network) == ("right", "2 tensors of 15 parameters, 5 samples")


def test_a_wrong_gradient_is_an_assertion_that_fails():
    with pytest.raises(AssertionError) as caught:
        check_gradients(halved, P, X, Y)
    error = caught.value
    assert isinstance(error, WrongGradientError)
    assert isinstance(error, GradcheckError)
    assert error.exit_code is ExitCode.WRONG
    assert [c.verdict for c in error.report.comparisons] == [Verdict.AGREES, Verdict.WRONG]


def test_its_text_names_tensor_entry_values_and_cause():
    with pytest.raises(WrongGradientError) as caught:
        check_gradients(halved, P, X, Y)
    first, *_, last = str(caught.value).splitlines()
    (_, worst) = caught.value.report.worst(1)[0]
    assert first.startswith(f"wrong: 3 of 15 entries, in bias; the worst, bias[{worst.index[0]}], is ")
    assert "; finite differences give " in first
    assert " ± " in first
    assert last == "analytic / numerical is 0.5 in every entry of bias."


def test_a_cause_that_was_found_is_part_of_the_text():
    whole = report(RIGHT, WRONG, diagnosis=diagnosis())
    assert diagnosis().answers[0].causes[0].sentence in " ".join(str(WrongGradientError(whole)).split())


def test_a_single_wrong_entry_in_a_function_is_named():
    with pytest.raises(WrongGradientError, match=r"^wrong: 1 of 15 entries, in .*, weight\[2, 1\], is"):
        check_gradients(off, P, X, Y)


def test_its_text_is_as_wide_as_there_is_room(monkeypatch):
    with pytest.raises(WrongGradientError) as caught:
        check_gradients(halved, P, X, Y)
    monkeypatch.setenv("COLUMNS", "70")
    _, *lines = str(caught.value).splitlines()
    assert max(map(len, lines)) <= 62
    monkeypatch.delenv("COLUMNS")
    assert max(map(len, str(caught.value).splitlines())) > 100


def test_the_error_can_be_sent_to_another_process():
    with pytest.raises(WrongGradientError) as caught:
        check_gradients(halved, P, X, Y)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_undecided_gradients_do_not_pass_unless_allowed():
    with pytest.raises(UndecidedGradientError, match="every gradient is 0 on both sides") as caught:
        check_gradients(nothing, P)
    assert str(caught.value).startswith("unresolved: ")
    assert caught.value.exit_code is ExitCode.UNDECIDED
    assert check_gradients(nothing, P, allow_undecided=True).verdict is Verdict.UNRESOLVED


def test_wrong_gradients_never_pass():
    with pytest.raises(WrongGradientError):
        check_gradients(halved, P, X, Y, allow_undecided=True)


def test_parameters_may_be_a_single_array():
    assert check_gradients(lambda w: (0.5 * (w**2).sum(), w), np.arange(1.0, 4.0)).passed
    with pytest.raises(WrongGradientError, match=r"the worst, parameters\[0\], is 1\.1"):
        check_gradients(lambda w: (0.5 * (w**2).sum(), w + 0.1), np.arange(1.0, 4.0))


@pytest.mark.parametrize("only", ["weight", ["w*"], ("weight",)])
def test_only_what_matches_is_checked(only):
    (comparison,) = check_gradients(halved, P, X, Y, only=only).comparisons
    assert comparison.name == "weight"


def test_rtol_scheme_and_strictness_are_those_of_a_spec():
    report = check_gradients(off, P, X, Y, rtol=0.01, scheme="central", strict=True)
    assert (report.scheme, report.strict, set(report.rtol.values())) == ("central", True, {0.01})


@pytest.mark.parametrize(("fast", "how"), [(None, "literal"), (True, "directions"), (False, "literal")])
def test_fast_looks_along_random_directions(fast, how):
    assert check_gradients(right, P, X, Y, fast=fast).differences == how


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"rtol": 2.0}, "error: 'rtol' is 2.0; it must be less than 1"),
        ({"scheme": "centrl"}, "= help: did you mean 'central'?"),
        ({"scheme": "complex"}, "error: the 'complex' scheme cannot be used with your own code"),
        ({"only": "wieght"}, "error: 'wieght' matches no parameter\n      = help: did you mean 'weight'?"),
    ],
)
def test_impossible_requests_are_refused_with_a_message(how, said):
    with pytest.raises(InputError) as caught:
        check_gradients(right, P, X, Y, **how)
    assert said in str(caught.value)


def softplus(w):
    return np.where(w > 50.0, w, np.log1p(np.exp(w))), 1.0 / (1.0 + np.exp(-w))


def test_numbers_that_overflow_on_the_way_are_judged_and_not_warned_of():
    """These tests run with filterwarnings = error, so a warning would fail."""
    assert check_gradients(softplus, np.array([-1.0, 2.0, 800.0])).passed


def test_no_name_steers_the_terminal_that_shows_the_text():
    name = "w\x1b[2J\n"
    with pytest.raises(WrongGradientError) as caught:
        check_gradients(lambda p: ((p[name] ** 2).sum(), {name: p[name]}), {name: np.ones(2)})
    assert "\x1b" not in str(caught.value)
    assert str(caught.value).startswith(r"wrong: 2 of 2 entries, in w\x1b[2J\n")
