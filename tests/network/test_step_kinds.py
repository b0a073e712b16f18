"""What every kind of step promises, on random steps: it needs no torch."""

from __future__ import annotations

import math

import numpy as np
import pytest
from step_kinds import KINDS, Draw

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.step import Known, Step, Upstream
from gradcheck_cli.network.steps.rms_norm import Gain

FLOAT32 = Arithmetic.of(np.dtype(np.float32))
SAMPLES = 3
SEEDS = range(3)
LOOSE = 1e4
"""A bound this many times the largest error seen could hide a mistake."""


@pytest.fixture(params=[(kind, seed) for kind in KINDS for seed in SEEDS], ids=lambda it: f"{it[0]}-{it[1]}")
def drawn(request):
    """A step, its parameters and its inputs."""
    kind, seed = request.param
    draw = Draw(1000 + seed)
    step, features = KINDS[kind](draw)
    p = {name: draw.rng.normal(size=shape) for name, shape in step.shapes.items()}
    return step, p, tuple(draw.rng.normal(size=(SAMPLES, *each)) for each in features)


def upstream_of(out):
    return np.random.default_rng(7).normal(size=out.shape)


def test_the_output_has_the_promised_shape(drawn):
    step, p, inputs = drawn
    assert step.forward(p, *inputs).shape == (SAMPLES, *step.out(*(x.shape[1:] for x in inputs)))


def test_every_kind_has_a_label(drawn):
    assert drawn[0].label or isinstance(drawn[0], Gain)  # the normalisation below a gain has the label


def test_the_vjp_is_that_of_the_complex_step(drawn):
    step, p, inputs = drawn
    out = step.forward(p, *inputs)
    upstream = upstream_of(out)
    handed, gradients = step.vjp(p, inputs, out, upstream)
    assert gradients.keys() == step.shapes.keys()
    for i, x in enumerate(inputs):
        at = lambda moved, i=i: step.forward(p, *inputs[:i], moved, *inputs[i + 1 :])  # noqa: E731
        np.testing.assert_allclose(handed[i], by_complex_step(at, x, upstream), rtol=1e-10, atol=1e-12)
    for name, value in p.items():
        at = lambda moved, name=name: step.forward({**p, name: moved}, *inputs)  # noqa: E731
        np.testing.assert_allclose(
            gradients[name], by_complex_step(at, value, upstream), rtol=1e-10, atol=1e-12
        )


def by_complex_step(function, at, upstream):
    """Return Σ upstream · ∂function/∂at, all entries of `at` by complex step."""
    slopes = np.empty(at.size)
    for entry in range(at.size):
        moved = at.astype(complex)
        moved.flat[entry] += 1e-30j
        slopes[entry] = (upstream * np.imag(function(moved))).sum() / 1e-30
    return slopes.reshape(at.shape)


def test_wide_numbers_stay_wide(drawn):
    step, p, inputs = drawn
    wide = step.forward(
        {n: v.astype(np.longdouble) for n, v in p.items()}, *(x.astype(np.longdouble) for x in inputs)
    )
    assert wide.dtype == np.longdouble
    np.testing.assert_allclose(wide.astype(float), step.forward(p, *inputs), rtol=1e-12, atol=1e-14)


def test_moves_may_stand_before_the_samples(drawn):
    """Any one input may have leading axes that the others lack."""
    step, p, inputs = drawn
    for i, x in enumerate(inputs):
        moved = (*inputs[:i], 2.0 * x, *inputs[i + 1 :])
        both = step.forward(p, *inputs[:i], np.stack([x, 2.0 * x]), *inputs[i + 1 :])
        np.testing.assert_allclose(both[1], step.forward(p, *moved), rtol=1e-13, atol=1e-14)


def test_samples_do_not_act_on_each_other_unless_it_says_so(drawn):
    step, p, inputs = drawn
    moved = tuple(np.concatenate([x[:1] + 0.5, x[1:]]) for x in inputs)
    same = np.array_equal(step.forward(p, *moved)[1:], step.forward(p, *inputs)[1:])
    assert same or step.couples == "batch"


def test_a_step_that_couples_nothing_sends_each_number_to_one_number(drawn):
    step, p, inputs = drawn
    if step.couples != "nothing":
        return
    for i, x in enumerate(inputs):
        for entry in range(x[0].size):
            moved = x.copy()
            moved[0].flat[entry] += 0.5
            others = (*inputs[:i], moved, *inputs[i + 1 :])
            assert (step.forward(p, *others) != step.forward(p, *inputs)).sum() <= 1


