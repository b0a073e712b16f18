"""A gradient with one slope at every kink, anywhere between the two sides, is never called wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from build import problem_of, spec_of
from judged import Judge

from gradcheck_cli import Verdict, check
from gradcheck_cli.comparison import compare
from gradcheck_cli.entries.by_convention import by_convention
from gradcheck_cli.network.network import gradients
from gradcheck_cli.numerical.estimate import Estimate
from gradcheck_cli.numerical.kinks import Alternatives
from gradcheck_cli.numerical.mixtures import MixedCorner, Mixtures

USUAL = np.array([0.0, 0.5, 1.0])[:, None]


def kinks_of(corner, half=0.0, error=1e-12):
    """The alternatives for entries on several single kinks: base, and what each kink's other side adds."""
    shares = np.stack([pieces[0] for pieces in corner.shares])
    low, high = np.minimum(shares, 0.0).sum(axis=0), np.maximum(shares, 0.0).sum(axis=0)
    values = corner.base + USUAL * shares.sum(axis=0)
    return Alternatives(
        np.ones(corner.base.shape, dtype=bool),
        values,
        np.broadcast_to(error, values.shape),
        lambda: (corner.base + low - half, corner.base + high + half),
        lambda: Mixtures([corner], np.full(corner.base.shape, half), np.zeros(corner.base.shape)),
    )


def drawn(rng, kinks, entries):
    return MixedCorner(rng.normal(size=entries), tuple(rng.normal(size=(kinks, 1, entries))))


def judged(analytic, kinks, rtol=1e-6):
    rounding = np.zeros(analytic.shape)
    unknown = Estimate(np.full(analytic.shape, np.nan), np.full(analytic.shape, np.inf))
    found = by_convention(analytic, unknown, kinks, rounding, rtol)
    return compare("b", analytic, found, rounding, rtol)


@pytest.mark.parametrize("seed", range(10))
def test_one_slope_at_many_kinks_is_never_wrong(seed):
    """Among 65,536 choices of sides, some give a value close to that of any slope, but not close enough."""
    rng = np.random.default_rng(seed)
    corner = drawn(rng, kinks=16, entries=1)
    shares = np.stack([pieces[0] for pieces in corner.shares])
    for slope in rng.random(10):
        assert not judged(corner.base + slope * shares.sum(axis=0), kinks_of(corner), rtol=1e-4).wrong.any()


@pytest.mark.parametrize("seed", range(6))
def test_a_value_that_any_of_many_choices_may_hit_by_accident_does_not_agree(seed):
    rng = np.random.default_rng(seed)
    corner = drawn(rng, kinks=16, entries=1)
    shares = np.stack([pieces[0] for pieces in corner.shares])
    agree = 0
    for slopes in rng.random((20, 16)):
        agree += judged(corner.base + slopes @ shares, kinks_of(corner), rtol=1e-4).agrees.all()
    assert agree <= 2


def test_a_slope_is_not_wrong_because_the_other_side_is_known_only_roughly():
    """The gradient is exactly 0 on one side. On the other side, it is off by 3e-4, within its error bar."""
    corner = MixedCorner(np.zeros(2), (np.array([[1.0 + 3e-4, 1.0 - 3e-4]]),))
    errors = np.array([[0.0, 0.0], [1e-4, 1e-4], [2e-4, 2e-4]])
    assert not judged(np.array([0.2, 0.2]), kinks_of(corner, error=errors)).wrong.any()
    assert judged(np.array([0.2, 0.21]), kinks_of(corner, error=errors)).wrong.any()


def test_a_gradient_beyond_a_side_that_is_known_exactly_is_wrong_however_rough_the_others_are():
    corner = MixedCorner(np.zeros(2), (np.array([[1.0, 1.0]]),))
    errors = np.array([[1e-9, 1e-9], [0.02, 0.02], [0.01, 0.01]])
    assert judged(np.array([-1e-3, -1e-3]), kinks_of(corner, error=errors)).wrong.all()


@pytest.mark.parametrize(("sign", "agrees"), [(-1.0, True), (0.0, True), (1.0, True), (0.3, False)])
def test_a_choice_at_a_kink_may_meet_any_usual_sign_of_a_weight_of_0(sign, agrees):
    rng = np.random.default_rng(7)
    corner, half = drawn(rng, kinks=3, entries=4), 0.1
    choice = corner.base + corner.shares[1][0]
    report = judged(choice + half * sign, kinks_of(corner, half))
    assert not report.wrong.any()
    assert report.agrees.all() == agrees


LAYERS = (
    {"conv_transpose2d": 1, "kernel": 2, "activation": "relu", "batch_norm": True},
    {"dropout": 0.4, "seed": 61},
    {"rms_norm": [4, 5]},
    {"conv_transpose2d": 1, "kernel": [3, 1], "padding": 1, "activation": "relu"},
    {"flatten": True},
    {"units": 2},
)
"""Elements that were dropped, or are on the flat side of relu, put all elements that they reach on a kink."""


@pytest.mark.parametrize("seed", [28, 29])
def test_any_slope_of_relu_at_0_is_right_in_a_network_with_many_kinks(seed):
    rest = {"inputs": [2, 3, 4], "samples": 4, "seed": seed, "loss": "cross_entropy"}
    rest["parameters"] = {"init": "xavier", "seed": seed, "bias": "zeros"}
    spec, problem = spec_of(*LAYERS, **rest), problem_of(*LAYERS, **rest)
    judge, graph = Judge(spec, problem), problem.network.graph
    for slope in np.random.default_rng(seed).random(10):

        def derivative(z, slope=slope):
            return np.where(z > 0, 1.0, np.where(z == 0, slope, 0.0))

        nodes = tuple(
            replace(node, step=replace(node.step, row=replace(node.step.row, derivative=derivative)))
            if getattr(node.step, "name", "") == "relu"
            else node
            for node in graph.nodes
        )
        network = replace(problem.network, graph=replace(graph, nodes=nodes))
        values = gradients(network, problem.parameters, problem.x, problem.target)
        assert judge.report(values).verdict is not Verdict.WRONG, (seed, slope)


@pytest.mark.parametrize("seed", range(3))
def test_an_unknown_gradient_on_one_side_of_a_kink_leaves_the_entry_undecided(seed):
    """The mean of normalised numbers is 0 in exact arithmetic. In float32, it is rounding alone.

    So rounding decides whether a vector is longer than the loss's eps. If it is, differences find no slope.
    """
    layers = {"instance_norm": True, "affine": False}, {"mean": True, "dim": 1}, "prelu", (2, "tanh")
    rest = {"loss": "cosine", "dtype": "float32", "samples": 7, "seed": seed}
    parameters = {"init": "xavier", "seed": seed, "bias": "zeros"}
    report = check(spec_of(*layers, inputs=[4, 6], parameters=parameters, **rest))
    assert report.verdict is not Verdict.WRONG
