"""What every kind of step promises: its vjp, its factors, its rounding and its moves fit its forward pass."""

from __future__ import annotations

import importlib
import math
import pkgutil

import numpy as np
import pytest
from step_examples import EXAMPLES, SAMPLES, drawn_from

from gradcheck_cli.network import steps
from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.step import Known, Step, Upstream
from gradcheck_cli.network.steps import STEPS
from gradcheck_cli.network.steps.given import Given
from gradcheck_cli.network.steps.shift import Shift

FLOAT32 = Arithmetic.of(np.dtype(np.float32))
EXACT = Arithmetic(eps=0.0, tiny=0.0)


@pytest.fixture(params=EXAMPLES)
def drawn(request):
    """A step, its parameters and its inputs."""
    return drawn_from(EXAMPLES[request.param], len(request.param))


def forward(drawn, arrays):
    """The output with some of the arrays that have a gradient replaced."""
    inputs = (arrays.get(str(k), x) for k, x in enumerate(drawn.inputs))
    parameters = {name: arrays.get(name, value) for name, value in drawn.parameters.items()}
    return drawn.step.forward(parameters, *inputs)


def upstream_of(drawn):
    out = drawn.step.forward(drawn.parameters, *drawn.inputs)
    return out, np.random.default_rng(7).normal(size=out.shape)


def constant(step, name):
    mask = step.constant(name) if name in step.shapes else None
    return np.zeros((), dtype=bool) if mask is None else mask


def by_feature(array):
    """(F, N) of (N, *features)."""
    return np.moveaxis(array, 0, -1).reshape(-1, len(array))


def test_every_kind_has_an_example():
    modules = [
        importlib.import_module(f"{steps.__name__}.{m.name}") for m in pkgutil.iter_modules(steps.__path__)
    ]
    kinds = {
        kind
        for module in modules
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Step) and kind is not Step
    }
    assert {*STEPS.values()} <= kinds
    bases = {base for kind in kinds for base in kind.__mro__[1:]}
    without = {Shift, Given}  # as large as the batch; tests/test_inputs.py and test_given_arrays.py test them
    assert kinds - bases - without <= {type(example.step) for example in EXAMPLES.values()}


def test_the_output_has_the_promised_shape(drawn):
    out = drawn.step.forward(drawn.parameters, *drawn.inputs)
    assert out.shape == (SAMPLES, *drawn.step.out(*(x.shape[1:] for x in drawn.inputs)))


def test_the_vjp_is_that_of_the_complex_step(drawn):
    out, upstream = upstream_of(drawn)
    handed, gradients = drawn.step.vjp(drawn.parameters, drawn.inputs, out, upstream)
    assert gradients.keys() == drawn.step.shapes.keys()
    assert [each.shape for each in handed] == [x.shape for x in drawn.inputs]
    found = {**{str(k): each for k, each in enumerate(handed)}, **gradients}
    for name, value in drawn.moved.items():
        expected = np.empty(value.shape)
        for index in np.ndindex(value.shape):
            moved = {key: array.astype(complex) for key, array in drawn.moved.items()}
            moved[name][index] += 1e-30j
            expected[index] = (upstream * forward(drawn, moved).imag).sum() / 1e-30
        expected = np.where(constant(drawn.step, name), 0.0, expected)
        np.testing.assert_allclose(found[name], expected, rtol=1e-10, atol=1e-12)


def test_moves_may_stand_before_the_samples(drawn):
    step, parameters, inputs = drawn
    order = np.arange(SAMPLES)[::-1]
    both = step.forward(parameters, *(np.stack([x, x[order]]) for x in inputs))
    np.testing.assert_allclose(both[1], step.forward(parameters, *(x[order] for x in inputs)), rtol=1e-13)


def test_samples_do_not_act_on_each_other_unless_it_says_so(drawn):
    step, parameters, inputs = drawn
    moved = [x.copy() for x in inputs]
    for x in moved:
        x[0] = (x[0] + 1) % step.tokens if step.tokens else x[0] + 0.5
    same = np.array_equal(step.forward(parameters, *moved)[1:], step.forward(parameters, *inputs)[1:])
    assert same == (step.couples != "batch")