def affine(step, p, inputs):
    """Return the parameters that have factors; all others are moved entry by entry."""
    return {name: value for name, value in p.items() if step.factors(name, inputs) is not None}


def test_all_parameters_but_those_of_weight_norm_have_factors():
    without = set()
    for kind in KINDS:
        step, features = KINDS[kind](Draw(1000))
        inputs = tuple(np.ones((SAMPLES, *each)) for each in features)
        without |= {(kind, name) for name in step.shapes if step.factors(name, inputs) is None}
    assert without == {("weight_norm", "weight_g"), ("weight_norm", "weight_v")}


def test_the_factors_are_those_of_an_affine_map(drawn):
    step, p, inputs = drawn
    out = step.forward(p, *inputs)
    d = np.random.default_rng(3).normal(size=(math.prod(out.shape[1:]), SAMPLES))
    for name, value in affine(step, p, inputs).items():
        factors, every = step.factors(name, inputs), np.arange(value.size)
        moved = Step.with_entries(step, p, name, every, value.ravel() + 1.0, inputs, out)
        jacobian = np.stack([by_feature(each - out) for each in moved])  # (entries, F, N)
        for found, expected in (
            (factors.sums(d), (jacobian * d).sum(axis=(1, 2))),
            (factors.sizes(abs(d)), (abs(jacobian) * abs(d)).sum(axis=(1, 2))),
            (factors.squares(abs(d)), np.sqrt((jacobian**2 * d**2).sum(axis=(1, 2)))),
        ):
            assert found.shape == value.shape
            np.testing.assert_allclose(found.ravel(), expected, rtol=1e-10, atol=1e-12)
        reaches = (jacobian != 0).any(axis=2)
        for entry in every:
            mask = np.zeros(value.shape, dtype=bool)
            mask.flat[entry] = True
            assert not (reaches[entry] & ~factors.feeding(mask)).any()


def by_feature(array):
    """(F, N) of (N, *features)."""
    return np.moveaxis(array, 0, -1).reshape(-1, len(array))


def test_the_sums_over_the_factors_are_the_gradients(drawn):
    step, p, inputs = drawn
    out = step.forward(p, *inputs)
    upstream = upstream_of(out)
    _, gradients = step.vjp(p, inputs, out, upstream)
    for name in affine(step, p, inputs):
        sums = step.factors(name, inputs).sums(by_feature(upstream))
        np.testing.assert_allclose(sums, gradients[name], rtol=1e-12, atol=1e-13)


def test_some_units_have_the_same_factors_as_all(drawn):
    step, p, inputs = drawn
    d = np.random.default_rng(3).normal(size=(math.prod(step.out(*(x.shape[1:] for x in inputs))), SAMPLES))
    for name, value in affine(step, p, inputs).items():
        factors, units = step.factors(name, inputs), np.arange(len(value))[::-2]
        some, numbers = factors.only(units), d[factors.of(units)]
        np.testing.assert_allclose(some.sums(numbers), factors.sums(d)[units], rtol=1e-12)
        np.testing.assert_allclose(some.squares(abs(numbers)), factors.squares(abs(d))[units], rtol=1e-12)
        assert some.reach().shape == factors.reach()[units].shape


def test_each_unit_has_the_numbers_of_its_channel(drawn):
    """Entries belong to units in C order, an equal number each, and feed only their unit's numbers."""
    step, p, inputs = drawn
    numbers = math.prod(step.out(*(x.shape[1:] for x in inputs)))
    for name, value in affine(step, p, inputs).items():
        factors = step.factors(name, inputs)
        rows = factors.channels.by_unit(np.arange(numbers)[:, None])
        entries = np.arange(value.size).reshape(len(rows), -1)
        for own, of_unit in zip(rows.reshape(len(rows), -1), entries, strict=True):
            mask = np.zeros(value.shape, dtype=bool)
            mask.flat[of_unit] = True
            assert set(np.flatnonzero(factors.feeding(mask))) <= set(own)


