"""Rows of norms rise at every scale: by exact changes of rows, or by values if a change is too long."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck_cli.network.known import Known
from gradcheck_cli.network.part import Resting, Risen, Valued
from gradcheck_cli.network.sensitivity import Sensitivity
from gradcheck_cli.network.steps.group_norm import GroupNormalise
from gradcheck_cli.network.steps.normalise import Normalise
from gradcheck_cli.network.steps.rms_norm import RootMeanSquare
from gradcheck_cli.types import EPS

SAMPLES = 3
SHORT = 2.0**-40
NORMS = {
    "layer norm": (Normalise.over_features(1e-5, 1), (5, 7)),
    "layer norm over two axes": (Normalise.over_features(1e-9, 2), (2, 3, 4)),
    "two numbers": (Normalise.over_features(1e-6, 1), (3, 2)),
    "long rows": (Normalise.over_features(1e-5, 1), (300,)),
    "group norm": (GroupNormalise(eps=1e-5, groups=2, positions=1), (6, 3)),
    "instance norm": (GroupNormalise(eps=1e-5, groups=3, positions=2), (3, 2, 4)),
    "rms norm": (RootMeanSquare(2.0**-52, 1), (3, 6)),
    "rms norm over all axes": (RootMeanSquare(1e-5, 2), (3, 4)),
}
SCALES = {
    "near 1": lambda x: x,
    "tiny": lambda x: 1e-9 * x,
    "small": lambda x: 1e-3 * x,
    "huge": lambda x: 1e9 * x,
    "far from 0": lambda x: 1e3 + x,
    "mostly 0": lambda x: np.where(x < 0.5, 0.0, x),
    "constant": lambda x: np.full_like(x, 0.3),
    "of all sizes": lambda x: np.sign(x) * np.exp(4.0 * x),
}

pytestmark = pytest.mark.skipif(
    np.finfo(np.longdouble).eps > EPS / 1000, reason="longdouble is no wider than float64"
)


def drawn(norm, scale, seed):
    """Return a norm, its input and its output, and the root s that each element is divided by."""
    step, features = NORMS[norm]
    x = SCALES[scale](np.random.default_rng(seed).normal(size=(SAMPLES, *features)))
    s = step._root(x) if isinstance(step, RootMeanSquare) else step.deviation(x)
    return step, x, step.forward({}, x), np.broadcast_to(s, x.shape)


def part_of(step, x, out, fixed, by):
    samples = np.arange(len(x))
    return step.part({}, [Risen(Resting(x, samples), fixed, by)], Resting(out, samples))


def risen(step, x, out, fixed, by):
    """Return half the difference between the changes of the output after changes by ± `by`."""
    up, down = (part_of(step, x, out, fixed, each) for each in (by, -by))
    assert isinstance(up, Risen)
    assert isinstance(down, Risen)
    return 0.5 * (up.whole_rise - down.whole_rise)


def exact(step, x, change):
    """Return the same by the complex step in wide floats, which has no truncation error."""
    return step.forward({}, x + np.clongdouble(1e-30j) * change).imag / np.longdouble(1e-30)


def bounds(step, x, out, upstream, errors=0.0):
    known = Known((x,), out, (errors + np.zeros_like(x),), np.zeros_like(out))
    (found,) = step.sensitivities({}, known, Sensitivity(upstream, np.zeros_like(upstream)))
    return found


def in_total(array):
    return array.reshape(len(array), -1).sum(axis=1)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scale", SCALES)
def test_changes_of_rows_are_exact_to_within_their_bounds(norm, scale):
    for seed in range(4):
        step, x, out, s = drawn(norm, scale, seed)
        rng = np.random.default_rng(seed + 100)
        upstream, index = rng.exponential(size=out.shape), tuple(rng.integers(x.shape[1:]))
        change = SHORT * s * rng.normal(size=x.shape)
        alone = np.zeros_like(x)
        alone[:, *index] = change[:, *index]
        error, everywhere = bounds(step, x, out, upstream).error, (None,) * len(index)
        fixed = tuple(np.full(len(x), k) for k in index)
        for by, position, held in ((change, everywhere, change), (alone, fixed, alone[:, *index])):
            off = np.abs(risen(step, x, out, position, held) - exact(step, x, by))
            assert (in_total(upstream * off) <= EPS * in_total(error * np.abs(by))).all()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scale", SCALES)
def test_bounds_include_errors_of_the_rows(norm, scale):
    step, x, out, s = drawn(norm, scale, 0)
    rng = np.random.default_rng(1)
    errors = 1e-9 / EPS * np.abs(x) * rng.random(x.shape)
    moved = x + EPS * errors * rng.choice([-1.0, 1.0], x.shape)
    upstream = rng.exponential(size=out.shape)
    error = bounds(step, x, out, upstream, errors).error
    for _ in range(8):
        change = np.zeros_like(x)
        index = tuple(rng.integers(x.shape[1:]))
        change[:, *index] = s[:, *index]
        off = np.abs(exact(step, moved, change) - exact(step, x, change))
        assert (in_total(upstream * off) <= EPS * in_total(error * change)).all()


@pytest.mark.parametrize("norm", NORMS)
def test_a_row_whose_change_is_too_long_is_evaluated_by_the_function(norm):
    step, x, out, s = drawn(norm, "near 1", 5)
    for change in (-x, 100.0 * s * np.random.default_rng(6).normal(size=x.shape)):
        found = part_of(step, x, out, (None,) * (x.ndim - 1), change)
        assert isinstance(found, Valued)
        np.testing.assert_array_equal(found.whole, step.forward({}, x + change))


def test_a_row_of_one_number_never_changes():
    step, x = Normalise.over_features(1e-5, 1), np.random.default_rng(2).normal(size=(SAMPLES, 4, 1))
    out = step.forward({}, x)
    fixed = tuple(np.full(SAMPLES, k) for k in (2, 0))
    assert not part_of(step, x, out, fixed, np.full(SAMPLES, 1e-3)).rise.any()
    found = bounds(step, x, out, np.ones_like(x), 10.0)
    assert not found.terms.any()
    assert not found.error.any()
