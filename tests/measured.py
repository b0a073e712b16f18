"""Measure coverage in the first few cases of each test, because tracing takes as long as the tests."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CASES = 3
"""The cases of a parametrised test that are measured, in each process."""

_seen: Counter[str] = Counter()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[Any]:
    test = item.nodeid.partition("[")[0]
    _seen[test] += 1
    if _seen[test] <= CASES and item.get_closest_marker("slow") is None:
        return (yield)
    with unmeasured():
        return (yield)


@contextmanager
def unmeasured() -> Iterator[None]:
    """Pause the measurement of this process, if there is one."""
    coverage = sys.modules.get("coverage")
    measurement = coverage.Coverage.current() if coverage else None
    if measurement is None:
        yield
        return
    measurement.stop()
    try:
        yield
    finally:
        measurement.start()