def test_an_entry_moved_is_the_forward_pass_with_another_parameter(drawn):
    step, parameters, inputs = drawn
    out = step.forward(parameters, *inputs)
    for name, value in parameters.items():
        which, to = np.arange(value.size), value.ravel() + 0.5
        moved = step.with_entries(parameters, name, which, to, inputs, out)
        plainly = Step.with_entries(step, parameters, name, which, to, inputs, out)
        np.testing.assert_allclose(moved, plainly, rtol=1e-13, atol=1e-13)


def test_the_factors_are_those_of_an_affine_map(drawn):
    """Moving an entry by 1 changes the output by its column of J, at any point."""
    step, parameters, inputs = drawn
    out = step.forward(parameters, *inputs)
    d = np.random.default_rng(3).normal(size=(math.prod(out.shape[1:]), SAMPLES))
    numbers = np.random.default_rng(4).permutation(len(d)).astype(float)
    for name, value in parameters.items():
        factors = step.factors(name, inputs)
        if factors is None:
            continue
        moved = step.with_entries(parameters, name, np.arange(value.size), value.ravel() + 1.0, inputs, out)
        jacobian = np.stack([by_feature(each - out) for each in moved])  # (entries, F, N)
        for found, expected in (
            (factors.sums(d), (jacobian * d).sum(axis=(1, 2))),
            (factors.sizes(abs(d)), (abs(jacobian) * abs(d)).sum(axis=(1, 2))),
            (factors.squares(abs(d)), np.sqrt((jacobian**2 * d**2).sum(axis=(1, 2)))),
        ):
            assert found.shape == value.shape
            np.testing.assert_allclose(found.ravel(), expected, rtol=1e-10, atol=1e-12)
        least, reaches = factors.least(numbers), (jacobian != 0).any(axis=2)
        for entry in range(value.size):
            mask = np.zeros(value.shape, dtype=bool)
            mask.flat[entry] = True
            assert not (reaches[entry] & ~factors.feeding(mask)).any()
            assert (least.flat[entry] <= numbers[reaches[entry]]).all()


def test_the_factors_sum_to_the_gradient(drawn):
    out, upstream = upstream_of(drawn)
    _, gradients = drawn.step.vjp(drawn.parameters, drawn.inputs, out, upstream)
    for name, gradient in gradients.items():
        factors = drawn.step.factors(name, drawn.inputs)
        if factors is not None:
            np.testing.assert_allclose(factors.sums(by_feature(upstream)), gradient, rtol=1e-10, atol=1e-12)


def test_some_units_have_the_same_factors_as_all(drawn):
    step, parameters, inputs = drawn
    d = np.random.default_rng(3).normal(size=by_feature(step.forward(parameters, *inputs)).shape)
    for name in parameters:
        factors, units = step.factors(name, inputs), np.arange(len(parameters[name]))[::-1]
        if factors is None:
            continue
        some = factors.only(units)
        np.testing.assert_allclose(some.sums(d[factors.of(units)]), factors.sums(d)[units], rtol=1e-12)
        np.testing.assert_allclose(
            some.squares(abs(d[factors.of(units)])), factors.squares(abs(d))[units], rtol=1e-12
        )


def in_float32(arrays):
    return {name: array.astype(np.float32) for name, array in arrays.items()}


