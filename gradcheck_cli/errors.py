"""Exceptions, complaints about the input, and exit codes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from types import TracebackType

Location = tuple[str | int, ...]
"""The keys and indices of a place in a spec, such as ``("network", "layers", 0, "units")``."""


class ExitCode(IntEnum):
    """The exit codes, which scripts may rely on. Only a wrong gradient has exit code 1."""

    AGREES = 0
    WRONG = 1
    BAD_INPUT = 2
    UNDECIDED = 3
    DEFECT = 70
    INTERRUPTED = 130


_WORST_FIRST = (
    ExitCode.INTERRUPTED,
    ExitCode.DEFECT,
    ExitCode.BAD_INPUT,
    ExitCode.WRONG,
    ExitCode.UNDECIDED,
    ExitCode.AGREES,
)


def worst(codes: Iterable[ExitCode]) -> ExitCode:
    """Return the exit code for several specs together: the worst of their codes, or 3 without any specs."""
    return min(codes, key=_WORST_FIRST.index, default=ExitCode.UNDECIDED)


@dataclass(frozen=True)
class Position:
    """A place in a text file: the line and the column, counted from 1, and the text of that line."""

    file: str
    line: int
    column: int
    text: str


@dataclass(frozen=True)
class Complaint:
    """One problem with the input: what was found, where it is, and how to fix it."""

    message: str
    where: Location = ()
    help: str | None = None
    position: Position | None = None

    def __str__(self) -> str:
        if self.position is None:
            place = f"{dotted(self.where)}: " if self.where else ""
            lines = [f"error: {place}{self.message}"]
        else:
            at = self.position
            lines = [f"{at.file}:{at.line}:{at.column}: error: {self.message}", *_excerpt(at)]
        if self.help:
            lines.append(f"      = help: {self.help}")
        return "\n".join(map(_printable, lines))


class GradcheckError(Exception):
    """Base class of all exceptions that gradcheck raises on purpose."""

    exit_code = ExitCode.DEFECT


class InputError(GradcheckError):
    """Raised if the command line, the spec or an input file is invalid, so that nothing can be checked."""

    exit_code = ExitCode.BAD_INPUT

    def __init__(self, *complaints: Complaint) -> None:
        super().__init__("\n".join(map(str, complaints)))
        self.complaints = complaints


class Gathered:
    """Collects complaints from several steps, to raise them all together.

    Each step runs in a `with` block of its own, which catches its `InputError`.
    """

    def __init__(self) -> None:
        self.complaints: list[Complaint] = []

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, InputError):
            return False
        self.complaints += error.complaints
        return True

    def raise_any(self) -> None:
        """Raise an `InputError` with all complaints, if there are any."""
        if self.complaints:
            raise InputError(*self.complaints)


class UntrustedReferenceError(GradcheckError):
    """Raised if unit and literal differences disagree: a fault of gradcheck, not of the gradient."""


def is_interruption(error: BaseException | None) -> bool:
    """Return whether Ctrl-C caused the error, directly or indirectly.

    For example, an import that Ctrl-C interrupts may raise an exception other than KeyboardInterrupt.
    """
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def bad_input(message: str, *where: str | int, help: str | None = None) -> InputError:
    """Return an `InputError` with one complaint about the place `where` in the spec."""
    return InputError(Complaint(message, where, help))


def dotted(where: Location) -> str:
    """Format a place in a spec: ``network.layers[0].units``."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in where).lstrip(".")


def shortened(text: str, most: int = 40) -> str:
    """Shorten a word from the user's input to at most `most` characters, to fit into a message."""
    return text if len(text) <= most else text[: most - 1] + "…"


def closest(word: object, known: Iterable[str]) -> str | None:
    """Return the known word closest to a misspelt one; None if none is close."""
    import difflib  # only failing runs need it

    words = list(known)
    exact = difflib.get_close_matches(str(word), words, n=1, cutoff=0.6)
    lower = {
        word.lower(): word for word in reversed(words)
    }  # the first of any words that differ only in case
    folded = difflib.get_close_matches(str(word).lower(), lower, n=1, cutoff=0.6)
    return next(iter([*exact, *(lower[word] for word in folded)]), None)


def did_you_mean(word: object, known: Iterable[str]) -> str | None:
    """Return a hint for a misspelt word; None if no known word is close."""
    close = closest(word, known)
    return f"did you mean '{close}'?" if close else None


def did_you_mean_file(path: str | os.PathLike[str]) -> str | None:
    """Return a hint for a misspelt file name; None if no name in the folder is similar."""
    folder, name = os.path.split(os.fspath(path))
    try:
        close = closest(name, os.listdir(folder or "."))
    except OSError:
        return None
    return f"did you mean '{os.path.join(folder, close)}'?" if close else None


def _excerpt(position: Position, most: int = 96) -> list[str]:
    """Return two lines: an excerpt of the text around the column, and a caret below the column."""
    before = position.column - 1
    start = max(0, before - most // 2) if len(position.text) > most else 0
    shown = "".join(c if c.isprintable() else " " for c in position.text[start : start + most])
    caret = " " * sum(map(_width, shown[: before - start])) + "^"
    number = f"{position.line:>5}"
    return [f"{number} |   {shown}".rstrip(), f"{' ' * len(number)} |   {caret}"]


def _width(character: str) -> int:
    """Return how many columns a character occupies on a terminal."""
    import unicodedata

    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _printable(text: str) -> str:
    """Escape control characters, so that a spec cannot steer the terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
