"""Files as a CI service knows them, and as a format writes them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

_LOOKED_AT = 2**22


@dataclass(frozen=True)
class Written:
    """The files that a format writes.  suffixes: what their names end in.  looks: found in each of them."""

    suffixes: tuple[str, ...]
    looks: re.Pattern[str]

    def may_replace(self, file: Path) -> bool:
        """Whether the file is of this kind, or empty; one with a zero byte is no text at all."""
        with open(file, "rb") as stream:
            content = stream.read(_LOOKED_AT)
        if b"\0" in content:
            return False
        alike = file.suffix.lower() in self.suffixes or self.looks.search(content.decode("utf-8", "replace"))
        return bool(alike) or not content.strip()


PLAIN = Written((".txt", ".log", ".out"), re.compile(r"^[✓✗?] ", re.MULTILINE))
"""Text for a reader, with a verdict's mark in it."""


def told_from(root: str, file: str) -> str:
    """The path from a repository's root, with slashes, if the file lies in it; standard input has none."""
    if file == "<stdin>":
        return ""
    folder, name = os.path.split(file)
    whole, above = Path(os.path.realpath(folder), name), Path(os.path.realpath(root))
    return (whole.relative_to(above) if whole.is_relative_to(above) else Path(file)).as_posix()
