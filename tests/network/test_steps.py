"""Every kind of step keeps its promises: vjp, factors and moves match its forward pass."""

from __future__ import annotations

import importlib
import math
import pkgutil

import numpy as np
from step_examples import EVERY, RANDOM, SAMPLES, on_every_step, upstream_of

from gradcheck_cli.network import steps
from gradcheck_cli.network.arithmetic import FLOAT64
from gradcheck_cli.network.step import Known, Sensitivity, Step, Upstream
from gradcheck_cli.network.steps.given import Given
from gradcheck_cli.network.steps.normalise import Scale
from gradcheck_cli.network.steps.pointwise import Pointwise
from gradcheck_cli.network.steps.reshape import Flatten
from gradcheck_cli.network.steps.rms_norm import Gain
from gradcheck_cli.network.steps.shift import Shift
from gradcheck_cli.spec.layers import KINDS as LAYERS


def forward(drawn, arrays):
    """The output with some of the arrays that have a gradient replaced."""
    inputs = (arrays.get(str(k), x) for k, x in enumerate(drawn.inputs))
    parameters = {name: arrays.get(name, value) for name, value in drawn.parameters.items()}
    return drawn.step.forward(parameters, *inputs)


def constant(step, name):
    mask = step.constant(name) if name in step.shapes else None
    return np.zeros((), dtype=bool) if mask is None else mask


def by_feature(array):
    """(F, N) of (N, *features)."""
    return np.moveaxis(array, 0, -1).reshape(-1, len(array))


def nudged(step, inputs):
    """Return the inputs with other numbers, or with other tokens."""
    return tuple((x + 1) % step.tokens if step.tokens else x + 0.5 for x in inputs)


# --- the table ---------------------------------------------------------------------------------------------


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
    assert {model.step for model in LAYERS.values() if hasattr(model, "step")} <= kinds
    bases = {base for kind in kinds for base in kind.__mro__[1:]}
    without = {Shift, Given}  # as large as the batch; tests/test_inputs.py and test_given_arrays.py test them
    assert kinds - bases - without <= {type(each.step) for examples in EVERY.values() for each in examples}


def test_steps_with_parameters_and_with_several_inputs_are_drawn():
    """The tests below check something: they loop over parameters and inputs."""
    drawn = [examples[0] for examples in RANDOM.values()]
    assert sum(bool(each.step.shapes) for each in drawn) >= 5
    assert sum(len(each.features) > 1 for each in drawn) >= 3


@on_every_step
def test_every_kind_has_a_label(drawn):
    """Another node of the same layer has the label of these."""
    assert drawn.step.label or isinstance(drawn.step, (Flatten, Gain, Pointwise, Scale))


# --- the forward pass --------------------------------------------------------------------------------------


@on_every_step
def test_the_output_has_the_promised_shape(drawn):
    out = drawn.step.forward(drawn.parameters, *drawn.inputs)
    assert out.shape == (SAMPLES, *drawn.step.out(*(x.shape[1:] for x in drawn.inputs)))


@on_every_step
def test_wide_numbers_stay_wide(drawn):
    step, parameters, inputs = drawn
    wide = step.forward(
        {name: value.astype(np.longdouble) for name, value in parameters.items()},
        *(x.astype(np.longdouble) for x in inputs),
    )
    assert wide.dtype == np.longdouble
    expected = step.forward(parameters, *inputs)
    np.testing.assert_allclose(wide.astype(float), expected, rtol=1e-12, atol=1e-14)


@on_every_step
def test_moves_may_stand_before_the_samples(drawn):
    """All inputs may have leading axes, or any one alone."""
    step, parameters, inputs = drawn
    order = np.arange(SAMPLES)[::-1]
    both = step.forward(parameters, *(np.stack([x, x[order]]) for x in inputs))
    np.testing.assert_allclose(both[1], step.forward(parameters, *(x[order] for x in inputs)), rtol=1e-13)
    for i, (x, other) in enumerate(zip(inputs, nudged(step, inputs), strict=True)):
        both = step.forward(parameters, *inputs[:i], np.stack([x, other]), *inputs[i + 1 :])
        alone = step.forward(parameters, *inputs[:i], other, *inputs[i + 1 :])
        np.testing.assert_allclose(both[1], alone, rtol=1e-13, atol=1e-14)


@on_every_step
def test_samples_do_not_act_on_each_other_unless_it_says_so(drawn):
    step, parameters, inputs = drawn
    moved = [np.concatenate([m[:1], x[1:]]) for m, x in zip(nudged(step, inputs), inputs, strict=True)]
    same = np.array_equal(step.forward(parameters, *moved)[1:], step.forward(parameters, *inputs)[1:])
    assert same == (step.couples != "batch")


