"""Plain English: texts that people read do not use certain words."""

from __future__ import annotations

import re
import token
import tokenize

import pytest
from paths import ROOT

PLACES = (
    ".github",
    "action.yml",
    "benchmarks",
    "configs",
    "gradcheck_cli",
    "docs",
    "CHANGELOG.md",
    "README.md",
    "SECURITY.md",
)

TEXT = {".css", ".jinja", ".js", ".md", ".py", ".txt", ".yaml", ".yml"}

NOT_USED = re.compile(
    r"so many|\bbeside\b(?!:)|\banew\b|told (of|apart)|the same of|\bof code\b|by (it|them)sel(f|ves)"
    r"|\btaken for\b|puts? up with|it is said|\bof (ours|theirs)\b|whatever it be"
    r"|\bgo(es)? down\b|\bhand(s|ed)? down\b|\bmultiplied into\b"
    r"|\ball the same\b|\bcomes? several times\b|\bin a circle\b|\bmoved a little\b|\bon its way down\b",
    re.IGNORECASE,
)


def files(place):
    path = ROOT / place
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.suffix in TEXT)


def texts(file):
    """The lines of a file with their numbers; of Python, comments and strings, since names are free."""
    if file.suffix != ".py":
        yield from enumerate(file.read_text(encoding="utf-8").splitlines(), start=1)
        return
    kinds = {token.STRING, token.COMMENT, getattr(token, "FSTRING_MIDDLE", None)}
    with open(file, encoding="utf-8") as stream:
        for each in tokenize.generate_tokens(stream.readline):
            if each.type in kinds:
                yield from enumerate(each.string.splitlines(), start=each.start[0])


def found_in(file):
    return [f"{number}: {line.strip()}" for number, line in texts(file) if NOT_USED.search(line)]


FILES = [file for place in PLACES for file in files(place)]


def test_every_place_has_files():
    assert [place for place in PLACES if not files(place)] == []


def test_no_word_is_used_that_reads_as_translated():
    assert [f"{file.relative_to(ROOT)}:{line}" for file in FILES for line in found_in(file)] == []


@pytest.mark.parametrize(
    "line", ["so many processes", "moved by themselves", "Beside it", "the kinks of code"]
)
def test_such_a_word_is_noticed(line, tmp_path):
    (tmp_path / "a.md").write_text(f"{line}\n")
    (tmp_path / "a.py").write_text(f'"""{line}"""\nbeside = f"{{1}} {line}"  # {line}\n')
    assert len(found_in(tmp_path / "a.md")) == 1
    assert len(found_in(tmp_path / "a.py")) == 3


def test_a_name_in_code_is_free(tmp_path):
    (tmp_path / "a.py").write_text("beside = 1\n")
    assert found_in(tmp_path / "a.py") == []
