"""`--left-out` runs the slow tests and the tests that the previous run skipped, and no others."""

from __future__ import annotations

import pytest

pytest_plugins = ("pytester",)

CONFTEST = """
from left_out import pytest_addoption, pytest_collection_modifyitems, pytest_configure
"""

TESTS = """
import os
import pytest

INSTALLED = "INSTALLED" in os.environ

@pytest.mark.parametrize("needs", [True, False])
def test_some(needs):
    if needs and not INSTALLED:
        pytest.skip("not installed")

@pytest.mark.slow
def test_slow(): ...

def test_fast(): ...
"""

FILE = """
import os
import pytest

if "INSTALLED" not in os.environ:
    pytest.skip("not installed", allow_module_level=True)

def test_in_the_file(): ...
"""


@pytest.fixture
def ran(pytester, monkeypatch):
    """Run pytest twice, before and after an installation; return the names of what ran in the second run."""
    monkeypatch.delenv("INSTALLED", raising=False)
    pytester.makeini("[pytest]\nmarkers = slow")
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_some=TESTS, test_skipped_file=FILE)

    def run(*how: str) -> set[str]:
        plain = ("-p", "no:hypothesispytest", "-p", "no:randomly", "-v", *how)
        pytester.runpytest_inprocess(*plain, "-m", "not slow")
        monkeypatch.setenv("INSTALLED", "1")
        done = pytester.runpytest_inprocess(*plain, "--left-out")
        return {word for line in done.outlines if "PASSED" in line for word in line.split() if "::" in word}

    return run


@pytest.mark.parametrize("how", [(), ("-n", "1")], ids=["one process", "workers"])
def test_what_was_skipped_and_what_is_slow_runs_and_nothing_else(ran, how):
    assert ran(*how) == {
        "test_some.py::test_some[True]",
        "test_some.py::test_slow",
        "test_skipped_file.py::test_in_the_file",
    }
