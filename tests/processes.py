"""The command in a process of its own: behind pipes, in a shell, on a terminal, interrupted.

Whatever the tests were started by, as in the background of a script or by nohup, every process has the
signals of one that is started by hand, and no process is waited for without end.
"""

from __future__ import annotations

import os
import select
import shlex
import signal
import subprocess
import sys
from codecs import getincrementaldecoder
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import pytest
from paths import ROOT

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs POSIX streams, signals or terminals")

COMMAND = [sys.executable, "-W", "error", "-m", "gradcheck_cli"]

LAUNCH = [sys.executable, "-I", "-S", str(ROOT / "tests" / "launch.py")]
"""What gives the command signals of its own, and its terminal."""

PATIENCE = 120.0
"""Seconds after which a command that still runs has failed, however busy the machine is."""


def without_coverage() -> dict[str, str]:
    """The environment for a command that may not write, or open, what coverage does at its end."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own.

    env is given always: behind os.environ's back, readline puts COLUMNS into what a process inherits.
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
    """The command with the shell's redirections."""
    line = f"exec {shlex.join([*COMMAND, *arguments])} {redirected}"
    return subprocess.run(
        ["sh", "-c", line], capture_output=True, encoding="utf-8", env=dict(os.environ), timeout=PATIENCE
    )


@contextmanager
def started(*arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """The command in a session of its own, at the head of its processes; none outlives the context."""
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
    """The process and what it writes to a terminal of its own, stdout and stderr together.

    typed: what is typed there once it has written `after`; without it nothing can be.
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


def ended(process: subprocess.Popen[Any]) -> int:
    """The exit code of a process that has nothing left to do."""
    return process.wait(PATIENCE)


def everything(texts: Iterator[str]) -> str:
    """All that is written to a terminal."""
    *_, last = texts
    return last


def _has_more(terminal: int, seconds: float) -> bool:
    return bool(select.select([terminal], [], [], max(0.0, seconds))[0])


def texts_on(terminal: int, typed: bytes, after: str) -> Iterator[str]:
    """What has been written so far, again and again, until the other side is closed.

    It is typed when all is quiet; and again, for what comes as a prompt is being set up may be lost.
    """
    decode, written = getincrementaldecoder("utf-8")("replace").decode, ""
    quiet, give_up = 0.5, monotonic() + PATIENCE
    while monotonic() < give_up:
        is_asked = bool(typed) and after in written
        if _has_more(terminal, quiet if is_asked else give_up - monotonic()):
            try:
                piece = os.read(terminal, 4096)
            except OSError:  # Linux's way to say that there is nobody left
                return
            if not piece:
                return
            written += decode(piece)
            yield written
        elif is_asked:
            os.write(terminal, typed)
            quiet = 5.0  # long, on a busy machine: a second Ctrl-C would hit what follows the first
    pytest.fail(f"it still runs after {PATIENCE:g} s, and the terminal shows:\n{written}")
