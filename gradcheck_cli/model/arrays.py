"""Arrays from .npz files: read without running anything, refused before they are allocated."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path

import numpy as np

from gradcheck_cli.errors import Complaint, InputError, Location, did_you_mean
from gradcheck_cli.model.special import Array

MAX_BYTES = 2**31
"""The largest array that is read."""


def read_npz(file: Path, where: Location, names: Iterable[str] | None = None) -> dict[str, Array]:
    """The arrays of an .npz file, or those of `names`. Raises `InputError` at `where` with what is wrong."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = {
                name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")
            }
            wanted = list(members) if names is None else list(names)
            absent = [name for name in wanted if name not in members]
            if absent:
                raise _complain(
                    f"{file.name} has no array '{absent[0]}'; it holds {_listed(members)}",
                    where,
                    did_you_mean(absent[0], members),
                )
            return {name: _read_array(archive, members[name], file, where) for name in wanted}
    except FileNotFoundError:
        raise _complain(f"there is no file '{file}'", where) from None
    except IsADirectoryError:
        raise _complain(f"'{file}' is a folder; an .npz file is needed here", where) from None
    except zipfile.BadZipFile:
        raise _complain(
            f"'{file.name}' is not an .npz file", where, "write one with numpy.savez(file, **arrays)"
        ) from None
    except (OSError, EOFError, RuntimeError, NotImplementedError, zipfile.zlib.error) as error:  # type: ignore[attr-defined]
        raise _complain(f"'{file}' cannot be read: {_reason(error)}", where) from None


def _read_array(archive: zipfile.ZipFile, member: str, file: Path, where: Location) -> Array:
    name = member.removesuffix(".npy")
    try:
        with archive.open(member) as stream:
            version = np.lib.format.read_magic(stream)
            read_header = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read_header(stream)
        if dtype.hasobject:
            raise _complain(
                f"array '{name}' of {file.name} holds pickled objects, which could run code when read",
                where,
                "save plain numbers: numpy.asarray(values, dtype=float)",
            )
        if prod(shape) * dtype.itemsize > MAX_BYTES:
            raise _complain(
                f"array '{name}' of {file.name} has shape {_shape(shape)}, over the limit of 2 GiB", where
            )
        with archive.open(member) as stream:
            array = np.lib.format.read_array(stream, allow_pickle=False)
    except ValueError as error:
        raise _complain(f"array '{name}' of {file.name} cannot be read: {_reason(error)}", where) from None
    if array.dtype.kind not in "buif":
        raise _complain(f"array '{name}' of {file.name} holds {array.dtype}; real numbers are needed", where)
    return array


def match_shapes(
    given: Mapping[str, Array],
    expected: Mapping[str, tuple[int, ...]],
    what: str,
    where: Location,
    allowed: Iterable[str] = (),
) -> None:
    """Raise an `InputError` that names every missing, extra and misshapen array, transposed ones as such.

    allowed: names that may be there as well.
    """
    complaints = [
        Complaint(f"there is no {what} for '{name}', of shape {_shape(shape)}", where)
        for name, shape in expected.items()
        if name not in given
    ]
    known = {*expected, *allowed}
    for name, array in given.items():
        if name not in known:
            help = did_you_mean(name, known) or f"the network has {_listed(expected)}"
            complaints.append(Complaint(f"'{name}' is no parameter of this network", where, help))
        elif name in expected and array.shape != expected[name]:
            complaints.append(_misshapen(name, array.shape, expected[name], what, where))
    if complaints:
        raise InputError(*complaints)


def _misshapen(
    name: str, found: tuple[int, ...], needed: tuple[int, ...], what: str, where: Location
) -> Complaint:
    message = f"the {what} for '{name}' has shape {_shape(found)}, not {_shape(needed)}"
    if len(found) == 2 and found == needed[::-1]:
        return Complaint(
            f"{message}: it is transposed", where, "weights are [out, in], as in PyTorch; store its .T"
        )
    return Complaint(message, where)


def _complain(message: str, where: Location, help: str | None = None) -> InputError:
    return InputError(Complaint(message, where, help))


def _reason(error: Exception) -> str:
    text = str(getattr(error, "strerror", None) or error) or type(error).__name__
    return text.splitlines()[0]


def _listed(names: Iterable[str], most: int = 8) -> str:
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) + more) or "nothing"


def _shape(shape: tuple[int, ...]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"