@pytest.mark.parametrize("by", ["its own analysis", "the default"])
def test_float32_stays_within_the_rounding_bounds(drawn, by):
    step, parameters, inputs = drawn
    error, vjp_error = (
        (step.error, step.vjp_error)
        if by != "the default"
        else (
            lambda *given: Step.error(step, *given),
            lambda *given: Step.vjp_error(step, *given),
        )
    )
    narrow_p, narrow = in_float32(parameters), tuple(x.astype(np.float32) for x in inputs)
    p = {name: value.astype(np.float64) for name, value in narrow_p.items()}
    wide = tuple(x.astype(np.float64) for x in narrow)
    out, computed = step.forward(p, *wide), step.forward(narrow_p, *narrow)
    g = np.random.default_rng(7).normal(size=out.shape).astype(np.float32)
    nothing, exact = np.zeros(out.shape), tuple(np.zeros(x.shape) for x in inputs)
    bound = error(p, wide, out, exact, FLOAT32)
    assert computed.dtype == np.float32
    assert (bound >= 0).all()
    assert (np.abs(computed - out) <= 3.0 * bound).all()
    upstream = Upstream(g.astype(np.float64), nothing, nothing)
    handed, bounds = vjp_error(p, Known(wide, out, exact, bound), upstream, FLOAT32)
    right, gradients = step.vjp(p, wide, out, upstream.value)
    rounded, narrow_gradients = step.vjp(narrow_p, narrow, computed, g)
    assert bounds.keys() == gradients.keys()
    for below, each, found in zip(handed, right, rounded, strict=True):
        np.testing.assert_allclose(below.value, each)
        assert (below.error >= 0).all()
        assert (np.abs(found - each) <= 3.0 * below.error).all()
    for name in gradients:
        assert (bounds[name] >= 0).all()
        assert (np.abs(narrow_gradients[name] - gradients[name]) <= 3.0 * bounds[name]).all()


@pytest.mark.parametrize("by", ["its own analysis", "the default"])
def test_errors_of_the_inputs_are_carried_upwards(drawn, by):
    step, parameters, inputs = drawn
    if step.tokens:
        return  # tokens have no errors
    error = step.error if by != "the default" else lambda *given: Step.error(step, *given)
    out, off = step.forward(parameters, *inputs), tuple(1e-7 * np.ones(x.shape) for x in inputs)
    bound = error(parameters, inputs, out, off, EXACT)
    for sign in (1.0, -1.0):
        moved = step.forward(parameters, *(x + sign * each for x, each in zip(inputs, off, strict=True)))
        assert (np.abs(moved - out) <= 1.01 * bound + 1e-15).all()


@pytest.mark.parametrize("by", ["its own analysis", "the default"])
def test_errors_of_the_upstream_are_carried_downwards(drawn, by):
    step, parameters, inputs = drawn
    vjp_error = step.vjp_error if by != "the default" else lambda *given: Step.vjp_error(step, *given)
    out, g = upstream_of(drawn)
    off, exact = 1e-7 * np.abs(g), tuple(np.zeros(x.shape) for x in inputs)
    known = Known(inputs, out, exact, np.zeros(out.shape))
    handed, bounds = vjp_error(parameters, known, Upstream(g, off, np.zeros(g.shape)), EXACT)
    right, gradients = step.vjp(parameters, inputs, out, g)
    for sign in (1.0, -1.0):
        others, moved = step.vjp(parameters, inputs, out, g + sign * off)
        for below, each, other in zip(handed, right, others, strict=True):
            assert (np.abs(other - each) <= 1.01 * below.error + 1e-14).all()
        for name in gradients:
            assert (np.abs(moved[name] - gradients[name]) <= 1.01 * bounds[name] + 1e-14).all()


def test_what_is_not_heard_changes_nothing_above(drawn):
    step, parameters, inputs = drawn
    features = tuple(x.shape[1:] for x in inputs)
    above = np.zeros(step.out(*features), dtype=bool)
    above.flat[0] = True
    below = step.heard(parameters, features, above)
    assert tuple(each.shape for each in below) == features
    other = [(x + 1) % step.tokens if step.tokens else x + 0.1 for x in inputs]
    moved = [np.where(mask, x, each) for mask, x, each in zip(below, inputs, other, strict=True)]
    np.testing.assert_array_equal(
        step.forward(parameters, *moved)[:, above], step.forward(parameters, *inputs)[:, above]
    )


def test_the_sides_of_a_kink_are_pieces_of_the_output(drawn):
    """Held on the piece that it is on, a number is what the forward pass gives."""
    step, parameters, inputs = drawn
    if not step.has_pieces:
        return
    (x,) = inputs
    pieces = step.pieces(x)
    np.testing.assert_array_equal(step.branch(parameters, x, pieces), step.forward(parameters, x))
    sides = step.sides(x, np.zeros(x.shape))
    np.testing.assert_array_equal(sides.below, pieces)
    np.testing.assert_array_equal(sides.above, pieces)
