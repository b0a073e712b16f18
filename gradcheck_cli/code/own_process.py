"""Run the user's code in a separate process, and report how that process ended.

A verdict does not count until the process has sent it back. So no premature end of the process, from
`os._exit` to a crash in C, can be mistaken for a verdict. All changes that the code makes to streams, the
current folder, threads or modules are gone when the process ends.
"""

from __future__ import annotations

import ctypes
import errno
import faulthandler
import multiprocessing
import os
import pickle
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import inf
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from os import _exit  # keep the original: code may replace it
from time import monotonic
from typing import Any, TypeVar

from gradcheck_cli.code.failures import place_among
from gradcheck_cli.errors import InputError, bad_input, is_interruption
from gradcheck_cli.parallel.elsewhere import Raised, Returned, raised
from gradcheck_cli.parallel.ends import end_with_parent
from gradcheck_cli.parallel.interruptions import INTERRUPTING, end_by, interrupt_once, no_interruption
from gradcheck_cli.spec.gradients import Code

START = (
    "fork" if sys.platform in ("linux", "freebsd") else "spawn"
)  # some libraries of macOS do not survive a fork
"""The multiprocessing start method. Forking is almost free; a fresh process imports everything again."""

_WHERE = ("gradients",)
_GRACE = 3.0
"""The time, in seconds, that a process has to end on its own after Ctrl-C or after sending its answer."""
_LOOK = 0.2
"""The time, in seconds, between checks on whether a silent process is still alive.

Waiting for the end of its pipe is not enough, since the process's children may keep the pipe open.
"""

T = TypeVar("T")


def in_own_process(code: Code | None, limit: float | None, work: Callable[..., T], *arguments: Any) -> T:
    """Run `work(*arguments)` in another process. Return its result or raise its exception.

    Raises `InputError` if the process ends without an answer or exceeds the limit. By the time this function
    returns or raises, the process has ended.

    code: the user's code that `work` runs, for the messages.
    limit: the time limit in seconds, or None for no limit.
    """
    with _started(code, work, arguments) as child:
        answer = child.answer(limit)
    return answer.given()


# --- in this process ---------------------------------------------------------------------------------------


@contextmanager
def _started(code: Code | None, work: Callable[..., Any], arguments: tuple[Any, ...]) -> Iterator[_Child]:
    context: Any = multiprocessing.get_context(START)
    with _pipe(context) as (answers, to), _pipe(context) as (last_words, crash), _stdin() as stdin:
        process = context.Process(target=_serve, args=(to, crash, stdin, work, arguments))
        with no_interruption(), warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # Python warns about threads, which are those of BLAS; see `shared_work`
            process.start()
        to.close()
        crash.close()
        try:
            yield _Child(code, process, answers, last_words)
        except BaseException:
            _interrupt(process)
            raise
        finally:
            _end(process)


def _interrupt(process: BaseProcess) -> None:
    """Interrupt the process, unless Ctrl-C in a terminal has reached it already, so that it cleans up."""
    if os.name == "posix" and process.pid and process.is_alive():
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGINT)


def _end(process: BaseProcess) -> None:
    """Wait a moment for the process to end, then kill it. A second Ctrl-C kills it at once."""
    try:
        process.join(_GRACE)
    finally:
        if process.is_alive():
            process.kill()
            process.join()
            _tidy_terminal()


def _tidy_terminal() -> None:
    """Clear the line and show the cursor, in case the process died while its progress bar hid the cursor."""
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        sys.stderr.write("\r\x1b[2K\x1b[?25h")
        sys.stderr.flush()


@contextmanager
def _pipe(context: Any) -> Iterator[tuple[Connection, Connection]]:
    reader, writer = context.Pipe(duplex=False)
    with reader, writer:
        yield reader, writer


@contextmanager
def _stdin() -> Iterator[int | None]:
    """Yield a duplicate descriptor of standard input if the process is forked; otherwise yield None.

    In a forked process, multiprocessing closes the original.
    """
    descriptor = None
    if START == "fork":
        with suppress(OSError):
            descriptor = os.dup(0)
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


