"""Gradients of 0 on both sides are recognised, and small gradients are not mistaken for 0."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from build import problem_of, right_gradients, spec_of
from shares import pairs

from gradcheck_cli import InputError, Verdict, check
from gradcheck_cli.comparison import compare
from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.losses import LOSSES
from gradcheck_cli.numerical.estimate import Estimate

PENALTIES = ({}, {"l2": 0.1}, {"l2": 1e3}, {"l1": 0.1}, {"l1": 0.1, "l2": 0.2})
OF_ZEROS = [(number, *pair) for number, pair in enumerate(pairs(list(ACTIVATIONS), list(LOSSES), 2))]
"""Pairs of an activation and a loss, with the penalties, types and batch normalisation in turns."""


@pytest.mark.parametrize(("number", "activation", "loss"), OF_ZEROS)
def test_a_network_of_zeros_is_decided(number, activation, loss):
    spec = spec_of(
        {"units": 5, "activation": activation, "batch_norm": number % 2 == 1},
        (3, "identity"),
        loss=loss,
        penalty=PENALTIES[number % len(PENALTIES)],
        parameters={"init": "zeros"},
        dtype=("float64", "float32")[number // 2 % 2],
    )
    # Outputs of 0 are the minimum of these losses: every gradient is 0, and nothing was tested.
    # They are a kink of cosine, which has no derivative at a vector of length 0.
    expected = Verdict.UNRESOLVED if loss in ("contrastive", "kl_gaussian") else Verdict.AGREES
    assert check(spec).verdict is expected


def gradients_of(tmp_path, *layers, change, **rest):
    """Return the verdict on right gradients after `change`."""
    wrong = right_gradients(problem_of(*layers, **rest))
    change(wrong)
    np.savez(tmp_path / "g.npz", **wrong)
    return check(spec_of(*layers, **rest, gradients={"file": tmp_path / "g.npz"}))


@pytest.mark.parametrize("size", [1e-12, 1e-20, 1e-40, 1.0])
def test_a_wrong_entry_in_a_network_of_zeros_stays_visible(tmp_path, size):
    def change(gradients):
        gradients["hidden1.weight"][2, 1] = size

    rest = {"parameters": {"init": "zeros"}, "penalty": {"l2": 0.1}, "loss": "cross_entropy"}
    report = gradients_of(tmp_path, (6, "tanh"), (3, "identity"), change=change, **rest)
    assert report.verdict is Verdict.WRONG


@pytest.mark.parametrize("bias", [-9.5, -10.5, -11.5, -14.0])
def test_a_tail_that_the_usual_formula_makes_0_is_0(tmp_path, bias):
    """1 + tanh u is 0 where σ(2u) is 1e-53: the reference is more precise than any such formula can be."""
    layers = {"units": 3, "activation": {"name": "gelu", "approximate": "tanh"}}, (2, "identity")
    parameters = {name: np.array(value) for name, value in problem_of(*layers).parameters.items()}
    parameters["hidden1.bias"][:] = bias
    np.savez(tmp_path / "p.npz", **parameters)
    rest = {
        "parameters": {"file": tmp_path / "p.npz"},
        "data": {"synthetic": "normal", "samples": 5, "scale": 0.1},
    }

    def change(gradients):
        gradients["hidden1.weight"][:] = 0.0
        gradients["hidden1.bias"][:] = 0.0
        gradients["output.weight"][:] = 0.0

    assert gradients_of(tmp_path, *layers, change=change, **rest).verdict is Verdict.AGREES


def one(analytic, numerical, error, rounding):
    arrays = [np.atleast_1d(np.asarray(each, dtype=float)) for each in (analytic, numerical, error, rounding)]
    a, n, u, allowed = np.broadcast_arrays(*arrays)
    return compare("w", a, Estimate(n, u), allowed / 3.0, 1e-6)


@pytest.mark.parametrize("share", [1e-6, 1e-3, 0.1, 1.0])
def test_a_zero_that_is_small_only_next_to_rounding_is_undecided(share):
    assert one(0.0, 1e-16 * share, 1e-25, 1e-16).verdict is Verdict.UNRESOLVED


def test_at_an_optimum_an_entry_of_the_size_of_the_others_is_seen():
    right = 1e-30 * np.array([1.0, -2.0, 3.0])
    assert one([0.0, *right[1:]], right, 1e-40, 1e-34).verdict is Verdict.WRONG


def test_a_bound_that_overflows_excuses_nothing():
    right = np.array([1.0, 2.0, -3.0, 4.0])
    assert one(right, right, 1e-12, np.inf).verdict is Verdict.AGREES
    for wrong in (right * 1.001, np.zeros(4), -right, np.array([1.0, 2.0, -3.0, 4.002])):
        assert one(wrong, right, 1e-12, np.inf).verdict is not Verdict.AGREES
    assert one([1.0, 0.0], [0.0, 0.0], 0.0, np.inf).verdict is not Verdict.AGREES


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("scale", [1e18, 1e30, 1e100, 1e150])
@pytest.mark.parametrize("activation", ["relu", "identity", "softplus", "silu"])
def test_huge_numbers_are_refused_or_judged_and_never_called_wrong(activation, scale, dtype):

    spec = spec_of(
        (4, activation),
        (3, "identity"),
        parameters={"init": "normal", "scale": scale},
        dtype=dtype,
        loss="l1",
    )
    verdict = None
    with suppress(InputError):
        verdict = check(spec).verdict
    assert verdict is not Verdict.WRONG


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("seed", range(12))
def test_whole_numbers_that_cancel_are_0(seed, dtype):
    """The hinge loss passes down whole numbers: a bias gradient is 0 if equally many rise and fall."""
    spec = spec_of((2, "identity"), loss="hinge", samples=6, seed=seed, dtype=dtype)
    assert check(spec).verdict is Verdict.AGREES


@pytest.mark.parametrize("loss", ["huber", "l1", "hinge", "mse"])
@pytest.mark.parametrize("target", [0.0, 1.0])
def test_an_output_that_is_dead_or_on_its_kink_is_decided(tmp_path, loss, target):
    layers = (4, "relu"), (3, "relu"), (3, "relu")
    parameters = {name: -np.abs(value) for name, value in problem_of(*layers).parameters.items()}
    y = [0] * 2 if loss == "hinge" else [[target, 0.0, 0.0]] * 2
    data = {"x": [[1.0, 2.0, 0.5, 1.5], [0.3, 0.1, 0.7, 2.0]], "y": y}
    for bias in (-0.1, 0.0):
        biased = {k: np.full_like(v, bias) if k.endswith("bias") else v for k, v in parameters.items()}
        np.savez(tmp_path / "p.npz", **biased)
        spec = spec_of(*layers, loss=loss, parameters={"file": tmp_path / "p.npz"}, data=data)
        report = check(spec)  # as a whole, it may have tested nothing
        assert [c.name for c in report.comparisons if c.verdict is not Verdict.AGREES] == []
