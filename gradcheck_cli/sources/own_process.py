"""Code of the user's in a process of its own: whatever it does there, this one says what became of it.

A verdict counts once it has been handed over. So no way to end a process, from `os._exit` to a crash in C,
passes for one; and what the code does to streams, folders, threads and modules ends with its process.
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
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import inf
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from os import _exit  # as it is now: code may put another in its place
from threading import Thread
from time import monotonic
from typing import Any, NoReturn, TypeVar

from gradcheck_cli.errors import InputError, bad_input, is_interruption
from gradcheck_cli.sources.user_code import place_among
from gradcheck_cli.spec import Code

START = (
    "fork" if sys.platform in ("linux", "freebsd") else "spawn"
)  # macOS has libraries that do not survive it
"""A fork takes no time; a fresh process imports everything again."""

_WHERE = ("gradients",)
_GRACE = 1.0
"""Seconds that a process has to end by itself, after Ctrl-C or once it has answered."""
_LOOK = 0.2
"""Seconds between two looks at a process that is silent: a child of its own may hold its pipe open."""

T = TypeVar("T")


def in_own_process(code: Code | None, limit: float | None, work: Callable[..., T], *arguments: Any) -> T:
    """What `work` returns or raises, in a process that is over when this returns.

    code: what it runs, for messages.  limit: how many seconds it may take.
    Raises `InputError` if the process ends without an answer, or takes longer.
    """
    with _started(code, work, arguments) as child:
        answer = child.answer(limit)
    return answer.given()


# --- the answer --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Returned:
    value: Any

    def given(self) -> Any:
        return self.value


@dataclass(frozen=True)
class _Raised:
    error: BaseException
    trace: str

    def given(self) -> NoReturn:
        raise self.error from _ElsewhereError(self.trace)


class _ElsewhereError(Exception):
    """The traceback in the other process, for this one's."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


# --- in this process ---------------------------------------------------------------------------------------


@contextmanager
def _started(code: Code | None, work: Callable[..., Any], arguments: tuple[Any, ...]) -> Iterator[_Child]:
    context: Any = multiprocessing.get_context(START)
    with _pipe(context) as (answers, to), _pipe(context) as (last_words, crash), _stdin() as stdin:
        process = context.Process(target=_serve, args=(to, crash, stdin, work, arguments))
        with _no_interruption(), warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # Python warns of threads: those here are BLAS's, see `shared_work`
            process.start()
        to.close()
        crash.close()
        try:
            yield _Child(code, process, answers, last_words)
        finally:
            _end(process)


def _end(process: BaseProcess) -> None:
    """Ctrl-C has reached it, too, as a rule: it may tidy up first. A second Ctrl-C ends it at once."""
    try:
        process.join(_GRACE)
    finally:
        if process.is_alive():
            process.kill()
            process.join()
            _tidy_terminal()


def _tidy_terminal() -> None:
    """The process may have drawn a bar, which hides the cursor."""
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
    """A descriptor of standard input for a forked process, from which multiprocessing takes its own."""
    descriptor = None
    if START == "fork":
        with suppress(OSError):
            descriptor = os.dup(0)
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


@contextmanager
def _no_interruption() -> Iterator[None]:
    """Ctrl-C waits until the new process can deal with it."""
    if os.name != "posix":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@dataclass(frozen=True)