@dataclass(frozen=True)
class _Child:
    code: Code | None
    process: BaseProcess
    answers: Connection
    last_words: Connection

    def answer(self, limit: float | None) -> Returned | Raised:
        give_up = monotonic() + (inf if limit is None else limit)
        while not self.answers.poll(max(0.0, min(_LOOK, give_up - monotonic()))):
            if self.process.exitcode is not None and not self.answers.poll(0):
                raise self._no_answer()
            if monotonic() > give_up:
                message = f"there is no verdict after {limit:g} s; {self._what} is still running"
                raise bad_input(message, *_WHERE, help="--timeout SECONDS sets the limit")
        try:
            answer: Returned | Raised = pickle.loads(self.answers.recv_bytes())
        except (EOFError, OSError, pickle.UnpicklingError):
            raise self._no_answer() from None
        return answer

    @property
    def _what(self) -> str:
        return str(self.code or "the check")

    def _no_answer(self) -> InputError:
        self.process.join(_GRACE)
        status = self.process.exitcode
        message = f"{self._what} {_how_it_ended(status)}{self._place()}, so there is no verdict"
        return bad_input(message, *_WHERE, help=_OF_MEMORY if status == -9 else None)

    def _place(self) -> str:
        """Return words for the place of a crash, such as `` at my_net.py:7``; empty if it is unknown."""
        if self.code is None or not self.last_words.poll(0):
            return ""
        with suppress(EOFError, OSError):
            said = os.read(self.last_words.fileno(), 2**16).decode("utf-8", "replace")
            places = [(file, int(line)) for file, line in _FRAME.findall(said)]
            place = place_among(reversed(places), os.path.abspath(self.code.file.parent))
            return f" at {place}" if place else ""
        return ""


_FRAME = re.compile(r'^  File "(.+)", line (\d+) in ', re.MULTILINE)
"""Matches a stack frame in a traceback from faulthandler, which lists the innermost frame first."""

_OF_MEMORY = "this can happen if the system runs out of memory"


_MUTE = 69
"""The exit status of a process that was unable to send its answer."""


def _how_it_ended(status: int | None) -> str:
    if status == _MUTE:
        return "closes files or breaks modules that do not belong to it"
    if status is None:
        return "closes every file, or replaces itself with another program"
    if status >= 0:
        return f"ends the process with status {status}"
    try:
        return f"ends the process with {signal.Signals(-status).name}"
    except ValueError:
        return f"ends the process with signal {-status}"


# --- in the other process ----------------------------------------------------------------------------------


def _serve(
    to: Connection, crash: Connection, stdin: int | None, work: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    """Run `work`, send its answer, and exit without waiting for threads or exit handlers of the user's code.

    to: the connection to which the answer is sent.
    crash: the connection to which the traceback of a crash is written.
    stdin: a descriptor to use as standard input; None to leave standard input as it is.
    """
    own = os.getpid()
    try:
        received = interrupt_once(*INTERRUPTING)
        answer = _answer(crash, stdin, work, arguments)
        for number in set(received) - {signal.SIGINT}:
            end_by(number)
        if os.getpid() == own:
            to.send_bytes(answer)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        with suppress(Exception):
            ctypes.CDLL(None).fflush(None)  # C has a buffer of its own
        _exit(_MUTE)


def _answer(
    crash: Connection, stdin: int | None, work: Callable[..., Any], arguments: tuple[Any, ...]
) -> bytes:
    try:
        _settle(crash, stdin)
        answer = pickle.dumps(Returned(work(*arguments)))
    except BaseException as error:
        answer = _failed(error)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return answer


def _failed(error: BaseException) -> bytes:
    instead: BaseException | None = None
    if is_interruption(error) and not isinstance(error, InputError):
        instead = KeyboardInterrupt()
    elif not isinstance(error, InputError) and _out_of_files():
        instead = bad_input("the code leaves too many files open: no more can be opened", *_WHERE)
    return pickle.dumps(raised(error, instead))


def _out_of_files() -> bool:
    """Return whether this process has run out of file descriptors."""
    try:
        os.close(os.dup(2))
    except OSError as error:
        return error.errno == errno.EMFILE
    return False


def _settle(crash: Connection, stdin: int | None) -> None:
    """Set up this process to run the user's code.

    Its standard output goes to stderr, since stdout is reserved for the result. A crash writes its traceback
    to `crash`, and the process ends when its parent ends.

    stdin: a descriptor to use as standard input; None to leave standard input as it is.
    """
    if os.name == "posix":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        faulthandler.enable(crash.fileno(), all_threads=False)
    with suppress(OSError):
        os.dup2(2, 1)
        theirs = open(os.dup(2), "w", buffering=1, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        sys.__stdout__ = sys.__stderr__ = theirs  # type: ignore[misc]  # the code may close it
    if stdin is not None:
        os.dup2(stdin, 0)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - open until exit
    end_with_parent()
