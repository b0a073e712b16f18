"""Measure branch coverage of the package while the tests run, if COVERAGE_FOLDER names a folder.

Slipcover adds probes to the package's code at its import, and removes each probe after it was hit. So the
whole run is measured for a few per cent of its time; tracing would nearly double it. Each process that runs
tests writes a file into the folder at its end, and `python -m slipcover --merge` adds the files up.

Three things are not measured: commands that a test starts as separate programs, processes that a test forks,
and modules that pytest imports before this file.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from paths import ROOT

if FOLDER := os.environ.get("COVERAGE_FOLDER"):
    from slipcover import Slipcover
    from slipcover.importer import SlipcoverLoader

EXCLUDED = [r"#\s*pragma: no cover", "if TYPE_CHECKING:", r"\.\.\.$"]
PACKAGE = ROOT / "gradcheck_cli"


class Measurement:
    """The coverage of this process."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.own = folder, os.getpid()
        is_worker = "PYTEST_XDIST_WORKER" in os.environ  # the others list the files that nobody imported
        source = None if is_worker else [str(PACKAGE)]
        self.slipcover = Slipcover(branch=True, source=source, exclude_lines=EXCLUDED)
        sys.meta_path.insert(0, Finder(self.slipcover))

    def write(self) -> None:
        name = f"{os.getpid()}-{os.urandom(4).hex()}.json"
        (self.folder / name).write_text(json.dumps(self.slipcover.get_coverage()))


class Finder(MetaPathFinder):
    """Finds the package's modules before pytest does, and has them loaded with probes."""

    def __init__(self, slipcover: Any) -> None:
        self.slipcover = slipcover

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname.partition(".")[0] != PACKAGE.name:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None and spec.origin is not None:
            spec.loader = SlipcoverLoader(self.slipcover, spec.loader, spec.origin)
        return spec


measurement = Measurement(Path(FOLDER)) if FOLDER else None


def pytest_sessionfinish() -> None:
    if measurement is not None and os.getpid() == measurement.own:
        measurement.write()