class _Child:
    code: Code | None
    process: BaseProcess
    answers: Connection
    last_words: Connection

    def answer(self, limit: float | None) -> _Returned | _Raised:
        give_up = monotonic() + (inf if limit is None else limit)
        while not self.answers.poll(max(0.0, min(_LOOK, give_up - monotonic()))):
            if self.process.exitcode is not None and not self.answers.poll(0):
                raise self._no_answer()
            if monotonic() > give_up:
                message = f"there is no verdict after {limit:g} s"
                raise bad_input(
                    f"{message}; {self._what} runs on", *_WHERE, help="--timeout SECONDS gives it longer"
                )
        try:
            answer: _Returned | _Raised = pickle.loads(self.answers.recv_bytes())
        except (EOFError, OSError, pickle.UnpicklingError):
            raise self._no_answer() from None
        return answer

    @property
    def _what(self) -> str:
        return str(self.code or "the check")

    def _no_answer(self) -> InputError:
        self.process.join(_GRACE)
        status = self.process.exitcode
        message = f"{self._what} {_how_it_ended(status)}{self._place()}, before there is a verdict"
        return bad_input(message, *_WHERE, help=_OF_MEMORY if status == -9 else None)

    def _place(self) -> str:
        """Return `` at my_net.py:7`` if the code crashed there."""
        if self.code is None or not self.last_words.poll(0):
            return ""
        with suppress(EOFError, OSError):
            said = os.read(self.last_words.fileno(), 2**16).decode("utf-8", "replace")
            places = [(file, int(line)) for file, line in _FRAME.findall(said)]
            place = place_among(reversed(places), os.path.abspath(self.code.file.parent))
            return f" at {place}" if place else ""
        return ""


_FRAME = re.compile(r'^  File "(.+)", line (\d+) in ', re.MULTILINE)
"""One of faulthandler's, which begins with the innermost."""

_OF_MEMORY = "a system that runs out of memory does that"


_MUTE = 69
"""The status of a process that is there to the end, but cannot hand over what it has found."""


def _how_it_ended(status: int | None) -> str:
    if status == _MUTE:
        return "closes files or spoils modules that are not its own"
    if status is None:
        return "closes every file, or becomes another program"
    if status >= 0:
        return f"ends the process with status {status}"
    try:
        return f"ends the process by {signal.Signals(-status).name}"
    except ValueError:
        return f"ends the process by signal {-status}"


# --- in the other process ----------------------------------------------------------------------------------


def _serve(
    to: Connection, crash: Connection, stdin: int | None, work: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    """Answer, and end: no thread that the code has left behind, nor what it does at exit, is waited for."""
    own = os.getpid()
    try:
        answer = _answer(crash, stdin, work, arguments)
        if os.getpid() == own:
            to.send_bytes(answer)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        with suppress(Exception):
            ctypes.CDLL(None).fflush(None)  # what C has printed lies in a buffer of its own
        _exit(_MUTE)


def _answer(
    crash: Connection, stdin: int | None, work: Callable[..., Any], arguments: tuple[Any, ...]
) -> bytes:
    try:
        _settle(crash, stdin)
        answer = pickle.dumps(_Returned(work(*arguments)))
    except BaseException as error:
        answer = _failed(error)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return answer


def _failed(error: BaseException) -> bytes:
    trace = "".join(traceback.format_exception(error))
    if is_interruption(error) and not isinstance(error, InputError):
        error = KeyboardInterrupt()
    elif not isinstance(error, InputError) and _out_of_files():
        error = bad_input("the code leaves files open until no more can be opened", *_WHERE)
    try:
        answer = pickle.dumps(_Raised(error, trace))
        pickle.loads(answer)
    except Exception:  # the error of a library may know how to do neither
        return pickle.dumps(_Raised(RuntimeError(repr(error)), trace))
    return answer


def _out_of_files() -> bool:
    """What fails then may say so, or that there is no such module."""
    try:
        os.close(os.dup(2))
    except OSError as error:
        return error.errno == errno.EMFILE
    return False


def _settle(crash: Connection, stdin: int | None) -> None:
    """What is written to its standard output, by whomever, goes to stderr: the result is for this one's."""
    if os.name == "posix":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        faulthandler.enable(crash.fileno(), all_threads=False)
    with suppress(OSError):
        os.dup2(2, 1)
        theirs = open(os.dup(2), "w", buffering=1, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        sys.__stdout__ = sys.__stderr__ = theirs  # type: ignore[misc]  # to close, if they like
    if stdin is not None:
        os.dup2(stdin, 0)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - open until exit
    end_with_parent()


def end_with_parent() -> None:
    """Whatever ends the process that started this one, be it SIGKILL, ends this one, too."""
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
