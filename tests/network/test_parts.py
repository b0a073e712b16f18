"""Computing only the part of a step's output that changes gives the same numbers as whole samples."""

from __future__ import annotations

import numpy as np
import pytest
from step_examples import EXAMPLES, drawn_from

from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.part import Resting, Risen, Valued, reshaped
from gradcheck_cli.network.steps.dense import Dense
from gradcheck_cli.network.steps.matmul import Matmul
from gradcheck_cli.network.steps.pointwise import Pointwise
from gradcheck_cli.network.steps.pooling import AvgPool

COPIES, DRAWS = 6, 8


def perturbed(rest, rng, share=0.6):
    """A part with a random choice of fixed axes, whose numbers have all changed."""
    sizes = rest.features
    fixed = tuple(rng.integers(0, n, COPIES) if rng.random() < share else None for n in sizes)
    value = rest.at(fixed)
    rise = rng.normal(size=value.shape)
    return Risen(rest, fixed, rise) if rng.random() < 0.5 else Valued(rest, fixed, value + rise)


@pytest.mark.parametrize("name", [name for name, of in EXAMPLES.items() if of.step.couples != "batch"])
@pytest.mark.parametrize("seed", range(DRAWS))
def test_a_part_is_that_of_the_whole(name, seed):
    step, parameters, arrays = drawn_from(EXAMPLES[name], seed)
    if step.tokens:
        return  # tokens are never perturbed
    rng = np.random.default_rng(seed)
    samples = rng.integers(0, len(arrays[0]), COPIES)
    moved = rng.random(len(arrays)) < 0.6
    moved[rng.integers(len(arrays))] = True
    rest = [Resting(x, samples) for x in arrays]
    inputs = [perturbed(x, rng) if of else x for x, of in zip(rest, moved, strict=True)]
    output = Resting(step.forward(parameters, *arrays), samples)
    expected = step.forward(parameters, *(each.whole for each in inputs))
    found = step.part(parameters, inputs, output)
    whole = output.whole if found is None else found.whole
    np.testing.assert_allclose(whole, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("before", "after", "fixed", "kept"),
    [
        ((3, 8), (3, 2, 4), (True, True), (True, True, True)),
        ((3, 8), (3, 2, 4), (True, False), (True, False, False)),
        ((3, 2, 4), (3, 8), (True, True, False), (True, False)),
        ((3, 2, 4), (3, 8), (True, True, True), (True, True)),
        ((2, 3, 4), (24,), (True, True, True), (True,)),
        ((2, 3, 4), (4, 6), (True, True, True), (True, True)),
        ((6, 1), (1, 6), (True, True), (True, True)),
    ],
)
def test_a_reshaped_part_keeps_every_fixed_axis_that_it_can(before, after, fixed, kept):
    rng = np.random.default_rng(0)
    x, samples = rng.normal(size=(5, *before)), rng.integers(0, 5, COPIES)
    rest = Resting(x, samples)
    index = tuple(rng.integers(0, n, COPIES) if of else None for n, of in zip(before, fixed, strict=True))
    part = Valued(rest, index, rest.at(index) + 1.0)
    found = reshaped(part, Resting(x.reshape(5, *after), samples))
    assert tuple(each is not None for each in found.fixed) == kept
    np.testing.assert_array_equal(found.whole, part.whole.reshape(COPIES, *after))


def evaluated(step, features, fixed, *others):
    """How many numbers of the output a step evaluates for a perturbed part of its first input."""
    rng = np.random.default_rng(1)
    samples = np.zeros(COPIES, dtype=int)
    arrays = [rng.normal(size=(2, *shape)) for shape in (features, *others)]
    parameters = {name: rng.normal(size=shape) for name, shape in step.shapes.items()}
    first, *rest = (Resting(x, samples) for x in arrays)
    index = tuple(np.zeros(COPIES, dtype=int) if of else None for of in fixed)
    part = Valued(first, index, first.at(index) + 1.0)
    output = Resting(step.forward(parameters, *arrays), samples)
    return step.part(parameters, [part, *rest], output).value.size // COPIES


def test_only_what_changes_is_evaluated():
    assert evaluated(Dense(4, 3), (8, 4), (True, True)) == 3
    assert evaluated(AvgPool((2, 2), (2, 2), (0, 0)), (3, 8, 8), (True, True, True)) == 1
    scores = Matmul(transposed=True)
    assert evaluated(scores, (2, 8, 4), (True, True, True), (2, 8, 4)) == 8


@pytest.mark.parametrize("transposed", [True, False])
def test_a_product_of_two_parts_that_are_rows_is_that_of_the_whole(transposed):
    rng, step = np.random.default_rng(7), Matmul(transposed=transposed, scale=0.3)
    samples, token = rng.integers(0, 2, COPIES), rng.integers(0, 5, COPIES)
    a, b = rng.normal(size=(2, 3, 5, 4)), rng.normal(size=(2, 3, 5, 4) if transposed else (2, 3, 4, 5))
    inputs = []
    for x, fixed in ((a, (None, token, None)), (b, (None, token % 4, None))):
        rest = Resting(x, samples)
        inputs.append(Risen(rest, fixed, rng.normal(size=rest.at(fixed).shape)))
    found = step.part({}, inputs, Resting(step.forward({}, a, b), samples))
    np.testing.assert_allclose(
        found.whole, step.forward({}, *(x.whole for x in inputs)), rtol=1e-12, atol=1e-13
    )


@pytest.mark.parametrize("samples", [[0, 1, 0, 1, 0, 1], [0, 0, 1, 1, 0, 1], [0, 1, 0, 1, 0]])
def test_slow_activations_rise_by_as_much_as_their_values(samples):
    rng, step = np.random.default_rng(5), Pointwise(ACTIVATIONS["gelu"].with_options())
    z, samples = rng.normal(size=(2, 3, 4)), np.array(samples)
    rest, output = Resting(z, samples), Resting(step.forward({}, z), samples)
    for fixed in (rest.all, (np.arange(len(samples)) % 3, None)):
        part = Risen(rest, fixed, 0.01 * rng.uniform(-1.0, 1.0, size=rest.at(fixed).shape))
        np.testing.assert_allclose(
            step.part({}, [part], output).value, step.forward({}, part.value), rtol=1e-14, atol=1e-15
        )
