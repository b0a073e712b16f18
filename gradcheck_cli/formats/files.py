"""The files that formats write, and file paths as CI services expect them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

_LOOKED_AT = 2**22


@dataclass(frozen=True)
class Written:
    """How to recognise a format's files: by the suffixes of their names, and a pattern in their text."""

    suffixes: tuple[str, ...]
    looks: re.Pattern[str]

    def may_replace(self, file: Path) -> bool:
        """Return whether the file is empty or of this kind. A file with a zero byte is not text."""
        with open(file, "rb") as stream:
            content = stream.read(_LOOKED_AT)
        if b"\0" in content:
            return False
        alike = file.suffix.lower() in self.suffixes or self.looks.search(content.decode("utf-8", "replace"))
        return bool(alike) or not content.strip()


PLAIN = Written((".txt", ".log", ".out"), re.compile(r"^[✓✗?] ", re.MULTILINE))
"""Plain text in which a line begins with the mark of a verdict."""


def told_from(root: str, file: str) -> str:
    """Return the file's path relative to the root of a repository, with slashes; empty for standard input."""
    if file == "<stdin>":
        return ""
    folder, name = os.path.split(file)
    whole, above = Path(os.path.realpath(folder), name), Path(os.path.realpath(root))
    return (whole.relative_to(above) if whole.is_relative_to(above) else Path(file)).as_posix()
