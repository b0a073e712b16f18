"""Functions that are not defined everywhere, and tensors with numbers of very different sizes."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck_cli import check, check_gradients, load_spec
from gradcheck_cli.errors import InputError
from gradcheck_cli.testing import WrongGradientError

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
