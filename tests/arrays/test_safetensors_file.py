"""Reading .safetensors files, for the types that numpy has."""

from __future__ import annotations

import json
import os
import struct
import sys

import numpy as np
import pytest

from gradcheck_cli.arrays import safetensors_file, stored
from gradcheck_cli.arrays.safetensors_file import read_safetensors
from gradcheck_cli.errors import InputError

HERE = ("gradients", "file")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "a.safetensors"


@pytest.fixture
def save():
    return pytest.importorskip("safetensors.numpy").save_file


def write(file, data=b"", **entries):
    """Write the format by hand: the length of a JSON header, the header, the numbers."""
    pytest.importorskip("safetensors")
    header = json.dumps(entries).encode()
    file.write_bytes(struct.pack("<Q", len(header)) + header + data)


def refused(file):
    with pytest.raises(InputError) as caught:
        read_safetensors(file, HERE)
    assert {complaint.where for complaint in caught.value.complaints} == {HERE}
    return [(complaint.message, complaint.help) for complaint in caught.value.complaints]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"])
def test_every_type_that_numpy_has_is_read_as_it_is(file, save, dtype):
    arrays = {"w": np.array([[1, 0], [0, 1]], dtype), "b": np.array([], dtype), "c": np.array(1, dtype)}
    save(arrays, file)
    read = read_safetensors(file, HERE)
    assert set(read) == set(arrays)
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


def test_types_that_numpy_lacks_are_all_named_with_help(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    write(
        file,
        bytes(4),
        a={"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]},
        b={"dtype": "F8_E4M3", "shape": [2], "data_offsets": [2, 4]},
    )
    assert sorted(refused(file)) == [
        (
            "array 'a' of a.safetensors holds bfloat16, which numpy lacks without ml_dtypes",
            "pip install ml_dtypes; or save it as float32, which holds it exactly",
        ),
        (
            "array 'b' of a.safetensors holds float8_e4m3fn, which numpy lacks without ml_dtypes",
            "pip install ml_dtypes; or save it as float32, which holds it exactly",
        ),
    ]


def test_bfloat16_is_read_with_ml_dtypes(file, save):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    save({"w": np.array([1.5, -2.0], bfloat16)}, file)
    read = read_safetensors(file, HERE)["w"]
    assert read.dtype == bfloat16
    assert read.tolist() == [1.5, -2.0]


def _skip_if_unknown_to_safetensors(file):
    """Skip the test if the safetensors package itself does not accept the types in this file."""
    safetensors = pytest.importorskip("safetensors")
    try:
        with safetensors.safe_open(file, framework="numpy"):
            pass
    except safetensors.SafetensorError:
        pytest.skip("this version of safetensors does not know the type")


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, name in safetensors_file._ML_DTYPES.items() if kind != "BF16"]
)
def test_float8_is_read_with_ml_dtypes(file, kind, name):
    dtype = np.dtype(getattr(pytest.importorskip("ml_dtypes"), name))
    numbers = np.array([[1.5, -2.0, 0.25]], dtype)
    entries = {"dtype": kind, "shape": [1, 3], "data_offsets": [4, 7]}
    write(
        file,
        np.float32(0.5).tobytes() + numbers.tobytes(),
        a={"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        w=entries,
    )
    _skip_if_unknown_to_safetensors(file)
    read = read_safetensors(file, HERE)["w"]
    assert (read.dtype, read.tolist()) == (dtype, [[1.5, -2.0, 0.25]])


def test_a_type_that_ml_dtypes_lacks_is_refused(file):
    pytest.importorskip("safetensors", minversion="0.6")  # older versions of the format had none
    write(file, bytes(1), a={"dtype": "F8_E8M0", "shape": [1], "data_offsets": [0, 1]})
    (found,) = refused(file)
    assert found == (
        "array 'a' of a.safetensors holds F8_E8M0, which numpy cannot represent",
        "save it as float32 or float64",
    )


def test_complex_numbers_are_refused_as_such(file):
    pytest.importorskip("safetensors", minversion="0.7")  # older versions of the format had none
    write(file, bytes(8), a={"dtype": "C64", "shape": [1], "data_offsets": [0, 8]})
    assert refused(file) == [
        ("array 'a' of a.safetensors has dtype complex64; real numbers are needed", None)
    ]


@pytest.mark.parametrize("data", [b"", b"hello", b"\xff" * 100, struct.pack("<Q", 2) + b"[]"])
def test_garbage_is_refused_with_what_to_do(file, data):
    pytest.importorskip("safetensors")
    file.write_bytes(data)
    ((message, help),) = refused(file)
    assert message.startswith("'a.safetensors' is not a .safetensors file: ")
    assert help == "write one with safetensors.numpy.save_file(arrays, file)"


def test_a_file_shorter_than_its_header_says_is_refused(file):
    write(file, b"", x={"dtype": "F64", "shape": [10**11], "data_offsets": [0, 8 * 10**11]})
    ((message, _),) = refused(file)
    assert message.startswith("'a.safetensors' is not a .safetensors file: ")


def test_oversized_arrays_are_refused_before_they_are_read(file, save, monkeypatch):
    monkeypatch.setattr(stored, "MAX_BYTES", 100)
    save({"a": np.zeros((2, 7))}, file)
    ((message, _),) = refused(file)
    assert message == "array 'a' of a.safetensors, of shape [2, 7], brings the total over the limit of 2 GiB"


def test_a_missing_file_and_a_pipe_are_refused(file):
    ((message, _),) = refused(file)
    assert message == f"there is no file '{file}'"
    if hasattr(os, "mkfifo"):
        os.mkfifo(file)
        ((message, _),) = refused(file)
        assert message == f"'{file}' is a pipe or device; expected a .safetensors file"


def test_without_the_package_it_says_what_to_install(file, monkeypatch):
    file.touch()
    monkeypatch.setitem(sys.modules, "safetensors", None)
    assert refused(file) == [
        (
            "reading 'a.safetensors' needs the package safetensors, which is not installed",
            "pip install safetensors",
        )
    ]
