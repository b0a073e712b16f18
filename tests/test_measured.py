"""Coverage is measured at the beginning of the first case of each test, and nowhere else."""

from __future__ import annotations

import os
from time import process_time
from types import SimpleNamespace

import measured
import pytest


class Recorded:
    """A measurement that notes when it is stopped and started."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def stop(self) -> None:
        self.calls.append("stop")

    def start(self) -> None:
        self.calls.append("start")


@pytest.fixture
def recorded(monkeypatch) -> Recorded:
    measurement = Recorded()
    monkeypatch.setattr(measured, "_measurement", lambda: measurement)
    return measurement


@pytest.mark.skipif(os.name != "posix", reason="needs a timer of processor time")
def test_a_long_test_is_measured_only_at_first(recorded, monkeypatch):
    monkeypatch.setattr(measured, "SECONDS", 0.01)
    with measured.measured():
        end = process_time() + 5.0
        while not recorded.calls and process_time() < end:
            pass
        assert recorded.calls == ["stop"]
    assert recorded.calls == ["stop", "start"]


def test_a_short_test_is_measured_throughout(recorded):
    with measured.measured():
        pass
    assert recorded.calls == []


def test_other_cases_are_not_measured(recorded):
    with measured.unmeasured():
        assert recorded.calls == ["stop"]
    assert recorded.calls == ["stop", "start"]


def test_the_first_case_of_each_test_is_chosen():
    names = ["a.py::test_one[x]", "a.py::test_one[y]", "a.py::test_two", "b.py::test_one[y]"]
    session = SimpleNamespace(stash=pytest.Stash(), items=[SimpleNamespace(nodeid=name) for name in names])
    assert measured._first_cases(session) == {names[0], *names[2:]}
