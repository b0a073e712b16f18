"""How the reader looks at the output, and what the terminal says of that."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import Literal, TextIO


@dataclass(frozen=True)
class View:
    """How the reader looks at the output.

    width: the columns there are, or None for as many as it takes.  color, ascii: what the terminal can show.
    palette: of how many colours.  heatmap: whether to draw the relative errors.
    show: how many of the worst entries to list.  level: −1 quiet, 0 normal, 1 verbose.
    only_wrong: whether the table of tensors leaves out those that agree.
    root: the folder that a CI service tells files from.
    """

    width: int | None = None
    color: bool = False
    ascii: bool = False
    palette: Literal["standard", "256"] = "standard"
    heatmap: bool = False
    show: int = 0
    level: int = 0
    only_wrong: bool = False
    root: str = ""


def view_of(
    color: str, show: int = 0, level: int = 0, heatmap: bool = False, only_wrong: bool = False
) -> View:
    return View(
        width=_width(),
        color=wants_color(color, sys.stdout),
        ascii=ascii_only(sys.stdout),
        palette="256" if _has_256_colors() else "standard",
        show=show,
        level=level,
        heatmap=heatmap,
        only_wrong=only_wrong,
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
