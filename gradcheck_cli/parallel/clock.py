"""Measure time, and count the processors of this machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from time import perf_counter, process_time
from typing import NamedTuple


class Time(NamedTuple):
    """Processor time and wall-clock time, each in seconds since some fixed moment."""

    processor: float
    wall: float


Clock = Callable[[], Time]


def now() -> Time:
    """Return the processor time and the wall-clock time.

    Processor time includes child processes that have ended.
    """
    children = os.times()
    return Time(process_time() + children.children_user + children.children_system, perf_counter())


def cores() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
