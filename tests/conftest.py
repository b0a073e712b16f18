"""Fixtures and options shared by all tests."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
from left_out import pytest_addoption, pytest_collection_modifyitems, pytest_configure
from measured import pytest_runtest_logfinish, pytest_sessionfinish
from paths import ROOT
from together import pytest_xdist_make_scheduler

__all__ = [
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_runtest_logfinish",
    "pytest_sessionfinish",
    "pytest_xdist_make_scheduler",
]

MOST_PROCESSES = 8
"""A limit for containers that see more cores than they may use, where processes would compete for memory."""

os.environ.pop("PYTEST_ADDOPTS", None)  # these variables are for this run, not for a run that a test starts
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # otherwise hundreds of processes would recompile
# set before numpy loads; otherwise every process starts a thread per core
for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run folders of tests in one process per core. A single file is faster in pytest's own process."""
    option = config.option
    if option.left_out:
        option.markexpr = ""
    alone = option.usepdb or option.capture == "no" or os.environ.get("PYTEST_XDIST_WORKER")
    if getattr(option, "numprocesses", 0) is None and not alone and all(map(os.path.isdir, config.args)):
        option.numprocesses, option.maxprocesses = "auto", MOST_PROCESSES
        option.dist = "worksteal"  # neighbours mostly stay together, and share expensive set-up


def pytest_collection_finish() -> None:
    """Leave the collected tests out of garbage collection, since they live until the end.

    Otherwise each collection would visit millions of objects, and copy their memory in a forked process.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
def undiagnosed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the diagnosis of wrong gradients, which takes most of the time but changes no verdict."""
    from judged import leave_out_diagnoses  # loads numpy, which must see the settings above

    leave_out_diagnoses(monkeypatch)


@pytest.fixture(scope="session")
def configs() -> Path:
    return ROOT / "configs"
