"""A pair of equal embeddings, at which the contrastive loss has a cone's tip if the pair should be apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from build import problem_of, right_gradients, spec_of
from judged import Undiagnosed

from gradcheck_cli import Verdict
from gradcheck_cli.gradients.analytic import Analytic
from gradcheck_cli.subject.network import network_subject


def verdict(label, **gradients):
    """The verdict on two samples, the first of which is 0, with this label; gradients replace right ones."""
    rest = {
        "inputs": 2,
        "loss": "contrastive",
        "parameters": {"init": "xavier", "seed": 2},
        "data": {"x": [[0.0, 0.0], [1.0, -2.0]], "y": [label, 1]},
    }
    layers = {"units": 3, "activation": "tanh"}, {"units": 4}
    problem, spec = problem_of(*layers, **rest), spec_of(*layers, **rest)
    of = Undiagnosed.of(network_subject(spec, problem))
    values = right_gradients(problem)
    values |= {name: change(values[name]) for name, change in gradients.items()}
    return replace(of, analytic=Analytic(values, of.analytic.dtypes, "a test")).check(spec.check).verdict


@pytest.mark.parametrize("label", [0, 1])
def test_a_right_gradient_agrees_at_equal_embeddings(label):
    """A pair that should be apart has no slope by convention; one that is alike has none in fact."""
    assert verdict(label) is Verdict.AGREES


@pytest.mark.parametrize("along", [np.array([1.0, 0.0, -1.0, 0.0]), np.array([0.6, -0.8, -0.6, 0.8])])
def test_a_slope_of_the_cone_is_not_called_wrong(along):
    assert verdict(0, **{"output.bias": lambda right: right - along}) is not Verdict.WRONG


def test_a_pair_that_is_alike_has_no_cone():
    bend = np.array([0.01, 0.0, -0.01, 0.0])
    assert verdict(1, **{"output.bias": lambda right: right - bend}) is Verdict.WRONG
