"""Measure branch coverage of the package while the tests run, if COVERAGE_FOLDER names a folder.

Slipcover adds probes to the package's code at its import, and removes each probe after it was hit (see
probes.py). So the whole run is measured for a few per cent of its time; tracing would nearly double it. Each
process that runs tests writes a file into the folder at its end, and `python -m slipcover --merge` adds the
files up.

Three things are not measured: commands that a test starts as separate programs, processes that a test forks,
and modules that pytest imports before this file.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

if FOLDER := os.environ.get("COVERAGE_FOLDER"):
    from probes import PACKAGE, Finder, Probes

EXCLUDED = [r"#\s*pragma: no cover", "if TYPE_CHECKING:", r"\.\.\.$"]


class Measurement:
    """The coverage of this process."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.own = folder, os.getpid()
        self.probes = Probes(branch=True, exclude_lines=EXCLUDED)
        sys.meta_path.insert(0, Finder(self.probes, folder))

    def list_other_files(self) -> None:
        """List the package's files that no process has imported so far."""
        written = [json.loads(path.read_text()) for path in self.folder.glob("*.json")]
        self.probes.omit = [name for each in written for name in each["files"]]
        self.probes.source = [str(PACKAGE)]

    def write(self) -> None:
        name = f"{os.getpid()}-{os.urandom(4).hex()}.json"
        (self.folder / name).write_text(json.dumps(self.probes.get_coverage()))


measurement = Measurement(Path(FOLDER)) if FOLDER else None


def pytest_runtest_logfinish() -> None:
    if measurement is not None:
        measurement.probes.remove_seen()


def pytest_sessionfinish() -> None:
    if measurement is not None and os.getpid() == measurement.own:
        if "PYTEST_XDIST_WORKER" not in os.environ:  # this process ends after its workers
            measurement.list_other_files()
        measurement.write()
