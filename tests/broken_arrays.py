"""Array files broken at random: their bytes, headers, members and numbers."""

from __future__ import annotations

import io
import json
import struct
import warnings
import zipfile
from collections.abc import Mapping
from random import Random
from typing import Any

import numpy as np
from broken_text import Breaker, break_bytes
from safetensors.numpy import save

HEADERS = [
    "{}", "", "(", "[]", "None", "{'descr': '<f8'}",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (DIM,), }",
    "{'descr': '<f8', 'fortran_order': True, 'shape': (2, DIM), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (2,)}",
    "{'descr': '<c16', 'fortran_order': False, 'shape': (2,)}",
    "{'descr': '<U9', 'fortran_order': False, 'shape': (2,)}",
    "{'descr': '<M8[ns]', 'fortran_order': False, 'shape': (2,)}",
    "{'descr': '<f16', 'fortran_order': False, 'shape': (2,)}",
    "{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (2,)}",
    "{'descr': '|V0', 'fortran_order': 0, 'shape': (2,)}",
    "{'descr': '<f8', 'fortran_order': False, 'shape': [2]}",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (True,)}",
    "{'descr': '|b1', 'fortran_order': False, 'shape': (DIM, DIM)}",
    "{'descr': '<f8', 'fortran_order': False, 'shape': 2}",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (2,), 'x': 1}",
    "{'descr': 8, 'fortran_order': False, 'shape': (2,)}",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (0, DIM)}",
    "{'descr': '<f8', 'fortran_order': False, 'shape': ()}",
    "{'descr': ('<f8', (DIM,)), 'fortran_order': False, 'shape': (2,)}", "[" * 200, "-" * 3000, "1" * 5000,
]  # fmt: skip
DIMENSIONS = [
    "0",
    "1",
    "2",
    "-1",
    "5",
    "2**3",
    "10**7",
    "134217728",
    "9" * 18,
    "9" * 19,
    "9" * 40,
    "1.5",
    "'a'",
    "1L",
]


def broken_array(array: Any, rng: Random) -> Any:
    """Return the array, changed to another type, another shape or other numbers."""
    how = rng.randrange(8)
    with np.errstate(all="ignore"):
        if how == 0:
            return array.astype(
                rng.choice(["f4", "f2", ">f8", "g", "i1", "u8", "?", "c8", "U5", "O", "S3", "M8[s]"])
            )
        if how == 1:
            return np.array(rng.choice([0.0, np.nan, "x", None, 1 + 2j]))
        if how == 2:
            return np.resize(
                array, rng.choice([(0,), (1,), (2, 2), (3, 4), (4, 3), (2, 0, 3), (1,) * 20, (500,)])
            )
        if how == 3:
            return array.T
        if how == 4:
            return array[..., None]
        if how == 5:
            return np.full(array.shape, rng.choice([np.nan, np.inf, -0.0, 1e308, 1e-320, 0.0]))
        if how == 6:
            return np.zeros(rng.choice([10, 10**5]), dtype=[("a", "f8"), ("b", "i4")])
        return array * rng.choice([1e200, -1.0, 1e-200])


def npy(array: Any, rng: Random) -> bytes:
    """Return the .npy file of an array, sometimes with a different header."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.lib.format.write_array(stream, np.asanyarray(array), version=rng.choice([None, (2, 0), (3, 0)]))
    content = stream.getvalue()
    if rng.random() < 0.4:
        header = rng.choice(HEADERS).replace("DIM", rng.choice(DIMENSIONS)).encode()
        major = rng.choice([1, 2, 3, 0, 255])
        length = struct.pack(
            "<H" if major == 1 else "<I", len(header) + rng.choice([0, 0, 0, 1, -1, 60000]) & 0xFFFF
        )
        content = (
            b"\x93NUMPY" + bytes([major, 0]) + length + header + array.tobytes()[: rng.choice([8, 10**6])]
        )
    return content


def npy_breaker(array: Any) -> Breaker:
    def broken(rng: Random) -> bytes:
        content = bytearray(npy(broken_array(array, rng) if rng.random() < 0.5 else array, rng))
        for _ in range(rng.choice([0, 1, 2])):
            break_bytes(content, rng)
        return bytes(content)

    return broken


def npz_breaker(arrays: Mapping[str, Any]) -> Breaker:
    def broken(rng: Random) -> bytes:
        stream, few = io.BytesIO(), rng.randrange(len(arrays))
        with zipfile.ZipFile(
            stream, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, 12, 14])
        ) as archive:
            for i, (name, array) in enumerate(arrays.items()):
                _add_members(archive, name, array, rng, i == few)
        content = bytearray(stream.getvalue())
        for _ in range(rng.choice([0, 0, 1, 1, 3])):
            break_bytes(content, rng)
        return bytes(content)

    return broken


def _add_members(archive: zipfile.ZipFile, name: str, array: Any, rng: Random, wrong: bool) -> None:
    how = rng.randrange(5) if wrong else -1
    content = npy(broken_array(array, rng), rng) if how in (0, 1) else npy(array, Random(0))
    if how == 2:
        name = rng.choice(
            [
                "",
                "x",
                name.upper(),
                "../a",
                "/etc/x",
                "a" * 300,
                "é",
                "\x1b[2J",
                "::error::x",
                "a\nb",
                "\u202e",
            ]
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(2 if how == 3 else 1):
            archive.writestr(
                f"{name}.npy" if how != 4 else rng.choice([name, f"{name}.npz", "data.pkl"]), content
            )


def safetensors_breaker(arrays: Mapping[str, Any]) -> Breaker:
    whole = save(dict(arrays))
    size = struct.unpack("<Q", whole[:8])[0]
    header, data = json.loads(whole[8 : 8 + size]), whole[8 + size :]

    def broken(rng: Random) -> bytes:
        content = bytearray(whole)
        if rng.random() < 0.6:
            text = json.dumps(_broken_header(header, rng)).encode()
            length = len(text) + rng.choice([0, 0, 0, 0, 1, -1, 2**40, 2**63])
            content = bytearray(struct.pack("<Q", length) + text + data[: rng.choice([0, 7, 10**6])])
        for _ in range(rng.choice([0, 0, 1, 2])):
            break_bytes(content, rng)
        return bytes(content)

    return broken


def _broken_header(header: Mapping[str, Any], rng: Random) -> dict[str, Any]:
    result = json.loads(json.dumps(header))
    name = rng.choice(list(result))
    how = rng.randrange(6)
    if how == 0:
        result[name]["dtype"] = rng.choice(
            ["F64", "F32", "BF16", "F8_E4M3", "C64", "I64", "BOOL", "X", 3, None]
        )
    elif how == 1:
        result[name]["shape"] = rng.choice(
            [[], [0], [2], [-1], [2**31, 2**31], [2**62], "2", None, [1.5], [[2]], [1] * 40]
        )
    elif how == 2:
        result[name]["data_offsets"] = rng.choice([[0, 8], [8, 0], [0, 2**62], [], [0], "x", [-1, 8]])
    elif how == 3:
        result[rng.choice(["x", "__metadata__", "\x1b[2J", "", "::error::x"])] = result.pop(name)
    elif how == 4:
        result[name] = rng.choice([None, [], {}, 1, {"dtype": "F64"}])
    else:
        result["__metadata__"] = rng.choice([{"a": "b"}, {"a": 1}, [], "x", None])
    return result
