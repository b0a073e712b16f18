"""Read arrays from an .npz file or a folder of .npy files, without executing anything from them."""

from __future__ import annotations

import os
import warnings
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
    reading,
    reading_array,
    refuse_absent,
    refuse_irregular,
    refuse_too_large,
)
from gradcheck_cli.errors import Gathered, Location, did_you_mean, shortened
from gradcheck_cli.types import Array

_Names = Mapping[str, Location] | None


def read_npz(
    file: Path,
    where: Location,
    names: _Names = None,
    accept: Accept = as_they_are,
    hint: Hint = did_you_mean,
) -> dict[str, Array]:
    """Return the arrays of an .npz file, or only those in `names`.

    names: the arrays to read, each with the place in the spec that asks for it.
    accept: checks the headers before any array is read.
    hint: suggests a fix for a missing name.
    Raises an `InputError` that points at `where` or, for a missing array, at the place that asks for it.
    """
    place = Place(file, where)
    with reading(place, "an .npz file", "write one with numpy.savez(file, **arrays)"):
        refuse_irregular(file, place, f"'{file}'", "an .npz file")
        with zipfile.ZipFile(file) as archive:
            members = _members_of(archive, place)
            found = None if members else kind_of(file)
            if found:
                raise place.refuse_kind(found, "an .npz file")
            return _read_members(members, place, names, accept, hint)


def read_npy_folder(folder: Path, where: Location, accept: Accept = as_they_are) -> dict[str, Array]:
    """Return the arrays of a folder, one for each `NAME.npy`, if their headers are accepted.

    Raises an `InputError` that points at `where`.
    """
    place = Place(folder, where)
    help = "write each array with numpy.save(f'{folder}/{name}.npy', array)"
    with reading(place, "a folder of .npy files", help):
        members = _members_in(folder, place)
        if not members:
            raise place.complain(f"folder '{folder}' holds no .npy file", help)
        return _read_members(members, place, None, accept)


@dataclass(frozen=True)
class _Member:
    """An .npy file in an archive or folder: a function that opens it, and its size in bytes."""

    open: Callable[[], IO[bytes]]
    size: int


def _members_of(archive: zipfile.ZipFile, place: Place) -> dict[str, _Member]:
    """Return the members by name; refuse duplicates, since readers disagree on which one counts."""
    members: dict[str, _Member] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if name in members:
            raise place.complain(f"{place.array(name)} appears twice", "write each array once")
        if info.filename.endswith(".npy"):
            members[name] = _Member(partial(archive.open, info), info.file_size)
    return members


def _members_in(folder: Path, place: Place) -> dict[str, _Member]:
    """Return the .npy files of a folder by name; hidden files are skipped."""
    files = sorted(
        path for path in folder.iterdir() if path.name.endswith(".npy") and not path.name.startswith(".")
    )
    members, found = {}, Gathered()
    for path in files:
        name = path.name.removesuffix(".npy")
        with found, reading_array(place, name):
            refuse_irregular(path, place, f"'{path}'", "an .npy file")
            members[name] = _Member(_opener(path), os.path.getsize(path))
    found.raise_any()
    return members


def _opener(path: Path) -> Callable[[], IO[bytes]]:
    return lambda: path.open("rb")


def _read_members(
    members: Mapping[str, _Member], place: Place, names: _Names, accept: Accept, hint: Hint = did_you_mean
) -> dict[str, Array]:
    wanted = dict.fromkeys(members, place.where) if names is None else names
    refuse_absent(members, wanted, place, hint)
    headers, found = {}, Gathered()
    for name in wanted:
        with found:
            headers[name] = _read_header(name, members[name], place)
    found.raise_any()
    refuse_too_large(headers.values(), place)
    accept(headers)
    return {name: _read_data(name, members[name], place) for name in wanted}


def _read_header(name: str, member: _Member, place: Place) -> Header:
    with reading_array(place, name), member.open() as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy warns about files written by Python 2
        old = np.lib.format.read_magic(stream) == (1, 0)
        read = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
        header = Header(name, shape, dtype, member.size - stream.tell())
    if dtype.hasobject:
        raise place.complain(
            f"{place.array(name)} holds pickled objects, which could run code when read",
            "save plain numbers: numpy.asarray(values, dtype=float)",
        )
    if dtype.kind not in "buif":
        raise place.complain(f"{place.array(name)} holds {shortened(str(dtype))}; real numbers are needed")
    return header


def _read_data(name: str, member: _Member, place: Place) -> Array:
    with reading_array(place, name), member.open() as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.lib.format.read_array(stream, allow_pickle=False)
