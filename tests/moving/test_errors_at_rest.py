"""Errors of the values at rest: measured in wider floats if the carried bounds are loose."""

from __future__ import annotations

import numpy as np
import pytest
from build import spec_of

from gradcheck_cli.moving import errors_at_rest as module
from gradcheck_cli.moving.errors_at_rest import errors_at_rest
from gradcheck_cli.network.arithmetic import NUDGED
from gradcheck_cli.numerical.objective import can_rise
from gradcheck_cli.numerical.slopes import slopes_by_rises
from gradcheck_cli.problem.problem import build_problem
from gradcheck_cli.types import EPS

NORMS = ["layer_norm", "rms_norm"]

pytestmark = pytest.mark.skipif(
    np.finfo(np.longdouble).eps > EPS / 1000, reason="longdouble is no wider than float64"
)


def block(norm, seed=0, activation="gelu"):
    """Return the objective of a transformer block, whose carried bounds are thousands of units."""
    mlp = [norm, {"units": 12, "activation": activation}, {"units": 6}]
    attention, mean = {"residual": [norm, {"attention": 2}]}, {"mean": True, "dim": 0}
    layers = [{"units": 6}, attention, {"residual": mlp}, mean, {"units": 3}]
    spec = spec_of(*layers, inputs=[4, 5], loss="cross_entropy", samples=5, seed=seed)
    return build_problem(spec).objective


def carried(objective):
    return [each / NUDGED.eps for each in objective.nudged_errors]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(3))
def test_slopes_are_as_exact_as_measured_errors_say(norm, seed, monkeypatch):
    monkeypatch.setattr(module, "_LOOSE", 0.0)
    objective = block(norm, seed, ["gelu", "silu", "tanh"][seed])
    for site in {use.site for name in objective.shapes for use in objective.uses(name)}:
        units, wide = objective.units(site), objective.widest.units(site)
        assert can_rise(units)
        which = np.arange(seed, len(units.position), 5)
        slopes = slopes_by_rises(units, which)
        to = wide.position.astype(np.clongdouble) + 1j * np.longdouble(1e-30)
        exact = wide.move(which, to[which]).losses.imag / np.longdouble(1e-30)
        assert (np.abs(slopes.value - exact) <= slopes.noise).all()
        assert slopes.noise.max() < 1e-9 * np.abs(slopes.value).max()


def test_measured_errors_are_far_below_carried_ones(monkeypatch):
    objective = block("layer_norm")
    monkeypatch.setattr(module, "_LOOSE", 0.0)
    for measured, bound in zip(errors_at_rest(objective), carried(objective), strict=True):
        assert (measured <= bound).all()
    assert measured.max() < 30.0 < 1000.0 < bound.max()


@pytest.mark.parametrize(("limit", "at"), [("_LOOSE", np.inf), ("_MOST_WIDE", 0)])
def test_errors_are_carried_where_measuring_does_not_pay(limit, at, monkeypatch):
    monkeypatch.setattr(module, "_LOOSE", 0.0)
    monkeypatch.setattr(module, limit, at)
    objective = block("rms_norm")
    for found, bound in zip(errors_at_rest(objective), carried(objective), strict=True):
        np.testing.assert_array_equal(found, bound)
