"""Slipcover's probes at a lower price: each module is prepared once, and probes are removed between tests."""

from __future__ import annotations

import ast
import marshal
import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from time import process_time
from types import CodeType, ModuleType
from typing import Any

from paths import ROOT
from slipcover import Slipcover
from slipcover.branch import preinstrument
from slipcover.importer import SlipcoverLoader

PACKAGE = ROOT / "gradcheck_cli"

SHARE = 0.02
"""The largest share of processor time that the removal of probes may take."""


class Probes(Slipcover):
    """Removes probes only between tests, and only as often as SHARE allows.

    Each removal searches every function of the package. Slipcover does so in the middle of a test, whenever a
    line is hit for the fiftieth time, and again in every forked process.
    """

    is_wanted = False
    not_before = 0.0

    def deinstrument_seen(self) -> None:
        self.is_wanted = True

    def remove_seen(self) -> None:
        start = process_time()
        if self.is_wanted and start >= self.not_before:
            super().deinstrument_seen()
            end = process_time()
            self.is_wanted, self.not_before = False, end + (end - start) / SHARE


class Finder(MetaPathFinder):
    """Finds the package's modules before pytest does, and has them loaded with probes."""

    def __init__(self, probes: Probes, folder: Path) -> None:
        self.probes, self.folder = probes, folder

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname.partition(".")[0] != PACKAGE.name:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None and spec.origin is not None:
            spec.loader = Loader(self.probes, spec.loader, spec.origin, self.folder)
        return spec


class Loader(SlipcoverLoader):
    """Loads a module with probes. The folder keeps its code with marked branches for other processes."""

    def __init__(self, probes: Probes, loader: Any, origin: str, folder: Path) -> None:
        super().__init__(probes, loader, origin)
        self.folder = folder

    def exec_module(self, module: ModuleType) -> None:
        self.sci.register_module(module)
        exec(self.sci.instrument(self._marked()), vars(module))

    def _marked(self) -> CodeType:
        state = self.origin.stat()
        name = ".".join(self.origin.relative_to(PACKAGE).parts)
        kept = self.folder / f"{name}-{state.st_mtime_ns}-{state.st_size}.{sys.implementation.cache_tag}"
        if kept.exists():
            return marshal.loads(kept.read_bytes())
        code = compile(preinstrument(ast.parse(self.origin.read_bytes())), str(self.origin), "exec")
        half = kept.with_suffix(f".{os.getpid()}")
        half.write_bytes(marshal.dumps(code))
        half.replace(kept)  # so that no other process reads half a file
        return code
