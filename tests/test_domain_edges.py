"""Functions that are not defined everywhere, and tensors with numbers of very different sizes."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck_cli import check, check_gradients, load_spec
from gradcheck_cli.errors import InputError
from gradcheck_cli.testing import UndecidedGradientError, WrongGradientError

WAYS = [{}, {"fast": True}]


def guarded(function, gradient, inside=lambda w: (w > 0).all(), error=ValueError):
    def f(w, factor=1.0):
        if not inside(w):
            raise error("out of its domain")
        return function(w).sum(), factor * gradient(w)

    return f


LOG = guarded(np.log, lambda w: 1 / w)
POWER = guarded(lambda w: w**1.5, lambda w: 1.5 * np.sqrt(w), lambda w: (w >= 0).all())
ARCSIN = guarded(np.arcsin, lambda w: 1 / np.sqrt(1 - w * w), lambda w: (np.abs(w) < 1).all(), AssertionError)
ZERO_DIVISION = guarded(np.sqrt, lambda w: 0.5 / np.sqrt(w), error=ZeroDivisionError)


def nan_log(w, factor=1.0):
    return np.log(w).sum(), factor / w


CASES = [
    pytest.param(LOG, [1e-3, 2.3], id="log near its edge"),
    pytest.param(LOG, [1e-7, 2.3, 1.0], id="log very near its edge"),
    pytest.param(nan_log, [1e-3, 2.3, 0.4], id="log that is nan beyond its edge"),
    pytest.param(POWER, [0.0, 2.3, 1.0], id="a power on its edge"),
    pytest.param(ARCSIN, [0.999, -0.9999, 0.1], id="arcsin between two edges"),
    pytest.param(ZERO_DIVISION, [1e-4, 1.0], id="a root that divides by zero"),
]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize(("f", "at"), CASES)
def test_near_an_edge_steps_are_short_or_on_one_side(f, at, how):
    assert check_gradients(f, np.array(at), **how).passed


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize(("f", "at"), CASES)
def test_near_an_edge_a_mistake_is_caught(f, at, how):
    with pytest.raises(WrongGradientError):
        check_gradients(lambda w: f(w, 1.01), np.array(at), **how)


def test_code_that_cannot_be_evaluated_at_any_other_point_is_refused(tmp_path):
    (tmp_path / "net.py").write_text(
        "import numpy as np\nparameters = {'w': np.array([0.25, 0.75])}\n"
        "def f(p, *_):\n    if p['w'].sum() != 1.0: raise ValueError('must sum to 1')\n"
        "    return (p['w'] ** 2).sum(), {'w': 2 * p['w']}\n"
    )
    (tmp_path / "net.yaml").write_text("gradients: {python: net.py:f}")
    with pytest.raises(InputError, match=r"with slightly changed parameters, .* must sum to 1"):
        check(load_spec(tmp_path / "net.yaml"))


@pytest.mark.parametrize("error", [TypeError("no"), KeyError("no"), MemoryError("no")])
def test_errors_independent_of_the_point_are_not_swallowed(error):
    calls = []

    def f(w):
        calls.append(1)
        if len(calls) > 40:
            raise error
        return (w**2).sum(), 2 * w

    with pytest.raises(type(error)):
        check_gradients(f, np.arange(1.0, 20.0))


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("size", [1e6, 1e8, 1e10, 1e12])
def test_a_number_far_smaller_than_its_tensor_has_its_own_steps(size, how):
    def f(w, factor=1.0):
        slopes = [factor * (1 - np.tanh(w[0] - 0.7) ** 2), np.cos(w[1] / size) / size]
        return np.tanh(w[0] - 0.7) + np.sin(w[1] / size), np.array(slopes)

    at = np.array([1.0, size])
    assert check_gradients(f, at, **how).passed
    with pytest.raises(WrongGradientError):
        check_gradients(lambda w: f(w, 1.1), at, **how)


def refusing_after(calls, error):
    """Return a function that fails in every call after this many."""
    done = []

    def f(w):
        done.append(1)
        if len(done) > calls:
            raise error("no more calls")
        return (w**2).sum(), 2 * w

    return f, done


@pytest.mark.parametrize("how", WAYS)
def test_code_that_raises_at_changed_parameters_is_quoted_in_the_report(how):
    f, _ = refusing_after(60, ValueError)
    with pytest.raises(UndecidedGradientError) as raised:
        check_gradients(f, np.linspace(0.5, 2.0, 6), **how)
    said = " ".join(str(raised.value).split())
    assert "with slightly changed parameters, f raises ValueError" in said
    assert "no more calls" in said
    assert "kink" not in said


def test_an_infinite_slope_is_not_blamed_on_rounding():
    def entropy(p):
        q = np.where(p > 0, p, 1.0)
        return (p * np.log(q)).sum(), np.where(p > 0, np.log(q) + 1.0, 0.0)

    with pytest.raises(UndecidedGradientError, match=r"error bars of the differences\s+are wider"):
        check_gradients(entropy, np.array([0.0, 0.3, 0.7]))


def test_a_spec_whose_code_raises_names_the_line(tmp_path):
    (tmp_path / "net.py").write_text(
        "import numpy as np\nparameters = {'w': np.linspace(0.5, 2, 6)}\ncalls = []\n"
        "def f(p):\n    calls.append(1)\n    if len(calls) > 60: raise ValueError('no more calls')\n"
        "    return (p['w'] ** 2).sum(), {'w': 2 * p['w']}\n"
    )
    (tmp_path / "net.yaml").write_text("gradients: {python: net.py:f}")
    report = check(load_spec(tmp_path / "net.yaml"))
    assert report.not_estimated == (
        "with slightly changed parameters, f of net.py raises ValueError at net.py:6: no more calls"
    )


def test_a_loss_that_is_nan_at_changed_parameters_is_said_to_be():
    at = np.array([0.5, 2.0])

    def f(w):
        return (w**2).sum() if np.array_equal(w, at) else np.nan, 2 * w

    assert check_gradients(f, at, allow_undecided=True).not_estimated.endswith("the loss is nan")


@pytest.mark.parametrize("how", WAYS)
def test_code_that_always_raises_is_not_called_for_ever(how):
    f, done = refusing_after(60, RuntimeError)
    check_gradients(f, np.arange(1.0, 2000.0), allow_undecided=True, **how)
    assert len(done) < 4000


def test_a_point_whose_index_is_out_of_range_lies_outside_the_domain():
    table = np.array([0.3, -1.0, 2.0, 0.7])

    def f(w):  # a linear interpolation, which fails beyond the last number of the table
        low = np.floor(w).astype(int)
        share = w - low
        return (table[low] * (1 - share) + table[low + 1] * share).sum(), table[low + 1] - table[low]

    assert check_gradients(f, np.array([0.4, 2.9])).passed


SCALES = np.array([1e6, 1.0, 1e-6])
AT_ANY_SCALE = {
    "waves as short as each number": (np.array([1e-6, 1.0, 1e6]), lambda w: np.sin(w * SCALES).sum(), SCALES),
    "zero among large numbers": (
        np.array([0.0, 1e6, 3e6]),
        lambda w: np.sin(w * SCALES[[1, 2, 2]]).sum(),
        SCALES[[1, 2, 2]],
    ),
}


@pytest.mark.parametrize(("at", "loss", "scales"), AT_ANY_SCALE.values(), ids=AT_ANY_SCALE)
def test_numbers_of_one_tensor_may_have_any_sizes(at, loss, scales):
    assert check_gradients(lambda w: (loss(w), scales * np.cos(w * scales)), at).passed
    with pytest.raises(WrongGradientError):
        check_gradients(lambda w: (loss(w), 1.01 * scales * np.cos(w * scales)), at)


@pytest.mark.parametrize("size", [1e-200, 1.0, 1e100])
def test_losses_whose_squares_leave_the_float_range_are_checked(size):
    at = size**0.5 * np.linspace(0.5, 2.0, 5) if size < 1 else size * np.linspace(0.5, 2.0, 5)
    assert check_gradients(lambda w: ((w**2).sum(), 2 * w), at).passed
    with pytest.raises(WrongGradientError):
        check_gradients(lambda w: ((w**2).sum(), 2.01 * w), at)
