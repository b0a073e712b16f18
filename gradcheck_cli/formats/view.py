"""How to show the output, as determined by the options and by the capabilities of the terminal."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import Literal, TextIO


@dataclass(frozen=True)
class View:
    """Settings that say how to show the output.

    width: the number of columns of the terminal, or None for no limit.
    color: whether to use colours.  ascii: whether to use only ASCII characters.
    palette: the terminal's colours.  heatmap: whether to draw the relative errors.
    show: how many of the worst entries to list.  level: −1 quiet, 0 normal, 1 verbose.
    only_wrong: whether to leave tensors that agree out of the table.
    root: the folder to which paths for a CI service are relative.
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
    """Return the view that results from the options and the terminal behind standard output."""
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
    """Return the root of the checkout on GitHub or GitLab.

    On any other machine, return an empty path, which means the current folder.
    """
    return os.environ.get("GITHUB_WORKSPACE") or os.environ.get("CI_PROJECT_DIR") or ""


def _width() -> int | None:
    """Return the width from COLUMNS or, without this variable, from the terminal; None without both."""
    named = os.environ.get("COLUMNS", "")
    if not sys.stdout.isatty() and not (named.isdecimal() and named.strip("0")):
        return None
    from shutil import get_terminal_size

    return get_terminal_size().columns


def wants_color(color: str, stream: TextIO) -> bool:
    """Return whether to colour a stream.

    The first one that is set decides: --color, NO_COLOR or FORCE_COLOR. If none is set, only a terminal gets
    colours.
    """
    if color != "auto":
        return color == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def _has_256_colors() -> bool:
    """Return whether the terminal claims to have 256 colours.

    Windows Terminal claims to have them by setting the variable WT_SESSION.
    """
    environ = os.environ
    return "256" in environ.get("TERM", "") or "COLORTERM" in environ or "WT_SESSION" in environ


def ascii_only(stream: TextIO) -> bool:
    """Return whether to write only ASCII.

    The result is True if the stream's encoding is not Unicode, or if the user chose the locale C.

    When Python starts in the C locale, it switches to UTF-8 and may set LC_CTYPE itself. Such a value is not
    the user's choice and is ignored.
    """
    if not (stream.encoding or "").lower().startswith("utf"):
        return True
    environ = os.environ
    coerced = environ.get("LC_CTYPE") in ("C.UTF-8", "C.utf8", "UTF-8")
    character_type = "" if coerced else environ.get("LC_CTYPE")
    return (environ.get("LC_ALL") or character_type or environ.get("LANG")) in ("C", "POSIX")
