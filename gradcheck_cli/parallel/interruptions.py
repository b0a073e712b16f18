"""Delay Ctrl-C for as long as it would do harm."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager


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
