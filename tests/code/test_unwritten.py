"""Functions that read memory which they never wrote. Right functions may use empty memory, too."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck_cli import check_gradients
from gradcheck_cli.code.evaluation import Evaluation
from gradcheck_cli.code.unwritten import refuse_erratic, refuse_unwritten
from gradcheck_cli.errors import InputError

PARAMETERS = {"w": np.linspace(-1.0, 2.0, 7)}
empty_like = np.empty_like  # under a name of its own in this module


def half(w, gradient):
    gradient[::2] = 2.0 * w[::2]
    return gradient


UNWRITTEN = {
    "empty": lambda w: half(w, np.empty(w.shape)),
    "empty_like": lambda w: half(w, np.empty_like(w)),
    "own name": lambda w: half(w, empty_like(w)),
    "float32": lambda w: half(w, np.empty(w.shape, np.float32)),
    "summed": lambda w: np.stack([2.0 * w, 0.0 * np.empty_like(w) + 1e-3 * np.empty_like(w)]).sum(axis=0),
}


@pytest.mark.parametrize("kind", UNWRITTEN)
def test_a_gradient_half_written_is_named(kind):
    def f(parameters, x, y):
        return (parameters["w"] ** 2).sum(), {"w": UNWRITTEN[kind](parameters["w"])}

    with pytest.raises(
        InputError, match="the gradient of w changes from call to call: f uses memory that it never"
    ):
        check_gradients(f, PARAMETERS)


@pytest.mark.parametrize("before", [0.0, 1.0, 1e300, np.inf, np.nan])
def test_a_loss_of_unwritten_memory_is_named_for_any_contents(before):
    def f(parameters, x, y):
        for array in [np.empty(8) for _ in range(8)]:
            array[:] = before
        squares = np.empty((8,))
        squares[:7] = parameters["w"] ** 2
        return squares.sum(), {"w": 2.0 * parameters["w"]}

    with pytest.raises(
        InputError, match="the loss changes from call to call: f uses memory that it never wrote"
    ):
        check_gradients(f, PARAMETERS)


WRITTEN = {
    "filled": lambda w: np.multiply(2.0, w, out=np.empty_like(w)),
    "in parts": lambda w: np.where(np.arange(7) % 2 == 0, half(w, np.empty_like(w)), 2.0 * w),
    "masked": lambda w: (
        np.nan_to_num(half(w, np.empty_like(w))) * (np.arange(7) % 2 == 0) + 2.0 * w * (np.arange(7) % 2 == 1)
    ),
    "whole numbers": lambda w: 2.0 * w + 0.0 * np.empty(7, dtype=np.int64).size,
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_memory_that_is_written_before_it_counts_is_right(kind):
    def f(parameters, x, y):
        return (parameters["w"] ** 2).sum(), {"w": WRITTEN[kind](parameters["w"])}

    check_gradients(f, PARAMETERS)


def test_numpys_own_functions_are_restored_afterwards():
    before = np.empty, np.empty_like, empty_like
    test_memory_that_is_written_before_it_counts_is_right("filled")
    assert (np.empty, np.empty_like, empty_like) == before


def test_other_differences_between_calls_are_not_attributed_to_memory():
    rng = np.random.default_rng(0)
    losses = np.ones(1)

    def observe():
        return Evaluation(losses, {"w": rng.normal(size=3)})

    refuse_unwritten(observe, code=None)


def test_a_gradient_that_other_calls_change_is_erratic():
    kept = np.zeros(7)

    def f(parameters, x, y):
        gradient = 2.0 * parameters["w"] + 0.5 * (kept != parameters["w"])
        kept[:] = parameters["w"]
        return (parameters["w"] ** 2).sum(), {"w": gradient}

    with pytest.raises(InputError, match=r"w.* from call to call|returns different gradients"):
        check_gradients(f, PARAMETERS)


def test_rounding_differences_are_not_erratic():
    gradient = {"w": np.array([1.0, 2.0])}
    refuse_erratic(gradient, {"w": gradient["w"] * (1 + 1e-9)}, "f")
    with pytest.raises(
        InputError, match="w changes from call to call: after other calls, f returns a different gradient"
    ):
        refuse_erratic(gradient, {"w": gradient["w"] * 1.1}, "f")


# --- jax ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wide", "returned"), [(False, "jax"), (False, "numpy"), (True, "jax")])
def test_jax_in_float32_says_what_would_decide_more(wide, returned):
    jax = pytest.importorskip("jax")
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", wide)
    slope = jax.value_and_grad(lambda w: jax.numpy.square(w).sum())

    def f(parameters, x, y):
        loss, gradient = slope(parameters["w"])
        return float(loss), {"w": gradient if returned == "jax" else np.asarray(gradient)}

    try:
        report = check_gradients(f, PARAMETERS, rtol=1e-2)
    finally:
        jax.config.update("jax_enable_x64", before)
    said = [remark for remark in report.unusual if "jax_enable_x64" in remark]
    assert len(said) == (not wide)


def test_a_race_that_shows_now_and_then_is_noticed_by_its_noise():
    calls = []

    def f(parameters, x, y):
        calls.append(1)
        lost = len(calls) > 12 and len(calls) % 5 == 0  # a write that another thread overtakes
        gradient = 2.0 * parameters["w"]
        gradient[3] *= 1.0 - lost
        return (parameters["w"] ** 2).sum(), {"w": gradient}

    with pytest.raises(InputError, match="returns a different gradient at the same parameters"):
        check_gradients(f, PARAMETERS)


def test_a_race_is_not_taken_for_unwritten_memory():
    calls = []

    def observe():
        calls.append(1)
        return Evaluation(np.ones(1), {"w": np.ones(3) + (len(calls) % 3 == 0)})

    for _ in range(6):
        refuse_unwritten(observe, code=None)
