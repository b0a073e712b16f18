"""Gradients that are 0, exactly or up to rounding, blame no formula and no layer."""

from __future__ import annotations

import numpy as np
import pytest
from diagnose.networks import NETWORKS, kinds, noise, problem, right, why

SIGMOID = NETWORKS["sigmoid"]


@pytest.mark.parametrize("name", NETWORKS)
def test_where_every_gradient_is_0_no_formula_is_to_blame(name):
    of = NETWORKS[name]
    (answer,) = why(of, {key: np.zeros_like(value) for key, value in right(of).items()}).answers
    (cause,) = answer.causes
    assert cause.kind == "gradient zero"
    assert cause.sentence.startswith("Every gradient is 0: backward never ran")


def test_where_all_weights_are_0_no_empty_batch_is_to_blame():
    found = {name: 0.0 * value if "weight" in name else value for name, value in right(SIGMOID).items()}
    assert kinds(why(SIGMOID, found)) == [("gradient zero",)]


@pytest.mark.parametrize("name", ["sigmoid", "softmax", "batch norm"])
def test_what_few_decimals_round_to_0_is_no_second_mistake(name):
    of, decimals = NETWORKS[name], {"sigmoid": 2, "softmax": 2, "batch norm": 1}[name]
    rounded = {key: np.round(value, decimals) for key, value in right(of).items()}
    assert sum(not value.any() for value in rounded.values()) > 1
    (cause,) = why(of, rounded).answers[0].causes
    assert cause.kind == "few decimals"
    assert "so small that it rounds to 0" in cause.sentence


def test_a_small_gradient_that_is_0_is_not_taken_for_a_rounded_one():
    found = right(SIGMOID)
    found["hidden1.bias"] = np.zeros_like(found["hidden1.bias"])
    assert kinds(why(SIGMOID, found)) == [("gradient zero",)]


def test_what_is_0_below_a_batch_normalisation_stands_for_no_other_tensor():
    of = NETWORKS["batch norm"]
    found = {**right(of), "hidden1.beta": np.zeros(5)}
    assert "tensors swapped" not in {kind for each in kinds(why(of, found)) for kind in each}
    exact = right(of)
    swapped = {**exact, "hidden1.beta": exact["hidden1.bias"], "hidden1.bias": exact["hidden1.beta"]}
    assert "are swapped" in why(of, swapped).answers[0].causes[0].sentence


def test_samples_are_not_told_of_a_layer_whose_weights_are_right():
    """Only gamma is off: then δ is right, and what differs in it is rounding."""
    of = problem("tanh", "identity", samples=5, units=9, batch_norm=True)
    found = right(of)
    found["hidden1.gamma"] = noise(found["hidden1.gamma"])
    told = why(of, found)
    assert told.answers == ()
    assert not any("δ of layer" in each for each in told.observations)
