"""Loose bounds on the rounding of slopes are scaled down to what a few slopes show, with room to spare."""

from __future__ import annotations

import numpy as np
import pytest
from build import spec_of

from gradcheck_cli.moving import observed_rounding as module
from gradcheck_cli.moving.at_rest import AtRest
from gradcheck_cli.moving.errors_at_rest import in_wide_floats
from gradcheck_cli.moving.observed_rounding import observed_share
from gradcheck_cli.moving.part_rises import PartRises
from gradcheck_cli.moving.rise_rounding import RiseRounding
from gradcheck_cli.numerical.objective import can_rise
from gradcheck_cli.numerical.slopes import slopes_by_rises
from gradcheck_cli.problem.problem import build_problem
from gradcheck_cli.types import EPS

pytestmark = pytest.mark.skipif(
    np.finfo(np.longdouble).eps > EPS / 1000, reason="longdouble is no wider than float64"
)

ATTENTION = {"residual": ["layer_norm", {"attention": 2}]}
MLP = {"residual": ["layer_norm", {"units": 16, "activation": "gelu"}, {"units": 8}]}
NETWORKS = {
    "two blocks": ([{"units": 8}, *[ATTENTION, MLP] * 2, {"mean": True, "dim": 0}], [4, 3]),
    "four blocks": ([{"units": 8}, *[ATTENTION, MLP] * 4, {"mean": True, "dim": 0}], [4, 3]),
    "many dense layers": ([{"units": 12, "activation": "tanh"}] * 8, [6]),
    "many relu layers": ([{"units": 12, "activation": "relu"}] * 8, [6]),
    "lstm": ([{"lstm": 6}, {"select": -1}], [7, 3]),
}


def spec(name, seed=0):
    layers, inputs = NETWORKS[name]
    return spec_of(*layers, {"units": 3}, inputs=inputs, loss="cross_entropy", samples=5, seed=seed)


def sites(objective):
    return sorted({use.site for name in objective.shapes for use in objective.uses(name)})


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", NETWORKS)
def test_slopes_are_as_exact_as_scaled_bounds_say(name, seed, monkeypatch):
    monkeypatch.setattr(module, "_LOOSE", 0.0)
    monkeypatch.setattr(module, "_TIGHT", 0.0)
    objective = build_problem(spec(name, seed)).objective
    wide = in_wide_floats(objective)
    for site in sites(objective):
        units = objective.units(site)
        assert can_rise(units)
        which = np.arange(seed, len(units.position), 7)
        slopes = slopes_by_rises(units, which)
        features, samples = np.divmod(which, len(objective.target))
        values = wide.values[site][samples].astype(np.clongdouble)
        position = np.unravel_index(features, values.shape[1:])
        values[(np.arange(len(which)), *position)] += 1e-30j
        moved = wide.above(site, values, samples, np.zeros_like(objective.output))
        off = np.abs(slopes.value - moved.losses.imag / np.longdouble(1e-30))
        assert (off <= slopes.noise)[~slopes.crossed].all()


def test_loose_bounds_are_scaled_down_and_tight_ones_are_kept():
    objective = build_problem(spec("four blocks")).objective
    first, *_, last = sites(objective)
    rounding = RiseRounding(objective)
    assert observed_share(PartRises(objective, first, rounding)) < 1e-2
    assert observed_share(PartRises(objective, last, rounding)) == 1.0


def test_slopes_of_0_tell_nothing(monkeypatch):
    monkeypatch.setattr(module, "_LOOSE", 0.0)
    monkeypatch.setattr(module, "_TIGHT", 0.0)
    problem = build_problem(spec("many relu layers"))
    problem.objective.parameters["hidden8.bias"][:] = -100.0
    objective = AtRest(problem.network, problem.objective.parameters, problem.x, problem.target)
    assert observed_share(PartRises(objective, 1, RiseRounding(objective))) == 1.0


def test_without_wide_floats_bounds_are_kept(monkeypatch):
    monkeypatch.setattr(RiseRounding, "wide", None)
    objective = build_problem(spec("four blocks")).objective
    assert observed_share(PartRises(objective, sites(objective)[0], RiseRounding(objective))) == 1.0


def test_error_bars_stay_small_below_many_layers():
    objective = build_problem(spec("four blocks")).objective
    units = objective.units(sites(objective)[0])
    slopes = slopes_by_rises(units, np.arange(len(units.position)))
    assert slopes.noise.max() < 1e-8 * np.abs(slopes.value).max()
