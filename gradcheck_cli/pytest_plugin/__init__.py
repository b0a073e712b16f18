"""The pytest plugin, which collects specs as tests.

The rest of gradcheck is imported only when a spec is found.
"""

from __future__ import annotations

import glob
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from gradcheck_cli.pytest_plugin.specs import GradientSpec

_ALWAYS = ("*.gradcheck.yaml", "*.gradcheck.yml")
_YAML = (".yaml", ".yml")
_LIKE_A_SPEC = re.compile(r"^(network|gradients)\s*:", re.MULTILINE)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the pytest setting `gradcheck_files`, the glob patterns of specs, and `--gradcheck-jobs`."""
    help = (
        f"Glob patterns of specs for gradcheck. Default: {' and '.join(_ALWAYS)}, and every file that looks "
        "like a spec in folders named on the command line."
    )
    parser.addini("gradcheck_files", help, type="args", default=None)
    parser.getgroup("gradcheck").addoption(
        "--gradcheck-jobs",
        metavar="N|auto|ENGINE",
        help="How to share out checks of specs that take long, like the option --jobs of `gradcheck check`.",
    )


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> GradientSpec | None:
    """Return a collector for the file if it is a spec; otherwise None."""
    if file_path.suffix not in _YAML or not _is_spec(file_path, parent):
        return None
    from gradcheck_cli.pytest_plugin.specs import GradientSpec

    return GradientSpec.from_parent(parent, path=file_path)


def _is_spec(path: Path, parent: pytest.Collector) -> bool:
    """Return whether to collect the file as a spec.

    A file is collected if the command line names it or its name matches a pattern. If no patterns are set, a
    file that looks like a spec is also collected from folders that the command line names.
    """
    patterns: list[str] | None = parent.config.getini("gradcheck_files")
    if parent.session.isinitpath(path) or any(map(path.match, _ALWAYS if patterns is None else patterns)):
        return True
    return patterns is None and _is_in_named_folder(path, parent.config) and _looks_like_a_spec(path)


def _is_in_named_folder(path: Path, config: pytest.Config) -> bool:
    """Return whether the file lies in a folder that the command line names.

    Folders from `testpaths` and the folder where pytest was started do not count.
    """
    here = config.invocation_params.dir.resolve()
    named = {(here / argument).resolve() for argument in config.args}
    tests = {
        (here / found).resolve()
        for pattern in config.getini("testpaths")
        for found in glob.glob(pattern, root_dir=here, recursive=True)
    }
    return not (named - tests - {here}).isdisjoint(path.resolve().parents)


def _looks_like_a_spec(path: Path) -> bool:
    try:
        return _LIKE_A_SPEC.search(path.read_text(encoding="utf-8")) is not None
    except (OSError, UnicodeDecodeError):
        return False
