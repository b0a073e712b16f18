"""Share a task out among workers: cut it into parts, send the parts, and collect the answers."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Future
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise
from math import ceil
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

from gradcheck_cli.errors import InputError, bad_input
from gradcheck_cli.parallel.elsewhere import ElsewhereError
from gradcheck_cli.parallel.executors import PLACE, Opened
from gradcheck_cli.parallel.interruptions import no_interruption
from gradcheck_cli.parallel.remote import (
    Answer,
    Done,
    Failed,
    Node,
    NoTask,
    OtherVersions,
    Task,
    Versions,
    call_of,
    own_node,
    own_versions,
)

ROUNDS = 8
"""The largest number of parts per worker in one call of `Shared.each`. More would only add overhead."""

_LOOK = 1.0
"""The seconds between checks on whether there are still workers."""

_ALONE = 60.0
"""The seconds to wait for an engine without workers, or without an answer. To restart takes far less."""


def cuts(count: int, seconds: float, width: int, shortest: float) -> list[slice]:
    """Cut `count` evaluations into parts that take about the same time, and return them as slices.

    If the work suffices, every worker gets the same number of parts, up to `ROUNDS`. Otherwise, there are
    fewer parts than workers, since no part takes less than `shortest` seconds.

    seconds: the time of one evaluation.
    width: the number of workers.
    """
    affordable = int(count * seconds / shortest)
    parts = width * min(ROUNDS, affordable // width) if affordable >= width else affordable
    parts = max(1, min(parts, count))
    ends = [number * count // parts for number in range(parts + 1)]
    return [slice(start, end) for start, end in pairwise(ends)]


def at_once(seconds: float, opened: Opened) -> int:
    """Return how many variables to evaluate together, so that no worker waits long for the slowest one.

    seconds: the time of one evaluation.
    """
    for_a_while = max(_BUSY, opened.shortest) / max(seconds, _QUICKEST)
    return ceil(opened.width() * max(_FEWEST, for_a_while))


_BUSY = 0.25
"""The least number of seconds for which one evaluation of all variables should keep every worker busy.

A call takes several times as long, since each variable is evaluated at several points.
"""

_FEWEST = 2
"""The fewest variables per worker to evaluate together, however long one evaluation takes."""

_QUICKEST = 1e-6
"""No evaluation counts as quicker than this, in seconds."""


class Shared:
    """A task whose parts the workers of an executor do."""

    def __init__(self, opened: Opened, task: Task) -> None:
        self.opened = opened
        self.nodes: set[Node] = set()
        self._task = pickle.dumps(task)
        self._key = sha256(self._task).hexdigest()
        self._here = own_node()
        self._without = 0  # the number of workers that did not have the task

    def each(self, parts: Sequence[Any]) -> Iterator[tuple[int, Done]]:
        """Do all parts, and yield the index and the answer of each part as soon as it is done.

        Raises the exception that ended a part. Raises `InputError` if a worker cannot do the work, if a
        worker dies and the engine does not replace it, or if no worker is left.
        """
        answers: SimpleQueue[Future[bytes]] = SimpleQueue()
        waiting: dict[Future[bytes], int] = {}

        def send(number: int, task: bytes) -> None:
            future = self._submit(call_of(self._key, task, sent[number]))
            waiting[future] = number
            future.add_done_callback(answers.put)

        sent = [pickle.dumps(part) for part in parts]
        try:
            for number in range(len(parts)):
                send(number, self._task if self._forgets else b"")
            while waiting:
                future = self._next(answers)
                number = waiting.pop(future)
                answer = self._answer(future)
                if isinstance(answer, NoTask):
                    self._without += 1
                    send(number, self._task)
                    continue
                yield number, self._done(answer)
        finally:
            for future in waiting:
                future.cancel()

    @property
    def _forgets(self) -> bool:
        """Whether the engine seems to start a new process for every call, so that none has the task."""
        return self._without > _TRUST * max(1, self.opened.width())

    def _submit(self, call: bytes) -> Future[bytes]:
        with no_interruption(), warnings.catch_warnings():  # a pool may start processes
            warnings.simplefilter("ignore")  # dask's about large arguments, and Python's about forks
            try:
                return self.opened.executor.submit(pickle.loads, call)
            except Exception as error:
                raise self._lost(error) from error

    def _next(self, answers: SimpleQueue[Future[bytes]]) -> Future[bytes]:
        """Wait for the next future that is done. Raises `InputError` if no worker is left."""
        alone_since = None
        while True:
            try:
                return answers.get(timeout=_LOOK)
            except Empty:
                if self.opened.width() > 0:
                    alone_since = None
                elif alone_since is None:
                    alone_since = monotonic()
                elif monotonic() - alone_since > _ALONE:
                    message = f"{self.opened} has had no worker or has not answered for {_ALONE:g} s"
                    raise bad_input(message, *PLACE, help=self.opened.help) from None

    def _answer(self, future: Future[bytes]) -> Answer:
        try:
            answer: Answer = pickle.loads(future.result())
        except (Exception, CancelledError) as error:
            raise self._lost(error) from error
        self.nodes.add(answer.node)
        return answer

    def _done(self, answer: Answer) -> Done:
        """Return the answer if the part is done. Otherwise, raise what kept the worker from doing it."""
        if isinstance(answer, Failed):
            raise _error_of(answer, self.on(answer.node)) from ElsewhereError(answer.trace)
        if isinstance(answer, OtherVersions):
            there, here = _listed(answer.found), _listed(own_versions())
            message = f"a worker{self.on(answer.node)} has {there}, but this process has {here}"
            raise bad_input(message, *PLACE, help="install the same versions on every machine")
        assert isinstance(answer, Done)
        return answer

    def on(self, node: Node) -> str:
        """Return words for the machine of the node, such as `` on node7``; empty if it is this machine."""
        return "" if node.machine == self._here.machine else f" on {node.machine}"

    def _lost(self, error: BaseException) -> InputError:
        """Return the error to raise if the engine itself fails to do a part."""
        if isinstance(error, ModuleNotFoundError) and "gradcheck_cli" in str(error):
            help = "install the same version of gradcheck on every machine"
            return bad_input(f"a worker of {self.opened} has no gradcheck", *PLACE, help=help)
        if isinstance(error, BrokenExecutor) or type(error).__name__ in _DEATHS:
            return bad_input(
                "a worker process died while it ran the code", "gradients", help=self.opened.help
            )
        told = f"{type(error).__name__}: {error}".removesuffix(": ")
        return bad_input(f"{self.opened} no longer answers ({told})", *PLACE, help=self.opened.help)


_DEATHS = ("KilledWorker", "ExecutorlibSocketError", "EngineError")
"""The names of exceptions by which an engine says that workers died."""


_TRUST = 4
"""The number of times that a worker may lack the task, per worker. Parts that wait in a queue count, too."""


def _error_of(failed: Failed, on: str) -> BaseException:
    """Return the exception that ended a part. If it came from another machine, it names the machine.

    on: words for the machine.
    """
    try:
        error: BaseException = pickle.loads(failed.error)
    except Exception:  # the worker could not pickle it, or its class is unknown here
        return RuntimeError(f"{failed.told}{on}")
    if isinstance(error, InputError) and on:
        return InputError(*(replace(each, message=f"{each.message}{on}") for each in error.complaints))
    if on:
        error.add_note(f"gradcheck ran this{on}.")
    return error


def _listed(versions: Versions) -> str:
    return f"Python {versions.python}, numpy {versions.numpy} and gradcheck {versions.gradcheck}"
