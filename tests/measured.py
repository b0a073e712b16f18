"""Measure coverage in the first case of each test, because tracing takes as long as the tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_FIRST = pytest.StashKey[set[str]]()
"""The first case of every test of the session."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[Any]:
    if item.nodeid in _first_cases(item.session) and item.get_closest_marker("slow") is None:
        return (yield)
    with unmeasured():
        return (yield)


def _first_cases(session: pytest.Session) -> set[str]:
    if _FIRST not in session.stash:
        cases: dict[str, str] = {}
        for item in session.items:
            cases.setdefault(item.nodeid.partition("[")[0], item.nodeid)
        session.stash[_FIRST] = set(cases.values())
    return session.stash[_FIRST]


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
