"""Describe an exception that the user's code raised, with the innermost line of that code.

An exception that gradcheck itself caused is not the user's, and must not be hidden.
"""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gradcheck_cli.errors import InputError, shortened

PACKAGE = str(Path(__file__).parents[1]) + os.sep
"""The folder of gradcheck itself, whose lines do not belong to the user's code."""


_CRASHES = (AttributeError, NameError, LookupError, TypeError, AssertionError)
"""The kinds of exceptions that only a defect raises at a line of gradcheck, if the code ran before."""


_CRASHES_OF_OURS = (AttributeError, NameError, LookupError, AssertionError)
"""The same kinds, even if the code has not run before.

A `TypeError` may also mean that the code's function takes other arguments than gradcheck passes to it.
"""


class RefusedError(Exception):
    """Raised if the user's code fails in a run that gradcheck can do without. The message says how."""


@contextmanager
def may_fail(kind: type[Exception] = InputError) -> Iterator[None]:
    """Raise `RefusedError` if the user's code fails in the context. A crash of gradcheck passes through.

    The code must have run before, so that no line of gradcheck fails because of what the code returns.

    kind: the exceptions that a failure of the code can raise in the context.
    """
    try:
        yield
    except kind as error:
        raised = error.__context__ if isinstance(error, InputError) else error
        if raised is not None and _is_crash(raised, _CRASHES):
            raise raised from None
        raise RefusedError(_told(error)) from error


def is_ours(error: BaseException) -> bool:
    """Return whether the error is a defect of gradcheck, although it was raised while the code ran."""
    return _is_crash(error, _CRASHES_OF_OURS)


def _is_crash(error: BaseException, kinds: tuple[type[Exception], ...]) -> bool:
    """Return whether a line of gradcheck raised the error, rather than a line of the code or of a library.

    kinds: the kinds of exceptions that count as a defect.
    """
    *_, (frame, _) = [(None, 0), *traceback.walk_tb(error.__traceback__)]
    is_ours = frame is not None and frame.f_code.co_filename.startswith(PACKAGE)
    is_known = type(error).__module__ == "builtins" and isinstance(error, kinds)
    return is_ours and is_known and not any(map(_names_hidden_lines, getattr(error, "__notes__", ())))


def _names_hidden_lines(note: str) -> bool:
    """Return whether the note says that jax removed its own lines, one of which may have raised the error."""
    return "JAX has removed its internal frames" in note


def _told(error: Exception) -> str:
    if isinstance(error, InputError):
        return "; ".join(complaint.message for complaint in error.complaints)
    return f"{type(error).__name__}: {_reason(error)}"


def failure(error: BaseException, folder: str) -> str:
    """Return a description of an exception from the code, such as ``raises ValueError at my_net.py:7: …``."""
    place = _place(error, folder)
    at = f" at {place}" if place else ""
    if isinstance(error, SystemExit):
        return f"calls sys.exit({'' if error.code is None else repr(error.code)}){at}"
    reason = _reason(error)
    return f"raises {type(error).__name__}{at}" + (f": {reason}" if reason else "")


def _place(error: BaseException, folder: str) -> str | None:
    """Return the innermost line of the user's code in the traceback, such as ``my_net.py:7``.

    Returns None if the traceback does not pass through the user's code.

    folder: the folder of the user's code.
    """
    if isinstance(error, SyntaxError) and error.filename and os.path.isfile(error.filename):
        places = [(error.filename, error.lineno)]
    else:
        places = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    return place_among(places, folder)


def place_among(places: Iterable[tuple[str, int | None]], folder: str) -> str | None:
    """Return the last place that lies in the user's code, such as ``my_net.py:7``; None if there is none.

    places: pairs of a file and a line number.
    folder: the folder of the user's code.
    """
    own = [(file, line) for file, line in places if _is_users(file, folder)]
    return f"{os.path.relpath(own[-1][0], folder)}:{own[-1][1]}" if own else None


def _is_users(file: str, folder: str) -> bool:
    library = "site-packages" in file or file.startswith((PACKAGE, "<frozen "))
    return os.path.abspath(file).startswith(os.path.join(folder, "")) and not library


def _reason(error: BaseException) -> str:
    """Return the first line of an error's message; empty if there is no message or if `__str__` fails."""
    try:
        lines = (error.msg if isinstance(error, SyntaxError) else str(error)).strip().splitlines()
    except Exception:
        return ""
    return shortened(lines[0], 200) if lines else ""


def help_for(error: BaseException) -> str | None:
    """Return advice on an exception of a common kind; None for any other exception."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"install '{error.name}' for the Python that runs gradcheck"
    if isinstance(error, SystemExit):
        return "put code that should run only as a script under if __name__ == '__main__':"
    if isinstance(error, OSError) and error.errno == errno.EMFILE:
        return "your code leaves files open; close each one, for example with `with open(…) as file:`"
    return None
