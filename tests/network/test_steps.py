"""What every kind of step promises: its vjp, its factors, its rounding and its moves fit its forward pass."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.step import Known, Step, Upstream
from gradcheck_cli.network.steps.batch_norm import Normalise, Scale
from gradcheck_cli.network.steps.conv2d import Conv2d
from gradcheck_cli.network.steps.dense import Dense
from gradcheck_cli.network.steps.pointwise import Pointwise
from gradcheck_cli.network.steps.reshape import Flatten

SAMPLES = 5
FLOAT32 = Arithmetic.of(np.dtype(np.float32))

STEPS: dict[str, tuple[Step, tuple[int, ...]]] = {
    "dense": (Dense(4, 3), (4,)),
    "dense at positions": (Dense(4, 3), (6, 4)),
    "conv2d": (Conv2d(2, 3, (3, 3)), (2, 6, 5)),
    "conv2d, padded": (Conv2d(2, 3, (3, 2), padding=(1, 1)), (2, 4, 5)),
    "conv2d, strided and dilated": (Conv2d(1, 2, (2, 3), (2, 1), (0, 1), (1, 2)), (1, 6, 7)),
    "conv2d, in groups": (Conv2d(4, 6, (2, 2), groups=2), (4, 4, 3)),
    "a kernel that leaves some numbers out": (Conv2d(1, 2, (2, 2), (3, 3)), (1, 7, 6)),
    "normalise": (Normalise(1e-5), (4,)),
    "normalise images": (Normalise(1e-5, positions=2), (3, 2, 4)),
    "scale": (Scale(4), (4,)),
    "scale images": (Scale(3, positions=2), (3, 2, 4)),
    "flatten": (Flatten(3), (2, 3, 4)),
    "tanh": (Pointwise(ACTIVATIONS["tanh"].with_options(), "tanh"), (4,)),
    "relu of images": (Pointwise(ACTIVATIONS["relu"].with_options(), "relu"), (2, 3, 4)),
    "softmax": (Pointwise(ACTIVATIONS["softmax"].with_options(), "softmax"), (4,)),
}


@pytest.fixture(params=STEPS)
def drawn(request):
    """A step, its parameters and its input."""
    step, features = STEPS[request.param]
    rng = np.random.default_rng(len(request.param))
    parameters = {name: rng.normal(size=shape) for name, shape in step.shapes.items()}
    return step, parameters, rng.normal(size=(SAMPLES, *features))


def upstream_of(step, parameters, x):
    out = step.forward(parameters, x)
    return out, np.random.default_rng(7).normal(size=out.shape)


def by_feature(array):
    """(F, N) of (N, *features)."""
    return np.moveaxis(array, 0, -1).reshape(-1, len(array))


def test_the_output_has_the_promised_shape(drawn):
    step, parameters, x = drawn
    assert step.forward(parameters, x).shape == (SAMPLES, *step.out(x.shape[1:]))


def test_the_vjp_is_that_of_the_complex_step(drawn):
    step, parameters, x = drawn
    out, upstream = upstream_of(step, parameters, x)
    (dL_dx,), gradients = step.vjp(parameters, (x,), out, upstream)
    assert gradients.keys() == step.shapes.keys()
    for name, value in {"x": x, **parameters}.items():
        expected = np.empty(value.shape)
        for index in np.ndindex(value.shape):
            moved = value.astype(complex)
            moved[index] += 1e-30j
            at = {**parameters, name: moved} if name != "x" else parameters
            result = step.forward(at, moved if name == "x" else x.astype(complex))
            expected[index] = (upstream * result.imag).sum() / 1e-30
        ours = dL_dx if name == "x" else gradients[name]
        np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-12)


def test_moves_may_stand_before_the_samples(drawn):
    step, parameters, x = drawn
    both = step.forward(parameters, np.stack([x, 2.0 * x]))
    np.testing.assert_allclose(both[1], step.forward(parameters, 2.0 * x), rtol=1e-13)


def test_samples_do_not_act_on_each_other_unless_it_says_so(drawn):
    step, parameters, x = drawn
    moved = x.copy()
    moved[0] += 0.5
    same = np.array_equal(step.forward(parameters, moved)[1:], step.forward(parameters, x)[1:])
    assert same == (step.couples != "batch")


def test_an_entry_moved_is_the_forward_pass_with_another_parameter(drawn):
    step, parameters, x = drawn
    out = step.forward(parameters, x)
    for name, value in parameters.items():
        which = np.arange(value.size)
        moved = step.with_entries(parameters, name, which, value.ravel() + 0.5, (x,), out)
        plainly = Step.with_entries(step, parameters, name, which, value.ravel() + 0.5, (x,), out)
        np.testing.assert_allclose(moved, plainly, rtol=1e-13, atol=1e-13)


def test_the_factors_are_those_of_an_affine_map(drawn):
    """Moving an entry by 1 changes the output by its column of J, at any point."""
    step, parameters, x = drawn
    out = step.forward(parameters, x)
    d = np.random.default_rng(3).normal(size=(math.prod(out.shape[1:]), SAMPLES))
    for name, value in parameters.items():
        factors = step.factors(name, (x,))
        moved = step.with_entries(parameters, name, np.arange(value.size), value.ravel() + 1.0, (x,), out)
        jacobian = np.stack([by_feature(each - out) for each in moved])  # (entries, F, N)
        for found, expected in (
            (factors.sums(d), (jacobian * d).sum(axis=(1, 2))),
            (factors.sizes(abs(d)), (abs(jacobian) * abs(d)).sum(axis=(1, 2))),
            (factors.squares(abs(d)), np.sqrt((jacobian**2 * d**2).sum(axis=(1, 2)))),
        ):
            assert found.shape == value.shape
            np.testing.assert_allclose(found.ravel(), expected, rtol=1e-10, atol=1e-12)
        reaches = (jacobian != 0).any(axis=2)
        for entry in range(value.size):
            mask = np.zeros(value.shape, dtype=bool)
            mask.flat[entry] = True
            assert not (reaches[entry] & ~factors.feeding(mask)).any()


def test_some_units_have_the_same_factors_as_all(drawn):
    step, parameters, x = drawn
    d = np.random.default_rng(3).normal(size=(math.prod(step.out(x.shape[1:])), SAMPLES))
    for name in parameters:
        factors, units = step.factors(name, (x,)), np.array([1, 0])
        some = factors.only(units)
        np.testing.assert_allclose(some.sums(d[factors.of(units)]), factors.sums(d)[units], rtol=1e-12)
        np.testing.assert_allclose(
            some.squares(abs(d[factors.of(units)])), factors.squares(abs(d))[units], rtol=1e-12
        )


def test_float32_stays_within_the_rounding_bounds(drawn):
    step, parameters, x = drawn
    x, held = x.astype(np.float32), {name: p.astype(np.float32) for name, p in parameters.items()}
    wide, wide_x = {name: p.astype(np.float64) for name, p in held.items()}, x.astype(np.float64)
    out = step.forward(wide, wide_x)
    upstream = np.random.default_rng(7).normal(size=out.shape).astype(np.float32)
    nothing = np.zeros(out.shape)
    bound = step.error(wide, (wide_x,), out, (np.zeros(x.shape),), FLOAT32)
    computed = step.forward(held, x)
    assert computed.dtype == np.float32
    assert (np.abs(computed - out) <= 3.0 * bound).all()
    handed = Upstream(upstream.astype(np.float64), nothing, nothing)
    known = Known((wide_x,), out, (np.zeros(x.shape),), bound)
    (below,), bounds = step.vjp_error(wide, known, handed, FLOAT32)
    (exact,), gradients = step.vjp(wide, (wide_x,), out, upstream.astype(np.float64))
    (narrow,), narrow_gradients = step.vjp(held, (x,), computed, upstream)
    np.testing.assert_allclose(below.value, exact)
    assert (np.abs(narrow - exact) <= 3.0 * below.error).all()
    for name in gradients:
        assert (bounds[name] >= 0).all()
        assert (np.abs(narrow_gradients[name] - gradients[name]) <= 3.0 * bounds[name]).all()


def test_errors_of_the_input_are_carried_upwards(drawn):
    step, parameters, x = drawn
    out, off = step.forward(parameters, x), 1e-7 * np.ones(x.shape)
    exact = Arithmetic(eps=0.0, tiny=0.0)
    bound = step.error(parameters, (x,), out, (off,), exact)
    for sign in (1.0, -1.0):
        moved = step.forward(parameters, x + sign * off)
        assert (np.abs(moved - out) <= 1.0001 * bound + 1e-15).all()


def test_what_is_not_heard_changes_nothing_above(drawn):
    step, parameters, x = drawn
    above = np.zeros(step.out(x.shape[1:]), dtype=bool)
    above.flat[0] = True
    (below,) = step.heard(parameters, (x.shape[1:],), above)
    assert below.shape == x.shape[1:]
    moved = np.where(below, x, x + 0.1)
    np.testing.assert_array_equal(
        step.forward(parameters, moved)[:, above], step.forward(parameters, x)[:, above]
    )
