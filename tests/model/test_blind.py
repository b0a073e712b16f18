from __future__ import annotations

import pytest
from build import problem_of

from gradcheck_cli.model.blind import unexercised, unusual

NORMED = {"units": 4, "activation": "tanh", "batch_norm": True}
SEEN = {"inputs": 5, "samples": 9, "seed": 3}


def test_a_problem_that_hides_nothing_has_no_lines():
    assert unexercised(problem_of((4, "tanh"), (3, "identity"), **SEEN)) == ()
    assert unexercised(problem_of(NORMED, (3, "identity"), **SEEN)) == ()


@pytest.mark.parametrize(
    ("layers", "changes", "line"),
    [
        ([(4, "tanh"), (3, "identity")], {"samples": 1}, "one sample"),
        ([(4, "tanh"), (4, "identity")], {}, "output.weight is square: a transposed array would fit"),
        ([(4, "tanh"), (3, "identity")], {"parameters": {"init": "he"}}, "all biases are 0"),
        ([NORMED, (3, "identity")], {"parameters": {"init": "he"}}, "hidden1.gamma is 1: a gamma left out"),
        ([(4, "tanh"), (3, "identity")], {"parameters": {"init": "zeros"}}, "output.weight is 0: the layers"),
        (
            [(3, "identity")],
            {"inputs": 2, "data": {"x": [[1, 0], [2, 0]], "y": [0, 2]}},
            "1 of 2 inputs are 0 in every sample: their columns of output.weight get no gradient",
        ),
        (
            [(3, "identity")],
            {"inputs": 2, "data": {"x": [[1, 1], [2, 3]], "y": [[0, 0, 0], [0, 0, 0]]}},
            "all targets are 0",
        ),
        (
            [(2, "relu"), (3, "identity")],
            {"inputs": 1, "data": {"x": [[0.0], [0.0]], "y": [0, 1]}},
            "that side of its kink is unseen",
        ),
    ],
)  # fmt: skip
def test_what_a_mistake_could_hide_behind_has_its_line(layers, changes, line):
    lines = unexercised(problem_of(*layers, **{**SEEN, **changes}))
    assert any(line in each for each in lines), lines


def test_logits_that_are_no_logits_are_remarked_upon():
    problem = problem_of((4, "tanh"), (3, "softmax"), loss="cross_entropy")
    assert "applies softmax itself" in unusual(problem)[0]
    assert unusual(problem_of((4, "tanh"), (3, "identity"), loss="cross_entropy")) == ()
