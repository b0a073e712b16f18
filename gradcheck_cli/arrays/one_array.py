"""Read one array from a file of any kind."""

from __future__ import annotations

import os
from pathlib import Path

from gradcheck_cli.arrays.named_arrays import read_array_file
from gradcheck_cli.arrays.npy import read_npy, read_npz
from gradcheck_cli.arrays.stored import Place, refuse_absent
from gradcheck_cli.errors import Location, bad_input, did_you_mean
from gradcheck_cli.types import Array


def read_one_array(file: Path, name: str, where: Location, asked: Location) -> Array:
    """Return the array `name` of a file or a folder. An .npy file holds a single array without a name.

    where: the place in the spec that names the file.
    asked: the place in the spec that names the array; `where` if the spec does not name it.
    Raises an `InputError` if the file cannot be read or lacks the array.
    """
    if file.suffix == ".npy" and not os.path.isdir(file):
        if asked != where:
            message = f"'{file.name}' holds a single array, which has no name"
            raise bad_input(message, *asked, help="remove this key")
        return read_npy(file, where)
    if file.suffix != ".safetensors" and not os.path.isdir(file):
        return read_npz(file, where, {name: asked})[name]
    arrays = read_array_file(file, where)
    refuse_absent(arrays, {name: asked}, Place(file, where), did_you_mean)
    return arrays[name]
