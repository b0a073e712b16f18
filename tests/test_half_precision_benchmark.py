"""The benchmark of kernels in narrow types finds no false verdict; a small share of it runs here."""

from __future__ import annotations

import sys
from itertools import islice

import pytest
from paths import ROOT

pytest.importorskip("torch")
sys.path.append(str(ROOT / "benchmarks"))  # after the tests, since some module names are the same

import half_precision as benchmark
from half_precision import KERNELS, TYPES


@pytest.mark.parametrize("name", KERNELS)
def test_a_right_kernel_is_never_wrong_and_a_wrong_one_never_passes(name):
    i = list(KERNELS).index(name)
    found = benchmark.trials(name, list(TYPES)[i % 3], 100 + i)
    assert not [trial for trial in islice(found, 2) if trial.is_false]


def test_the_benchmark_counts_false_verdicts(capsys, monkeypatch):
    monkeypatch.setattr(benchmark, "checked", lambda *_: "agrees")
    assert benchmark.main(["--seeds", "1", "--kernels", "silu", "--types", "bfloat16"]) == 1
    assert capsys.readouterr().out.count("FALSE: ") == 3
