"""Read arrays from an .npz file or a folder of .npy files, without executing anything from them."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from gradcheck_cli.arrays.file_kinds import kind_of
from gradcheck_cli.arrays.stored import (
    Accept,
    Header,
    Hint,
    Place,
    as_they_are,
    read_checked,
    reading,
    reading_array,
    refuse_absent,
    refuse_irregular,
)
from gradcheck_cli.errors import Gathered, Location, did_you_mean
from gradcheck_cli.types import Array

_Names = Mapping[str, Location] | None


def read_npz(
    file: Path,
    where: Location,
    names: _Names = None,
    accept: Accept = as_they_are,
    hint: Hint = did_you_mean,
) -> dict[str, Array]:
    """Return the arrays of an .npz file by name.

    where: the place in the spec that names the file.
    names: maps the name of each array to read to the place in the spec that asks for it; None to read all
        arrays.
    accept: a function that checks the headers before any array is read.
    hint: a function that suggests a fix for a missing name.
    Raises an `InputError` that points at `where` or, for a missing array, at the place that asks for the
    array.
    """
    place = Place(file, where)
    with reading(place, "an .npz file", "write one with numpy.savez(file, **arrays)"):
        refuse_irregular(file, place, f"'{file}'", "an .npz file")
        with zipfile.ZipFile(file) as archive:
            members = _members_of(archive, place)
            found = None if members else kind_of(file)
            if found:
                raise place.refuse_kind(found, "an .npz file")
            refuse_absent(members, names or {}, place, hint)
            wanted = members if names is None else {name: members[name] for name in names}
            return read_checked(wanted, place, accept)


def read_npy_folder(folder: Path, where: Location, accept: Accept = as_they_are) -> dict[str, Array]:
    """Return the arrays of a folder by name, one for each file `NAME.npy`.

    where: the place in the spec that names the folder.
    accept: a function that checks the headers before any array is read.
    Raises an `InputError` that points at `where` if the folder cannot be read or `accept` refuses it.
    """
    place = Place(folder, where)
    help = "write each array with numpy.save(f'{folder}/{name}.npy', array)"
    with reading(place, "a folder of .npy files", help):
        members = _members_in(folder, place)
        if not members:
            raise place.complain(f"folder '{folder}' holds no .npy file", help)
        return read_checked(members, place, accept)


def read_npy(file: Path, where: Location) -> Array:
    """Return the only array of an .npy file.

    where: the place in the spec that names the file.
    Raises an `InputError` that points at `where` if the file cannot be read.
    """
    place, help = Place(file, where), "write it with numpy.save(file, array)"
    with reading(place, "an .npy file", help):
        refuse_irregular(file, place, f"'{file}'", "an .npy file")
        member = Npy(file.stem, _opener(file), os.path.getsize(file))
        return read_checked({file.stem: member}, place, as_they_are)[file.stem]


@dataclass(frozen=True)
class Npy:
    """An .npy file in an archive or folder.

    name: the name of the array.  open: a function that opens the file.  size: the file's size in bytes.
    """

    name: str
    open: Callable[[], IO[bytes]]
    size: int

    def header(self) -> Header:
        """Read the header alone. To read the array, numpy would allocate whatever shape the header states."""
        with self.open() as stream:
            old = np.lib.format.read_magic(stream) == (1, 0)
            read = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(stream)
            return Header(self.name, shape, dtype, self.size - stream.tell())

    def read(self) -> Array:
        with self.open() as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)


def _members_of(archive: zipfile.ZipFile, place: Place) -> dict[str, Npy]:
    """Return the arrays of an archive by name, without reading them.

    Raises `InputError` if a name appears twice, since programs disagree on which of the two arrays to read.
    """
    members: dict[str, Npy] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if name in members:
            raise place.complain(f"{place.array(name)} appears twice", "write each array once")
        if info.filename.endswith(".npy"):
            members[name] = Npy(name, partial(archive.open, info), info.file_size)
    return members


def _members_in(folder: Path, place: Place) -> dict[str, Npy]:
    """Return the .npy files of a folder by array name, without reading them. Hidden files are skipped."""
    members, found = {}, Gathered()
    visible = (path for path in folder.iterdir() if not path.name.startswith("."))
    for path in sorted(path for path in visible if path.suffix == ".npy"):
        with found, reading_array(place, path.stem):
            refuse_irregular(path, place, f"'{path}'", "an .npy file")
            members[path.stem] = Npy(path.stem, _opener(path), os.path.getsize(path))
    found.raise_any()
    return members


def _opener(path: Path) -> Callable[[], IO[bytes]]:
    return lambda: path.open("rb")
