from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from build import problem_of, right_gradients, spec_of
from judged import Judge

from gradcheck_cli import Verdict

ZEROS = {"inputs": 2, "data": {"x": [[0, 0], [1, 2], [0, 0]], "y": [1, 0, 2]}}
RELU, SECOND = 1, 3
"""The nodes of the first two activations: a dense step comes before each."""
UNBIASED = {"parameters": {"init": "xavier", "seed": 1}}


def test_exact_zeros_are_on_the_kink():
    kinks = problem_of((4, "relu"), (3, "identity"), **ZEROS, **UNBIASED).objective.kinks
    np.testing.assert_array_equal(kinks.of_nodes[RELU].mask, [[True] * 4, [False] * 4, [True] * 4])
    assert kinks.in_activations
    assert not kinks.in_loss
    assert not kinks.in_penalty


def test_where_nothing_has_a_kink_nothing_sits_on_one():
    objective = problem_of((4, "tanh"), (3, "identity"), **ZEROS, **UNBIASED).objective
    assert not objective.kinks.any
    assert objective.conventions == ()


def test_float32_puts_more_on_a_kink_than_float64():
    tiny = {"inputs": 2, "data": {"x": [[1.0, -1.0], [1.0, 2.0]], "y": [1, 0]}}
    problem = problem_of((1, "relu"), (2, "identity"), parameters={"init": "zeros"}, **tiny)
    parameters = {**problem.parameters, "hidden1.weight": np.array([[1.0, 1.0 - 1e-8]])}
    network = problem.network
    from gradcheck_cli.moving.objective import NetworkObjective
    from gradcheck_cli.network.arithmetic import Arithmetic

    found = []
    for dtype in (np.float64, np.float32):
        arithmetic = Arithmetic.of(np.dtype(dtype))
        objective = NetworkObjective(network, parameters, problem.x, problem.target, arithmetic)
        found.append(bool(objective.kinks.of_nodes[RELU].mask[0, 0]))
    assert found == [False, True]


def test_exact_kinks_of_a_layer_share_a_side_and_others_do_not():
    kinks = problem_of((2, "relu"), (3, "relu"), **ZEROS, **UNBIASED).objective.kinks
    numbered = kinks.numbered(False, {RELU, SECOND})
    np.testing.assert_array_equal(numbered.of_nodes[RELU], [[0, 0], [-1, -1], [0, 0]])
    np.testing.assert_array_equal(numbered.of_nodes[SECOND], [[1, 1, 1], [-1, -1, -1], [1, 1, 1]])
    assert (numbered.shared, numbered.pieces) == (2, (2, 2))

    by_rounding = replace(
        kinks,
        of_nodes={i: replace(kink, exact=np.zeros_like(kink.exact)) for i, kink in kinks.of_nodes.items()},
        exact_of_loss=np.zeros_like(kinks.exact_of_loss),
    )
    apart, together = (by_rounding.numbered(coupled, {RELU, SECOND}) for coupled in (False, True))
    np.testing.assert_array_equal(apart.of_nodes[RELU], [[0, 1], [-1, -1], [0, 1]])
    np.testing.assert_array_equal(apart.of_nodes[SECOND], [[2, 3, 4], [-1, -1, -1], [2, 3, 4]])
    assert (apart.shared, len(apart.pieces), len(together.pieces)) == (0, 5, 10)
    assert not apart.parallel


def test_kinks_of_a_recurrent_layer_are_reported_in_one_line():
    layers = ({"rnn": 2, "nonlinearity": "relu"}, {"select": -1}, {"units": 2})
    data = {"x": [[0.0] * 18, [1.0, -2.0] * 9], "y": [0, 1]}
    problem = problem_of(*layers, inputs=[9, 2], data=data, loss="cross_entropy", **UNBIASED)
    assert len(problem.objective.kinks.of_nodes) == 9
    too_many = problem.objective.corners("rnn1.bias_ih_l0")  # each time step is on a kink
    assert too_many == ()
    assert len(problem.objective.corners("output.bias")) == 1  # no kink matters above the last layer
    (told,) = problem.objective.kinks.told(problem.network)
    assert "and 17 more are" in told


