"""A share of the benchmark of modules at fault: the planted module is named, and no right one."""

from __future__ import annotations

import sys
from importlib import import_module

import numpy as np
import pytest
from paths import ROOT

pytest.importorskip("torch")
sys.path.append(str(ROOT / "benchmarks"))  # after the tests, since some module names are the same

benchmark = import_module("modules_at_fault")


@pytest.mark.parametrize("is_right", [False, True])
def test_a_module_is_named_if_and_only_if_its_backward_is_wrong(is_right, monkeypatch):
    monkeypatch.setattr(benchmark, "NETS", {"MLP": benchmark.mlp})
    case = benchmark.drawn(np.random.default_rng(0), is_right)
    said = benchmark.judged_right(case) if is_right else benchmark.judged_planted(case)
    assert said == ("agrees, and no module is named" if is_right else "the module is named")


def test_a_mistake_that_is_not_found_is_not_as_expected(capsys):
    found, as_expected = benchmark.tally(0, 1, False, lambda case: "not called wrong", "the module is named")
    assert (found.total(), as_expected) == (1, False)
    assert capsys.readouterr().out.endswith(": not called wrong\n")
