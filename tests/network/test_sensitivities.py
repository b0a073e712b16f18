"""Steps that rise: their changes are exact to within the bounds, and bounds include errors at rest."""

from __future__ import annotations

import numpy as np
import pytest
from mpmath import mp, mpf
from step_examples import SAMPLES, Drawn, on_every_step, upstream_of

from gradcheck_cli.network.arithmetic import NUDGED
from gradcheck_cli.network.part import Resting, Risen
from gradcheck_cli.network.step import Known, Sensitivity
from gradcheck_cli.network.steps.softmax import LogSoftmax, Softmax
from gradcheck_cli.types import EPS

STEP = 2.0**-40
"""A change as short as those of the numerical side."""

OFF = 2.0**24
"""The errors of inputs, in units of machine epsilon: 4e-9, with nearly linear effects."""

pytestmark = pytest.mark.skipif(
    np.finfo(np.longdouble).eps > EPS / 1000, reason="longdouble is no wider than float64"
)


def rises(step):
    return step.rises and step.couples != "batch" and not step.tokens


def exact_slope(drawn, inputs, k, index, upstream):
    """Return the slope by the complex step in wide floats, which has no truncation error, (N,)."""
    parameters = {name: each.astype(np.clongdouble) for name, each in drawn.parameters.items()}
    wide = [each.astype(np.clongdouble) for each in inputs]
    wide[k][:, *index] += 1j * np.longdouble(1e-30)
    out = drawn.step.forward(parameters, *wide).imag / np.longdouble(1e-30)
    return (upstream * out).reshape(len(out), -1).sum(axis=1)


def risen_slope(drawn, k, index, out, upstream):
    """Return the central difference of the changes of the output, without cancellation, (N,)."""
    samples = np.arange(len(out))
    resting = [Resting(each, samples) for each in drawn.inputs]
    fixed = tuple(np.full(len(samples), each) for each in index)

    def change(by):
        inputs = list(resting)
        inputs[k] = Risen(resting[k], fixed, np.full(len(samples), by))
        part = drawn.step.part(drawn.parameters, inputs, Resting(out, samples))
        assert part is None or isinstance(part, Risen)
        return np.zeros_like(out) if part is None else part.whole_rise

    slopes = (change(STEP) - change(-STEP)) / (2.0 * STEP)
    return (upstream * slopes).reshape(len(out), -1).sum(axis=1)


def sensitivities(drawn, out, upstream, errors):
    """Return the step's bounds for an exact upstream, and inputs with these errors in units of ε."""
    step, p = drawn.step, drawn.parameters
    carried = step.error(p, drawn.inputs, out, tuple(NUDGED.eps * each for each in errors), NUDGED)
    known = Known(drawn.inputs, out, errors, carried / NUDGED.eps + np.abs(out))
    return step.sensitivities(p, known, Sensitivity(np.abs(upstream), np.zeros_like(upstream)))


def each_element(inputs):
    return ((k, index) for k, x in enumerate(inputs) for index in np.ndindex(x.shape[1:]))


@on_every_step
def test_changes_are_exact_to_within_the_bounds(drawn):
    if not rises(drawn.step):
        return
    out, upstream = upstream_of(drawn)
    bounds = sensitivities(drawn, out, upstream, tuple(map(np.zeros_like, drawn.inputs)))
    for k, index in each_element(drawn.inputs):
        exact = exact_slope(drawn, drawn.inputs, k, index, upstream)
        off = np.abs(risen_slope(drawn, k, index, out, upstream) - exact)
        assert (
            off <= EPS * (bounds[k].error + 2.0 * bounds[k].terms)[:, *index]
        ).all()  # 2 ulp: the upstream
        assert (np.abs(exact) <= (1.0 + 1e-12) * bounds[k].terms[:, *index] + 1e-300).all()


@on_every_step
def test_bounds_include_the_errors_of_the_inputs(drawn):
    if not rises(drawn.step):
        return
    out, upstream = upstream_of(drawn)
    rng = np.random.default_rng(11)
    errors = tuple(OFF * np.abs(x) * rng.random(x.shape) for x in drawn.inputs)
    bounds = sensitivities(drawn, out, upstream, errors)
    for signs in range(3):
        rng = np.random.default_rng(signs)
        off = [
            x + EPS * e * rng.choice([-1.0, 1.0], x.shape) for x, e in zip(drawn.inputs, errors, strict=True)
        ]
        for k, index in each_element(drawn.inputs):
            at_rest = exact_slope(drawn, drawn.inputs, k, index, upstream)
            moved = exact_slope(drawn, off, k, index, upstream)
            bound = EPS * bounds[k].error[:, *index]
            assert (np.abs(moved - at_rest) <= bound * (1.0 + 1e-6) + 1e-17).all()


@pytest.mark.parametrize("scale", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("logs", [False, True])
def test_changes_of_a_saturated_softmax_are_exact(scale, logs):
    """Where one element has nearly all of the sum, complex numbers lose the digits of the slopes."""
    step = LogSoftmax() if logs else Softmax.plain()
    z, upstream = np.random.default_rng(int(scale)).normal(size=(2, SAMPLES, 4)) * [[[scale]], [[1.0]]]
    drawn, out = Drawn(step, {}, (z,)), step.forward({}, z)
    (bounds,) = sensitivities(drawn, out, upstream, (np.zeros_like(z),))
    for k in range(4):
        exact = [_slope_of_softmax(row, k, by, logs) for row, by in zip(z, upstream, strict=True)]
        off = np.abs([mpf(each) for each in risen_slope(drawn, 0, (k,), out, upstream)] - np.array(exact))
        assert (off <= EPS * (bounds.error + 2.0 * bounds.terms)[:, k]).all()


def _slope_of_softmax(z, k, upstream, logs):
    with mp.workdps(80):
        e = [mp.exp(mpf(each)) for each in z]
        a = [each / mp.fsum(e) for each in e]
        if logs:
            return upstream[k] - a[k] * mp.fsum(mpf(each) for each in upstream)
        return a[k] * mp.fsum(a[j] * (mpf(upstream[k]) - mpf(upstream[j])) for j in range(len(a)))
