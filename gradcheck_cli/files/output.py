"""An output file or folder: refused before the work starts, and written whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gradcheck_cli.errors import Complaint, InputError


@dataclass(frozen=True)
class Output:
    """A file or folder to write.

    option: the option that names it, such as `--save`.  path: its path as the user wrote it.
    """

    option: str
    path: str

    @property
    def target(self) -> Path:
        """The path with links followed, so that a link is not replaced."""
        return Path(os.path.realpath(self.path))

    def refused(self, reason: str, help: str | None = None) -> InputError:
        """Return the error that names the option and the path."""
        return InputError(Complaint(f"{self.option}: '{self.path}' {reason}", help=help))

    def refuse_file(self, needed: str) -> None:
        """Raise an `InputError` if no file can be written at this path.

        needed: the kind of file, in a sentence: "an .npz file is needed".
        """
        if os.path.isdir(self.target):
            raise self.refused(f"is a folder; {needed}")
        if os.path.exists(self.target) and not os.path.isfile(self.target):
            raise self.refused(f"is a pipe or device; {needed}")
        if os.path.exists(self.target) and not os.access(self.target, os.W_OK):
            raise self.refused("cannot be written: Permission denied")
        self.refuse_unwritable()

    def refuse_unwritable(self) -> None:
        """Raise an `InputError` if nothing can be created in the folder, or the name is not possible."""
        folder = _folder_for(self.target)
        if not os.path.isdir(folder):
            raise self.refused(f"cannot be written: folder '{folder}' does not exist")
        with self.failures(), _scratch(self.target) as new:
            new.touch()

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Turn any failure of the system into an `InputError`."""
        try:
            yield
        except OSError as error:
            raise self.refused(f"cannot be written: {error.strerror or error}") from None

    @contextmanager
    def whole(self) -> Iterator[Path]:
        """Yield a new path. What the block creates there takes the target's place if nothing fails.

        An existing file is replaced and keeps its mode. If the target is a folder, the files of the new one
        are moved into it, all or none.

        Raises an `InputError` if the system fails; then the target is as it was.
        """
        target = self.target
        with self.failures(), _scratch(target) as new:
            yield new
            if os.path.isdir(target):
                _move_all(new, target)
                return
            if os.path.exists(target):
                from shutil import copymode  # as rarely needed as tempfile

                copymode(target, new)
            new.replace(target)


def _folder_for(target: Path) -> Path:
    """Return the folder for temporary files, from which a rename to the target, or into it, is possible."""
    return target if os.path.isdir(target) else target.parent


@contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    """Yield a path with the target's name in a temporary folder."""
    from tempfile import TemporaryDirectory  # it takes time to load, and most runs write no file

    with TemporaryDirectory(dir=_folder_for(target), prefix=".gradcheck-") as scratch:
        yield Path(scratch, target.name or "new")


def _move_all(new: Path, folder: Path) -> None:
    """Move the files of `new` into the folder, after moving files of the same names away.

    If anything fails, all moves are undone.
    """
    from tempfile import mkdtemp

    old = Path(mkdtemp(dir=new.parent))
    moves, done = _moves(sorted(new.iterdir()), folder, old), []
    try:
        for source, to in moves:
            source.rename(to)
            done.append((source, to))
    except BaseException:
        for source, to in reversed(done):
            to.rename(source)
        raise


def _moves(files: Sequence[Path], folder: Path, old: Path) -> Iterator[tuple[Path, Path]]:
    for file in files:
        place = folder / file.name
        if place.is_dir():
            raise IsADirectoryError(errno.EISDIR, f"'{file.name}' in it is a folder")
        if os.path.lexists(place):
            yield place, old / file.name
        yield file, place
