"""Distribute batches over forked processes that write into shared memory.

Threads would be the natural choice, since numpy releases the GIL while it computes. But each call computes
for less than a tenth of a millisecond, and waking a thread takes as long: in a measurement, two threads
gained nothing on a 784-512-512-10 network. Two processes need little more than half the time for work that
takes seconds.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from gradcheck_cli.moving.objective import NetworkObjective
from gradcheck_cli.numerical.objective import ALONE, Movable, Move, Points, together_if_few
from gradcheck_cli.parallel.clock import Clock, cores
from gradcheck_cli.parallel.interruptions import no_interruption
from gradcheck_cli.spec.check import Jobs
from gradcheck_cli.types import Array

FORKING = ("linux", "freebsd")
"""The systems on which libraries survive a fork. Some libraries on macOS do not."""

_SMALL = 0.15
"""Below this many seconds of work, one process is as fast as several, since forking copies memory."""


@contextmanager
def shared_work(objective: NetworkObjective, jobs: Jobs, clock: Clock) -> Iterator[None]:
    """Evaluate the objective's batches in `jobs` processes as long as the context lasts.

    The batches, and so the results, are the same for any number of processes. Only one process is used if the
    system does not support forking, or if the clock shows that the work is small.
    """
    count = cores() if jobs == "auto" else jobs
    if count == 1 or sys.platform not in FORKING:
        yield
        return
    objective.spread = Forked(count, clock)
    try:
        yield
    finally:
        objective.spread = ALONE


class Forked:
    """Distributes batches over n processes, each of which evaluates every n-th batch.

    The first batch is evaluated in this process, to measure whether sharing the others is worthwhile.
    """

    def __init__(self, count: int, clock: Clock) -> None:
        self.count = count
        self.clock = clock

    def empty(self, size: int, dtype: Any = float) -> Array:
        """Return an array, (size,), in memory that all processes share."""
        length = max(1, size * np.dtype(dtype).itemsize)
        return np.frombuffer(mmap.mmap(-1, length), dtype=dtype, count=size)

    def mover(self, movable: Movable, which: Array, points: Points) -> Move:
        return together_if_few(movable, which, points)

    def __call__(self, batch: Callable[[int], int], starts: Sequence[int]) -> Iterator[int]:
        began = self.clock().processor
        yield from map(batch, starts[:1])
        rest = starts[1:]
        if len(rest) < 2 or (self.clock().processor - began) * len(rest) < _SMALL:
            yield from map(batch, rest)
            return
        shares = [rest[k :: self.count] for k in range(min(self.count, len(rest)))]
        children = [_fork(batch, share) for share in shares[1:]]
        try:
            for done in map(batch, shares[0]):
                yield done * len(shares)  # the other processes have done about as much
            for child, share in zip(list(children), shares[1:], strict=True):
                _, status = os.waitpid(child, 0)
                children.remove(child)
                for start in share if status else ():
                    batch(start)  # an error in a child recurs here and is reported
        finally:
            for child in children:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)


def _fork(batch: Callable[[int], int], share: Sequence[int]) -> int:
    """Start a process that evaluates the batches in `share`, and return the process id.

    The exit status of the process is 0 on success.
    """
    with no_interruption(), warnings.catch_warnings():
        # Python and jax warn about threads. The threads here belong to BLAS, which stops them for a fork, and
        # to a progress bar or jax, whose locks a child that only computes with numpy does not need.
        warnings.simplefilter("ignore")
        child = os.fork()
    if child:
        return child
    status = 1
    try:
        for start in share:
            batch(start)
        status = 0
    finally:
        os._exit(status)