def test_kinks_of_one_layer_are_independent():
    kinks = problem_of((2, "relu"), (3, "tanh"), **ZEROS, **UNBIASED).objective.kinks
    assert kinks.numbered(False, {RELU}).parallel


def test_there_is_an_objective_for_every_combination_of_conventions():
    objective = problem_of(
        (4, "relu"), (3, "identity"), **ZEROS, loss="l1", penalty={"l1": 0.1}, parameters={"init": "zeros"}
    ).objective
    sides = {(c.convention.right, c.convention.loss, c.convention.penalty) for c in objective.conventions}
    assert sides == {(r, s, p) for r in (0.0, 0.5, 1.0) for s in (-1, 0, 1) for p in (-1.0, 0.0, 1.0)}
    assert {c.convention.tie for c in objective.conventions} == {0.0}


def test_numbers_on_kinks_are_reported():
    problem = problem_of((4, "relu"), (3, "identity"), **ZEROS, **UNBIASED)
    (line,) = problem.objective.kinks.told(problem.network)
    assert line == "unit 0 of hidden1 in sample 0 and 7 more are on the kink of relu"


POOLED = (
    {"max_pool1d": 2},
    {"flatten": True},
    {"units": 2, "name": "below", "activation": "relu"},
    {"units": 2, "activation": "leaky_relu"},
)
TIED = {"inputs": [4, 4], "loss": "mse", "data": {"x": [[0.0] * 16], "y": [[1.0, 2.0]]}, **UNBIASED}
"""All windows are tied: eight kinks with two pieces, 256 choices."""


def choices(objective, name):
    """The number of networks that the kinks above a parameter need."""
    return sum(1 + sum(map(len, corner.single)) for corner in objective.corners(name))


def test_only_kinks_above_a_parameter_count():
    objective = problem_of(*POOLED, **TIED).objective
    assert (choices(objective, "output.bias"), choices(objective, "below.bias")) == (2, 4)


def test_parameters_with_the_same_kinks_above_share_their_choices():
    objective = problem_of(*POOLED, **TIED).objective
    assert objective.corners("below.bias") is objective.corners("below.weight")


@pytest.mark.parametrize(("alpha", "count"), [(1.0, 1), (0.5, 2)])
def test_a_kink_without_a_jump_of_the_slope_leaves_no_choice(alpha, count):
    activation = {"name": "elu", "alpha": alpha}
    objective = problem_of({"units": 2, "activation": activation}, **{**TIED, "inputs": 16}).objective
    assert objective.kinks.in_activations
    assert choices(objective, "output.bias") == count


def test_a_huber_loss_at_its_delta_leaves_no_choice():
    loss = {"name": "huber", "delta": 1.0}
    objective = problem_of({"units": 2}, **{**TIED, "inputs": 16, "loss": loss}).objective
    assert objective.kinks.in_loss
    assert choices(objective, "output.bias") == 1


@pytest.mark.parametrize("wrong", [-1.0, 2.0, 0.001])
def test_a_wrong_gradient_is_called_wrong_however_many_values_tie_below(wrong):
    """Six windows of two equal values, and four ties of maxout above them: only those of maxout matter."""
    layers = ({"max_pool1d": 2}, {"flatten": True}, {"maxout": 4, "pieces": 2}, {"units": 2})
    data = {"x": [[0.0] * 12, [1.0, -2.0] * 6], "y": [[1.0, 2.0], [0.0, -1.0]]}
    rest = {"inputs": [3, 4], "loss": "mse", "data": data, **UNBIASED}
    spec, problem = spec_of(*layers, **rest), problem_of(*layers, **rest)
    judge, right = Judge(spec, problem), right_gradients(problem)
    assert judge.report(right).verdict is Verdict.AGREES
    bias = {"maxout1.bias": wrong * right["maxout1.bias"]}
    assert judge.report({**right, **bias}).verdict is Verdict.WRONG
