"""Arrays without a gradient that a spec gives to a layer: masks, initial states and running statistics."""

from __future__ import annotations

from math import inf
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from gradcheck_cli.spec.model import File, Kinds, Model


class ArrayInFile(Model):
    """An array in an .npy, .npz or .safetensors file, or in a folder of .npy files.

    file: The file or folder, relative to the spec.
    array: The name of the array in the file. By default, the key in the spec, such as `mask`. An .npy file
        holds a single array, which has no name.
    """

    file: File
    array: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _is_mapping(cls, value: object) -> object:
        if not isinstance(value, (dict, Model)):
            raise PydanticCustomError("array_type", "a list of numbers or a file is needed")
        return value


def _number(value: object) -> object:
    """Convert a boolean, which a mask may contain, to 0 or 1."""
    return float(value) if isinstance(value, bool) else value


_Number = Annotated[float, BeforeValidator(_number, json_schema_input_type=float | bool)]
_Row = Annotated[tuple[_Number, ...], Field(strict=False, min_length=1)]
_Rows = Annotated[tuple[_Row, ...], Field(strict=False, min_length=1)]
_Blocks = Annotated[tuple[_Rows, ...], Field(strict=False, min_length=1)]

_LISTS = ("list of numbers", "list of rows", "list of lists of rows")


def _kind(value: object) -> str:
    """Return the kind of array that the author of a value meant: an array in a file, or nested lists."""
    depth = -1
    while isinstance(value, (list, tuple)) and depth < len(_LISTS) - 1:
        depth, value = depth + 1, value[0] if value else None
    return "array in a file" if depth < 0 else _LISTS[depth]


_ARRAYS = {"array in a file": ArrayInFile, **dict(zip(_LISTS, (_Row, _Rows, _Blocks), strict=True))}

FixedArray = Annotated[ArrayInFile | _Row | _Rows | _Blocks, Kinds(_ARRAYS, _kind)]
"""An array: either in a file, or written out as nested lists. Booleans count as 0 and 1."""


def _added(value: object) -> object:
    """Convert a boolean in a mask to the number that the mask adds. True leaves a score out."""
    return (-inf if value else 0.0) if isinstance(value, bool) else value


_Added = Annotated[
    float,
    Field(allow_inf_nan=True),
    BeforeValidator(_added, json_schema_input_type=float | bool),
]
_AddedRow = Annotated[tuple[_Added, ...], Field(strict=False, min_length=1)]
_AddedRows = Annotated[tuple[_AddedRow, ...], Field(strict=False, min_length=1)]
_AddedBlocks = Annotated[tuple[_AddedRows, ...], Field(strict=False, min_length=1)]


def _kind_of_added(value: object) -> str:
    kind = _kind(value)
    return "list of rows" if kind == "list of numbers" else kind


AddedMask = Annotated[
    ArrayInFile | _AddedRows | _AddedBlocks,
    Kinds(
        {
            "array in a file": ArrayInFile,
            "list of rows": _AddedRows,
            "list of lists of rows": _AddedBlocks,
        },
        _kind_of_added,
    ),
]
"""A mask that is added to numbers: either an array in a file, or an array written out as nested lists."""

_PARAMETER = "parameter"


def _kind_of_state(value: object) -> str:
    return _PARAMETER if isinstance(value, str) else _kind(value)


InitialState = Annotated[
    Literal["parameter"] | ArrayInFile | _Row | _Rows | _Blocks,
    Kinds({_PARAMETER: Literal["parameter"], **_ARRAYS}, _kind_of_state),
]
"""An initial state: a parameter that is trained, or an array."""

Fixed = ArrayInFile | tuple[Any, ...]
"""An array as a spec gives it: its place in a file, or its numbers as nested tuples."""

Key = tuple[str, ...]
"""The key of an array in its layer. If another key's value contains the array, that key comes first."""


def given(**arrays: object) -> dict[Key, Fixed]:
    """Return those values that are arrays, by key. All other values, such as None, are left out."""
    return {(key,): value for key, value in arrays.items() if isinstance(value, (ArrayInFile, tuple))}
