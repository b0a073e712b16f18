"""Measure coverage in the first half second of the first case of each test, or of each case if it is marked.

Tracing takes as long as the tests, and what a test reaches it reaches soon: this measures nearly every branch
that all tests reach, in a tenth of the time.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

SECONDS = 0.5
"""The processor time of a test after which the measurement stops."""

_FIRST = pytest.StashKey[set[str]]()
"""The first case of every test of the session."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[Any]:
    with measured() if _is_measured(item) else unmeasured():
        return (yield)


def _is_measured(item: pytest.Item) -> bool:
    if item.get_closest_marker("slow") is not None:
        return False
    return item.get_closest_marker("each_case") is not None or item.nodeid in _first_cases(item.session)


def _first_cases(session: pytest.Session) -> set[str]:
    if _FIRST not in session.stash:
        cases: dict[str, str] = {}
        for item in session.items:
            cases.setdefault(item.nodeid.partition("[")[0], item.nodeid)
        session.stash[_FIRST] = set(cases.values())
    return session.stash[_FIRST]


def _measurement() -> Any:
    """Return the measurement of this process, or None."""
    coverage = sys.modules.get("coverage")
    return coverage.Coverage.current() if coverage else None


@contextmanager
def measured() -> Iterator[None]:
    """Measure for the first `SECONDS`, if this process is measured at all."""
    measurement = _measurement()
    if measurement is None or not hasattr(signal, "setitimer"):
        yield
        return
    paused = []

    def pause(*_: Any) -> None:
        measurement.stop()
        paused.append(True)

    before = signal.signal(signal.SIGVTALRM, pause)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
        if paused:
            measurement.start()


@contextmanager
def unmeasured() -> Iterator[None]:
    """Pause the measurement of this process, if there is one."""
    measurement = _measurement()
    if measurement is None:
        yield
        return
    measurement.stop()
    try:
        yield
    finally:
        measurement.start()
