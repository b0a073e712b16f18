"""Errors of the values at rest: measured in wider floats if the carried bounds are loose."""

from __future__ import annotations

import numpy as np
import pytest
from build import spec_of

from gradcheck_cli.moving import errors_at_rest as module
from gradcheck_cli.moving.errors_at_rest import carried_errors, in_wide_floats, measured_errors
from gradcheck_cli.moving.rise_rounding import RiseRounding
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


def test_measured_errors_are_far_below_carried_ones():
    objective = block("layer_norm")
    carried = carried_errors(objective)
    found = measured_errors(objective, in_wide_floats(objective), carried)
    for measured, bound in zip(found, carried, strict=True):
        assert (measured <= bound).all()
    assert found[-1].max() < 30.0 < 1000.0 < carried[-1].max()


def test_loose_bounds_are_measured_and_tight_ones_are_not(monkeypatch):
    for loose, kind in ((0.0, np.less), (np.inf, np.equal)):
        monkeypatch.setattr(module, "_LOOSE", loose)
        objective = block("rms_norm")
        for found, bound in zip(RiseRounding(objective)._errors, carried_errors(objective), strict=True):
            assert (kind(found, bound) | (bound == 0.0)).all()


def test_a_forward_pass_that_takes_too_long_in_wide_floats_is_left_out(monkeypatch):
    assert in_wide_floats(block("rms_norm")) is not None
    monkeypatch.setattr(module, "_MOST_WIDE", 0)
    assert in_wide_floats(block("rms_norm")) is None
