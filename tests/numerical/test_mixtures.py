"""Gradients under mixtures of pieces at kinks: those inside are not excluded, those far outside are."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck_cli.numerical.mixtures import MixedCorner, Mixtures

ENTRIES = 6


def drawn(rng, corners=2):
    """Corners of a few kinks, each with one or two other pieces."""
    each = []
    for _ in range(corners):
        shares = tuple(rng.normal(size=(rng.integers(1, 3), ENTRIES)) for _ in range(3))
        each.append(MixedCorner(rng.normal(size=ENTRIES), shares))
    return Mixtures(each, np.zeros(ENTRIES), np.zeros(ENTRIES))


def mixed(corner, rng):
    """A gradient under random weights of all pieces."""
    gradient = corner.base.copy()
    for pieces in corner.shares:
        weights = rng.dirichlet(np.ones(1 + len(pieces)))
        gradient += weights[1:] @ pieces
    return gradient


SLACK = np.full(ENTRIES, 1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_a_mixture_is_never_excluded(seed):
    rng = np.random.default_rng(seed)
    of = drawn(rng)
    one, other = (mixed(corner, rng) for corner in of.corners)
    for share in (0.0, 1.0, rng.random()):
        assert of.nearest_if_outside((1.0 - share) * one + share * other, SLACK) is None


@pytest.mark.parametrize("seed", range(20))
def test_what_lies_beyond_every_mixture_is_excluded(seed):
    rng = np.random.default_rng(seed)
    of, direction = drawn(rng, corners=1), rng.normal(size=ENTRIES)
    beyond = of.corners[0].furthest(direction) + 1e-3 * direction
    near = of.nearest_if_outside(beyond, SLACK)
    assert near is not None
    assert (np.abs(beyond - near) > SLACK).any()


@pytest.mark.parametrize("seed", range(10))
def test_every_choice_of_one_piece_is_found(seed):
    rng = np.random.default_rng(seed)
    of = drawn(rng)
    for corner in of.corners:
        for choice in corner.choices():
            np.testing.assert_allclose(of.corner_near(choice, SLACK), choice)
        assert of.corner_near(corner.base + 1e-3, SLACK) is None


def test_no_gradient_within_the_error_bars_of_the_sides_is_excluded():
    rng = np.random.default_rng()
    of = drawn(rng, corners=1)
    mixture = mixed(of.corners[0], rng)
    rough = [MixedCorner(c.base + 1e-4, tuple(s * (1.0 + 1e-4) for s in c.shares)) for c in of.corners]
    bars = np.full(ENTRIES, 1e-2)
    assert Mixtures(rough, of.half, bars).nearest_if_outside(mixture, SLACK) is None
    assert Mixtures(rough, of.half, of.bars).nearest_if_outside(mixture + 1e3, SLACK) is not None


def test_a_slack_that_is_unknown_excludes_nothing():
    of = drawn(np.random.default_rng(0))
    assert of.nearest_if_outside(np.full(ENTRIES, 1e3), np.full(ENTRIES, np.inf)) is None