@on_every_step
def test_a_step_that_couples_nothing_sends_each_number_to_one_number(drawn):
    step, parameters, inputs = drawn
    if step.couples != "nothing":
        return
    for i, (x, other) in enumerate(zip(inputs, nudged(step, inputs), strict=True)):
        for entry in range(x[0].size):
            moved = x.copy()
            moved[0].flat[entry] = other[0].flat[entry]
            others = (*inputs[:i], moved, *inputs[i + 1 :])
            assert (step.forward(parameters, *others) != step.forward(parameters, *inputs)).sum() <= 1


@on_every_step
def test_what_is_not_heard_changes_nothing_above(drawn):
    step, parameters, inputs = drawn
    features, out = tuple(x.shape[1:] for x in inputs), step.forward(parameters, *inputs)
    for number in range(out[0].size):
        above = np.zeros(out.shape[1:], dtype=bool)
        above.flat[number] = True
        below = step.heard(parameters, features, above)
        assert tuple(mask.shape for mask in below) == features
        moved = (
            np.where(mask, x, each) for mask, x, each in zip(below, inputs, nudged(step, inputs), strict=True)
        )
        np.testing.assert_array_equal(step.forward(parameters, *moved)[:, above], out[:, above])


@on_every_step
def test_the_sides_of_a_kink_are_pieces_of_the_output(drawn):
    """Held on the piece that it is on, a number is what the forward pass gives."""
    step, parameters, inputs = drawn
    if not step.has_pieces:
        return
    (x,) = inputs
    pieces = step.pieces(x)
    np.testing.assert_array_equal(step.branch(parameters, x, pieces), step.forward(parameters, x))
    sides = step.sides(x, np.zeros(x.shape))
    for side in sides.pieces:
        np.testing.assert_array_equal(side, pieces)


# --- gradients and factors ---------------------------------------------------------------------------------


@on_every_step
def test_the_gradients_alone_are_those_of_the_vjp(drawn):
    out, upstream = upstream_of(drawn)
    at = drawn.parameters, drawn.inputs, out, upstream
    assert_same(drawn.step.gradients(*at), drawn.step.vjp(*at)[1])
    nothing, exact = np.zeros(out.shape), tuple(np.zeros(x.shape) for x in drawn.inputs)
    known = Known(drawn.inputs, out, exact, nothing)
    bounds = drawn.parameters, known, Upstream(upstream, np.abs(upstream), nothing), FLOAT64
    assert_same(drawn.step.gradient_errors(*bounds), drawn.step.vjp_error(*bounds)[1])


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


@on_every_step
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


@on_every_step
def test_an_entry_moved_is_the_forward_pass_with_another_parameter(drawn):
    step, parameters, inputs = drawn
    out = step.forward(parameters, *inputs)
    for name, value in parameters.items():
        which, to = np.arange(value.size), value.ravel() + 0.5
        moved = step.with_entries(parameters, name, which, to, inputs, out)
        plainly = Step.with_entries(step, parameters, name, which, to, inputs, out)
        np.testing.assert_allclose(moved, plainly, rtol=1e-13, atol=1e-13)


@on_every_step
def test_entries_moved_for_inputs_of_their_own_are_entries_moved_one_at_a_time(drawn):
    step, parameters, inputs = drawn
    for name, value in parameters.items():
        which, to = np.arange(value.size)[:3], value.ravel()[:3] - 0.25
        each = [tuple(np.roll(x, b, axis=0) for x in inputs) for b in range(len(which))]
        moved = step.each_with_entries(parameters, name, which, to, each)
        plainly = Step.each_with_entries(step, parameters, name, which, to, each)
        np.testing.assert_allclose(moved, plainly, rtol=1e-12, atol=1e-12)


def affine(step, parameters, inputs):
    """Yield the parameters that have factors; all others are moved entry by entry."""
    for name, value in parameters.items():
        factors = step.factors(name, inputs)
        if factors is not None:
            yield name, value, factors


def test_all_parameters_but_those_of_weight_norm_have_factors():
    without = set()
    for kind, examples in EVERY.items():
        step, features = examples[0]
        inputs = tuple(np.ones((SAMPLES, *each)) for each in features)
        without |= {(kind, name) for name in step.shapes if step.factors(name, inputs) is None}
    assert without == {("weight_norm", "weight_g"), ("weight_norm", "weight_v")}


