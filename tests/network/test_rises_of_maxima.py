"""The changes of maxima: exact also at ties and near ties, with every change of the winner reported."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gradcheck_cli.network.part import Resting, Risen
from gradcheck_cli.network.steps.adaptive_max_pool import AdaptiveMaxPool, AdaptiveMaxPool1d
from gradcheck_cli.network.steps.max_pool1d import MaxPool1d
from gradcheck_cli.network.steps.max_pool2d import MaxPool2d
from gradcheck_cli.network.steps.maxout import Maxout
from gradcheck_cli.types import EPS

SAMPLES, COPIES = 3, 6

STEPS = {
    "windows of two axes": (MaxPool2d((2, 2), (2, 2)), (2, 4, 4)),
    "overlapping and padded": (MaxPool2d((3, 2), (2, 1), (1, 1)), (2, 4, 3)),
    "with gaps": (MaxPool2d((2, 2), (3, 3)), (1, 5, 5)),
    "dilated": (MaxPool1d((2,), (1,), (0,), (2,)), (2, 5)),
    "maxout": (Maxout.of_pieces(3), (6,)),
    "maxout at positions": (Maxout.of_pieces(2), (3, 4)),
    "equal parts": (AdaptiveMaxPool((2, 2)), (2, 4, 4)),
    "overlapping parts": (AdaptiveMaxPool1d((3,)), (2, 5)),
}


def tied(rng, shape):
    """Return numbers of which many are equal or neighbouring floats, as large as 1e10."""
    x = rng.integers(-1, 2, shape) * rng.choice([1.0, 1e-9, 1e10])
    for _ in range(2):
        x = np.where(rng.random(shape) < 0.3, np.nextafter(x, rng.choice([-np.inf, np.inf])), x)
    return np.where(rng.random(shape) < 0.2, rng.normal(size=shape), x)


def changed(x, rng, samples):
    """Return a part with short changes, of all elements or of those at a position."""
    rest = Resting(x, samples)
    share = rng.choice([0.0, 0.6, 1.0])
    fixed = tuple(rng.integers(0, n, len(samples)) if rng.random() < share else None for n in rest.features)
    at = rest.at(fixed)
    d = rng.normal(size=at.shape) * rng.choice([2.0**-40, np.spacing(np.abs(x).max())])
    return Risen(rest, fixed, np.where(rng.random(at.shape) < 0.3, 0.0, d))


def exactly(step, x, d):
    """Return the exact changes of the maxima, (*out), and a mask of the windows with another winner."""
    around, places = step._views(x, -np.inf), step._views(np.arange(x.size).reshape(x.shape), -1)
    changes, crossed = np.zeros(around.shape[:-1]), np.zeros(around.shape[:-1], dtype=bool)
    for window in np.ndindex(changes.shape):
        inside = [(k, place) for k, place in enumerate(places[window]) if place >= 0]
        before = {k: Fraction(x.flat[place]) for k, place in inside}
        after = {k: before[k] + Fraction(d.flat[place]) for k, place in inside}
        changes[window] = max(after.values()) - max(before.values())
        crossed[window] = after[int(np.argmax(around[window]))] < max(after.values())
    return changes, crossed


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("seed", range(12))
def test_changes_are_those_of_exact_arithmetic(name, seed):
    step, features = STEPS[name]
    rng = np.random.default_rng([seed, len(name)])
    x = tied(rng, (SAMPLES, *features))
    samples = rng.permutation(np.tile(np.arange(SAMPLES), 2)) if seed % 2 else np.arange(COPIES) % SAMPLES
    part, out = changed(x, rng, samples), step.forward({}, x)
    found = step.part({}, [part], Resting(out, samples))
    crossed = np.zeros(COPIES, dtype=bool)
    if found is not None:
        crossed = step.crossed(part, found, Resting(step.pieces(x), samples))
    for copy, sample in enumerate(samples):
        d = part.whole_rise[copy]
        changes, overtaken = exactly(step, x[sample], d)
        risen = np.zeros_like(changes) if found is None else found.whole_rise[copy]
        assert (np.abs(risen - changes) <= EPS * np.abs(d).max()).all()
        assert crossed[copy] == overtaken.any()


@pytest.mark.parametrize("name", STEPS)
def test_shorter_changes_than_the_distance_cross_no_kink(name):
    step, features = STEPS[name]
    rng = np.random.default_rng(len(name))
    x = rng.normal(size=(SAMPLES, *features))
    reach = step.distance_to_kinks(x)
    assert reach > 0.0
    for _ in range(20):
        d = rng.choice([-1.0, 1.0], x.shape) * reach * (1.0 - 1e-9)
        assert (step.pieces(x + d) == step.pieces(x)).all()
    x[:] = 1.0
    assert step.distance_to_kinks(x) == 0.0
