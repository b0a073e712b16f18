"""Rounding bounds hold for every row of every table, and for new rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from build import problem_of, right_gradients, spec_of, units_for
from new_rows import NEW_ACTIVATIONS, NEW_LOSSES, add_rows
from random_networks import problem_or_none, random_spec
from test_losses import GROWS, target_of
from test_rounding import share_of_bound

from gradcheck_cli import Spec, Verdict, check
from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.arithmetic import ROUNDING_SAFETY, Arithmetic
from gradcheck_cli.network.loss_functions.rounding import LossRounding
from gradcheck_cli.network.losses import LOSSES
from gradcheck_cli.network.penalties import PENALTIES
from gradcheck_cli.network.rounding import gradient_rounding

FLOAT32 = np.dtype(np.float32)
EPS = float(np.finfo(FLOAT32).eps)
ROWS = {**ACTIVATIONS, **NEW_ACTIVATIONS}
LOSS_ROWS = {**LOSSES, **NEW_LOSSES}


def numbers(rng: np.random.Generator, shape: tuple[int, ...], size: float) -> np.ndarray:
    """Return numbers that float32 holds exactly, as float64."""
    return (size * rng.normal(size=shape)).astype(FLOAT32).astype(np.float64)


def within(off: np.ndarray, bound: np.ndarray) -> bool:
    assert np.isfinite(bound).all()
    assert (bound >= 0).all()
    return bool((np.abs(off) <= ROUNDING_SAFETY * bound + 1e-37).all())


@pytest.mark.parametrize("units", [1, 3, 10, 50])
@pytest.mark.parametrize("name", ROWS)
def test_an_activation_in_float32_stays_within_its_bound(name, units):
    row, rng = ROWS[name].with_options(), np.random.default_rng(len(name) + 100 * units)
    for size in 10.0 ** rng.uniform(-4, 2, size=12):
        z, dL_da = numbers(rng, (6, units), size), numbers(rng, (6, units), 1.0)
        none, a = np.zeros_like(z), row.value(z)
        bound = EPS * row.rounding.own_value(row, z, a) + row.rounding.value(row, z, EPS * np.abs(z), a)
        assert within(row.value(z.astype(FLOAT32)) - a, bound), name
        exact = row.vjp(z, dL_da)
        narrow = row.vjp(z.astype(FLOAT32), dL_da.astype(FLOAT32))
        assert within(narrow - exact, row.rounding.delta(row, z, EPS * np.abs(z), dL_da, none, EPS)), name


@pytest.mark.parametrize("units", [1, 3, 10, 50])
@pytest.mark.parametrize("name", ROWS)
def test_errors_below_an_activation_are_carried_within_its_bound(name, units):
    row, rng = ROWS[name].with_options(), np.random.default_rng(len(name) + 200 * units)
    for size in 10.0 ** rng.uniform(-4, 1, size=12):
        z, dL_da = numbers(rng, (6, units), size), numbers(rng, (6, units), 1.0)
        z_error, error = 1e-6 * np.abs(numbers(rng, z.shape, size)), 1e-6 * np.abs(numbers(rng, z.shape, 1.0))
        z_error = np.where(np.abs(z) > 2.0 * z_error, z_error, 0.0)  # nudges across a kink do not count
        moved, other = (at + by * rng.uniform(-1, 1, z.shape) for at, by in ((z, z_error), (dL_da, error)))
        a = row.value(z)
        assert within(row.value(moved) - a, row.rounding.value(row, z, z_error, a) + 1e-15)
        bound = row.rounding.delta(row, z, z_error, dL_da, error, 1e-15)
        assert within(row.vjp(moved, other) - row.vjp(z, dL_da), bound), name


@pytest.mark.parametrize("name", ROWS)
def test_no_row_passes_on_more_than_its_bound(name):
    row, rng = ROWS[name].with_options(), np.random.default_rng(len(name))
    z, sizes = numbers(rng, (6, 7), 2.0), np.abs(numbers(rng, (6, 7), 1.0))
    at_most = row.rounding.at_most(row, z, sizes)
    for _ in range(20):
        assert (np.abs(row.vjp(z, sizes * rng.choice([-1.0, 1.0], z.shape))) <= at_most * (1 + 1e-12)).all()


@pytest.mark.parametrize("outputs", [2, 10, 50])
@pytest.mark.parametrize("name", LOSS_ROWS)
def test_a_loss_in_float32_stays_within_its_bound(name, outputs):
    row, rng = LOSS_ROWS[name].with_options(), np.random.default_rng(len(name) + 100 * outputs)
    outputs = units_for(name, outputs)
    for size in 10.0 ** rng.uniform(-4, 1 if name in GROWS else 2, size=12):
        a, target = numbers(rng, (6, outputs), size), target_of(row, rng, 6, outputs)
        target = target.astype(FLOAT32).astype(np.float64)
        exact = row.gradient(a, target)
        off = row.gradient(a.astype(FLOAT32), target.astype(FLOAT32)) - exact
        assert within(off, row.rounding.gradient(row, a, EPS * np.abs(a), target, EPS)), name
        a_error = 1e-6 * np.abs(numbers(rng, a.shape, size))
        moved = a + a_error * rng.uniform(-1, 1, a.shape)
        same = row.pieces is None or (row.pieces(moved, target) == row.pieces(a, target)).all()
        bound = row.rounding.gradient(row, a, a_error, target, 1e-15)
        assert not same or within(row.gradient(moved, target) - exact, bound), name
        value, carried, _ = row.rounding.value(row, a, a_error, target)
        assert within(row.value(moved, target) - value, carried + 1e-13 * np.abs(value) + 1e-15), name


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("loss", LOSS_ROWS)
def test_networks_of_every_loss_penalty_and_normalisation_stay_within_their_bounds(
    monkeypatch, loss, batch_norm
):
    """The penalties take turns, since they are added to what the loss gives."""
    add_rows(monkeypatch)
    penalties = [{}, *({name: 0.1} for name in PENALTIES)]
    for seed, activation in enumerate(ROWS):
        penalty = penalties[(seed + len(loss)) % len(penalties)]
        hidden = {"units": 5, "activation": activation, "batch_norm": batch_norm}
        problem = problem_of(
            hidden, (4, "identity"), loss=loss, penalty=penalty, samples=9, seed=seed, dtype="float32"
        )
        assert share_of_bound(problem) <= ROUNDING_SAFETY, activation


@pytest.mark.parametrize("seed", range(60))
def test_networks_of_new_rows_in_float32_are_never_wrong(monkeypatch, seed):
    add_rows(monkeypatch)
    rng = np.random.default_rng(seed)
    raw = random_spec(
        int(rng.integers(2**31)), tuple(NEW_ACTIVATIONS), tuple(NEW_LOSSES), "float32", (1, 3), (-1, 1)
    )
    if problem_or_none(raw) is None:
        return  # the loss is not finite
    assert check(Spec.model_validate(raw)).verdict is not Verdict.WRONG


def test_networks_once_called_wrong_agree(monkeypatch):
    add_rows(monkeypatch)
    verdicts = [
        check(
            spec_of((8, "log_softmax"), (5, "log_softmax"), inputs=6, samples=16, seed=seed, dtype="float32")
        ).verdict
        for seed in range(60)
    ]
    assert verdicts == [Verdict.AGREES] * 60


@pytest.mark.parametrize("name", NEW_ACTIVATIONS)
def test_a_mistake_in_a_new_row_is_wrong(monkeypatch, tmp_path, name):
    add_rows(monkeypatch)
    layers = (8, name), (5, "identity")
    problem = problem_of(*layers, dtype="float32")
    wrong = right_gradients(problem)
    largest = np.abs(wrong["hidden1.weight"]).argmax()  # others may be 0, as a unit of relu6 may be off
    wrong["hidden1.weight"].flat[largest] *= 1.001
    np.savez(tmp_path / "g.npz", **{key: value.astype(FLOAT32) for key, value in wrong.items()})
    report = check(spec_of(*layers, dtype="float32", gradients={"file": tmp_path / "g.npz"}))
    assert report.verdict is Verdict.WRONG


def test_a_bound_that_would_be_negative_is_a_defect(monkeypatch):
    class Negative(LossRounding):
        def gradient(self, *args):
            return -np.ones_like(args[1])

    monkeypatch.setitem(LOSSES, "mse", replace(LOSSES["mse"], rounding=Negative()))
    problem = problem_of((3, "tanh"), (2, "tanh"))
    at = (problem.network, problem.parameters, problem.x, problem.target)
    with pytest.raises(AssertionError, match="rounding bound is negative"):
        gradient_rounding(*at, Arithmetic.of(FLOAT32))
