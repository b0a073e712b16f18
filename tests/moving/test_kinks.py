from __future__ import annotations

from dataclasses import replace

import numpy as np
from build import problem_of

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
    numbered = kinks.numbered(False)
    np.testing.assert_array_equal(numbered.of_nodes[RELU], [[0, 0], [-1, -1], [0, 0]])
    np.testing.assert_array_equal(numbered.of_nodes[SECOND], [[1, 1, 1], [-1, -1, -1], [1, 1, 1]])
    assert (numbered.shared, numbered.pieces) == (2, (2, 2))

    by_rounding = replace(
        kinks,
        of_nodes={i: replace(kink, exact=np.zeros_like(kink.exact)) for i, kink in kinks.of_nodes.items()},
        exact_of_loss=np.zeros_like(kinks.exact_of_loss),
    )
    apart, together = by_rounding.numbered(False), by_rounding.numbered(True)
    np.testing.assert_array_equal(apart.of_nodes[RELU], [[0, 1], [-1, -1], [0, 1]])
    np.testing.assert_array_equal(apart.of_nodes[SECOND], [[2, 3, 4], [-1, -1, -1], [2, 3, 4]])
    assert (apart.shared, len(apart.pieces), len(together.pieces)) == (0, 5, 10)
    assert not apart.parallel


def test_kinks_of_a_recurrent_layer_are_reported_in_one_line():
    layers = ({"rnn": 2, "nonlinearity": "relu"}, {"select": -1}, {"units": 2})
    data = {"x": [[0.0] * 18, [1.0, -2.0] * 9], "y": [0, 1]}
    problem = problem_of(*layers, inputs=[9, 2], data=data, loss="cross_entropy", **UNBIASED)
    assert len(problem.objective.kinks.of_nodes) == 9
    assert problem.objective.corners == ()  # too many choices of sides: each time step is on a kink
    (told,) = problem.objective.kinks.told(problem.network)
    assert "and 17 more are" in told


def test_kinks_of_one_layer_are_independent():
    kinks = problem_of((2, "relu"), (3, "tanh"), **ZEROS, **UNBIASED).objective.kinks
    assert kinks.numbered(False).parallel


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
