"""Run the command in its own process: behind pipes, in a shell, on a terminal, interrupted.

Even if the tests run in the background of a script or under nohup, every process handles signals as if it
were started by hand. No process is awaited forever.
"""

from __future__ import annotations

import json
import os
import select
import shlex
import signal
import subprocess
import sys
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any

import pytest
from paths import ROOT

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs POSIX streams, signals or terminals")

COMMAND = [sys.executable, "-W", "error", "-W", "default:resource_tracker", "-m", "gradcheck_cli"]
"""The command with every warning as an error, but for those that Python's resource tracker can only print."""

LAUNCH = [sys.executable, "-I", "-S", str(ROOT / "tests" / "launch.py")]
"""The launcher that gives the command default signals and its own terminal."""

PATIENCE = 120.0
"""A command that still runs after this many seconds has failed, however busy the machine is."""


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in its own process.

    The process always gets an explicit env, because readline adds COLUMNS to an inherited environment without
    changing os.environ.
    """
    return subprocess.run(
        [*COMMAND, *arguments],
        **{
            "capture_output": True,
            "stdin": subprocess.DEVNULL,
            "encoding": "utf-8",
            "env": dict(os.environ),
            "timeout": PATIENCE,
            **options,
        },
    )


def in_shell(redirected: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command with the shell's redirections."""
    line = f"exec {shlex.join([*COMMAND, *arguments])} {redirected}"
    return subprocess.run(
        ["sh", "-c", line], capture_output=True, encoding="utf-8", env=dict(os.environ), timeout=PATIENCE
    )


EACH = """
import json, os, sys
from gradcheck_cli import Spec, checker, cli, diagnose
from gradcheck_cli.__main__ import main
from gradcheck_cli.formats import table
from gradcheck_cli.mutate import mutate

Spec.model_rebuild()
codes = []
for line in json.loads(sys.argv[2]):
    child = os.fork()
    if not child:
        sys.argv[1:] = line
        sys.exit(main())
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
with open(sys.argv[1], "w") as file:
    json.dump(codes, file)
"""
"""A program that runs one command line after another, each in a fork.

It imports only once what most commands need.
"""


def each_in_shell(
    redirected: str, lines: Sequence[Sequence[str]], **options: Any
) -> tuple[list[int], subprocess.CompletedProcess[bytes]]:
    """Run the command lines with the shell's redirections.

    Returns the exit code of each line, and what all lines wrote together.
    """
    with TemporaryDirectory() as folder:
        codes = Path(folder, "codes.json")
        program = [sys.executable, "-W", "error", "-c", EACH, str(codes), json.dumps(lines)]
        done = subprocess.run(
            ["sh", "-c", f"exec {shlex.join(program)} {redirected}"],
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "env": dict(os.environ), **options},
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
        )
        return json.loads(codes.read_text()), done


@contextmanager
def started(*arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Start the command in its own session and process group, which ends with the context."""
    process = subprocess.Popen(
        [*LAUNCH, *COMMAND, *arguments],
        **{
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "encoding": "utf-8",
            "env": dict(os.environ),
            "start_new_session": True,
            **options,
        },
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def on_terminal(
    *arguments: str, columns: int = 100, typed: bytes | None = None, after: str = "", **variables: str
) -> Iterator[tuple[subprocess.Popen[bytes], Iterator[str]]]:
    """Start the command on its own terminal, and yield the process and the text that it writes there.

    stdout and stderr arrive together. typed: what to type once the command has written `after`; if None,
    stdin is closed.
    """
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    streams = {"stdin": subprocess.DEVNULL if typed is None else theirs, "stdout": theirs, "stderr": theirs}
    command = started(
        *arguments,
        **streams,
        encoding=None,
        env={**os.environ, **variables},
    )
    try:
        with command as process:
            os.close(theirs)
            yield process, texts_on(ours, typed or b"", after)
    finally:
        os.close(ours)


def wait_until(is_so: Callable[[], bool]) -> None:
    """Return as soon as something is so; fail if it is not so in time."""
    give_up = monotonic() + PATIENCE
    while not is_so():
        if monotonic() > give_up:
            pytest.fail(f"it is still not so after {PATIENCE:g} s")
        sleep(0.02)


def ended(process: subprocess.Popen[Any]) -> int:
    """Wait for a process that has nothing left to do, and return its exit code."""
    return process.wait(PATIENCE)


def everything(texts: Iterator[str]) -> str:
    """Return all that is written to a terminal."""
    *_, last = texts
    return last


def _has_more(terminal: int, seconds: float) -> bool:
    return bool(select.select([terminal], [], [], max(0.0, seconds))[0])


def texts_on(terminal: int, typed: bytes, after: str) -> Iterator[str]:
    """Yield everything written so far, repeatedly, until the other side closes.

    The text to type is typed when the process has stopped writing, and once more later, since input may be
    lost while a prompt is being set up.
    """
    decode, written = getincrementaldecoder("utf-8")("replace").decode, ""
    quiet, give_up = 0.5, monotonic() + PATIENCE
    while monotonic() < give_up:
        is_asked = bool(typed) and after in written
        if _has_more(terminal, quiet if is_asked else give_up - monotonic()):
            try:
                piece = os.read(terminal, 4096)
            except OSError:  # Linux reports a closed terminal in this way
                return
            if not piece:
                return
            written += decode(piece)
            yield written
        elif is_asked:
            os.write(terminal, typed)
            quiet = 5.0  # on a slow machine, a second Ctrl-C would interrupt the handling of the first
    pytest.fail(f"it still runs after {PATIENCE:g} s, and the terminal shows:\n{written}")
