"""The simulation of large clusters follows from its overheads."""

from __future__ import annotations

import sys

import pytest
from paths import ROOT

sys.path.append(str(ROOT / "benchmarks"))

from cluster_simulation import MEASURED, Overheads, rows, simulated

FREE = Overheads(connect=0.0, latency=0.0, send=0.0)


def test_one_worker_without_overheads_takes_the_time_of_the_evaluations():
    assert simulated(1000, 0.1, 1, FREE).seconds == pytest.approx(400, rel=0.1)


@pytest.mark.parametrize("each", [0.01, 1.0])
def test_more_workers_take_less_time_and_use_less_of_it(each):
    found = [simulated(1000, each, workers, MEASURED) for workers in (1, 10, 100)]
    assert found[0].seconds > found[1].seconds > found[2].seconds
    assert all(0 < each.efficiency < 1.02 for each in found)
    assert found[0].efficiency > found[2].efficiency


def test_the_table_has_a_row_for_each_duration():
    assert len(list(rows(MEASURED, entries=100))) == 7
