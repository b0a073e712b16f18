"""Shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from paths import ROOT

MOST_PROCESSES = 8
"""More would take their memory from each other where a container may use few of the cores that it sees."""

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of processes would compile the same again
for library in ("OMP", "OPENBLAS", "MKL"):  # before numpy is loaded: a thread for each core in every process
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run whole folders of tests in a process for each core; what is named is quicker in this one."""
    option = config.option
    covered = getattr(option, "cov_source", None)  # has begun in one process by now; -n auto --cov takes more
    alone = covered or option.usepdb or option.capture == "no" or os.environ.get("PYTEST_XDIST_WORKER")
    if getattr(option, "numprocesses", 0) is None and not alone and all(map(os.path.isdir, config.args)):
        option.numprocesses, option.maxprocesses = "auto", MOST_PROCESSES
        option.dist = "worksteal"  # neighbours, which share what is dear to set up, mostly stay together


@pytest.fixture(scope="session")
def configs() -> Path:
    return ROOT / "configs"
