"""What can go wrong, and the exit code each kind ends with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

Location = tuple[str | int, ...]
"""The keys and indices that lead to a place in a spec, e.g. ``("network", "layers", 0, "units")``."""


class ExitCode(IntEnum):
    """What a script may rely on; 1 is reserved for a wrong gradient."""

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
    """The exit code of several specs together; of none at all, nothing was checked."""
    return min(codes, key=_WORST_FIRST.index, default=ExitCode.UNDECIDED)


@dataclass(frozen=True)
class Position:
    """A place in a text file, counted from 1, with the line that stands there."""

    file: str
    line: int
    column: int
    text: str


@dataclass(frozen=True)
class Complaint:
    """One thing that is wrong with the input: what was found, where, and what to do."""

    message: str
    where: Location = ()
    help: str | None = None
    position: Position | None = None

    def __str__(self) -> str:
        if self.position is None:
            place = f"{dotted(self.where)}: " if self.where else ""
            lines = [f"error: {place}{self.message}"]
        else:
            lines = [
                f"{self.position.file}:{self.position.line}:{self.position.column}: error: {self.message}",
                *_excerpt(self.position),
            ]
        if self.help:
            lines.append(f"      = help: {self.help}")
        return "\n".join(lines)


class GradcheckError(Exception):
    """Everything gradcheck raises on purpose."""

    exit_code = ExitCode.DEFECT


class InputError(GradcheckError):
    """The command line, the spec or an input file is wrong; nothing was checked."""

    exit_code = ExitCode.BAD_INPUT

    def __init__(self, *complaints: Complaint) -> None:
        super().__init__("\n".join(map(str, complaints)))
        self.complaints = complaints


class UntrustedReferenceError(GradcheckError):
    """Unit and literal differences contradict each other: the tool, not the gradient, is at fault."""


def bad_input(message: str, *where: str | int, help: str | None = None) -> InputError:
    """An `InputError` with one complaint about the place `where` in the spec."""
    return InputError(Complaint(message, where, help))


def dotted(where: Location) -> str:
    """``network.layers[0].units``"""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in where).lstrip(".")


def did_you_mean(word: object, known: Iterable[str]) -> str | None:
    """A hint for a mistyped word, if one of the known ones is close."""
    import difflib  # only a failing run needs it

    close = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else None


def _excerpt(position: Position, width: int = 96) -> list[str]:
    """The line and a caret below its column; of a very long line, the stretch around it."""
    start = max(0, position.column - 1 - width // 2) if len(position.text) > width else 0
    shown = position.text[start : start + width].replace("\t", " ")
    caret = " " * (position.column - 1 - start) + "^"
    number = f"{position.line:>5}"
    return [f"{number} |   {shown}".rstrip(), f"{'':>5} |   {caret}"]
