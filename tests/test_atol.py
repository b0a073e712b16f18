"""The absolute tolerance: what it lets pass, and how a report says so."""

from __future__ import annotations

import json

import numpy as np
import pytest
from reports import report

from gradcheck_cli import InputError, Verdict, WrongGradientError, check_gradients, check_layer
from gradcheck_cli.compared.compare import compared
from gradcheck_cli.compared.source import Source
from gradcheck_cli.comparison import compare
from gradcheck_cli.formats import render
from gradcheck_cli.formats.view import View
from gradcheck_cli.formats.words.remarks import details, remarks
from gradcheck_cli.formats.words.verdicts import sentence
from gradcheck_cli.numerical.estimate import Estimate
from gradcheck_cli.report import Outcome, Run

W = np.random.default_rng(8).normal(size=(3, 4))


def small_entries_are_off(w):
    """The entries of the first row of the gradient are about 1e-5, and 3e-6 too large."""
    weights = np.ones((3, 4))
    weights[0] = 1e-5
    gradient = weights * w
    gradient[0] += 3e-6
    return 0.5 * (weights * w**2).sum(), gradient


def judged(analytic, numerical, error=0.0, **more):
    """Return the comparison of one entry."""
    estimate = Estimate(np.array([numerical]), np.array([error]))
    return compare("w", np.array([analytic]), estimate, np.zeros(1), 1e-6, **more)


@pytest.mark.parametrize(
    ("difference", "error", "verdict", "by_atol"),
    [
        (0.9e-3, 0.0, Verdict.AGREES, True),
        (1e-12, 0.0, Verdict.AGREES, False),
        (1.1e-3, 0.0, Verdict.WRONG, False),
        (1.1e-3, 1e-4, Verdict.UNRESOLVED, False),
        (0.5e-3, 1.0, Verdict.UNRESOLVED, False),  # nothing is known about this value
    ],
)
def test_an_entry_agrees_within_the_absolute_tolerance(difference, error, verdict, by_atol):
    found = judged(0.01 + difference, 0.01, error, atol=1e-3)
    assert found.verdict is verdict
    assert found.by_atol.tolist() == [by_atol]


def test_an_entry_lost_in_rounding_agrees_if_its_bar_is_below_the_tolerance():
    lost = judged(3e-8, -2e-8, 1e-5)
    assert lost.verdict is Verdict.UNRESOLVED
    assert judged(3e-8, -2e-8, 1e-5, atol=1e-4).by_atol.all()


def test_by_default_there_is_none():
    with pytest.raises(WrongGradientError) as caught:
        check_gradients(small_entries_are_off, W)
    assert caught.value.report.by_atol == 0
    assert not [line for line in remarks(caught.value.report) if "atol" in line]


@pytest.mark.parametrize("fast", [False, True])
def test_a_report_counts_the_entries_that_agree_only_because_of_it(fast):
    found = check_gradients(small_entries_are_off, W, atol=1e-5, fast=fast)
    assert found.passed
    assert found.by_atol >= 4  # along directions, all unexplained entries agree as a group
    assert sentence(found).startswith("agrees: all 12 entries")
    assert f"{found.by_atol} only because of atol 1e-05" in sentence(found)
    assert f"atol 1e-05 can hide a mistake: {found.by_atol} entries agree only because of it." in remarks(
        found
    )
    document = json.loads(render("json", Run((Outcome("w", found),)), View()))["specs"][0]
    (tensor,) = document["tensors"]
    assert document["by_atol"] == tensor["by_atol"] == found.by_atol
    assert tensor["atol"] == 1e-5


def test_a_mistake_above_it_is_wrong():
    with pytest.raises(WrongGradientError):
        check_gradients(small_entries_are_off, W, atol=1e-6)


def test_what_it_hides_counts_as_not_detectable():
    found = check_gradients(lambda w: ((w**2).sum(), 2 * w), W, atol=0.1)
    assert (found.by_atol, found.comparisons[0].by_atol.any()) == (0, False)
    assert "atol 0.1 can hide a mistake: no entry agrees only because of it." in remarks(found)
    np.testing.assert_allclose(found.comparisons[0].resolution, 1e-6 + 0.1 / np.abs(2 * W), rtol=1e-6)
    assert "atol 0.1 for every tensor" in list(details(Outcome("w", found), found))


def test_a_single_entry_is_counted_in_the_singular():
    found = report(judged(1.001, 1.0, atol=0.1))
    assert "atol 0.1 can hide a mistake: 1 entry agrees only because of it." in remarks(found)


def test_a_layer_takes_it():
    given = {"x": W}
    with pytest.raises(WrongGradientError):
        check_layer(lambda x: x**2, lambda d, x: 2 * d * x + 1e-4, given)
    assert check_layer(lambda x: x**2, lambda d, x: 2 * d * x + 1e-4, given, atol=1e-3).by_atol == 12


def test_two_sources_are_compared_with_it():
    one, other = (
        Source(name, {"w": W + off}, {"w": W.dtype}) for name, off in (("a.npz", 0.0), ("b.npz", 1e-3))
    )
    assert compared(one, other).verdict is Verdict.WRONG
    assert compared(one, other, atol=1e-2).by_atol == 12


@pytest.mark.parametrize(
    ("atol", "message"),
    [
        (-1.0, "'atol' is -1.0; it must be at least 0"),
        (float("nan"), "'atol' must be a finite number, not nan"),
        (float("inf"), "'atol' must be a finite number, not inf"),
        ("1", "'atol' must be a number, not '1'"),
        (None, "'atol' must be a number, not nothing"),
    ],
)
def test_a_bad_value_is_refused(atol, message):
    with pytest.raises(InputError) as caught:
        check_gradients(lambda w: ((w**2).sum(), 2 * w), W, atol=atol)
    assert [complaint.message for complaint in caught.value.complaints] == [message]


# --- scalars -----------------------------------------------------------------------------------------------


def product(p):
    return p["a"] ** 2 * p["b"], {"a": 2 * p["a"] * p["b"], "b": p["a"] ** 2}


@pytest.mark.parametrize("number", [float, np.float64, np.array], ids=["float", "float64", "0-d"])
def test_scalars_are_parameters_like_any_other(number):
    given = {"a": number(1.5), "b": number(-2.0)}
    assert [c.shape for c in check_gradients(product, given).comparisons] == [(), ()]
    assert check_gradients(lambda a: (a**3, float(3 * a**2)), number(1.5)).passed
    with pytest.raises(WrongGradientError) as caught:
        check_gradients(lambda p: (product(p)[0], {**product(p)[1], "b": 1.0}), given)
    assert "the worst, b, is 1; finite differences give 2.25" in str(caught.value)
