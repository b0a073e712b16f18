"""A mask that backward draws again is found from the gradients, if these determine it."""

from __future__ import annotations

import numpy as np
import pytest
from build import problem_of
from diagnose.graphs import swept
from diagnose.networks import kinds, why

from gradcheck_cli.diagnose.zeros_and_ones import are_determined, solves, zeros_and_ones
from gradcheck_cli.network.steps.dropout import SampleDropout

KIND = "dropout: mask drawn again"


def system(unknowns, equations, seed):
    """Return a system such as a unit's gradients give, (terms, m): the last equation is that of the bias."""
    rng = np.random.default_rng(seed)
    inputs = np.hstack([rng.normal(size=(unknowns, equations - 1)), np.ones((unknowns, 1))])
    return rng.normal(size=(unknowns, 1)) * inputs, (rng.random(unknowns) < 0.5).astype(float)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("unknowns", "equations"), [(5, 9), (12, 12), (30, 22), (100, 70), (24, 3), (28, 5)])
def test_zeros_and_ones_are_found(unknowns, equations, seed):
    terms, m = system(unknowns, equations, seed)
    assert are_determined(terms)
    assert (zeros_and_ones(terms, m @ terms) == m).all()


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_all_zeros_and_all_ones_are_found_from_few_equations(value):
    terms, _ = system(60, 2, 0)
    assert not are_determined(terms)
    assert (zeros_and_ones(terms, np.full(60, value) @ terms) == value).all()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("unknowns", "equations"), [(5, 9), (30, 22), (24, 3), (60, 2)])
def test_sums_of_other_numbers_have_no_solution(unknowns, equations, seed):
    terms, m = system(unknowns, equations, seed)
    found = zeros_and_ones(terms, (0.3 + 0.5 * m) @ terms)
    assert found is None or solves(found, terms, (0.3 + 0.5 * m) @ terms)
    assert found is None


def network(samples, inputs, units, mask):
    layers = {"units": units, "activation": "relu"}, {"dropout": 0.5, "mask": mask.tolist()}, {"units": 3}
    return problem_of(*layers, inputs=inputs, samples=samples, seed=samples)


def with_mask(problem, mask):
    """Return the gradients of a backward pass in which dropout multiplies by another array."""

    def backward(visit):
        if isinstance(visit.step, SampleDropout):
            return (mask * visit.upstream, visit.right[0][1]), {}
        return visit.right

    return swept(problem, backward)


def masks(samples, shared):
    """Return the mask of the forward pass and another one, shared by all samples or not, (samples, 6)."""
    rng = np.random.default_rng(samples)
    mask = (rng.random((samples, 6)) < 0.5).astype(int)
    drawn = rng.permutation([0, 0, 0, 1, 1, 1]) if shared else rng.permutation(mask.ravel())
    return mask, np.resize(drawn, mask.shape)


@pytest.mark.parametrize(
    ("samples", "inputs", "shared"), [(20, 30, False), (40, 16, False), (24, 3, False), (40, 2, True)]
)
def test_a_mask_that_is_drawn_again_is_named(samples, inputs, shared):
    mask, again = masks(samples, shared)
    problem = network(samples, inputs, 6, mask)
    assert kinds(why(problem, with_mask(problem, 2.0 * again))) == [(KIND,)]


@pytest.mark.parametrize("factor", [0.5, 1.3, 2.0])
def test_a_factor_is_no_other_mask(factor):
    mask, _ = masks(20, False)
    problem = network(20, 3, 6, mask)
    noise = 1.0 + 0.1 * np.random.default_rng(1).random(mask.shape)
    for wrong in (factor * mask, factor * noise * mask):
        named = kinds(why(problem, with_mask(problem, 2.0 * wrong)))
        assert KIND not in {kind for answer in named for kind in answer}


def test_an_inverted_mask_is_not_also_called_another_mask():
    mask, _ = masks(20, False)
    problem = network(20, 30, 6, mask)
    named = kinds(why(problem, with_mask(problem, 2.0 * (1 - mask))))
    assert named == [("dropout: mask inverted",)]
