"""Checks of networks with every kind of layer: right gradients agree, and wrong ones are found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from build import right_gradients, spec_of
from layer_kinds import KINDS

from gradcheck_cli.checker import check
from gradcheck_cli.errors import InputError
from gradcheck_cli.problem.problem import build_problem
from gradcheck_cli.subject.network import network_subject
from gradcheck_cli.verdict import Verdict
from tests.network.step_kinds import Draw

SEEDS = range(4)


def spec(kind, seed, **rest):
    return KINDS[kind](Draw(seed)).spec(seed, **rest)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", KINDS)
def test_right_gradients_agree(kind, dtype):
    for seed in SEEDS:
        report = check(spec(kind, seed, dtype=dtype))
        assert report.verdict is Verdict.AGREES, seed
        assert {c.name for c in report.comparisons} == set(build_problem(spec(kind, seed)).network.shapes)


@pytest.mark.parametrize("kind", KINDS)
def test_literal_differences_agree(kind):
    assert check(spec(kind, 5, check={"differences": "literal"})).verdict is Verdict.AGREES


@pytest.mark.parametrize("kind", KINDS)
def test_a_mistake_in_any_tensor_is_wrong(kind):
    for seed in SEEDS:
        described = spec(kind, seed)
        problem = build_problem(described)
        subject, right = network_subject(described, problem), right_gradients(problem)
        for each, value in right.items():
            if np.abs(value).max() < 1e-12:  # such as a bias below a normalisation
                continue
            wrong = value.copy()
            wrong.flat[np.abs(value).argmax()] *= 1.001
            analytic = replace(subject.analytic, values={**right, each: wrong})
            report = replace(subject, analytic=analytic).check(described.check)
            assert report.verdict is Verdict.WRONG, (seed, each)
            assert [c.name for c in report.comparisons if c.wrong.any()] == [each]


@pytest.mark.parametrize(
    ("layers", "inputs", "message", "place"),
    [
        (
            [{"avg_pool2d": 2}],
            4,
            r"needs images \[channels, height, width\]; it gets \[4\]",
            (0, "avg_pool2d"),
        ),
        ([{"avg_pool2d": 3, "padding": 2}], [1, 5, 5], "more than half the window", (0, "padding")),
        ([{"avg_pool2d": 6}], [1, 5, 5], "does not fit into images of 5 × 5", (0, "avg_pool2d")),
        ([{"adaptive_avg_pool2d": 1}], [2, 3], "pooling needs images", (0, "adaptive_avg_pool2d")),
        ([{"adaptive_avg_pool2d": 1}, {"units": 2}], [1, 5, 5], "samples of 1 × 1 × 1", (1,)),
        (
            [{"conv1d": 2, "kernel": 2}],
            4,
            r"needs sequences \[channels, length\]; it gets \[4\]",
            (0, "conv1d"),
        ),
        ([{"conv1d": 2, "kernel": 5}], [2, 4], "does not fit into sequences of 4", (0, "kernel")),
        (
            [{"conv1d": 3, "kernel": 1, "groups": 2}],
            [2, 4],
            "3 channels cannot be split into 2",
            (0, "groups"),
        ),
        ([{"conv_transpose2d": 1, "kernel": 2}], [2, 4], "needs images", (0, "conv_transpose2d")),
        (
            [{"conv_transpose2d": 1, "kernel": 2, "output_padding": 1}],
            [2, 4, 4],
            "output_padding must be below stride or dilation",
            (0, "output_padding"),
        ),
        (
            [{"conv_transpose2d": 1, "kernel": 2, "padding": 3}],
            [2, 4, 4],
            "the padding cuts off the whole output",
            (0, "padding"),
        ),
    ],
)
def test_layers_that_do_not_fit_are_refused_where_they_are(layers, inputs, message, place):
    with pytest.raises(InputError, match=message) as caught:
        build_problem(spec_of(*layers, {"units": 2}, inputs=inputs))
    (complaint,) = caught.value.complaints
    assert complaint.where == ("network", "layers", *place)
