"""Documents whose commands are run: the README, and the pages of `docs/`.

A page is a session, from top to bottom, in its own folder. The language of a block says what the block is:

    yaml, py, c, toml, yml, json with title="FILE"   a file that the reader writes
    diff with title="FILE"                           a change of that file
    console                                          commands after `$ `, and what they print
    sh                                               commands that succeed; what they print is not shown
    py without a title                               a program that runs
    yaml without a title                             a spec that is valid
    bash                                             commands that are not run, such as pip install
    text                                             text without commands

`python tests/documents.py [PAGE…]` updates the output that the pages of `docs/` show.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from textwrap import indent

import warm
from paths import ROOT
from shown import outline, settled

DOCS = ROOT / "docs"
PAGES = sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)(?P<options>[^\n]*)\n(?P<body>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)
_TITLE = re.compile(r'title="([^"]+)"')
_COMMAND = re.compile(r"^\$ ", re.MULTILINE)
_END = "--- a command ended ---"


@dataclass(frozen=True)
class Block:
    """A fenced block. span: the start and the end of its body in the document."""

    language: str
    title: str
    body: str
    indent: str
    span: tuple[int, int]

    @property
    def steps(self) -> list[tuple[str, str]]:
        """The commands of a console block, each with the output that the block shows."""
        halves = (step.partition("\n") for step in _COMMAND.split(self.body)[1:])
        return [(command, shown) for command, _, shown in halves]


def blocks(text: str) -> Iterator[Block]:
    for found in _FENCE.finditer(text):
        title = _TITLE.search(found["options"])
        lines = found["body"].splitlines(keepends=True)
        body = "".join(line.removeprefix(found["indent"]) for line in lines)
        yield Block(found["language"], title[1] if title else "", body, found["indent"], found.span("body"))


def needs(text: str) -> list[str]:
    """Return the packages and programs that a page's commands need, from its front matter."""
    found = re.match(r"---\n.*?^needs: \[(.*?)\]", text, re.DOTALL | re.MULTILINE)
    return found[1].split(", ") if found else []


def is_missing(name: str) -> bool:
    """Return whether there is neither a package nor a program with this name."""
    return find_spec(name) is None and shutil.which(name) is None


def environment(**changed: str) -> dict[str, str]:
    """Return a reader's environment: UTF-8, not in CI, and without a fixed width."""
    unset = ("COLUMNS", "FORCE_COLOR", "CI", "GITHUB_WORKSPACE", "GITHUB_STEP_SUMMARY")
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    return {**kept, "PYTHONUTF8": "1", **changed}


class Session:
    """A reader at a terminal of 80 columns, in a folder with the example specs.

    modules: those that gradcheck loads for each of the reader's specs.
    """

    def __init__(self, folder: Path, modules: Sequence[str] = ()) -> None:
        self.folder = folder / "here"
        self.folder.mkdir()
        (self.folder / "configs").symlink_to(ROOT / "configs")
        programs = folder / "bin"
        programs.mkdir()
        python = f'"{sys.executable}"'
        lines = {"gradcheck": warm.command(*modules), "pytest": f"{python} -m pytest", "python": python}
        for name, line in lines.items():
            (programs / name).write_text(f'#!/bin/sh\nexec {line} "$@"\n')
            (programs / name).chmod(0o755)
        self.environment = environment(
            COLUMNS="80",
            PATH=os.pathsep.join([str(programs), os.environ["PATH"]]),
            PYTHONPATH=str(ROOT),
        )

    def write(self, block: Block) -> None:
        file = self.folder / block.title
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.body, encoding="utf-8")

    def change(self, block: Block) -> None:
        """Apply a diff. The lines that it keeps or removes must be in the file exactly once."""
        file = self.folder / block.title
        lines = block.body.splitlines()
        old, new = ("\n".join(line[1:] for line in lines if line[:1] in (" ", sign)) for sign in ("-", "+"))
        text = file.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{block.title} has this {text.count(old)} times:\n{old}"
        file.write_text(text.replace(old, new), encoding="utf-8")

    def printed(self, commands: list[str]) -> list[str]:
        """Return each command's output. All run in one shell, so `echo $?` prints the previous exit code."""
        lines = (f'{command}\nlast=$?; echo "{_END}"; (exit $last)' for command in commands)
        result = self.run("\n".join(lines))
        return [f"{each.strip()}\n" for each in result.stdout.split(_END)[:-1]]

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", f"exec 2>&1\n{script}"],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            check=False,
            env=self.environment,
        )


def same(command: str, printed: str, shown: str) -> tuple[str, str]:
    """Return the printed and the shown output for comparison; only outlines if rounding shows everywhere."""
    if command.startswith("gradcheck sweep") or "--format json" in command:
        return outline(printed), outline(shown)
    if "\n...\n" in f"\n{shown}":
        return _abridged(printed, shown)
    return settled(printed, shown)


def _abridged(printed: str, shown: str) -> tuple[str, str]:
    """Return the parts of the shown output between lines of `...`, each with its printed lines."""
    lines = printed.splitlines()
    parts = [part.strip("\n") for part in re.split(r"^\.\.\.$", shown, flags=re.MULTILINE)]
    there = all(_is_among(lines, part) for part in parts)
    return (shown, shown) if there else (printed, shown)


def _is_among(lines: list[str], part: str) -> bool:
    count = len(part.splitlines())
    windows = ("\n".join(lines[i : i + count]) for i in range(len(lines) - count + 1))
    return any(ours == readers for ours, readers in (settled(window, part) for window in windows))


def update(page: str, folder: Path) -> bool:
    """Run a page, and replace the output that it shows by what its commands print, if the two differ."""
    file = DOCS / page
    text = file.read_text(encoding="utf-8")
    session, new, end = Session(folder), [], 0
    for block in blocks(text):
        new.append(text[end : block.span[0]])
        end = block.span[1]
        new.append(indent(_run(session, block), block.indent, lambda line: line.strip() != ""))
    changed = "".join([*new, text[end:]])
    file.write_text(changed, encoding="utf-8")
    return changed != text


def _run(session: Session, block: Block) -> str:
    """Do what a block says, and return the body that the block should have."""
    if block.language == "console":
        commands = [command for command, _ in block.steps]
        return "".join(
            f"$ {command}\n{shown if _alike(command, printed, shown) else _stripped(printed)}"
            for (command, shown), printed in zip(block.steps, session.printed(commands), strict=True)
        )
    do(session, block)
    return block.body


def _alike(command: str, printed: str, shown: str) -> bool:
    ours, readers = same(command, printed, shown)
    return ours == readers


def _stripped(printed: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in printed.strip("\n").splitlines())


def do(session: Session, block: Block) -> None:
    """Do what a block other than a console tells the reader to do."""
    if block.language == "diff":
        session.change(block)
    elif block.title:
        session.write(block)
    elif block.language == "sh":
        result = session.run(f"set -e\n{block.body}")
        assert result.returncode == 0, result.stdout
    elif block.language == "py":
        result = session.run(f"python -c {shlex.quote(block.body)}")
        assert result.returncode == 0, result.stdout


if __name__ == "__main__":
    import tempfile

    for name in sys.argv[1:] or PAGES:
        with tempfile.TemporaryDirectory() as temporary:
            print(name, "changed" if update(name, Path(temporary)) else "is up to date")
