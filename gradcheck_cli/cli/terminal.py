"""Write results to stdout, and everything else to stderr."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TextIO

from gradcheck_cli.errors import Complaint, ExitCode
from gradcheck_cli.formats.glyphs import escaped, to_ascii, without_commands
from gradcheck_cli.formats.view import ascii_only

DEFECT = "this is a bug in gradcheck; please report it"


def printable(text: str, stream: TextIO) -> str:
    """Return the text. Any character that the stream cannot show is spelled out or replaced."""
    text = to_ascii(text) if ascii_only(stream) else text
    encoding = stream.encoding or "ascii"
    return text.encode(encoding, "replace").decode(encoding)


def write_result(text: str, code: ExitCode) -> int:
    """Print the result and return the exit code, even if the reader stops early, as `| head` does."""
    try:
        sys.stdout.write(printable(text, sys.stdout))
        sys.stdout.flush()
    except BrokenPipeError:
        abandon_stdout()
    except OSError as error:
        return unwritable(error)
    return int(code)


def unwritable(error: OSError) -> int:
    """Print on stderr that stdout cannot be written, and return the exit code."""
    abandon_stdout()
    complain(Complaint(f"cannot write the result: {error.strerror or error}"))
    return int(ExitCode.BAD_INPUT)


def complain(*complaints: Complaint) -> None:
    """Print complaints on stderr."""
    for complaint in complaints:
        say(*str(complaint).split("\n"))


def say(*lines: str) -> None:
    """Print lines on stderr, if stderr is writable.

    Control characters are escaped, so that no name can control the terminal or begin a new line.
    """
    text = "\n".join(without_commands(escaped(line)) for line in lines)
    with suppress(OSError, ValueError, AttributeError):  # the user's code may have closed the stream
        print(printable(text, sys.stderr), file=sys.stderr, flush=True)


def print_traceback() -> None:
    """Print to stderr the traceback of the exception being handled."""
    import traceback

    say(*traceback.format_exc().rstrip().split("\n"))


def abandon_stdout() -> None:
    """Redirect stdout to the null device, so that the interpreter's flush at exit does not fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
