"""Make sure that a worker on another machine reads the same files as the process that sent the work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path

from gradcheck_cli.errors import Location, bad_input


def hashes_of(files: Iterable[Path]) -> dict[Path, str]:
    """Return the SHA-256 of each file; empty for a file that cannot be read."""
    return {file: _hash(file) for file in files}


def refuse_other_files(expected: Mapping[Path, str], where: Location) -> None:
    """Raise an `InputError` if any file is missing here, or has another SHA-256 than expected.

    where: the place in the spec that the error points at.
    """
    for file, content in expected.items():
        if not (found := _hash(file)):
            help = "use a folder that all machines share, or copy the file to the same place on each"
            raise bad_input(f"there is no file '{file}'", *where, help=help)
        if found != content:
            help = "copy the same file to every machine"
            raise bad_input(f"the content of '{file}' differs", *where, help=help)


def _hash(file: Path) -> str:
    try:
        return sha256(file.read_bytes()).hexdigest()
    except OSError:
        return ""
