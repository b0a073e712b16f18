"""What the terminal can show, and what is written to it."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TextIO

from gradcheck_cli.errors import Complaint, ExitCode
from gradcheck_cli.formats import View
from gradcheck_cli.formats.glyphs import to_ascii

DEFECT = "this is a defect in gradcheck; please report it"


def view_of(color: str, show: int = 0, level: int = 0, heatmap: bool = False) -> View:
    return View(
        width=_width(),
        color=wants_color(color, sys.stdout),
        ascii=ascii_only(sys.stdout),
        palette="256" if _has_256_colors() else "standard",
        show=show,
        level=level,
        heatmap=heatmap,
        root=_repository(),
    )


def _repository() -> str:
    """Where GitHub or GitLab checked the repository out; elsewhere the current folder."""
    return os.environ.get("GITHUB_WORKSPACE") or os.environ.get("CI_PROJECT_DIR") or ""


def _width() -> int | None:
    """The terminal's columns, or those COLUMNS names; off a terminal as many as it takes."""
    named = os.environ.get("COLUMNS", "")
    if not sys.stdout.isatty() and not (named.isdecimal() and named.strip("0")):
        return None
    from shutil import get_terminal_size

    return get_terminal_size().columns


def wants_color(color: str, stream: TextIO) -> bool:
    if color != "auto":
        return color == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def _has_256_colors() -> bool:
    """What the terminal says of itself; that of Windows has its own way to."""
    environ = os.environ
    return "256" in environ.get("TERM", "") or "COLORTERM" in environ or "WT_SESSION" in environ


def ascii_only(stream: TextIO) -> bool:
    """Is the stream's encoding less than Unicode, or the locale C by name?

    Python takes the C locale for UTF-8, and may have said so in LC_CTYPE by itself.
    """
    if not (stream.encoding or "").lower().startswith("utf"):
        return True
    environ = os.environ
    coerced = environ.get("LC_CTYPE") in ("C.UTF-8", "C.utf8", "UTF-8")
    character_type = "" if coerced else environ.get("LC_CTYPE")
    return (environ.get("LC_ALL") or character_type or environ.get("LANG")) in ("C", "POSIX")


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
        say(str(complaint))


def say(text: str) -> None:
    """A line on stderr; if nobody is there to read it, the exit code still tells."""
    with suppress(OSError):
        print(printable(text, sys.stderr), file=sys.stderr, flush=True)


def print_traceback() -> None:
    import traceback

    say(traceback.format_exc().rstrip())


def abandon_stdout() -> None:
    """Let the interpreter's own flush at exit go nowhere instead of failing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
