"""Every command on a terminal, in a pipe and on a full disk.

The commands come from a table; `check` and `explain` have files of their own.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from time import sleep
from typing import Any

import pytest
import warm
from command_specs import Terminal, progress_of
from processes import (
    COMMAND,
    PATIENCE,
    POSIX,
    each_in_shell,
    ended,
    everything,
    on_terminal,
    started,
    wait_until,
)

from gradcheck_cli import cli

WORKING = {
    "check": (["check", "wrong.yaml"], 1),
    "compare": (["compare", "good.yaml", "good.yaml"], 0),
    "explain": (["explain", "wrong.yaml"], 1),
    "dump": (["dump", "good.yaml", "-o", "out"], 0),
    "sweep": (["sweep", "good.yaml", "--only", "output.bias"], 0),
    "mutate": (["mutate", "tiny.yaml", "--sample", "3"], 0),
    "init": (["init", "-"], 0),
    "schema": (["schema"], 0),
}
"""A working command line for every command, and its exit code."""

PRINTING = {name: line for name, line in WORKING.items() if name != "dump"}
"""The commands whose result goes to standard output."""

TABLES = ("check", "compare", "explain", "sweep", "mutate")

HELP = [["--help"], ["--version"], *[[name, "--help"] for name in WORKING]]
SOME_HELP = HELP[:3]
"""One text of each kind, since the same code writes them all."""

TERMINAL = [pytest.param(*line, id=name) for name, line in WORKING.items()]


def test_the_table_covers_every_command():
    assert set(WORKING) == {command.name for command in cli.COMMANDS}


@pytest.mark.parametrize(("arguments", "code"), TERMINAL)
def test_off_a_terminal_there_is_no_color_and_no_progress(arguments, code, gradcheck):
    done = gradcheck(*arguments)
    assert done.code == code
    assert "\x1b" not in done.out + done.err
    assert "\r" not in done.out + done.err
    assert bool(done.out) == (arguments[0] in PRINTING)


NARROW = [
    *[(PRINTING[name][0], columns) for name in ("check", "explain") for columns in (40, 80)],
    *[(line, 80) for line in HELP],  # click's help is never narrower than 50
]


@POSIX
@pytest.mark.parametrize(("arguments", "columns"), NARROW, ids=str)
def test_on_a_terminal_no_line_is_wider_than_it_is(arguments, columns, folder):
    with on_terminal(*arguments, columns=columns) as (_, texts):
        text = everything(texts)
    lines = re.sub(r"\x1b\[[\d;]*m", "", text).splitlines()
    assert lines
    assert max(map(len, lines)) <= columns


@pytest.mark.parametrize(("arguments", "code"), TERMINAL)
@pytest.mark.parametrize("variable", ["FORCE_COLOR", "NO_COLOR"])
def test_only_tables_are_ever_colored(arguments, code, variable, gradcheck, monkeypatch):
    monkeypatch.setenv(variable, "1")
    done = gradcheck(*arguments)
    assert done.code == code
    assert ("\x1b" in done.out) == (variable == "FORCE_COLOR" and arguments[0] in TABLES)
    assert "\x1b" not in done.err


def shared_by(values: Sequence[Any]) -> list[Any]:
    """Return each value with its command lines and their exit codes.

    `check` and the help are run with every value, each other line with one of them.
    """
    always = [WORKING["check"], (["--help"], 0)]
    others = [*list(WORKING.values())[1:], *[(line, 0) for line in SOME_HELP[1:]]]
    shares = [[*always, *others[number :: len(values)]] for number in range(len(values))]
    return [
        pytest.param(value, *zip(*share, strict=True), id=str(value))
        for value, share in zip(values, shares, strict=True)
    ]


@POSIX
@pytest.mark.parametrize(
    ("variables", "lines", "codes"), shared_by([{"LANG": "C"}, {"PYTHONIOENCODING": "ascii"}])
)
def test_a_plain_locale_gets_ascii(variables, lines, codes, folder):
    ended_with, done = each_in_shell("", lines, env={**os.environ, **variables})
    assert ended_with == [*codes]
    assert done.stdout.isascii()
    assert done.stderr.isascii()
    assert b"Traceback" not in done.stderr


@POSIX
@pytest.mark.parametrize(("closed", "lines", "codes"), shared_by([">&-", "2>&-", "<&- >&- 2>&-"]), ids=str)
def test_closed_streams_change_no_exit_code(closed, lines, codes, folder):
    ended_with, done = each_in_shell(closed, lines)
    assert ended_with == [*codes]
    assert b"Traceback" not in done.stderr


PRINTED = {" ".join(line): code for line, code in [*PRINTING.values(), *[(line, 0) for line in SOME_HELP]]}
"""The command lines that print a result or a help text, and their exit codes."""


@POSIX
def test_a_reader_that_has_left_changes_no_exit_code(folder, unread):
    ended_with, done = each_in_shell("", [line.split() for line in PRINTED], stdout=unread)
    assert dict(zip(PRINTED, ended_with, strict=True)) == PRINTED
    assert done.stderr == b""


@POSIX
@pytest.mark.parametrize(("arguments", "code"), PRINTING.values(), ids=str)
def test_head_gets_the_first_line(arguments, code, gradcheck):
    """The output is small or large: a pipe holds 64 KiB, and more may be written to it."""
    first = gradcheck(*arguments).out.splitlines(keepends=True)[0]
    line = f"{{ {warm.command()} {shlex.join(arguments)}; echo code $? >&2; }} | head -1"
    done = subprocess.run(["sh", "-c", line], capture_output=True, encoding="utf-8", env=dict(os.environ))
    assert (done.stdout, done.stderr) == (first, f"code {code}\n")


FULL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")


@FULL
def test_a_full_disk_is_reported(folder):
    codes, done = each_in_shell(">/dev/full", [line.split() for line in PRINTED])
    assert dict(zip(PRINTED, codes, strict=True)) == dict.fromkeys(PRINTED, 2)
    says = b"error: cannot write the result: No space left on device\n"
    assert done.stderr == says * len(PRINTED)


@FULL
def test_a_full_disk_for_stderr_changes_no_exit_code(folder):
    lines, expected = zip(*WORKING.values(), strict=True)
    codes, _ = each_in_shell("2>/dev/full", lines)
    assert codes == [*expected]


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@POSIX
@pytest.mark.parametrize(
    ("output", "says"), [("out.npz", "File too large"), ("out", "no space left on the disk? ")]
)
def test_a_dump_to_a_full_disk_is_reported_and_leaves_nothing(output, says, folder):
    before = left_in(folder)
    command = shlex.join([*COMMAND, "dump", "large.yaml", "-o", output])
    line = f"export PYTHONDONTWRITEBYTECODE=1; ulimit -f 1; exec {command}"
    (folder / "large.yaml").write_text(LARGE.format(units=40))
    done = subprocess.run(["sh", "-c", line], capture_output=True, encoding="utf-8")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: --output: '{output}' cannot be written: {says}")
    assert left_in(folder) - {"large.yaml"} == before


LARGE = (
    "network: {{inputs: {units}, layers: [{{units: {units}, activation: tanh}}, {{units: 10}}], loss: mse}}\n"
    "data: {{synthetic: normal, samples: 40, seed: 1}}\n"
)
ENDLESS = """
from pathlib import Path
import numpy as np

