"""Rises of the losses: exact to within their bounds, with the same kinks as literal evaluations."""

from __future__ import annotations

from contextlib import suppress
from zlib import crc32

import numpy as np
import pytest
from build import problem_of, units_of
from shares import pairs

from gradcheck_cli import InputError
from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.losses import LOSSES
from gradcheck_cli.numerical.estimate import differentiate
from gradcheck_cli.numerical.objective import can_rise
from gradcheck_cli.numerical.schemes import SCHEMES
from gradcheck_cli.numerical.slopes import RISE, slopes_by_rises
from gradcheck_cli.types import EPS

WITH_RISES = [name for name, row in ACTIVATIONS.items() if row.rise]
LOSSES_WITH_RISES = [name for name, row in LOSSES.items() if row.rise]
SPECIAL = np.longdouble(1e-30)
STEP = 2.0**-9

needs_wide_floats = pytest.mark.skipif(
    np.finfo(np.longdouble).eps > EPS / 1000, reason="longdouble is no wider than float64"
)


def network(rng, activation, loss, depth, scale, spread):
    """Return a problem with random widths, weights of the given scale, and inputs of the given spread."""
    top = "identity" if LOSSES[loss].applies or LOSSES[loss].unbounded else activation
    layers = [(int(rng.choice([3, 8, 30])), activation) for _ in range(depth)] + [(3, top)]
    seed = int(rng.integers(2**31))
    parameters = {"init": "normal", "scale": scale, "seed": seed, "bias": "same"}
    data = {"synthetic": "normal", "samples": 5, "seed": seed, "scale": spread}
    return problem_of(*layers, loss=loss, parameters=parameters, data=data)


def finite_network(rng, activation, loss):
    """Return a problem whose weights, inputs and depth vary widely, and whose loss is finite."""
    while True:
        scale, spread = 10.0 ** rng.uniform(-1.5, 0.3), 10.0 ** rng.uniform(-2.0, 1.0)
        with suppress(InputError):
            return network(rng, activation, loss, int(rng.integers(1, 4)), scale, spread)


def seed_of(*names):
    return crc32(" ".join(names).encode())


def exact_slopes(units):
    """Return the slopes of a network in wide floats by the complex step, which has no truncation error."""
    with np.errstate(all="ignore"):
        to = units.position.astype(np.clongdouble) + 1j * SPECIAL
        return units.move(np.arange(len(to)), to).losses.imag / SPECIAL


@needs_wide_floats
@pytest.mark.parametrize(("activation", "loss"), pairs(WITH_RISES, LOSSES_WITH_RISES))
def test_slopes_from_rises_are_as_exact_as_their_bounds_say(activation, loss):
    problem = finite_network(np.random.default_rng(seed_of(activation, loss)), activation, loss)
    for layer in ("hidden1", "output"):
        units, wide = (units_of(each, layer) for each in (problem.objective, problem.objective.widest))
        assert can_rise(units)
        slopes, exact = slopes_by_rises(units, np.arange(len(units.position))), exact_slopes(wide)
        known = np.isfinite(slopes.value) & ~slopes.crossed
        off = np.abs(slopes.value - exact)[known].astype(float)
        assert (off <= slopes.noise[known]).all()


@pytest.mark.parametrize(("activation", "loss"), pairs(WITH_RISES, LOSSES_WITH_RISES))
def test_rises_are_differences_of_losses(activation, loss):
    """Losses are evaluated by other code, with the functions themselves."""
    problem = network(np.random.default_rng(seed_of(activation, loss)), activation, loss, 2, 0.5, 1.0)
    for layer in ("hidden1", "hidden2", "output"):
        units = units_of(problem.objective, layer)
        for which in (np.arange(len(units.position)), np.arange(0, len(units.position), 3)):
            by = STEP * (-1.0) ** which
            risen, moved = units.rise(which, by), units.move(which, units.position[which] + by)
            rest = problem.objective.losses[which % len(problem.target)]
            np.testing.assert_array_equal(risen.crossed, moved.crossed)
            same, rise = ~moved.crossed, moved.losses - rest
            scale = 1.0 + np.abs(rest).max()
            np.testing.assert_allclose(risen.losses[same], rise[same], rtol=1e-6, atol=1e-11 * scale)


def test_a_step_over_a_kink_is_reported():
    problem = problem_of((6, "relu"), (5, "relu"), (3, "identity"), loss="cross_entropy", samples=9)
    units = units_of(problem.objective, "hidden1")
    which = np.arange(len(units.position))
    over = units.rise(which, -1.000001 * units.position)
    assert over.crossed.all()
    short = units.rise(which, np.full(len(which), RISE))
    assert not short.crossed.any()


def test_a_unit_that_is_off_has_a_slope_of_exactly_0():
    problem = problem_of((6, "relu"), (3, "identity"), samples=9)
    units = units_of(problem.objective, "hidden1")
    slopes = slopes_by_rises(units, np.flatnonzero(units.position < -0.1))
    np.testing.assert_array_equal(slopes.value, 0.0)
    np.testing.assert_array_equal(slopes.noise, 0.0)


@pytest.mark.parametrize(
    ("layers", "loss"),
    [
        ([(5, "tanh"), (3, "identity")], "cosine"),
        ([{"units": 4, "activation": "tanh", "batch_norm": True}, (3, "identity")], "mse"),
    ],
)
def test_a_network_with_a_function_that_has_no_rise_is_differenced_as_before(layers, loss):
    problem = problem_of(*layers, loss=loss, samples=7)
    assert not can_rise(units_of(problem.objective, "hidden1"))


class Lying:
    """Units whose rises are off by a factor, as they would be if a formula for a rise were wrong."""

    rest, exact = None, True

    def __init__(self, units, factor):
        self.units, self.factor = units, factor
        self.position, self.unit, self.batch, self.spread = (
            units.position,
            units.unit,
            units.batch,
            units.spread,
        )
        self.move = units.move

    def rise(self, which, by):
        risen = self.units.rise(which, by)
        return risen._replace(losses=self.factor * risen.losses)


def test_the_whole_ladder_challenges_wrong_rises():
    problem = problem_of((5, "tanh"), (3, "sigmoid"), samples=5)
    units = units_of(problem.objective, "hidden1")
    right = differentiate(units, SCHEMES["adaptive"])
    wrong = differentiate(Lying(units, 1.001), SCHEMES["adaptive"])
    assert (np.abs(wrong.value - right.value) <= 3.0 * wrong.error).all()
    assert (right.error < 1e-9 * np.abs(right.value)).all()
