"""Read arrays from a .safetensors file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from gradcheck_cli.arrays.stored import (
    Accept,
    Header,
    Place,
    as_they_are,
    read_checked,
    reading,
    refuse_irregular,
)
from gradcheck_cli.errors import Location
from gradcheck_cli.types import Array, is_narrow

_DTYPES = {
    "F64": "f8", "F32": "f4", "F16": "f2", "BOOL": "?",
    "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1",
    "U64": "u8", "U32": "u4", "U16": "u2", "U8": "u1",
    "C64": "c8",
}  # fmt: skip
"""The dtypes of the .safetensors format that numpy also has, with numpy's names for them."""

_ML_DTYPES = {
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn", "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2", "F8_E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip
"""The dtypes of the .safetensors format that numpy has only with ml_dtypes, with the names there."""


def read_safetensors(file: Path, where: Location, accept: Accept = as_they_are) -> dict[str, Array]:
    """Return the arrays of a .safetensors file by name.

    where: the place in the spec that names the file.
    accept: a function that checks the headers before any array is read.
    Raises an `InputError` that points at `where` if the file cannot be read, if `accept` refuses it, or if
    the safetensors package is not installed.
    """
    place = Place(file, where)
    with reading(place, "a .safetensors file", "write one with safetensors.numpy.save_file(arrays, file)"):
        refuse_irregular(file, place, f"'{file}'", "a .safetensors file")
        with _opened(place) as archive:
            names = archive.keys()
            return read_checked({name: Tensor(archive, name, place) for name in names}, place, accept)


def _opened(place: Place) -> Any:
    try:
        from safetensors import safe_open
    except ImportError:
        raise place.complain(
            f"reading '{place.name}' needs the package safetensors, which is not installed",
            "pip install safetensors",
        ) from None
    return safe_open(place.file, framework="numpy")


@dataclass(frozen=True)
class Tensor:
    """A tensor in an open .safetensors file. The tensor's data have not been read yet."""

    archive: Any
    name: str
    place: Place

    def header(self) -> Header:
        """Return the tensor's header.

        safetensors itself has checked the header against the size of the file.
        """
        tensor = self.archive.get_slice(self.name)
        kind = tensor.get_dtype()
        return Header(self.name, tuple(tensor.get_shape()), self._dtype(kind))

    def _dtype(self, kind: str) -> np.dtype[Any]:
        if kind in _ML_DTYPES:
            return self._of_ml_dtypes(_ML_DTYPES[kind])
        if kind not in _DTYPES:
            raise self.place.complain(
                f"{self.place.array(self.name)} holds {kind}, which numpy cannot represent",
                "save it as float32 or float64",
            )
        return np.dtype(_DTYPES[kind])

    def _of_ml_dtypes(self, name: str) -> np.dtype[Any]:
        try:
            return np.dtype(getattr(import_module("ml_dtypes"), name))
        except ImportError:
            raise self.place.complain(
                f"{self.place.array(self.name)} holds {name}, which numpy lacks without ml_dtypes",
                "pip install ml_dtypes; or save it as float32, which holds it exactly",
            ) from None

    def read(self) -> Array:
        header = self.header()
        array: Array = self._bytes(header) if is_narrow(header.dtype) else self.archive.get_tensor(self.name)
        return array

    def _bytes(self, header: Header) -> Array:
        """Read a tensor of a type that safetensors does not give to numpy.

        The file begins with the length of its header in 8 bytes, and the header in JSON. The tensors follow.
        """
        with self.place.file.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            start, end = json.loads(file.read(length))[self.name]["data_offsets"]
            file.seek(8 + length + start)
            return np.frombuffer(file.read(end - start), header.dtype).reshape(header.shape)