@on_every_step
def test_the_factors_are_those_of_an_affine_map(drawn):
    """Moving an entry by 1 changes the output by its column of J, at any point."""
    step, parameters, inputs = drawn
    out = step.forward(parameters, *inputs)
    d = np.random.default_rng(3).normal(size=(math.prod(out.shape[1:]), SAMPLES))
    numbers = np.random.default_rng(4).permutation(len(d)).astype(float)
    for name, value, factors in affine(step, parameters, inputs):
        every = np.arange(value.size)
        moved = Step.with_entries(step, parameters, name, every, value.ravel() + 1.0, inputs, out)
        jacobian = np.stack([by_feature(each - out) for each in moved])  # (entries, F, N)
        for found, expected in (
            (factors.sums(d), (jacobian * d).sum(axis=(1, 2))),
            (factors.sizes(abs(d)), (abs(jacobian) * abs(d)).sum(axis=(1, 2))),
            (factors.squares(abs(d)), np.sqrt((jacobian**2 * d**2).sum(axis=(1, 2)))),
        ):
            assert found.shape == value.shape
            np.testing.assert_allclose(found.ravel(), expected, rtol=1e-10, atol=1e-12)
        least, reaches = factors.least(numbers), (jacobian != 0).any(axis=2)
        for entry in every:
            mask = np.zeros(value.shape, dtype=bool)
            mask.flat[entry] = True
            assert not (reaches[entry] & ~factors.feeding(mask)).any()
            assert (least.flat[entry] <= numbers[reaches[entry]]).all()


@on_every_step
def test_the_factors_sum_to_the_gradient(drawn):
    out, upstream = upstream_of(drawn)
    _, gradients = drawn.step.vjp(drawn.parameters, drawn.inputs, out, upstream)
    for name, _, factors in affine(*drawn):
        sums = factors.sums(by_feature(upstream))
        np.testing.assert_allclose(sums, gradients[name], rtol=1e-12, atol=1e-13)


@on_every_step
def test_some_units_have_the_same_factors_as_all(drawn):
    step, parameters, inputs = drawn
    d = np.random.default_rng(3).normal(size=by_feature(step.forward(parameters, *inputs)).shape)
    for _, value, factors in affine(step, parameters, inputs):
        for units in (np.arange(len(value))[::-1], np.arange(len(value))[::-2]):
            some, numbers = factors.only(units), d[factors.of(units)]
            np.testing.assert_allclose(some.sums(numbers), factors.sums(d)[units], rtol=1e-12)
            np.testing.assert_allclose(some.squares(abs(numbers)), factors.squares(abs(d))[units], rtol=1e-12)
            assert some.reach().shape == factors.reach()[units].shape


@on_every_step
def test_each_unit_has_the_numbers_of_its_channel(drawn):
    """Entries belong to units in C order, an equal number each, and feed only their unit's numbers."""
    step, parameters, inputs = drawn
    if step.tokens:
        return  # the rows of an embedding are picked by tokens, not by channels
    numbers = math.prod(step.out(*(x.shape[1:] for x in inputs)))
    for _, value, factors in affine(step, parameters, inputs):
        rows = factors.channels.by_unit(np.arange(numbers)[:, None])
        entries = np.arange(value.size).reshape(len(rows), -1)
        for own, of_unit in zip(rows.reshape(len(rows), -1), entries, strict=True):
            mask = np.zeros(value.shape, dtype=bool)
            mask.flat[of_unit] = True
            assert set(np.flatnonzero(factors.feeding(mask))) <= set(own)


@on_every_step
def test_an_affine_step_that_rises_bounds_how_much_it_can_hand_down(drawn):
    step, parameters, inputs = drawn
    if not (step.is_affine and step.rises):
        return
    out, sizes = upstream_of(drawn)
    exact = Known(inputs, out, tuple(map(np.zeros_like, inputs)), np.zeros_like(out))
    below = step.sensitivities(parameters, exact, Sensitivity(np.abs(sizes), np.zeros_like(sizes)))
    at_0 = step.forward(parameters, *map(np.zeros_like, inputs))
    for k, x in enumerate(inputs):
        for index in np.ndindex(x.shape[1:]):
            one = [np.zeros_like(each) for each in inputs]
            one[k][:, *index] = 1.0
            factors = np.abs(step.forward(parameters, *one) - at_0)
            total = (factors * np.abs(sizes)).reshape(len(out), -1).sum(axis=1)
            np.testing.assert_allclose(below[k].terms[:, *index], total, rtol=1e-9, atol=1e-12)