parameters = {"w": np.ones((300, 400))}


def f(parameters, x, y):
    Path("begun").touch()
    return (parameters["w"] ** 2).sum(axis=1), {"w": 2 * parameters["w"]}
"""


@pytest.fixture
def endless(folder):
    (folder / "endless.py").write_text(ENDLESS)
    (folder / "endless.yaml").write_text("gradients: {python: endless.py:f}\ncheck: {differences: literal}\n")
    return folder


def interrupted(begun: Path, *arguments: str) -> tuple[int, str, str]:
    """Return the result of the command if Ctrl-C is pressed in the middle of its work."""
    with started(*arguments) as process:
        wait_until(begun.exists)
        sleep(0.3)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
        return process.returncode, out, err


@POSIX
@pytest.mark.parametrize("format", ["table", "json"])
def test_ctrl_c_during_several_specs_loses_no_finished_one(format, endless):
    paths = ["good.yaml", "wrong.yaml", "endless.yaml", "undecided.yaml"]
    code, out, err = interrupted(endless / "begun", "check", "--format", format, *paths)
    assert code == 130
    assert err == "\ninterrupted: 2 of 4 specs were checked\n"
    assert all(path in out for path in paths)
    assert out.count("interrupted before it was checked") == 2


@POSIX
def test_ctrl_c_before_anything_was_checked_leaves_stdout_empty(endless):
    code, out, err = interrupted(endless / "begun", "check", "--format", "json", "endless.yaml", "good.yaml")
    assert (code, out, err.strip()) == (130, "", "interrupted")


@POSIX
@pytest.mark.parametrize(
    "command", [["explain"], ["dump", "-o", "out"], ["dump", "-o", "out.npz"]], ids=" ".join
)
def test_ctrl_c_ends_the_other_commands_with_130_and_nothing_written(command, folder, gradcheck, monkeypatch):
    before = left_in(folder)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gradcheck_cli.explain.explain.build_problem", interrupt)
    monkeypatch.setattr("gradcheck_cli.dump._write_npz", interrupt)
    monkeypatch.setattr("gradcheck_cli.dump._write_folder", interrupt)
    done = gradcheck(*command, "good.yaml")
    assert (done.code, done.out, done.err.strip()) == (130, "", "interrupted")
    assert left_in(folder) == before


@pytest.mark.parametrize("title", ["net.yaml", "the_network_of_chapter_eleven_with_all_its_layers.yaml"])
@pytest.mark.parametrize("columns", [40, 80])
def test_the_progress_stays_on_its_line_and_says_how_long_it_takes(columns, title, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    written = progress_of(Terminal(), [2.0, 3.0], monkeypatch, title)
    shown = [re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", line).strip() for line in re.split(r"[\r\n]", written)]
    lines = [line for line in shown if line]
    assert max(map(len, lines)) <= columns
    for line in lines:
        assert re.search(r"\d+%.* s left", line)
        assert line.startswith("net.yaml " if title == "net.yaml" else "the_network_of_")
        assert ("evaluations/s" in line) == (columns == 80)


SLOW = """\
import time
import numpy as np

def parameters():
    return {"w": np.ones(20)}

def f(parameters, x, y):
    time.sleep(0.02)
    return (parameters["w"] ** 2).sum(), {"w": parameters["w"]}
"""


@POSIX
@pytest.mark.parametrize("columns", [40, 100])
def test_progress_of_slow_code_shows_the_step_without_a_percentage(columns, folder):
    (folder / "slow.py").write_text(SLOW)
    (folder / "slow.yaml").write_text("gradients: {python: slow.py:f}\n")
    with on_terminal("check", "--fast", "slow.yaml", columns=columns) as (process, texts):
        text = everything(texts)
        assert ended(process) == 1
    shown = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", text)
    lines = [line for line in re.split(r"[\r\n]+", shown) if "slow.yaml " in line]
    assert lines
    assert max(map(len, lines)) <= columns
    assert any("running the code" in line or "w along" in line for line in lines)
    assert any(re.search(r"\d+ evaluations, \d+ s", line) for line in lines)
    assert "%" not in shown
