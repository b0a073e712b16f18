"""Read arrays from files, and refuse unusable ones by their headers before allocating memory for them."""

from __future__ import annotations

import re
import stat
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from gradcheck_cli.arrays.file_kinds import Kind, kind_of
from gradcheck_cli.arrays.shapes import listed, shape_text
from gradcheck_cli.errors import (
    Complaint,
    Gathered,
    InputError,
    Location,
    did_you_mean,
    did_you_mean_file,
    shortened,
)
from gradcheck_cli.types import Array, is_narrow

MAX_BYTES = 2**31
"""The largest total size of the arrays read from one file, in bytes."""


@dataclass(frozen=True)
class Place:
    """A file, and the place in the spec that names it."""

    file: Path
    where: Location

    @property
    def name(self) -> str:
        return self.file.name or str(self.file)

    def array(self, name: str) -> str:
        return f"array '{shortened(name)}' of {self.name}"

    def complain(self, message: str, help: str | None = None) -> InputError:
        return InputError(Complaint(message, self.where, help))

    def refuse_kind(self, found: Kind, needed: str) -> InputError:
        return self.complain(f"'{self.name}' is {found.name}; expected {needed}", found.help)


@dataclass(frozen=True)
class Header:
    """The header of an array that has not been read yet.

    stored: the number of bytes that the file has for the array's data, or None if unknown.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stored: int | None = None


Accept = Callable[[Mapping[str, Header]], None]
"""A function that checks the headers, by name, before the arrays are read.

The function raises an `InputError` if the needed arrays are missing or misshapen.
"""


def as_they_are(headers: Mapping[str, Header]) -> None:
    """Accept arrays with any names and shapes. This is the default wherever an `Accept` is expected."""


@contextmanager
def reading(place: Place, kind: str, help: str) -> Iterator[None]:
    """Turn any failure inside the context to read the file as a whole into an `InputError`.

    kind: the kind of file expected, such as "an .npz file".  help: how to write such a file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy warns about files written by Python 2
            yield
    except InputError:
        raise
    except FileNotFoundError:
        raise place.complain(f"there is no file '{place.file}'", did_you_mean_file(place.file)) from None
    except OSError as error:
        raise place.complain(f"'{place.file}' cannot be read: {reason(error)}") from None
    except Exception as error:  # a damaged file can raise anything, not only its reader's errors
        found = kind_of(place.file)
        if found and found.name != kind:
            raise place.refuse_kind(found, kind) from None
        raise place.complain(f"'{place.name}' is not {kind}: {reason(error)}", help) from None


@contextmanager
def reading_array(place: Place, name: str) -> Iterator[None]:
    """Turn any failure inside the context to read the array `name` into an `InputError`."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise place.complain(f"{place.array(name)} cannot be read: {reason(error)}") from None


class Stored(Protocol):
    """An array in a file, whose header can be read without the data."""

    def header(self) -> Header: ...

    def read(self) -> Array: ...


def read_checked(stored: Mapping[str, Stored], place: Place, accept: Accept) -> dict[str, Array]:
    """Return the arrays by name, after checking the headers of all of them.

    accept: a further check of the headers.
    Raises an `InputError` that lists every unusable header.
    """
    headers, arrays, found = {}, {}, Gathered()
    for name, array in stored.items():
        with found, reading_array(place, name):
            headers[name] = array.header()
            _refuse_unreal(headers[name], place)
    found.raise_any()
    refuse_too_large(headers.values(), place)
    accept(headers)
    for name, array in stored.items():
        with reading_array(place, name):
            arrays[name] = array.read()
    return arrays


def _refuse_unreal(header: Header, place: Place) -> None:
    """Raise an `InputError` unless the array consists of real numbers.

    For example, an array may hold pickled objects, and numpy would refuse these only while reading the array.
    """
    array, dtype = place.array(header.name), header.dtype
    if dtype.hasobject:
        raise place.complain(
            f"{array} holds pickled objects; reading them could run code",
            "save plain numbers: numpy.asarray(values, dtype=float)",
        )
    if dtype.kind not in "buif" and not is_narrow(dtype):
        raise place.complain(f"{array} has dtype {shortened(str(dtype))}; real numbers are needed")


def refuse_irregular(path: Path, place: Place, what: str, needed: str) -> None:
    """Raise an `InputError` if the path is a folder, pipe or device instead of a regular file.

    Opening a pipe would wait for a writer, and reading a device might never end.
    what: the name of the path in the message.  needed: the kind of file needed, such as "an .npz file".
    """
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise place.complain(f"{what} is a folder; expected {needed}")
    if not stat.S_ISREG(mode):
        raise place.complain(f"{what} is a pipe or device; expected {needed}")


Hint = Callable[[str, Collection[str]], str | None]
"""A function of a missing name and the existing names. It returns a suggestion, or None if it has none."""


def refuse_absent(
    held: Collection[str], wanted: Mapping[str, Location], place: Place, hint: Hint = did_you_mean
) -> None:
    """Raise an `InputError` that points at every place in the spec that asks for a missing array.

    held: the names of the arrays in the file.
    wanted: the names of the arrays needed, each with the place in the spec that asks for it.
    hint: a function that suggests a fix for a missing name.
    """
    complaints = [
        Complaint(
            f"{place.name} has no array '{shortened(name)}'; it holds {listed(held)}",
            where,
            hint(name, held),
        )
        for name, where in wanted.items()
        if name not in held
    ]
    if complaints:
        raise InputError(*complaints)


def refuse_too_large(headers: Iterable[Header], place: Place) -> None:
    """Raise an `InputError` if a shape is impossible, the arrays are too large, or a file is cut short.

    A file is cut short if it has fewer bytes than the shapes of its arrays need.
    """
    total = 0
    for header in headers:
        array, shape = place.array(header.name), shape_text(header.shape)
        if any(length < 0 for length in header.shape):
            raise place.complain(f"{array} has the impossible shape {shape}")
        size = prod(header.shape) * header.dtype.itemsize
        total += size
        if total > MAX_BYTES:
            raise place.complain(f"{array}, of shape {shape}, brings the total over the limit of 2 GiB")
        if header.stored is not None and header.stored < size:
            raise place.complain(f"{array} is cut short: the file lacks some of its {shape} entries")


def reason(error: Exception) -> str:
    """Return the first line of an error's message, without memory addresses, which vary between runs."""
    text = str(getattr(error, "strerror", None) or error) or type(error).__name__
    return shortened(re.sub(r" object at 0x[0-9a-fA-F]+", "", text.splitlines()[0]), 120)
