"""The rounding bounds of every kind of step hold, and are not so loose that they hide mistakes."""

from __future__ import annotations

from functools import partial

import numpy as np
from step_examples import on_every_step, upstream_of

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.step import Known, Step, Upstream

FLOAT32 = Arithmetic.of(np.dtype(np.float32))
EXACT = Arithmetic(eps=0.0, tiny=0.0)
LOOSE = 1e4
"""A bound this many times the largest error seen could hide a mistake."""


def analyses(step):
    """Yield the bounds of the output and of the vjp: first the step's own, then the defaults."""
    yield step.error, step.vjp_error
    yield partial(Step.error, step), partial(Step.vjp_error, step)


def in_float32(drawn, error, vjp_error):
    """Yield what the step computes in float32 and in float64 on the same numbers, with its bound."""
    step, parameters, inputs = drawn
    narrow_p = {name: value.astype(np.float32) for name, value in parameters.items()}
    narrow = tuple(x.astype(np.float32) for x in inputs)
    p = {name: value.astype(np.float64) for name, value in narrow_p.items()}
    wide = tuple(x.astype(np.float64) for x in narrow)
    out, computed = step.forward(p, *wide), step.forward(narrow_p, *narrow)
    g = np.random.default_rng(7).normal(size=out.shape).astype(np.float32)
    nothing, exact = np.zeros(out.shape), tuple(np.zeros(x.shape) for x in inputs)
    bound = error(p, wide, out, exact, FLOAT32)
    upstream = Upstream(g.astype(np.float64), nothing, nothing)
    handed, bounds = vjp_error(p, Known(wide, out, exact, bound), upstream, FLOAT32)
    right, gradients = step.vjp(p, wide, out, upstream.value)
    rounded, narrow_gradients = step.vjp(narrow_p, narrow, computed, g)
    assert bounds.keys() == gradients.keys()
    yield "output", computed, out, bound
    for i, (below, each, found) in enumerate(zip(handed, right, rounded, strict=True)):
        np.testing.assert_allclose(below.value, each)
        yield f"input {i}", found, each, below.error
    for name in gradients:
        yield name, narrow_gradients[name], gradients[name], bounds[name]


@on_every_step
def test_float32_stays_within_the_rounding_bounds(drawn):
    for analysis in analyses(drawn.step):
        for what, computed, exact, bound in in_float32(drawn, *analysis):
            assert computed.dtype == np.float32, what
            assert bound.shape == exact.shape, what
            assert (bound >= 0).all(), what
            assert (np.abs(computed - exact) <= 3.0 * bound).all(), what


@on_every_step
def test_the_bounds_are_not_so_loose_that_they_hide_mistakes(drawn):
    for what, computed, exact, bound in in_float32(drawn, drawn.step.error, drawn.step.vjp_error):
        seen = max(np.abs(computed - exact).max(initial=0.0), 1e-8 * np.abs(exact).max(initial=0.0), 1e-30)
        assert bound.max(initial=0.0) <= LOOSE * seen, what


def offsets(rng, size):
    """Yield offsets of ±1: all up, all down, and at random."""
    yield from (np.ones(size), -np.ones(size))
    yield from (rng.choice([-1.0, 1.0], size) for _ in range(4))


@on_every_step
def test_errors_of_the_inputs_are_carried_upwards(drawn):
    step, parameters, inputs = drawn
    if step.tokens:
        return  # tokens have no errors
    out, off = step.forward(parameters, *inputs), tuple(1e-7 * np.ones(x.shape) for x in inputs)
    rng = np.random.default_rng(5)
    shifts = zip(*(offsets(rng, x.shape) for x in inputs), strict=True)
    moved = [
        step.forward(parameters, *(x + s * by for x, s, by in zip(inputs, shift, off, strict=True)))
        for shift in shifts
    ]
    for (error, _), slack in zip(analyses(step), (1.001, 1.01), strict=True):
        bound = error(parameters, inputs, out, off, EXACT)
        assert all((np.abs(each - out) <= slack * bound + 1e-14).all() for each in moved)


@on_every_step
def test_errors_of_the_upstream_are_carried_downwards(drawn):
    step, parameters, inputs = drawn
    out, g = upstream_of(drawn)
    off, exact = 1e-7 * np.abs(g), tuple(np.zeros(x.shape) for x in inputs)
    known = Known(inputs, out, exact, np.zeros(out.shape))
    right, gradients = step.vjp(parameters, inputs, out, g)
    for _, vjp_error in analyses(step):
        handed, bounds = vjp_error(parameters, known, Upstream(g, off, np.zeros(g.shape)), EXACT)
        for sign in (1.0, -1.0):
            others, moved = step.vjp(parameters, inputs, out, g + sign * off)
            for below, each, other in zip(handed, right, others, strict=True):
                assert (np.abs(other - each) <= 1.01 * below.error + 1e-14).all()
            for name in gradients:
                assert (np.abs(moved[name] - gradients[name]) <= 1.01 * bounds[name] + 1e-14).all()


@on_every_step
def test_errors_of_the_upstream_and_the_inputs_are_carried_downwards(drawn):
    step, p, inputs = drawn
    if step.tokens:
        return
    (out, upstream), rng = upstream_of(drawn), np.random.default_rng(5)
    off = tuple(1e-7 * np.ones(x.shape) for x in inputs)
    known = Known(inputs, out, off, step.error(p, inputs, out, off, EXACT))
    given = Upstream(upstream, 1e-7 * np.ones(out.shape), np.zeros(out.shape))
    below, bounds = step.vjp_error(p, known, given, EXACT)
    handed, gradients = step.vjp(p, inputs, out, upstream)
    for _ in range(4):
        moved = tuple(x + rng.choice([-1.0, 1.0], x.shape) * by for x, by in zip(inputs, off, strict=True))
        other = upstream + 1e-7 * rng.choice([-1.0, 1.0], out.shape)
        found, found_gradients = step.vjp(p, moved, step.forward(p, *moved), other)
        for one, was, each in zip(found, handed, below, strict=True):
            assert (np.abs(one - was) <= 1.001 * each.error + 1e-12).all()
        for name in bounds:
            assert (np.abs(found_gradients[name] - gradients[name]) <= 1.001 * bounds[name] + 1e-12).all()
