"""Files as a CI service knows them."""

from __future__ import annotations

import os
from pathlib import Path


def told_from(root: str, file: str) -> str:
    """The path from a repository's root, with slashes, if the file lies in it; standard input has none."""
    if file == "<stdin>":
        return ""
    folder, name = os.path.split(file)
    whole, above = Path(os.path.realpath(folder), name), Path(os.path.realpath(root))
    return (whole.relative_to(above) if whole.is_relative_to(above) else Path(file)).as_posix()
