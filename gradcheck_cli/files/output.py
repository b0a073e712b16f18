"""Write an output file or folder completely or not at all. Unusable paths are refused beforehand."""

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
    """A file or folder to write, and the option that names it.

    option: the command-line option that names the file or folder, such as `--save`.
    path: the path as the user wrote it.
    """

    option: str
    path: str

    @property
    def target(self) -> Path:
        """The path with symbolic links resolved, so that the file behind a link is replaced, not the link."""
        return Path(os.path.realpath(self.path))

    def refused(self, reason: str, help: str | None = None) -> InputError:
        """Return an `InputError` whose text consists of the option, the path and `reason`."""
        return InputError(Complaint(f"{self.option}: '{self.path}' {reason}", help=help))

    def refuse_file(self, needed: str) -> None:
        """Raise an `InputError` if no file can be written at the path.

        needed: a phrase that says what is needed, such as "an .npz file is needed".
        """
        if os.path.isdir(self.target):
            raise self.refused(f"is a folder; {needed}")
        if os.path.exists(self.target) and not os.path.isfile(self.target):
            raise self.refused(f"is a pipe or device; {needed}")
        if os.path.exists(self.target) and not os.access(self.target, os.W_OK):
            raise self.refused("cannot be written: Permission denied")
        self.refuse_unwritable()

    def refuse_unwritable(self) -> None:
        """Raise an `InputError` if no file can be created in the target's folder."""
        folder = _folder_for(self.target)
        if not os.path.isdir(folder):
            raise self.refused(f"cannot be written: folder '{folder}' does not exist")
        with self.failures(), _scratch(self.target) as new:
            new.touch()

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Turn any `OSError` raised in the context into an `InputError`."""
        try:
            yield
        except OSError as error:
            raise self.refused(f"cannot be written: {error.strerror or error}") from None

    @contextmanager
    def whole(self) -> Iterator[Path]:
        """Yield a temporary path. The block creates a file or folder there, which then replaces the target.

        A new file keeps the mode of the file that it replaces. If the target is an existing folder, the files
        of the new folder are moved into it, either all or none.

        If the block fails, the target is left unchanged. Raises an `InputError` if the operating system
        reports an error.
        """
        target = self.target
        with self.failures(), _scratch(target) as new:
            yield new
            if os.path.isdir(target):
                _move_all(new, target)
                return
            if os.path.exists(target):
                from shutil import copymode  # rarely needed, like tempfile

                copymode(target, new)
            new.replace(target)


def _folder_for(target: Path) -> Path:
    """Return a folder for temporary files, on the same file system as the target so that a rename works."""
    return target if os.path.isdir(target) else target.parent


@contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    """Yield a path in a temporary folder, with the target's name. The folder is deleted at the end."""
    from tempfile import TemporaryDirectory  # slow to load, and most runs write no file

    with TemporaryDirectory(dir=_folder_for(target), prefix=".gradcheck-") as scratch:
        yield Path(scratch, target.name or "new")


def _move_all(new: Path, folder: Path) -> None:
    """Move the files of the folder `new` into `folder`, where they replace files with the same names.

    If a move fails, all moves are undone.
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
            raise IsADirectoryError(errno.EISDIR, f"it holds a folder named '{file.name}'")
        if os.path.lexists(place):
            yield place, old / file.name
        yield file, place
