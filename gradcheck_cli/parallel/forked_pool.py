"""Apply a function to each of several items in a pool of forked processes."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any, TypeVar

from gradcheck_cli.errors import bad_input
from gradcheck_cli.parallel.clock import cores
from gradcheck_cli.parallel.executors import PLACE, ended, settle
from gradcheck_cli.parallel.forked import FORKING
from gradcheck_cli.parallel.interruptions import no_interruption
from gradcheck_cli.spec.check import Jobs

_Item = TypeVar("_Item")
_Done = TypeVar("_Done")


def each_in_processes(
    work: Callable[[_Item], _Done], items: Sequence[_Item], jobs: Jobs
) -> Generator[tuple[int, _Done], None, None]:
    """Apply `work` to each item in forked processes. Yield each item's index and result once it is done.

    The forked processes see all data as they are at the time of the fork. If the system does not support
    forking, this process does all the work.
    """
    count = min(cores() if jobs == "auto" else jobs, len(items))
    if count <= 1 or sys.platform not in FORKING:
        yield from enumerate(map(work, items))
        return
    pool = ProcessPoolExecutor(count, get_context("fork"), _share, (work, items))
    with ended(pool):
        with no_interruption(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about threads, as in `forked`
            numbers = [pool.submit(_one_of_shared, i) for i in range(len(items))]
        for done in as_completed(numbers):
            yield _result_of(done)


def _result_of(done: Future[_Done]) -> _Done:
    """Return the result of work that is done. Raises `InputError` if its process died."""
    try:
        return done.result()
    except BrokenExecutor as error:
        help = "this can happen if the system runs out of memory; use fewer processes"
        raise bad_input("a process that shared the work died", *PLACE, help=help) from error


_shared: tuple[Callable[[Any], Any], Sequence[Any]]
"""The work and the items. Forked processes inherit them, since they are too large to send."""


def _share(work: Callable[[Any], Any], items: Sequence[Any]) -> None:
    global _shared
    _shared = work, items
    settle()


def _one_of_shared(number: int) -> tuple[int, Any]:
    work, items = _shared
    return number, work(items[number])
