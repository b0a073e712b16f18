"""Processes that share the work give the results of a single process, bit for bit."""

from __future__ import annotations

import os
import sys
from itertools import count

import numpy as np
import pytest
from build import spec_of

from gradcheck_cli import check
from gradcheck_cli.parallel import forked as shared_work
from gradcheck_cli.parallel.clock import Time
from gradcheck_cli.parallel.forked import Forked

pytestmark = pytest.mark.skipif(sys.platform not in ("linux", "freebsd"), reason="processes cannot fork here")


def slow_clock():
    """Return a clock that makes every batch seem to take a second."""
    ticks = count()
    return lambda: Time(float(tick := next(ticks)), float(tick))


def squares(spread, size=10):
    result, by = spread.empty(size), spread.empty(size, np.int64)

    def batch(start):
        result[start : start + 1], by[start : start + 1] = start * start, os.getpid()
        return 1

    assert sum(spread(batch, range(size))) > 0
    return result, by


@pytest.mark.parametrize("jobs", [2, 3, 20])
def test_every_batch_is_evaluated_exactly_once(jobs):
    result, by = squares(Forked(jobs, slow_clock()))
    np.testing.assert_array_equal(result, np.arange(10.0) ** 2)
    assert len(set(by)) == min(jobs, 9)


def test_small_work_stays_in_this_process():
    _, by = squares(Forked(4, lambda: Time(0.0, 0.0)))
    assert set(by) == {os.getpid()}


def test_errors_in_a_process_are_reported_here():
    def batch(start):
        if start == 5:
            raise ZeroDivisionError
        return 1

    with pytest.raises(ZeroDivisionError):
        list(Forked(3, slow_clock())(batch, range(10)))


def test_an_interrupted_check_leaves_no_process_behind(monkeypatch):
    children, fork = [], shared_work._fork
    monkeypatch.setattr(shared_work, "_fork", lambda *words: children.append(fork(*words)) or children[-1])

    def batch(start):
        if start == 1:
            raise KeyboardInterrupt
        return 1

    with pytest.raises(KeyboardInterrupt):
        list(Forked(3, slow_clock())(batch, range(10)))
    assert len(children) == 2
    for child in children:
        with pytest.raises(ChildProcessError):
            os.waitpid(child, os.WNOHANG)


@pytest.mark.parametrize("differences", ["units", "literal"])
@pytest.mark.parametrize("jobs", [2, 3])
def test_results_do_not_depend_on_the_number_of_processes(differences, jobs, monkeypatch):
    from gradcheck_cli.moving import at_rest

    monkeypatch.setattr(at_rest, "BLOCK_BYTES", 2**10)
    layers = ({"units": 6, "activation": "relu"}, (5, "tanh"), (3, "identity"))
    reports = [
        check(
            spec_of(*layers, loss="cross_entropy", samples=9, check={"jobs": n, "differences": differences}),
            clock=slow_clock(),
        )
        for n in (1, jobs)
    ]
    for one, other in zip(*(report.comparisons for report in reports), strict=True):
        np.testing.assert_array_equal(one.numerical, other.numerical)
        np.testing.assert_array_equal(one.error, other.error)
