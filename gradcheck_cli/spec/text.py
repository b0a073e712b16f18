"""Read the text of a spec from a file or from standard input, and compute positions in it."""

from __future__ import annotations

import os
import re
import stat
import sys
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from dataclasses import dataclass
from functools import cached_property

from gradcheck_cli.errors import Complaint, InputError, Position, did_you_mean_file

_MAX_MIB = 2


@dataclass(frozen=True)
class Source:
    """The text of a spec, and the name of its file."""

    name: str
    text: str

    @cached_property
    def lines(self) -> list[str]:
        """The lines of the text as YAML 1.2 defines them. `str.splitlines` splits at others, too."""
        return re.split(r"\r\n|\r|\n", self.text)

    def position(self, line: int, column: int) -> Position:
        """Return the `Position` of a line and column, both counted from 0."""
        line = min(line, len(self.lines) - 1)
        while line > 0 and not self.lines[line].strip():  # at the end, point past the last line with text
            line, column = line - 1, sys.maxsize
        text = self.lines[line]
        return Position(self.name, line + 1, min(column, len(text)) + 1, text)


def read_source(name: str) -> Source:
    """Read a spec's text from the file `name`, or from standard input if the name is `-`."""
    return Source("<stdin>", _read_stdin()) if name == "-" else Source(name, _read_text(name))


def _read_text(name: str) -> str:
    try:
        mode = os.stat(name).st_mode
        if stat.S_ISDIR(mode):
            raise _unreadable(name, "it is a folder; a spec is a YAML file")
        with open(name, "rb", opener=_open_pipe if stat.S_ISFIFO(mode) else None) as stream:
            return _decode(stream.read(_MAX_MIB * 2**20 + 1), name)
    except FileNotFoundError:
        raise _unreadable(name, "there is no such file", did_you_mean_file(name)) from None
    except (OSError, ValueError) as error:
        raise _unreadable(name, getattr(error, "strerror", None) or str(error)) from None


def _open_pipe(name: str, flags: int) -> int:
    """Open a named pipe without waiting for a writer; if there is no writer, the pipe reads as empty."""
    descriptor = os.open(name, flags | os.O_NONBLOCK)
    os.set_blocking(descriptor, True)
    return descriptor


def _read_stdin() -> str:
    try:
        return _decode(sys.stdin.buffer.read(_MAX_MIB * 2**20 + 1), "<stdin>")
    except (AttributeError, OSError, ValueError) as error:  # standard input is closed, or a folder
        raise _unreadable("<stdin>", getattr(error, "strerror", None) or "it is closed") from None


def _decode(data: bytes, name: str) -> str:
    if len(data) > _MAX_MIB * 2**20:
        raise _unreadable(name, f"it is larger than {_MAX_MIB} MiB", "put the numbers into an .npz file")
    if data.startswith(b"PK\x03\x04"):
        raise _unreadable(
            name, "it is an .npz file, not a spec", "a spec is a YAML file that names the .npz file"
        )
    if name.endswith(".py"):
        help = f"a spec is a YAML file that names the code, as in gradients: {{python: {name}:FUNCTION}}"
        raise _unreadable(name, "it is Python code, not a spec", help)
    if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        raise _unreadable(
            name, "it is UTF-16 text", "save it as UTF-8; in PowerShell, `… | Out-File -Encoding utf8`"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _unreadable(name, f"line {line} is not UTF-8 text") from None


def _unreadable(name: str, reason: str, help: str | None = None) -> InputError:
    return InputError(Complaint(f"cannot read '{name}': {reason}", help=help))
