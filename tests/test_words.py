"""Plain English: words that are not used, in the files that people read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

PLACES = (
    "action.yml",
    "benchmarks",
    "gradcheck_cli/cli",
    "gradcheck_cli/formats",
    "gradcheck_cli/starters",
    "gradcheck_cli/convergence.py",
    "gradcheck_cli/dump.py",
    "gradcheck_cli/errors.py",
    "gradcheck_cli/pytest_plugin.py",
    "gradcheck_cli/pytest_specs.py",
    "gradcheck_cli/report.py",
    "gradcheck_cli/sweep.py",
    "gradcheck_cli/testing.py",
    ".github",
    "CHANGELOG.md",
    "SECURITY.md",
)

TEXT = {".py", ".md", ".jinja", ".js", ".yaml", ".yml", ".txt"}

NOT_USED = re.compile(
    r"so many|\bbeside\b|\banew\b|told (of|apart)|the same of|\bof code\b|by (it|them)sel(f|ves)|taken for\b"
    r"|puts? up with|it is said|\bof (ours|theirs)\b|whatever it be|is that of\b",
    re.IGNORECASE,
)


def files(place):
    path = ROOT / place
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.suffix in TEXT)


FILES = [file for place in PLACES for file in files(place)]


def test_every_place_has_files():
    assert [place for place in PLACES if not files(place)] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_no_word_is_used_that_reads_as_translated(file):
    lines = enumerate(file.read_text(encoding="utf-8").splitlines(), start=1)
    assert [f"{number}: {line.strip()}" for number, line in lines if NOT_USED.search(line)] == []


@pytest.mark.parametrize(
    "line", ["so many processes", "moved by themselves", "Beside it", "the kinks of code"]
)
def test_such_a_word_is_noticed(line):
    assert NOT_USED.search(line)
