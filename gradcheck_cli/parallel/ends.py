"""End a process when its parent ends."""

from __future__ import annotations

import ctypes
import multiprocessing
import signal
import sys
from multiprocessing.process import BaseProcess
from os import _exit  # keep the original: code may replace it
from threading import Thread


def end_with_parent() -> None:
    """End this process when its parent ends, even by SIGKILL."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    if sys.platform != "linux" or not parent.is_alive():
        Thread(target=_outlive, args=(parent,), daemon=True).start()


_PR_SET_PDEATHSIG = 1


def _outlive(parent: BaseProcess) -> None:
    parent.join()
    _exit(1)
