"""A share of the benchmark of taps: each place that gradcheck names holds the mistake."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
from paths import ROOT

sys.path.append(str(ROOT / "benchmarks"))  # after the tests, since some module names are the same

benchmark, programs = import_module("taps"), import_module("tap_programs")


@pytest.mark.parametrize("seed", range(4))
def test_each_place_that_is_named_holds_the_mistake(seed):
    found = benchmark.trial(seed)
    assert found.verdict == "wrong"
    assert found.named


@pytest.mark.parametrize("kind", programs.OPERATIONS)
def test_each_operation_has_a_right_backward_and_wrong_ones(kind):
    operation = programs.OPERATIONS[kind]
    rng = np.random.default_rng(3)
    shapes = [(programs.SAMPLES, programs.WIDTH)] * operation.inputs + [*operation.weights]
    given = [rng.normal(size=shape) for shape in shapes]
    upstream, out = rng.normal(size=shapes[0]), operation.forward(*given)
    step, moves = 1e-6, [rng.normal(size=shape) for shape in shapes]
    ends = [operation.forward(*(g + s * m for g, m in zip(given, moves, strict=True))) for s in (step, -step)]
    expected = (upstream * (ends[0] - ends[1])).sum() / (2.0 * step)

    def change(backward):
        gradients = backward(upstream, out, *given)
        return sum((g * m).sum() for g, m in zip(gradients, moves, strict=True))

    assert change(operation.backward) == pytest.approx(expected, rel=1e-6)
    assert all(abs(change(wrong) - expected) > 1e-3 * abs(expected) for wrong in operation.wrong.values())


CHAIN = programs.Program(
    nodes=(
        programs.Node("tanh", (0,), (), True),
        programs.Node("sin", (1,), (), False),
        programs.Node("gain", (2,), ("g",), True),
    ),
    x=np.zeros((3, 4)),
    parameters={},
)
BETWEEN = "∂L/∂t3 (p.py:1) is right, but ∂L/∂t1 (p.py:1) is wrong: the fault lies between them"
OR_IN_PLACE = "; or backward changes ∂L/∂t1 in place after using it, since ∂L/∂g is right"


@pytest.mark.parametrize(
    ("sentence", "edge", "held"),
    [
        (BETWEEN, (2, 0), True),
        (
            BETWEEN + OR_IN_PLACE,
            (2, 0),
            True,
        ),
        (BETWEEN, (3, 0), True),
        (BETWEEN, (1, 0), False),
        (BETWEEN, (3, 1), False),
        ("∂L/∂t3 (p.py:1) is right, but ∂L/∂g is wrong: the fault lies between them", (3, 1), True),
        ("∂L/∂t1 (p.py:1) is right, but ∂L/∂x is wrong: the fault lies between them", (1, 0), True),
        (
            "∂L/∂x is wrong, and there is no tap between x and the loss: the fault lies in between",
            (1, 0),
            False,
        ),
    ],
)
def test_a_place_without_the_mistake_is_noticed(sentence, edge, held):
    mistake = programs.Mistake("planted", edge[0], frozenset([edge]), None)
    assert benchmark.holds(replace(CHAIN, mistake=mistake), benchmark.Place.of(sentence)) is held
