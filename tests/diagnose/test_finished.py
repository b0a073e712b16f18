"""Mistakes in finished gradients: reordered lines, swaps and zeros, also before a penalty is added."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from diagnose.networks import NETWORKS, Gradients, kinds, penalty, problem, right, sentence_of, why
from mistakes import Backprop

from gradcheck_cli.problem.problem import Problem

SIGMOID = NETWORKS["sigmoid"]


CROSS_ENTROPY = NETWORKS["tanh, cross-entropy"]
"""A network with penalties on the weights, and with Σⱼ δⱼ = 0 in the output layer."""


def spoilt(of: Problem, name: str, change: Callable[[np.ndarray], np.ndarray], early: bool) -> Gradients:
    exact, added = right(of), penalty(of, name) if early else 0.0
    return {**exact, name: change(exact[name] - added) + added}


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("early", [False, True])
def test_lines_in_another_order_are_seen_where_their_sums_are_0_and_before_a_penalty(axis, early):
    lines = ("rows", "columns")[axis]
    found = spoilt(CROSS_ENTROPY, "output.weight", lambda g: np.roll(g, 1, axis), early)
    when = ", before the penalty is added" if early else ""
    assert sentence_of(CROSS_ENTROPY, found) == (
        f"The {lines} of output.weight's gradient are in the wrong order{when}."
    )


@pytest.mark.parametrize("early", [False, True])
def test_reshaping_instead_of_transposing_is_found_in_either_layout(early):
    for change in (lambda g: g.T.reshape(g.shape), lambda g: g.reshape(g.shape[::-1]).T):
        found = spoilt(CROSS_ENTROPY, "hidden1.weight", change, early)
        assert kinds(why(CROSS_ENTROPY, found))[0][0].startswith("transposed")


def test_rows_are_those_of_the_authors_file():
    found = spoilt(CROSS_ENTROPY, "output.weight", lambda g: np.roll(g, 1, 0), False)
    said = why(CROSS_ENTROPY, found, in_out=True)
    assert kinds(said)[0] == ("columns permuted",)
    assert said.answers[0].causes[0].sentence == (
        "The columns of output.weight's gradient are in the wrong order. "
        "(Rows and columns are counted as in the file, [in, out].)"
    )


@pytest.mark.parametrize("early", [False, True])
def test_zeros_up_to_rounding_are_neither_a_factor_nor_clipped(early):
    noise = 1e-18 * np.random.default_rng(0).normal(size=(4, 5))
    found = why(CROSS_ENTROPY, spoilt(CROSS_ENTROPY, "output.weight", lambda _: noise, early))
    said = [cause.sentence for answer in found.answers for cause in answer.causes]
    assert "is 0 up to rounding" in said[0] or "is 0 throughout" in said[0]
    assert not any("times" in each or "clipped" in each for each in said)


@pytest.mark.parametrize(("beyond", "is_named"), [(1, False), (2, True)])
def test_only_two_entries_at_the_same_limit_look_clipped(beyond, is_named):
    def clipped(g: np.ndarray) -> np.ndarray:
        limit = np.mean(np.sort(np.abs(g).ravel())[-beyond - 1 :][:2])
        return np.clip(g, -limit, limit)

    found = why(CROSS_ENTROPY, spoilt(CROSS_ENTROPY, "output.weight", clipped, False))
    said = [cause.sentence for answer in found.answers for cause in answer.causes]
    assert any("clipped" in each for each in said) is is_named


def test_two_gradients_in_each_others_place_are_swapped():
    found = right(SIGMOID)
    names = "hidden2.weight", "hidden3.weight"
    found |= {names[0]: found[names[1]], names[1]: found[names[0]]}
    assert sentence_of(SIGMOID, found) == "The gradients of hidden3.weight and hidden2.weight are swapped."


def test_the_same_in_two_places_is_a_sentence_for_each():
    found = right(SIGMOID)
    for name, line in (("output.weight", 1), ("hidden2.weight", 3)):
        found[name] = np.where(np.arange(len(found[name]))[:, None] == line, 0.0, found[name])
    assert sentence_of(SIGMOID, found) == (
        "The gradient of output.weight is 0 in row 1. The gradient of hidden2.weight is 0 in row 3."
    )


def test_a_slope_is_not_named_as_another_activation():
    of = problem("tanh", {"name": "leaky_relu", "negative_slope": 0.2}, "identity")

    def vjp(layer, y, dL_da, i):
        return dL_da * np.where(y > 0, 1, 0.01) if i == 1 else layer.activation.vjp(y, dL_da)

    said = [cause for answer in why(of, Backprop(vjp=vjp)(of)).answers for cause in answer.causes]
    assert said[0].kind == "activation option"
    assert not any("that of leaky_relu" in cause.sentence for cause in said)
