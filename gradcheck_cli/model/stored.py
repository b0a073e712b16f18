"""Arrays that lie in a file: what is refused of them before any is allocated."""

from __future__ import annotations

import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from gradcheck_cli.errors import Complaint, InputError, Location, did_you_mean, did_you_mean_file, shortened
from gradcheck_cli.model.arrays import listed, shape_text
from gradcheck_cli.model.file_kinds import Kind, kind_of

MAX_BYTES = 2**31
"""What the arrays that are read from one file may take together."""


@dataclass(frozen=True)
class Place:
    """A file, and what of the spec asks for it."""

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
        return self.complain(f"'{self.name}' is {found.name}; {needed} is needed here", found.help)


@dataclass(frozen=True)
class Header:
    """An array that has not been read: what the file says of it.

    stored: how many bytes of it there are, as far as that is known.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stored: int | None = None


Accept = Callable[[Mapping[str, Header]], None]
"""Raises an `InputError` for headers that are not those that are needed, before the arrays are read."""


def as_they_are(headers: Mapping[str, Header]) -> None:
    """Accepts arrays of any names and shapes."""


@contextmanager
def reading(place: Place, kind: str, help: str) -> Iterator[None]:
    """Turn whatever goes wrong with the file as a whole into an `InputError`; it is to be one of `kind`."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        raise place.complain(f"there is no file '{place.file}'", did_you_mean_file(place.file)) from None
    except OSError as error:
        raise place.complain(f"'{place.file}' cannot be read: {reason(error)}") from None
    except Exception as error:  # a damaged file raises more than its reader's own errors
        found = kind_of(place.file)
        if found and found.name != kind:
            raise place.refuse_kind(found, kind) from None
        raise place.complain(f"'{place.name}' is not {kind}: {reason(error)}", help) from None


@contextmanager
def reading_array(place: Place, name: str) -> Iterator[None]:
    """The same for one array: whatever a reader makes of garbage."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise place.complain(f"{place.array(name)} cannot be read: {reason(error)}") from None


def refuse_irregular(path: Path, place: Place, what: str, needed: str) -> None:
    """Opening a pipe would wait for a writer, and a device may never end."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise place.complain(f"{what} is a folder; {needed} is needed here")
    if not stat.S_ISREG(mode):
        raise place.complain(f"{what} is a pipe or device; {needed} is needed here")


Hint = Callable[[str, Collection[str]], str | None]
"""What to do about a name that is not among those that are held."""


def refuse_absent(
    held: Collection[str], wanted: Mapping[str, Location], place: Place, hint: Hint = did_you_mean
) -> None:
    """Every array that is wanted must be held; each is complained about where it is asked for."""
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
    """Shapes that are impossible, that no memory holds, or that the file is too short for."""
    total = 0
    for header in headers:
        array, shape = place.array(header.name), shape_text(header.shape)
        if any(length < 0 for length in header.shape):
            raise place.complain(f"{array} has the impossible shape {shape}")
        size = prod(header.shape) * header.dtype.itemsize
        total += size
        if total > MAX_BYTES:
            raise place.complain(f"with {array}, of shape {shape}, the arrays are over the limit of 2 GiB")
        if header.stored is not None and header.stored < size:
            raise place.complain(f"{array} is cut short: its shape is {shape}")


def reason(error: Exception) -> str:
    """The first line of what an error says."""
    text = str(getattr(error, "strerror", None) or error) or type(error).__name__
    return shortened(text.splitlines()[0], 120)
