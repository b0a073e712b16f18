"""What is written to the terminal."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TextIO

from gradcheck_cli.errors import Complaint, ExitCode
from gradcheck_cli.formats.glyphs import escaped, to_ascii, without_commands
from gradcheck_cli.formats.view import ascii_only

DEFECT = "this is a defect in gradcheck; please report it"


def printable(text: str, stream: TextIO) -> str:
    """The text with what the stream cannot show spelt out or replaced."""
    text = to_ascii(text) if ascii_only(stream) else text
    encoding = stream.encoding or "ascii"
    return text.encode(encoding, "replace").decode(encoding)


def write_result(text: str, code: ExitCode) -> int:
    """Print the result whole, and keep its exit code even if nobody reads on (`| head`)."""
    try:
        sys.stdout.write(printable(text, sys.stdout))
        sys.stdout.flush()
    except BrokenPipeError:
        abandon_stdout()
    except OSError as error:
        return unwritable(error)
    return int(code)


def unwritable(error: OSError) -> int:
    abandon_stdout()
    complain(Complaint(f"cannot write the result: {error.strerror or error}"))
    return int(ExitCode.BAD_INPUT)


def complain(*complaints: Complaint) -> None:
    for complaint in complaints:
        say(*str(complaint).split("\n"))


def say(*lines: str) -> None:
    """Lines on stderr; if nobody is there to read them, the exit code still tells.

    What is in a line is text: no name in it steers the terminal, or begins a line of its own.
    """
    text = "\n".join(without_commands(escaped(line)) for line in lines)
    with suppress(OSError, ValueError, AttributeError):  # a stream that code has closed, or set to None
        print(printable(text, sys.stderr), file=sys.stderr, flush=True)


def print_traceback() -> None:
    import traceback

    say(*traceback.format_exc().rstrip().split("\n"))


def abandon_stdout() -> None:
    """Let the interpreter's own flush at exit go nowhere instead of failing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
