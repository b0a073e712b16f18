"""What another process sends back: the value that its work returned, or the exception that ended it."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn


@dataclass(frozen=True)
class Returned:
    """The value that the work returned."""

    value: Any

    def given(self) -> Any:
        """Return the value."""
        return self.value


@dataclass(frozen=True)
class Raised:
    """The exception that ended the work, and its traceback as text."""

    error: BaseException
    trace: str

    def given(self) -> NoReturn:
        """Raise the exception, with the other process's traceback as its cause."""
        raise self.error from ElsewhereError(self.trace)


class ElsewhereError(Exception):
    """The cause of an exception from another process: that process's traceback as text."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def answer_of(work: Callable[..., Any], *arguments: Any) -> Returned | Raised:
    """Return what `work(*arguments)` returns or raises, in a form that can be pickled."""
    try:
        return Returned(work(*arguments))
    except BaseException as error:
        return raised(error)


def raised(error: BaseException, instead: BaseException | None = None) -> Raised:
    """Return the exception in a form that can be pickled; as a `RuntimeError` if its class cannot be.

    instead: the exception to send, with the traceback of `error`. By default, `error` itself is sent.
    """
    answer = Raised(instead or error, "".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(answer))
    except Exception:
        return Raised(RuntimeError(repr(answer.error)), answer.trace)
    return answer
