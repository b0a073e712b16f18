"""Evaluating only the parts that a perturbed number changes gives the same losses as whole samples."""

from __future__ import annotations

import numpy as np
import pytest
from build import spec_of
from layer_kinds import KINDS, SAMPLES

from gradcheck_cli.moving.entry_moves import ChannelEntryMoves, EntryMoves
from gradcheck_cli.moving.movables import UnitMoves
from gradcheck_cli.moving.part_moves import PartMoves
from gradcheck_cli.problem.problem import build_problem
from tests.network.step_kinds import Draw

IMAGES = [{"conv2d": 2, "kernel": 3, "activation": "relu"}, {"max_pool2d": 2}, {"conv2d": 2, "kernel": 2}]
SEQUENCES = {
    "lstm": ([{"lstm": 3, "bidirectional": True}, {"units": 3}], [3, 2]),
    "gru": ([{"gru": 3, "num_layers": 2}, {"select": -1}, {"units": 3}], [3, 2]),
    "attention": ([{"residual": ["layer_norm", {"attention": 2, "causal": True}]}, {"units": 3}], [3, 4]),
    "grouped attention": ([{"attention": 2, "kv_heads": 1}, {"mean": True, "dim": 0}, {"units": 3}], [3, 4]),
    "swiglu": ([{"residual": [{"swiglu": 3}]}, {"units": 3}], [3, 2]),
    "positions with kinks": ([{"units": 4, "activation": "relu"}, "layer_norm", {"units": 3}], [3, 2]),
    "an axis of one added": ([{"units": 4}, {"reshape": [4, 1]}, {"units": 2}], [3]),
    "images with kinks": ([*IMAGES, "flatten", {"units": 3}], [1, 6, 6]),
}


def spec(kind, seed):
    if kind in KINDS:
        return KINDS[kind](Draw(seed)).spec(seed)
    layers, inputs = SEQUENCES[kind]
    return spec_of(*layers, inputs=inputs, loss="cross_entropy", samples=SAMPLES, seed=seed)


@pytest.mark.parametrize("kind", [*KINDS, *SEQUENCES])
@pytest.mark.parametrize("seed", range(2))
def test_the_losses_are_those_of_whole_samples(kind, seed):
    objective = build_problem(spec(kind, seed)).objective
    rng = np.random.default_rng(seed)
    for site in {use.site for name in objective.shapes for use in objective.uses(name)}:
        moves = objective.units(site)
        if not isinstance(moves, UnitMoves) or not moves._parts.plain:
            continue
        parts = moves._parts
        which = rng.integers(0, len(moves.position), 9)
        features, samples = np.divmod(which, SAMPLES)
        for step in (0.25, 1e-3):
            to = moves.position[which] + step * moves.unit[which]
            quick = parts.move(samples, features, to)
            whole = moves._move_whole(samples, features, to)
            np.testing.assert_allclose(quick.losses, whole.losses, rtol=1e-12, atol=1e-14)
            at_rest = moves._move_whole(samples, features, moves.position[which])
            assert is_either(quick.rounding, whole.rounding, at_rest.rounding).all()
            np.testing.assert_array_equal(quick.crossed, whole.crossed)


def is_either(rounding, whole, at_rest):
    """Whether a bound is that of the perturbed loss or, if the outputs hardly change, of the loss at rest."""
    return np.isclose(rounding, whole, rtol=1e-3, atol=0.0) | np.isclose(
        rounding, at_rest, rtol=1e-3, atol=0.0
    )


@pytest.mark.parametrize("kind", [*KINDS, *SEQUENCES])
def test_entries_by_parts_give_the_losses_of_whole_samples(kind):
    objective = build_problem(spec(kind, 3)).objective
    rng = np.random.default_rng(3)
    for name in objective.shapes:
        moves = objective.entries(name)
        if not isinstance(moves, ChannelEntryMoves):
            continue
        which = rng.integers(0, len(moves.position), 3)
        for step in (0.25, 1e-3):
            to = moves.position[which] + step * moves.unit[which]
            whole = EntryMoves(objective, moves.at, moves.near, moves.own)._move_far(which, to)
            quick = moves._move_far(which, to)
            np.testing.assert_allclose(quick.losses, whole.losses, rtol=1e-12, atol=1e-14)
            at_rest = moves._move_far(which, moves.position[which])
            assert is_either(quick.rounding, whole.rounding, at_rest.rounding).all()
            np.testing.assert_array_equal(quick.crossed, whole.crossed)


def test_entries_that_confirm_unit_differences_evaluate_whole_samples():
    objective = build_problem(spec("images with kinks", 0)).objective
    kinds = {name: type(objective.entries(name)) for name in objective.shapes}
    assert any(kinds[name] is ChannelEntryMoves for name in kinds if objective.literally(name))
    assert all(kinds[name] is not ChannelEntryMoves for name in kinds if not objective.literally(name))


def widest(kind, layer):
    """The most numbers that one perturbed number of a layer's output changes in any value above."""
    objective = build_problem(spec(kind, 0)).objective
    (site, _), *_ = objective.uses(layer)
    return PartMoves(objective, site, objective.units(site)._row_rounding).widest


def test_a_number_changes_its_own_row_alone():
    assert widest("attention", "output.weight") == 1
    assert widest("attention", "attention1.in_proj_weight") == 3


def test_affine_steps_at_the_end_are_not_evaluated():
    assert widest("attention", "attention1.out_proj.weight") == 1  # a mean over tokens, or a sum, and dense
    assert widest("images with kinks", "hidden2.weight") == 1  # flatten and dense


def test_a_long_step_is_evaluated_by_parts(monkeypatch):
    objective = build_problem(spec("lstm", 0)).objective
    taken = []
    monkeypatch.setattr(PartMoves, "move", lambda *arguments: taken.append(arguments) or objective_moved)
    objective_moved = objective.units(1)._move_whole(*np.zeros((2, 1), dtype=int), np.zeros(1))
    moves = objective.units(objective.uses("lstm1.weight_hh_l0")[0].site)
    moves.move(np.array([0]), moves.position[:1] + 0.25)
    assert taken
