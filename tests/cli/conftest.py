"""Fixtures that run the command in this process, in a folder with a spec for every exit code."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from command_specs import (
    BAD,
    CODES,
    GOOD,
    TINY,
    UNDECIDED,
    WRONG,
    Result,
    save,
)

import gradcheck_cli
from gradcheck_cli import cli


@pytest.fixture(scope="session")
def right(tmp_path_factory) -> dict[str, np.ndarray]:
    """Return the right gradients of the good spec."""
    from gradcheck_cli.network.network import gradients
    from gradcheck_cli.problem.problem import build_problem

    path = tmp_path_factory.mktemp("right") / "good.yaml"
    path.write_text(GOOD)
    problem = build_problem(gradcheck_cli.load_spec(path))
    return gradients(problem.network, problem.parameters, problem.x, problem.target)


@pytest.fixture
def folder(tmp_path, right, monkeypatch) -> Path:
    """Change to a folder with a spec for every exit code, and one with almost nothing to check."""
    for name, text in zip(CODES, (GOOD, WRONG, BAD, UNDECIDED), strict=True):
        (tmp_path / name).write_text(text)
    (tmp_path / "tiny.yaml").write_text(TINY)
    save(tmp_path / "wrong.npz", right, **{"output.bias": 2 * right["output.bias"]})
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def environment(monkeypatch) -> None:
    """Remove the preferences of the tester's own terminal."""
    for name in (
        "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "LC_ALL", "LC_CTYPE", "PYTHONIOENCODING", "PYTHONUTF8",
        "PYTHONCOERCECLOCALE", "PYTHONWARNINGS",
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.setenv("TERM", "xterm")


@pytest.fixture
def gradcheck(folder, capsys):
    """Run the command in this process."""

    def call(*arguments: str) -> Result:
        with pytest.raises(SystemExit) as left:
            cli.main(arguments)
        return Result(left.value.code, *capsys.readouterr())

    return call


def failing(error: BaseException, where: str):
    """Return gradcheck's own check, except that it fails for one spec."""
    from gradcheck_cli.checker import check

    def wrapped(spec, *how, **named):
        if spec.check.seed == int(where):
            raise error
        return check(spec, *how, **named)

    return wrapped


@pytest.fixture
def broken(folder, monkeypatch):
    """Plant an exception in the check of broken.yaml."""

    def plant(error: BaseException) -> None:
        (folder / "broken.yaml").write_text(GOOD + "check: {seed: 4711}\n")
        monkeypatch.setattr("gradcheck_cli.checker.check", failing(error, "4711"))

    return plant


@pytest.fixture
def unread() -> Iterator[int]:
    """The writing end of a pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)
