"""Signals that end a process: delayed while they would do harm, and turned into interruptions."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if os.name == "posix" else (signal.SIGINT,)
"""The signals that interrupt a check: its processes end and free what they hold."""


@contextmanager
def no_interruption() -> Iterator[None]:
    """Delay Ctrl-C while processes are started.

    Python loses an interruption that arrives during a fork. A new process must first be able to handle it.
    """
    if os.name != "posix":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def interrupt_once(*signals: int) -> list[int]:
    """Let the first of these signals raise `KeyboardInterrupt` in this process, and ignore those after it.

    Returns a list, to which the number of that signal is added. A process that the user's code forks does not
    inherit this: there, the signals have their default effect.
    """
    received: list[int] = []
    owner = os.getpid()

    def interrupt(number: int, _: FrameType | None) -> None:
        if os.getpid() != owner:
            end_by(number)
            return
        for each in signals:
            signal.signal(each, _ignore)
        received.append(number)
        raise KeyboardInterrupt

    for each in signals:
        signal.signal(each, interrupt)
    return received


def _ignore(number: int, _: FrameType | None) -> None:
    """Do nothing. After SIG_IGN, Python would complain of a signal that has come already."""


def end_by(number: int) -> None:
    """End this process by a signal, so that its parent sees the cause."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
