from __future__ import annotations

import numpy as np
import pytest

from gradcheck_cli import Verdict
from gradcheck_cli.numerical.schemes import SCHEMES, plain_schemes
from gradcheck_cli.sweep.curve import Branch, Curve, Point, curve_of
from gradcheck_cli.sweep.sweep import STEPS

NOISE = 1e-16
BOUND = 100.0
"""Ratio of the rounding bound to the actual rounding."""


def curve(order: float, expected: int, off: float = 0.0, kinked: float = np.inf, seed: int = 0) -> Curve:
    """Return the curve of a gradient that is off by `off`, with truncation error hᵒʳᵈᵉʳ / 3.

    kinks: the step from which on kinks are crossed.
    """
    rng = np.random.default_rng(seed)
    measured = []
    for h in STEPS:
        noise = NOISE / h
        error = np.hypot(h**order / 3, noise * abs(rng.normal(1.0, 0.3))) + (0.1 * h if h >= kinked else 0.0)
        measured.append(Point(h, float(np.hypot(error, off)), BOUND * noise, int(h >= kinked)))
    return curve_of("central", expected, measured, 1e-6)


@pytest.mark.parametrize("order", sorted({SCHEMES[name].order for name in plain_schemes()}))
@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_a_right_gradient_is_found(order, seed):
    found = curve(order, order, seed=seed)
    assert found.order == pytest.approx(order, abs=0.1)
    assert (found.flat, found.verdict) == (None, Verdict.AGREES)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_truncation_comes_first_and_noise_after_the_best_step(order):
    found = curve(order, order)
    branches = [point.branch for point in found.points]
    turn = branches.index(Branch.NOISE)
    assert branches == [Branch.TRUNCATION] * turn + [Branch.NOISE] * (len(branches) - turn)
    assert found.best is not None
    assert abs(np.log2(found.best.step / found.points[turn].step)) <= 3


@pytest.mark.parametrize("off", [0.9, 0.1, 1e-3, 1e-5])
def test_the_error_of_a_wrong_gradient_levels_off(off):
    found = curve(2, 2, off)
    assert found.flat == pytest.approx(off, rel=0.1)
    assert found.verdict is Verdict.WRONG
    assert {point.branch for point in found.points} >= {Branch.FLAT, Branch.NOISE}


def test_a_level_within_tolerance_is_not_a_mistake_and_the_order_above_it_counts():
    found = curve(2, 2, off=1e-7)
    assert found.flat == pytest.approx(1e-7, rel=0.1)
    assert found.order == pytest.approx(2, abs=0.1)
    assert found.verdict is Verdict.AGREES


def test_a_higher_order_is_not_a_fault():
    assert curve(3, 2).verdict is Verdict.AGREES


def test_a_lower_order_cannot_be_distinguished_from_an_unseen_kink():
    found = curve(1, 2)
    assert found.order == pytest.approx(1, abs=0.1)
    assert found.verdict is Verdict.UNRESOLVED


def test_pure_noise_is_undecided():
    found = curve(60, 2)  # 2⁻⁶⁰ is a negligible truncation error
    assert (found.order, found.flat, found.verdict) == (None, None, Verdict.UNRESOLVED)
    assert len(found.on(Branch.TRUNCATION)) < 4


def test_steps_that_cross_kinks_are_left_out():
    found = curve(1, 1, kinked=2.0**-8)
    assert [point.step for point in found.on(Branch.KINK)] == [2.0**-k for k in range(9)]
    assert found.order == pytest.approx(1, abs=0.1)


def test_kinks_at_every_useful_step_leave_the_order_open():
    found = curve(2, 2, kinked=2.0**-16)
    assert (found.order, found.verdict) == (None, Verdict.UNRESOLVED)


def test_where_small_steps_change_nothing_the_error_of_1_is_noise():
    """Code that computes in float32 inside behaves like this."""
    measured = [Point(h, float(h**2 / 3 + 1e-7 / h if h > 1e-7 else 1.0), BOUND * 1e-7 / h, 0) for h in STEPS]
    found = curve_of("central", 2, measured, 1e-6)
    assert (found.flat, found.verdict) == (None, Verdict.AGREES)


@pytest.mark.parametrize("error", [np.nan, np.inf])
def test_without_usable_errors_there_is_no_best_step(error):
    found = curve_of("central", 2, [Point(h, error, 1e-10, 0) for h in STEPS], 1e-6)
    assert (found.best, found.verdict) == (None, Verdict.UNRESOLVED)


def test_zeros_are_noise():
    found = curve_of("central", 2, [Point(h, 0.0, 0.0, 0) for h in STEPS], 1e-6)
    assert {point.branch for point in found.points} == {Branch.NOISE}
    assert found.verdict is Verdict.UNRESOLVED
