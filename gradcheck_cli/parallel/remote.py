"""Run a part of a task in a worker process, on this machine or another.

An engine needs to know nothing of gradcheck: it calls `pickle.loads` with the bytes from `call_of`, and
unpickling those calls `answer`. So only the workers need gradcheck. Dask, for example, also unpickles on its
scheduler what it is given, and finds a function of the standard library and bytes there.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import platform
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from time import perf_counter
from typing import Any, NamedTuple, Protocol

import numpy as np

from gradcheck_cli.errors import InputError


class Task(Protocol):
    """Work that workers do in parts. It is pickled, so it holds everything that the work needs."""

    def begin(self) -> Callable[[Any], Any]:
        """Return the function that does one part. A worker calls `begin` only once.

        Raises `InputError` if this worker cannot do the work as the process that sent the task would.
        """


class Node(NamedTuple):
    """A worker process: the name of its machine, and its process id there."""

    machine: str
    process: int


class Versions(NamedTuple):
    """The versions that must be the same in all processes, because pickles or results depend on them."""

    python: str
    numpy: str
    gradcheck: str


def own_node() -> Node:
    """Return the node that this process is."""
    return Node(platform.node(), os.getpid())


def own_versions() -> Versions:
    """Return the versions of Python, numpy and gradcheck in this process."""
    from gradcheck_cli import __version__  # the front imports this module

    return Versions(".".join(platform.python_version_tuple()[:2]), np.__version__, __version__)


# --- the answers -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Done:
    """The result of a part, and the seconds that it took."""

    node: Node
    value: Any
    seconds: float


@dataclass(frozen=True)
class NoTask:
    """The worker does not have the task. The part must be sent again, together with the task."""

    node: Node


@dataclass(frozen=True)
class OtherVersions:
    """The worker has other versions of Python, numpy or gradcheck, so it has done nothing."""

    node: Node
    found: Versions


@dataclass(frozen=True)
class Failed:
    """An exception ended the part.

    error: the exception as a pickle; empty if it cannot be pickled.
    told: the exception in words.
    trace: its traceback as text.
    """

    node: Node
    error: bytes
    told: str
    trace: str


Answer = Done | NoTask | OtherVersions | Failed


# --- the call ----------------------------------------------------------------------------------------------


def call_of(key: str, task: bytes, part: bytes) -> bytes:
    """Return a call as bytes. `pickle.loads` of these bytes does the part, and returns the answer as bytes.

    key: a hash of the task, by which a worker knows a task that it already has.
    task: the pickled task; empty to rely on the worker's having it.
    part: the pickled part.
    """
    return pickle.dumps(_Call(own_versions(), os.getcwd(), key, task, part))


class _Call:
    """An object whose unpickling calls `answer`. All arguments are of built-in types."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __reduce__(self) -> tuple[Any, ...]:
        versions, *rest = self.arguments
        return answer, (tuple(versions), *rest)


# --- in the worker -----------------------------------------------------------------------------------------

_ONE_AT_A_TIME = Lock()
"""Code may change the current folder, the streams or a module. So a process runs one part at a time."""

_BEGUN: dict[str, Callable[[Any], Any]] = {}
"""The function of the latest task, by the task's key. Code that is loaded later may replace its modules."""


def answer(versions: tuple[str, ...], folder: str, key: str, task: bytes, part: bytes) -> bytes:
    """Do one part of a task, and return the pickled `Answer`. No exception leaves this function.

    Even an exit or an interruption is an answer, because an engine would call the part again and again, and
    lose a worker each time.

    folder: the current folder of the sender. If this machine has it, too, the part runs there.
    """
    with _ONE_AT_A_TIME, _in_folder(folder):
        try:
            return pickle.dumps(_answer(Versions(*versions), key, task, part))
        except BaseException as error:
            return pickle.dumps(_failed(error))


def _answer(versions: Versions, key: str, task: bytes, part: bytes) -> Answer:
    node = own_node()
    if versions != (found := own_versions()):
        return OtherVersions(node, found)
    with _memory_kept():
        if key not in _BEGUN:
            if not task:
                return NoTask(node)
            _BEGUN.clear()
            _BEGUN[key] = pickle.loads(task).begin()
        work, given = _BEGUN[key], pickle.loads(part)
        start = perf_counter()
        value = work(given)
        return Done(node, value, perf_counter() - start)


@contextmanager
def _in_folder(folder: str) -> Iterator[None]:
    before = os.getcwd()
    if os.path.isdir(folder):
        os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _failed(error: BaseException) -> Failed:
    try:
        sent = pickle.dumps(error)
        pickle.loads(sent)
    except Exception:  # some exceptions cannot be pickled or unpickled
        sent = b""
    told = str(error) if isinstance(error, InputError) else repr(error)
    return Failed(own_node(), sent, told, "".join(traceback.format_exception(error)))


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # the parameters of mallopt
_KEPT = 2**25
"""The bytes that malloc may keep for the next array. By default, glibc itself goes up to this limit."""


@contextmanager
def _memory_kept() -> Iterator[None]:
    """Let malloc keep the memory of freed arrays, even if MALLOC_TRIM_THRESHOLD_ tells it not to.

    Dask sets this variable for its workers. Without this context, every temporary array of more than some
    kilobytes would get fresh memory from the system, which makes loops over arrays 3 to 18 times slower.
    """
    told = os.environ.get("MALLOC_TRIM_THRESHOLD_", "")
    if sys.platform != "linux" or not told.isdigit() or not hasattr(libc := ctypes.CDLL(None), "mallopt"):
        yield
        return
    libc.mallopt(_MMAP_THRESHOLD, _KEPT)
    libc.mallopt(_TRIM_THRESHOLD, 2 * _KEPT)
    try:
        yield
    finally:
        libc.mallopt(_MMAP_THRESHOLD, 2**17)  # the value that glibc starts with
        libc.mallopt(_TRIM_THRESHOLD, int(told))