def in_float32(step, p, inputs):
    """The step in float32 and in float64 on the same numbers: outputs, gradients and their bounds."""
    narrow_p = {name: value.astype(np.float32) for name, value in p.items()}
    narrow = tuple(x.astype(np.float32) for x in inputs)
    p, inputs = {n: v.astype(np.float64) for n, v in narrow_p.items()}, tuple(x.astype(float) for x in narrow)
    out, computed = step.forward(p, *inputs), step.forward(narrow_p, *narrow)
    upstream = upstream_of(out).astype(np.float32)
    assert computed.dtype == np.float32
    zeros, nothing = tuple(np.zeros(x.shape) for x in inputs), np.zeros(out.shape)
    bound = step.error(p, inputs, out, zeros, FLOAT32)
    known = Known(inputs, out, zeros, bound)
    below, bounds = step.vjp_error(p, known, Upstream(upstream.astype(float), nothing, nothing), FLOAT32)
    handed, gradients = step.vjp(p, inputs, out, upstream.astype(float))
    narrow_handed, narrow_gradients = step.vjp(narrow_p, narrow, computed, upstream)
    for one, other in zip(below, handed, strict=True):
        np.testing.assert_allclose(one.value, other)
    yield "output", computed, out, bound
    for i, each in enumerate(below):
        yield f"input {i}", narrow_handed[i], handed[i], each.error
    for name in gradients:
        yield name, narrow_gradients[name], gradients[name], bounds[name]


def test_float32_stays_within_the_rounding_bounds(drawn):
    for what, computed, exact, bound in in_float32(*drawn):
        assert computed.dtype == np.float32, what
        assert bound.shape == exact.shape, what
        assert (bound >= 0).all(), what
        assert (np.abs(computed - exact) <= 3.0 * bound).all(), what


def test_the_bounds_are_not_so_loose_that_they_hide_mistakes(drawn):
    for what, computed, exact, bound in in_float32(*drawn):
        seen = max(np.abs(computed - exact).max(initial=0.0), 1e-8 * np.abs(exact).max(initial=0.0), 1e-30)
        assert bound.max(initial=0.0) <= LOOSE * seen, what


def test_errors_of_the_inputs_are_carried_upwards(drawn):
    step, p, inputs = drawn
    out, exact = step.forward(p, *inputs), Arithmetic(eps=0.0, tiny=0.0)
    rng = np.random.default_rng(5)
    off = tuple(1e-7 * np.ones(x.shape) for x in inputs)
    bound = step.error(p, inputs, out, off, exact)
    for _ in range(4):
        moved = (x + rng.choice([-1.0, 1.0], x.shape) * by for x, by in zip(inputs, off, strict=True))
        assert (np.abs(step.forward(p, *moved) - out) <= 1.001 * bound + 1e-14).all()


def test_errors_of_the_upstream_and_the_inputs_are_carried_downwards(drawn):
    step, p, inputs = drawn
    out, exact, rng = step.forward(p, *inputs), Arithmetic(eps=0.0, tiny=0.0), np.random.default_rng(5)
    upstream, off = upstream_of(out), tuple(1e-7 * np.ones(x.shape) for x in inputs)
    known = Known(inputs, out, off, step.error(p, inputs, out, off, exact))
    given = Upstream(upstream, 1e-7 * np.ones(out.shape), np.zeros(out.shape))
    below, bounds = step.vjp_error(p, known, given, exact)
    handed, gradients = step.vjp(p, inputs, out, upstream)
    for _ in range(4):
        moved = tuple(x + rng.choice([-1.0, 1.0], x.shape) * by for x, by in zip(inputs, off, strict=True))
        other = upstream + 1e-7 * rng.choice([-1.0, 1.0], out.shape)
        found, found_gradients = step.vjp(p, moved, step.forward(p, *moved), other)
        for one, was, each in zip(found, handed, below, strict=True):
            assert (np.abs(one - was) <= 1.001 * each.error + 1e-12).all()
        for name in bounds:
            assert (np.abs(found_gradients[name] - gradients[name]) <= 1.001 * bounds[name] + 1e-12).all()


def test_what_is_not_heard_changes_nothing_above(drawn):
    step, p, inputs = drawn
    features = tuple(x.shape[1:] for x in inputs)
    for number in range(math.prod(step.out(*features))):
        above = np.zeros(step.out(*features), dtype=bool)
        above.flat[number] = True
        below = step.heard(p, features, above)
        assert tuple(mask.shape for mask in below) == features
        moved = (np.where(mask, x, x + 0.1) for mask, x in zip(below, inputs, strict=True))
        np.testing.assert_array_equal(step.forward(p, *moved)[:, above], step.forward(p, *inputs)[:, above])


def test_every_kind_with_parameters_and_with_several_inputs_is_drawn():
    """The tests above check something: they loop over parameters and inputs."""
    steps = [KINDS[kind](Draw(1000)) for kind in KINDS]
    assert sum(bool(each.step.shapes) for each in steps) >= 5
    assert sum(len(each.features) > 1 for each in steps) >= 3
