"""The bytes of .npy files, valid and broken, and an object that runs code if it is unpickled."""

from __future__ import annotations

import io
import os
import struct

import numpy as np


def npy(array, **options) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def npy_of(header: bytes, data: bytes = b"", version=(1, 0)) -> bytes:
    """Return an .npy file with this header."""
    length = struct.pack("<H" if version[0] == 1 else "<I", len(header) + 1)
    return b"\x93NUMPY" + bytes(version) + length + header + b"\n" + data


def header(descr="'<f8'", shape="(2, 3)") -> bytes:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()


class Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)
