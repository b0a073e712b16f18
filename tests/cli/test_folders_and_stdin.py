"""Specs from folders and from standard input."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from command_specs import (
    BAD,
    GOOD,
    WRONG,
)
from processes import POSIX, in_shell, run


def test_a_folder_means_every_spec_in_it_and_below(folder, gradcheck):
    for name in (
        "set/b.yaml",
        "set/a.yml",
        "set/deep/c.yaml",
        "set/.hidden/d.yaml",
        "set/.e.yaml",
        "set/f.txt",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(GOOD)
    (folder / "set" / "g.yaml").mkdir()
    done = gradcheck("check", "--format", "json", "set", "undecided.yaml")
    assert done.code == 3
    assert [Path(spec["spec"]).as_posix() for spec in done.document["specs"]] == [
        "set/a.yml", "set/b.yaml", "set/deep/c.yaml", "undecided.yaml",
    ]  # fmt: skip


def test_a_folder_above_or_below_a_hidden_one_can_be_named(folder, gradcheck, monkeypatch):
    (folder / ".cache" / "set").mkdir(parents=True)
    (folder / ".cache" / "set" / "a.yaml").write_text(GOOD)
    assert gradcheck("check", "-q", str(folder / ".cache")).out.count("agrees") == 1
    monkeypatch.chdir(folder / ".cache" / "set")
    assert gradcheck("check", "-q", os.path.join("..", "..", ".cache", "set")).out.count("agrees") == 1


def test_an_empty_folder_is_bad_input_and_does_not_stop_the_others(folder, gradcheck):
    (folder / "empty").mkdir()
    done = gradcheck("check", "-q", "good.yaml", "empty", "wrong.yaml")
    assert done.code == 2
    assert done.err == "error: folder 'empty' contains no spec (.yaml or .yml)\n"
    assert len(done.out.splitlines()) == 3


@pytest.fixture
def typed(monkeypatch):
    """Put a text on standard input."""

    def put(text: str) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8"))

    return put


@pytest.mark.parametrize("command", ["check", "explain"])
def test_a_dash_is_standard_input_with_paths_relative_to_the_caller(command, gradcheck, typed):
    typed(WRONG)
    done = gradcheck(command, "-")
    assert (done.code, done.err) == (1, "")
    assert "<stdin>" in done.out
    assert "wrong.npz" in done.out


def test_a_process_reads_its_standard_input(folder):
    done = run("check", "-", stdin=None, input=WRONG)
    assert (done.returncode, done.stderr) == (1, "")
    assert "<stdin>" in done.stdout


def test_errors_in_standard_input_are_located(gradcheck, typed):
    typed(BAD)
    done = gradcheck("check", "-")
    assert done.code == 2
    assert done.err.startswith("<stdin>:4:18: error: ")
    assert "✗ <stdin>: not checked" in done.out


def test_empty_standard_input_is_bad_input(gradcheck, typed):
    typed("")
    done = gradcheck("check", "-")
    assert done.code == 2
    assert "<stdin>" in done.err


@POSIX
def test_closed_standard_input_is_bad_input(folder):
    done = in_shell("<&-", "check", "-")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
