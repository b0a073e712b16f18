from __future__ import annotations

import numpy as np
import pytest
from build import problem_of, right_gradients
from shares import pairs

from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.factors import Channels, Rows
from gradcheck_cli.network.losses import LOSSES
from gradcheck_cli.numerical.estimate import Estimate
from gradcheck_cli.numerical.reference import LiteralDifferences, UnitDifferences, assembled
from gradcheck_cli.numerical.schemes import SCHEMES

ADAPTIVE = SCHEMES["adaptive"]


def entry_sums(pairs: Estimate, a: np.ndarray) -> Estimate:
    """What pairs (units, N) make of the entries of a weight whose inputs are a (N, in)."""
    units = len(pairs.value)
    return assembled([(Rows(a[None], Channels((units,)), (units, a.shape[1])), pairs)])


def whole_ladder(reference, names):
    """Return estimates with every rung for every entry."""
    estimates = reference.estimate(names)
    everything = {name: np.full(estimate.value.shape, True) for name, estimate in estimates.items()}
    return reference.refine(estimates, everything)


@pytest.mark.parametrize(("activation", "loss"), pairs(list(ACTIVATIONS), list(LOSSES)))
def test_unit_differences_agree_with_literal_ones_on_every_entry(activation, loss):
    problem = problem_of(
        (4, activation),
        (3, activation),
        (3, activation),
        loss=loss,
        penalty={"l1": 0.01, "l2": 0.1},
        samples=4,
    )
    names = problem.checked
    units = whole_ladder(UnitDifferences(problem.objective, ADAPTIVE), names)
    literal = whole_ladder(LiteralDifferences(problem.objective, ADAPTIVE), names)
    compared = 0
    for name in names:
        gap = np.abs(units[name].value - literal[name].value)
        allowed = 3 * (units[name].error + literal[name].error) + 1e-10 * np.abs(literal[name].value)
        both = np.isfinite(units[name].error) & np.isfinite(literal[name].error)
        assert (gap[both] <= allowed[both]).all(), name
        compared += np.count_nonzero(both)
    assert compared > 0.8 * sum(np.prod(problem.network.shapes[name]) for name in names)


@pytest.mark.parametrize("way", [UnitDifferences, LiteralDifferences])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_error_bars_hold_the_right_gradient_for_every_scheme(way, scheme):
    problem = problem_of((5, "tanh"), (4, "softmax"), (3, "identity"), loss="cross_entropy")
    right = right_gradients(problem)
    estimates = whole_ladder(way(problem.objective, SCHEMES[scheme]), problem.checked)
    for name, estimate in estimates.items():
        gap = np.abs(estimate.value - right[name])
        assert (gap <= 3 * estimate.error + 1e-15).all(), name
        assert (estimate.error < 1e-6).all(), name


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_badly_scaled_inputs_need_no_special_step(scale):
    problem = problem_of(
        (5, "sigmoid"),
        (3, "sigmoid"),
        data={"synthetic": "normal", "samples": 6, "scale": scale, "seed": 1},
        parameters={"init": "normal", "scale": 1.0 / max(scale, 1.0), "seed": 1},
    )
    right = right_gradients(problem)
    estimates = whole_ladder(UnitDifferences(problem.objective, ADAPTIVE), problem.checked)
    for name, estimate in estimates.items():
        gap = np.abs(estimate.value - right[name])
        assert (gap <= 3 * estimate.error + 1e-9 * np.abs(right[name])).all(), name
        assert (estimate.error <= 1e-5 * np.abs(right[name]).max()).all(), name


def test_refining_touches_only_the_units_of_undecided_entries():
    problem = problem_of((6, "tanh"), (3, "identity"), loss="cosine", samples=5)  # no rise
    reference = UnitDifferences(problem.objective, ADAPTIVE)
    first = reference.estimate(problem.checked)
    mask = np.zeros((6, 4), dtype=bool)
    mask[2, 1] = True
    refined = reference.refine(first, {"hidden1.weight": mask})
    changed = refined["hidden1.weight"].error != first["hidden1.weight"].error
    assert changed[2].all()
    assert not np.delete(changed, 2, axis=0).any()
    assert refined["output.weight"] is first["output.weight"]
    assert (refined["hidden1.weight"].error[2] < first["hidden1.weight"].error[2]).all()


@pytest.mark.parametrize(("loss", "steps"), [("mse", 1), ("cosine", 2)])  # cosine has no rise
def test_evaluations_are_counted_in_units_not_entries(loss, steps):
    class Tally:
        done = 0

        def expect(self, evaluations):
            pass

        def advance(self, evaluations):
            self.done += evaluations

    problem = problem_of((7, "tanh"), (3, "sigmoid"), inputs=50, samples=5, loss=loss)
    tally = Tally()
    UnitDifferences(problem.objective, ADAPTIVE, progress=tally).estimate(problem.checked)
    assert tally.done == steps * 2 * 5 * (7 + 3)  # steps, 2 sides, N, units; the 50 inputs are free


def test_entry_sums_are_the_sums_over_the_samples():
    rng = np.random.default_rng(0)
    d, u, a = rng.normal(size=(3, 5)), np.full((3, 5), 1e-3), rng.normal(size=(5, 4))
    estimate = entry_sums(Estimate(d, u), a)
    np.testing.assert_allclose(estimate.value, np.einsum("jn,nk->jk", d, a))
    np.testing.assert_allclose(estimate.error, 2e-3 * np.sqrt(np.einsum("jn,nk->jk", d**0, a**2)), rtol=1e-9)


def test_an_unknown_pair_leaves_only_the_entries_that_it_feeds_unknown():
    d, u = np.ones((3, 2)), np.full((3, 2), 1e-9)
    d[2, 1], u[2, 1] = np.nan, np.inf
    a = np.array([[1.0, 2.0], [0.0, 3.0]])
    estimate = entry_sums(Estimate(d, u), a)
    unknown = np.zeros((3, 2), dtype=bool)
    unknown[2, 1] = True  # sample 1 reaches unit 2 only through input 1
    np.testing.assert_array_equal(np.isnan(estimate.value), unknown)
    np.testing.assert_array_equal(np.isinf(estimate.error), unknown)


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_errors_of_extreme_numbers_neither_vanish_nor_overflow(size):
    estimate = entry_sums(
        Estimate(np.full((1, 3), size), np.full((1, 3), 1e-10 * size)), np.full((3, 2), 0.5)
    )
    np.testing.assert_allclose(estimate.error, np.sqrt(3) * 1e-10 * size, rtol=1e-6)


def test_the_numerical_side_never_asks_for_a_derivative(monkeypatch):
    """Forbid every derivative in the tables, and compute differences all the same."""

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a derivative was asked for")

    problem = problem_of((4, "gelu"), (4, "softmax"), (3, "relu"), loss="huber", penalty={"l1": 0.1})
    for layer in problem.network.layers:
        monkeypatch.setitem(vars(layer.activation), "derivative", forbidden)  # frozen, so set it in the dict
        monkeypatch.setattr(type(layer.activation), "vjp", forbidden)
    monkeypatch.setitem(vars(problem.network.loss), "gradient", forbidden)
    for way in (UnitDifferences, LiteralDifferences):
        estimates = whole_ladder(way(problem.objective, ADAPTIVE), problem.checked)
        assert all(np.isfinite(estimate.value).any() for estimate in estimates.values())
