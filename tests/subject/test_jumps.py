"""Losses that jump, and losses that stay the same: what the report says about them."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck_cli import check_gradients
from gradcheck_cli.testing import UndecidedGradientError, WrongGradientError


def notes_of_undecided(f, at):
    with pytest.raises(UndecidedGradientError) as caught:
        check_gradients(f, at)
    return caught.value.report


@pytest.mark.parametrize("at", [2.0, -3.0])
def test_a_jump_at_the_value_of_an_entry_is_no_kink(at):
    report = notes_of_undecided(lambda w: ((np.floor(w) + w**2).sum(), 2 * w), np.array([at, 0.3]))
    assert "the loss jumps at the value of parameters[0], so it has no derivative there" in report.unusual
    assert not report.kinks


def routed():
    """Return a function whose samples each go through the part with the largest score, and its inputs."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(10, 4)), rng.normal(size=10)
    point = {"gate": rng.normal(size=(4, 3)), "parts": rng.normal(size=(3, 4))}

    def f(p):
        part = (x @ p["gate"]).argmax(axis=1)
        off = (x * p["parts"][part]).sum(axis=1) - y
        parts = np.zeros((3, 4))
        np.add.at(parts, part, off[:, None] * x)
        return 0.5 * off**2, {"gate": np.zeros((4, 3)), "parts": parts}

    return f, point


def test_a_gradient_of_0_behind_an_argmax_is_not_called_a_straight_through_gradient():
    report = notes_of_undecided(*routed())
    (note,) = report.unusual
    assert note.startswith("the loss is a staircase in gate, whose gradient is 0")


def test_jumps_near_the_parameters_are_mentioned_if_they_leave_entries_undecided():
    at = np.random.default_rng(0).normal(size=5)
    report = notes_of_undecided(lambda w: ((w**2 + 0.05 * np.floor(40 * w)).sum(), 2 * w), at)
    (note,) = report.unusual
    assert note.startswith("the loss jumps if parameters changes")


def test_many_kinks_near_the_parameters_are_not_called_jumps():
    table = np.sin(np.linspace(0.0, 6.0, 2001))

    def interpolated(w):
        low = (w / 6.0 * 2000.0).astype(int)
        share, slope = w / 6.0 * 2000.0 - low, table[low + 1] - table[low]
        return (table[low] + share * slope).sum(), slope * 2000.0 / 6.0

    at = np.random.default_rng(11).uniform(0.5, 5.0, 6)
    report = check_gradients(interpolated, at, allow_undecided=True)
    assert not any("the loss jumps" in note for note in report.unusual)


def test_a_gradient_of_0_that_tests_nothing_gets_no_note_on_jumps():
    report = notes_of_undecided(lambda w: (0.0 * w.sum(), np.zeros(3)), np.array([0.3, 1.2, -0.7]))
    assert report.unusual == ()


def cached():
    kept = {}
    return lambda w: (kept.setdefault(w.shape, (w**2).sum()), 2 * w)


@pytest.mark.parametrize("at", [np.linspace(0.5, 2.0, 6), np.zeros(3)], ids=["numbers", "zeros"])
def test_a_loss_from_a_cache_is_called_constant(at):
    f = cached()
    with pytest.raises(WrongGradientError, match=r"kept\s+from\s+an\s+earlier\s+call"):
        check_gradients(lambda w: (f(w)[0], 2 * w + 1), at)


def test_a_clipped_loss_is_not_called_constant():
    with pytest.raises(WrongGradientError) as caught:
        check_gradients(lambda w: (np.minimum(w, 1.0).sum(), np.ones(3)), np.array([1.5, 1.6, 1.7]))
    assert "any parameters" not in str(caught.value)
