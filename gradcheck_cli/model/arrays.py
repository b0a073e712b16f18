"""Arrays from .npz files: read without running anything, refused before they are allocated."""

from __future__ import annotations

import stat
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from gradcheck_cli.errors import (
    Complaint,
    Gathered,
    InputError,
    Location,
    did_you_mean,
    did_you_mean_file,
    shortened,
)
from gradcheck_cli.model.special import Array

MAX_BYTES = 2**31
"""What the arrays that are read from one file may take together."""

_MOST_NAMED = 20
"""How many arrays that should not be there are named one by one."""


def read_npz(file: Path, where: Location, names: Mapping[str, Location] | None = None) -> dict[str, Array]:
    """The arrays of an .npz file, or those of `names`, each with the place in the spec that asks for it.

    Raises `InputError` at `where`, or at the place of an array that is not there, with what is wrong.
    """
    try:
        _refuse_irregular(file, where)
        with zipfile.ZipFile(file) as archive:
            return _read_members(archive, file, where, names)
    except InputError:
        raise
    except FileNotFoundError:
        raise _complain(f"there is no file '{file}'", where, did_you_mean_file(file)) from None
    except OSError as error:
        raise _complain(f"'{file}' cannot be read: {_reason(error)}", where) from None
    except Exception as error:  # a damaged zip raises more than BadZipFile
        help = "write one with numpy.savez(file, **arrays)"
        raise _complain(f"'{file.name}' is not an .npz file: {_reason(error)}", where, help) from None


def listed(names: Iterable[str], most: int = 8) -> str:
    """The first names, and how many more there are."""
    names = [shortened(name) for name in names]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) + more) or "nothing"


def match_shapes(
    given: Mapping[str, Array],
    expected: Mapping[str, tuple[int, ...]],
    what: str,
    where: Location,
    if_missing: str | None = None,
) -> None:
    """Raise an `InputError` that names every missing, extra and misshapen array, transposed ones as such.

    if_missing: what can be done about an array that is not there.
    """
    complaints = [
        Complaint(f"there is no {what} for '{name}', of shape {_shape(shape)}", where, if_missing)
        for name, shape in expected.items()
        if name not in given
    ]
    complaints += [
        _misshapen(name, given[name].shape, shape, what, where)
        for name, shape in expected.items()
        if name in given and given[name].shape != shape
    ]
    extra = [name for name in given if name not in expected]
    for name in extra[:_MOST_NAMED]:
        help = did_you_mean(name, expected) or f"the network has {listed(expected)}"
        complaints.append(Complaint(f"'{shortened(name)}' is no parameter of this network", where, help))
    if len(extra) > _MOST_NAMED:
        more = f"and {len(extra) - _MOST_NAMED} more arrays are no parameters of this network"
        complaints.append(Complaint(more, where))
    if complaints:
        raise InputError(*complaints)


def _misshapen(
    name: str, found: tuple[int, ...], needed: tuple[int, ...], what: str, where: Location
) -> Complaint:
    message = f"the {what} for '{name}' has shape {_shape(found)}, not {_shape(needed)}"
    if len(found) == 2 and found == needed[::-1]:
        convention = "weights are [out, in], as in PyTorch; " if name.endswith(".weight") else ""
        return Complaint(f"{message}: it is transposed", where, f"{convention}store its .T")
    if len(needed) == 1 and prod(found) == prod(needed):
        return Complaint(message, where, "a bias has one axis; store its .ravel()")
    return Complaint(message, where)


# --- the members of an archive ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Member:
    """An array that has not been read: what its header says of it."""

    name: str
    info: zipfile.ZipInfo
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    header_bytes: int

    @property
    def data_bytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


def _refuse_irregular(file: Path, where: Location) -> None:
    """Opening a pipe would wait for a writer, and an archive needs to be read from its end."""
    mode = file.stat().st_mode
    if stat.S_ISDIR(mode):
        raise _complain(f"'{file}' is a folder; an .npz file is needed here", where)
    if not stat.S_ISREG(mode):
        raise _complain(f"'{file}' is a pipe or device; an .npz file is needed here", where)


def _read_members(
    archive: zipfile.ZipFile, file: Path, where: Location, names: Mapping[str, Location] | None
) -> dict[str, Array]:
    infos = {
        info.filename.removesuffix(".npy"): info
        for info in archive.infolist()
        if info.filename.endswith(".npy")
    }
    wanted = dict.fromkeys(infos, where) if names is None else names
    complaints = [
        Complaint(
            f"{file.name} has no array '{shortened(name)}'; it holds {listed(infos)}",
            place,
            did_you_mean(name, infos),
        )
        for name, place in wanted.items()
        if name not in infos
    ]
    if complaints:
        raise InputError(*complaints)
    members, found = [], Gathered()
    for name in wanted:
        with found:
            members.append(_read_header(archive, name, infos[name], file, where))
    found.raise_any()
    _refuse_too_large(members, file, where)
    return {member.name: _read_data(archive, member, file, where) for member in members}


def _read_header(
    archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo, file: Path, where: Location
) -> _Member:
    array = f"array '{shortened(name)}' of {file.name}"
    try:
        with archive.open(info) as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's, about a file of Python 2
            old = np.lib.format.read_magic(stream) == (1, 0)
            read = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(stream)
            member = _Member(name, info, shape, dtype, stream.tell())
    except Exception as error:  # whatever numpy, zipfile and its decompressors make of garbage
        raise _complain(f"{array} cannot be read: {_reason(error)}", where) from None
    if dtype.hasobject:
        raise _complain(
            f"{array} holds pickled objects, which could run code when read",
            where,
            "save plain numbers: numpy.asarray(values, dtype=float)",
        )
    if dtype.kind not in "buif":
        raise _complain(f"{array} holds {shortened(str(dtype))}; real numbers are needed", where)
    return member


def _refuse_too_large(members: Iterable[_Member], file: Path, where: Location) -> None:
    total = 0
    for member in members:
        array = f"array '{shortened(member.name)}' of {file.name}"
        if any(length < 0 for length in member.shape):
            raise _complain(f"{array} has the impossible shape {_shape(member.shape)}", where)
        total += member.data_bytes
        if total > MAX_BYTES:
            raise _complain(
                f"with {array}, of shape {_shape(member.shape)}, the arrays are over the limit of 2 GiB",
                where,
            )
        if member.info.file_size < member.header_bytes + member.data_bytes:
            raise _complain(f"{array} is cut short: its shape is {_shape(member.shape)}", where)


def _read_data(archive: zipfile.ZipFile, member: _Member, file: Path, where: Location) -> Array:
    try:
        with archive.open(member.info) as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.lib.format.read_array(stream, allow_pickle=False)
    except Exception as error:
        name = shortened(member.name)
        raise _complain(f"array '{name}' of {file.name} cannot be read: {_reason(error)}", where) from None


def _complain(message: str, where: Location, help: str | None = None) -> InputError:
    return InputError(Complaint(message, where, help))


def _reason(error: Exception) -> str:
    text = str(getattr(error, "strerror", None) or error) or type(error).__name__
    return shortened(text.splitlines()[0], 120)


def _shape(shape: tuple[int, ...]) -> str:
    return shortened("[" + ", ".join(map(str, shape)) + "]")
