"""Recognise files that gradcheck has written, and format file paths in the way that CI services expect."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

_LOOKED_AT = 2**22


@dataclass(frozen=True)
class Written:
    """The features by which to recognise a file that was written in a certain format.

    suffixes: the suffixes that the file's name may have, the usual one first.
    looks: a pattern that the file's text contains.
    """

    suffixes: tuple[str, ...]
    looks: re.Pattern[str]

    def may_replace(self, file: Path) -> bool:
        """Return whether a report may replace the file.

        The file must be empty or look like a file in this format. A file with a zero byte is not text, so it
        is never replaced.
        """
        with open(file, "rb") as stream:
            content = stream.read(_LOOKED_AT)
        if b"\0" in content:
            return False
        alike = file.suffix.lower() in self.suffixes or self.looks.search(content.decode("utf-8", "replace"))
        return bool(alike) or not content.strip()


PLAIN = Written((".txt", ".log", ".out"), re.compile(r"^[✓✗?] ", re.MULTILINE))
"""Plain text. Files in this format have a line that begins with the mark of a verdict."""


def told_from(root: str, file: str) -> str:
    """Return the file's path relative to the root of a repository, with forward slashes.

    A file outside the repository keeps its path. The path of standard input is empty.
    """
    if file == "<stdin>":
        return ""
    folder, name = os.path.split(file)
    whole, above = Path(os.path.realpath(folder), name), Path(os.path.realpath(root))
    return (whole.relative_to(above) if whole.is_relative_to(above) else Path(file)).as_posix()
