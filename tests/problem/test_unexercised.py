from __future__ import annotations

import pytest
from build import problem_of

from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.losses import LOSSES
from gradcheck_cli.problem.unexercised import unexercised, unusual

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
            "1 of 2 inputs is 0 in every sample: its column of output.weight gets no gradient",
        ),
        (
            [(3, "identity")],
            {"inputs": 2, "data": {"x": [[1, 1], [2, 3]], "y": [[0, 0, 0], [0, 0, 0]]}},
            "all targets are 0",
        ),
        (
            [(2, "relu"), (3, "identity")],
            {"inputs": 1, "data": {"x": [[0.0], [0.0]], "y": [0, 1]}},
            "that side of the kink is not exercised",
        ),
    ],
)  # fmt: skip
def test_everything_that_could_hide_a_mistake_has_a_line(layers, changes, line):
    lines = unexercised(problem_of(*layers, **{**SEEN, **changes}))
    assert any(line in each for each in lines), lines


OUTPUTS = [
    ("softmax", "cross_entropy", "applies softmax itself"),
    ("sigmoid", "bce_with_logits", "applies sigmoid itself"),
    ("softmax", "bce_with_logits", "but softmax limits them to between 0 and 1"),
    ("softmax", "hinge", "but softmax limits them to between 0 and 1"),
    ("sigmoid", "hinge", "but sigmoid limits them to between 0 and 1"),
    ("softmax", "multi_margin", "but softmax limits them to between 0 and 1"),
    ("sigmoid", "multi_margin", "but sigmoid limits them to between 0 and 1"),
    ("sigmoid", "cross_entropy", "but sigmoid limits them to between 0 and 1"),
    ("sigmoid", "focal", "applies sigmoid itself"),
    ("sigmoid", "dice", "applies sigmoid itself"),
    ("softmax", "focal", "but softmax limits them to between 0 and 1"),
    ("softmax", "dice", "but softmax limits them to between 0 and 1"),
    *(
        (activation, loss, f"but {activation} limits them to between 0 and 1")
        for loss in ("nll", "kl_div", "poisson_nll", "kl_gaussian")
        for activation in ("sigmoid", "softmax")
    ),
]


@pytest.mark.parametrize(("activation", "loss", "line"), OUTPUTS)
def test_bounded_scores_are_noted(activation, loss, line):
    (said,) = unusual(problem_of((4, "tanh"), (3, activation), loss=loss))
    assert line in said


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_other_outputs_have_no_note(activation):
    for number, loss in enumerate(LOSSES):
        remarked = (activation, loss) in [each[:2] for each in OUTPUTS]
        said = unusual(problem_of((4, "tanh"), ((1, 3)[number % 2], activation), loss=loss))
        assert len(said) == remarked, loss


@pytest.mark.parametrize(
    ("loss", "y", "line"),
    [
        ("cross_entropy", [[1, 0.5], [1, 0]], "in 1 of 2 samples, the targets do not add up to 1"),
        ("cross_entropy", [[0.5, 0.5], [0.333, 0.667]], None),
        ("cross_entropy", [[0.334, 0.667], [1, 0]], None),
        ({"name": "cross_entropy", "label_smoothing": 0.1, "weight": [1, 3]}, [[0.5, 0.5], [1, 0]], None),
        ("cross_entropy", [0, 1], None),
        ("bce_with_logits", [[1.5, 0], [-0.1, 1]], "in 2 of 2 samples, the targets are not between 0 and 1"),
        ("bce_with_logits", [[1, 0], [0.3, 1]], None),
        ("bce_with_logits", [0, 1], None),
        ("mse", [[1.5, -3], [0, 7]], None),
        ("hinge", [0, 1], None),
        ("focal", [[1.5, 0], [-0.1, 1]], "in 2 of 2 samples, the targets are not between 0 and 1"),
        ("poisson_nll", [[3, 0], [-1, 2]], "in 1 of 2 samples, the targets are not between 0 and inf"),
        ("kl_div", [[1, 0.5], [1, 0]], "in 1 of 2 samples, the targets do not add up to 1"),
        ("dot", [[1.5, -3], [0, 7]], None),
        ("contrastive", [0, 1], None),
        ("kl_gaussian", [0, 7], None),
        ("cross_entropy", [-100, 1], None),
    ],
)
def test_targets_that_do_not_suit_the_loss_are_noted(loss, y, line):
    said = unusual(problem_of((2, "identity"), inputs=2, loss=loss, data={"x": [[1, 2], [3, 4]], "y": y}))
    assert (line in said[0] and len(said) == 1) if line else said == ()
