"""Rises by parts, as through convolutions: exact to within their bounds, with the kinks of literal ones."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from build import spec_of
from layer_kinds import KINDS, SAMPLES

from gradcheck_cli.moving.entry_moves import EntryMoves
from gradcheck_cli.moving.rising_entries import RisingEntries
from gradcheck_cli.moving.rising_units import RisingPartUnits
from gradcheck_cli.numerical.objective import can_rise
from gradcheck_cli.numerical.slopes import RISE, slopes_by_rises
from gradcheck_cli.problem.problem import build_problem
from gradcheck_cli.types import EPS
from tests.network.step_kinds import Draw

needs_wide_floats = pytest.mark.skipif(
    np.finfo(np.longdouble).eps > EPS / 1000, reason="longdouble is no wider than float64"
)


def conv(channels, activation="tanh", **options):
    return {"conv2d": channels, "kernel": 3, "padding": 1, "activation": activation, **options}


NETWORKS = {
    "lenet": ([conv(2), {"avg_pool2d": 2}, conv(3), {"avg_pool2d": 2}], [1, 8, 8]),
    "three convolutions": ([conv(2), conv(2, "sigmoid"), conv(3, "silu"), {"avg_pool2d": 3}], [1, 6, 6]),
    "kinks": ([conv(2, "relu"), conv(3, "leaky_relu"), conv(2, "elu"), {"avg_pool2d": 2}], [1, 4, 4]),
    "groups and strides": ([conv(4), conv(4, groups=2, stride=2), conv(4, groups=4)], [2, 5, 5]),
    "residual": ([conv(2), {"residual": [conv(2), conv(2, "softplus")]}, {"avg_pool2d": 2}], [1, 4, 4]),
    "max pooling": ([conv(2, "relu"), {"max_pool2d": 2}, conv(3), {"max_pool2d": 2}], [1, 8, 8]),
    "overlapping maxima": (
        [conv(2), {"max_pool2d": 3, "stride": 2, "padding": 1}, "prelu", {"adaptive_max_pool2d": 2}],
        [1, 5, 5],
    ),
    "upsampling": (
        [conv(2), {"conv_transpose2d": 2, "kernel": 2, "stride": 2, "activation": "tanh"}, {"avg_pool2d": 4}],
        [1, 4, 4],
    ),
    "maxout": ([{"maxout": 4, "pieces": 3}, {"units": 3, "activation": "tanh", "weight_norm": True}], [4]),
    "recurrent": ([{"rnn": 4}, {"select": -1}], [3, 2]),
    "lstm": ([{"lstm": 2}, {"select": -1}], [3, 2]),
    "gru": ([{"gru": 2}, {"select": -1}], [3, 2]),
    "attention": ([{"attention": 2}, {"units": 4, "activation": "tanh"}, {"mean": True, "dim": 0}], [3, 4]),
    "softmax between layers": ([conv(2, "softmax"), {"flatten": True}, (4, "softmax")], [1, 4, 4]),
    "positions": ([{"units": 4, "activation": "tanh"}, {"mean": True, "dim": 0}], [3, 2]),
}

WITH_POSITIONS = {
    "outputs after a loop": ([{"rnn": 4}, {"units": 3}], [3, 2]),
    "outputs of single positions": ([{"units": 4, "activation": "tanh"}, (3, "gelu")], [3, 2]),
    "outputs of an image": ([conv(2), conv(3)], [1, 3, 2]),
}
WEIGHTED = {"sample_weight": [0.5, 2.0, 0.0, 3.0, 1.0]}
LOSSES_OF_POSITIONS = {
    "cross_entropy": {},
    "cross_entropy of some": {"ignore_index": 1, "weight": [0.5, 1.0, 2.0], "label_smoothing": 0.1},
    "cross_entropy by weight": {"reduction": "mean", **WEIGHTED},
    "mse": {},
    "bce_with_logits": WEIGHTED,
    "dice": WEIGHTED,
}
OF_POSITIONS = [
    (name, {"name": loss.split()[0], **options})
    for name, (loss, options) in product(WITH_POSITIONS, LOSSES_OF_POSITIONS.items())
    if "image" not in name or loss in ("mse", "dice")
]


def problem(name, seed, loss="cross_entropy"):
    if name in KINDS:
        return build_problem(KINDS[name](Draw(seed)).spec(seed))
    layers, inputs = (NETWORKS | WITH_POSITIONS)[name]
    layers = layers if name in WITH_POSITIONS else [*layers, {"flatten": True}, {"units": 3}]
    return build_problem(spec_of(*layers, inputs=inputs, loss=loss, samples=SAMPLES, seed=seed))


def rising(objective):
    """Yield every movable of an objective, with a function that finds it in another objective."""
    for site in {use.site for name in objective.shapes for use in objective.uses(name)}:
        yield objective.units(site), lambda other, site=site: other.units(site)
    for name in objective.shapes:
        yield objective.quick_entries(name), lambda other, name=name: other.entries(name)


def by_parts(objective):
    kinds = RisingPartUnits | RisingEntries
    return [(moves, same) for moves, same in rising(objective) if isinstance(moves, kinds)]


def exact_slopes(moves):
    """Return slopes in wide floats by the complex step, which has no truncation error."""
    to = moves.position.astype(np.clongdouble) + 1j * np.longdouble(1e-30)
    with np.errstate(all="ignore"):
        losses = moves.move(np.arange(len(to)), to).losses
    return losses.reshape(len(to), -1).sum(axis=1).imag / np.longdouble(1e-30)


@pytest.mark.parametrize("name", [*NETWORKS, *WITH_POSITIONS])
def test_the_rises_of_such_networks_are_known(name):
    assert by_parts(problem(name, 0).objective)


@needs_wide_floats
@pytest.mark.parametrize(
    ("name", "loss"), [*((name, "cross_entropy") for name in (*NETWORKS, *KINDS)), *OF_POSITIONS]
)
def test_slopes_from_rises_are_as_exact_as_their_bounds_say(name, loss):
    objective = problem(name, 1, loss).objective
    for moves, same in by_parts(objective):
        slopes = slopes_by_rises(moves, np.arange(len(moves.position)))
        off = np.abs(slopes.value - exact_slopes(same(objective.widest))).astype(float)
        assert (off <= slopes.noise)[~slopes.crossed].all()
        assert not slopes.crossed.all()


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        *((name, "cross_entropy") for name in KINDS),
        *product(NETWORKS, ["cross_entropy", "mse"]),
        *OF_POSITIONS,
    ],
)
def test_rises_are_differences_of_losses(name, loss):
    """Losses are evaluated by other code, with the functions themselves."""
    objective = problem(name, 2, loss).objective
    for moves, _ in by_parts(objective):
        for which in (np.arange(len(moves.position)), np.arange(0, len(moves.position), 3)):
            by = 2.0**-9 * (-1.0) ** which * moves.unit[which]
            risen, moved = moves.rise(which, by), moves.move(which, moves.position[which] + by)
            at_rest = moves.move(which, moves.position[which])
            rise = (moved.losses - at_rest.losses).reshape(len(which), -1).sum(axis=1)
            np.testing.assert_array_equal(risen.crossed, moved.crossed)
            same = ~moved.crossed
            scale = 1.0 + np.abs(objective.losses).sum()
            np.testing.assert_allclose(risen.losses[same], rise[same], rtol=1e-6, atol=1e-11 * scale)


def test_a_step_over_a_kink_is_reported():
    objective = problem("kinks", 3).objective
    (units, *_) = (moves for moves, _ in by_parts(objective) if isinstance(moves, RisingPartUnits))
    which = np.arange(len(units.position))
    assert units.rise(which, -1.000001 * units.position).crossed.all()
    assert not units.rise(which, np.full(len(which), RISE)).crossed.any()


def test_a_long_sequence_is_followed_without_recursion():
    spec = spec_of({"lstm": 1}, {"select": -1}, {"units": 1}, inputs=[120, 1], samples=1)
    objective = build_problem(spec).objective
    (first, *_) = (use.site for use in objective.uses("lstm1.weight_ih_l0"))
    assert np.isfinite(slopes_by_rises(objective.units(first), np.arange(1)).noise).all()


def test_the_witness_evaluates_losses():
    objective = problem("lenet", 4).objective
    assert isinstance(objective.quick_entries("hidden1.weight"), RisingEntries)
    for name in objective.shapes:
        assert isinstance(objective.entries(name), EntryMoves)
        assert not can_rise(objective.entries(name))


@pytest.mark.parametrize(("loss", "literally"), [("cross_entropy", False), ("cosine", True)])
def test_entries_used_at_every_step_give_way_to_units_whose_losses_rise(loss, literally):
    layers = [{"rnn": 6}, {"select": -1}, {"units": 3}]
    objective = build_problem(spec_of(*layers, inputs=[8, 4], loss=loss, samples=3)).objective
    assert objective.literally("rnn1.weight_hh_l0") is literally
