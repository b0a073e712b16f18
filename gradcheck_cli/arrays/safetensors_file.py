"""Read arrays from a .safetensors file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from gradcheck_cli.arrays.stored import (
    Accept,
    Header,
    Place,
    as_they_are,
    reading,
    reading_array,
    refuse_irregular,
    refuse_too_large,
)
from gradcheck_cli.errors import Gathered, Location
from gradcheck_cli.types import Array

_DTYPES = {
    "F64": "f8", "F32": "f4", "F16": "f2", "BOOL": "?",
    "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1",
    "U64": "u8", "U32": "u4", "U16": "u2", "U8": "u1",
}  # fmt: skip
"""The types of the format that numpy also has."""

_FOREIGN = {"BF16": "bfloat16", "F8_E4M3": "float8", "F8_E5M2": "float8"}
_COMPLEX = {"C64": "complex64"}


def read_safetensors(file: Path, where: Location, accept: Accept = as_they_are) -> dict[str, Array]:
    """Return the arrays of a .safetensors file, if their headers are accepted.

    Raises an `InputError` that points at `where`, also if the package safetensors is missing.
    """
    place = Place(file, where)
    with reading(place, "a .safetensors file", "write one with safetensors.numpy.save_file(arrays, file)"):
        refuse_irregular(file, place, f"'{file}'", "a .safetensors file")
        with _opened(place) as archive:
            names = list(archive.keys())
            headers = _headers(archive, names, place)
            refuse_too_large(headers.values(), place)
            accept(headers)
            return {name: _read_data(archive, name, place) for name in names}


def _opened(place: Place) -> Any:
    try:
        from safetensors import safe_open
    except ImportError:
        raise place.complain(
            f"reading '{place.name}' needs the package safetensors, which is not installed",
            "pip install safetensors",
        ) from None
    return safe_open(place.file, framework="numpy")


def _headers(archive: Any, names: Iterable[str], place: Place) -> dict[str, Header]:
    headers, found = {}, Gathered()
    for name in names:
        with found:
            headers[name] = _header(archive, name, place)
    found.raise_any()
    return headers


def _header(archive: Any, name: str, place: Place) -> Header:
    with reading_array(place, name):
        array = archive.get_slice(name)
        shape, kind = tuple(array.get_shape()), array.get_dtype()
    if kind in _COMPLEX:
        raise place.complain(f"{place.array(name)} holds {_COMPLEX[kind]}; real numbers are needed")
    if kind not in _DTYPES:
        raise place.complain(
            f"{place.array(name)} holds {_FOREIGN.get(kind, kind)}, which numpy cannot represent",
            "save it as float32, which holds it exactly"
            if kind == "BF16"
            else "save it as float32 or float64",
        )
    return Header(name, shape, np.dtype(_DTYPES[kind]))


def _read_data(archive: Any, name: str, place: Place) -> Array:
    with reading_array(place, name):
        return archive.get_tensor(name)
