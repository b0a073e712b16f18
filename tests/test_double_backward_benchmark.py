"""A share of the benchmark of second derivatives: gradcheck's verdicts on it are true."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest
from paths import ROOT

pytest.importorskip("torch")
sys.path.append(str(ROOT / "benchmarks"))  # after the tests, since some module names are the same

benchmark = import_module("double_backward")


@pytest.mark.parametrize(
    ("name", "mistake"),
    [
        ("complex product", "second off"),
        ("sparse product", "one entry"),
        ("product", "once"),
    ],
)
def test_the_verdicts_of_both_orders_are_true(name, mistake):
    assert benchmark.row(name, mistake, seed=0).ours_are_true


def test_there_are_functions_of_every_kind():
    found = list(benchmark.functions())
    assert len(found) >= 60
    assert {mistake for _, mistake in found} == set(benchmark.MISTAKES)
    assert {name for name, _ in found} == set(benchmark.BASES)


@pytest.mark.parametrize(
    ("mistake", "ours", "is_true"),
    [
        ("right", ("right", "right"), True),
        ("right", ("right", "undecided"), False),
        ("second off", ("right", "right"), False),
        ("one entry", ("wrong", "right"), False),
        ("once", ("right", "refused"), True),
    ],
)
def test_a_false_verdict_is_marked(mistake, ours, is_true):
    found = benchmark.Row("cube", mistake, ours, ("right", "right"))
    assert found.ours_are_true is is_true
    assert ("FALSE, ours" in benchmark.table([found])) is not is_true
