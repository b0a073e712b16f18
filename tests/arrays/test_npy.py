"""Reading .npy files in an .npz or folder: nothing is executed, and only `InputError` is raised."""

from __future__ import annotations

import os
import random
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from npy_bytes import Bomb, header, npy, npy_of

from gradcheck_cli.arrays.npy import read_npz
from gradcheck_cli.errors import InputError

HERE = ("data", "file")
RNG = np.random.RandomState(0)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "a.npz"


def complaints_of(file, names=None):
    with pytest.raises(InputError) as caught:
        read_npz(file, HERE, names)
    return caught.value.complaints


def message_of(file):
    (complaint,) = complaints_of(file)
    assert complaint.where == HERE
    return complaint.message


def write(file, compression=zipfile.ZIP_STORED, **members: bytes):
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)


# --- what is read ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "g", ">f8", ">f4", "i1", "u1", ">i4", "u8", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_real_numbers_of_any_type_and_order_are_read_as_they_are(file, dtype, order):
    x = np.asarray(RNG.randint(2, size=(3, 4)), dtype=dtype, order=order)
    np.savez(file, x=x)
    read = read_npz(file, HERE)["x"]
    assert read.dtype == x.dtype
    np.testing.assert_array_equal(read, x)


@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (1, 2, 3, 4)])
def test_any_shape_is_read(file, shape):
    np.savez(file, x=np.ones(shape))
    assert read_npz(file, HERE)["x"].shape == shape


@pytest.mark.parametrize(
    "compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_any_compression_is_read(file, compression):
    write(file, compression, x=npy(np.arange(5.0)))
    np.testing.assert_array_equal(read_npz(file, HERE)["x"], np.arange(5.0))


def test_nan_and_inf_are_read(file):
    np.savez(file, x=[np.nan, np.inf])
    np.testing.assert_array_equal(read_npz(file, HERE)["x"], [np.nan, np.inf])


def test_all_or_only_the_requested_arrays_of_a_file_are_read(file):
    np.savez(file, x=np.ones(2), y=np.zeros(3), **{"hidden1.weight": np.eye(2)})
    assert list(read_npz(file, HERE)) == ["x", "y", "hidden1.weight"]
    assert list(read_npz(file, HERE, {"y": ("data", "y")})) == ["y"]


def test_arrays_that_are_not_requested_may_be_anything(file):
    write(file, x=npy(np.ones(2)), meta=npy(np.array([{}], dtype=object), allow_pickle=True), junk=b"?")
    assert list(read_npz(file, HERE, {"x": HERE})) == ["x"]


def test_other_files_in_the_archive_are_ignored(file):
    np.savez(file, x=np.ones(2))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("README.txt", "hello")
    assert list(read_npz(file, HERE)) == ["x"]


def test_a_header_of_python_2_is_read_without_a_warning(file):
    write(file, x=npy_of(header(shape="(2L, 3L)"), np.ones(6).tobytes()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_npz(file, HERE)["x"].shape == (2, 3)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_format_is_read(file, version):
    write(file, x=npy_of(header(), np.arange(6.0).tobytes(), version))
    np.testing.assert_array_equal(read_npz(file, HERE)["x"], np.arange(6.0).reshape(2, 3))


# --- the file --------------------------------------------------------------------------------------------


def test_a_missing_file_is_named_and_a_close_one_suggested(file):
    np.savez(file, x=1.0)
    missing = file.with_name("aa.npz")
    (complaint,) = complaints_of(missing)
    assert complaint.message == f"there is no file '{missing}'"
    assert complaint.help == f"did you mean '{file}'?"


def test_a_folder_is_not_an_npz(tmp_path):
    assert message_of(tmp_path) == f"'{tmp_path}' is a folder; expected an .npz file"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders here")
def test_a_pipe_is_refused_without_waiting_for_it(file):
    os.mkfifo(file)
    assert message_of(file) == f"'{file}' is a pipe or device; expected an .npz file"


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="no such device here")
def test_an_endless_device_is_refused():
    assert message_of(Path("/dev/zero")).startswith("'/dev/zero' is a pipe or device")


def test_a_path_through_a_file_and_an_endless_name_cannot_be_read(file):
    file.touch()
    assert message_of(file / "x.npz") == f"'{file / 'x.npz'}' cannot be read: Not a directory"
    assert message_of(file.with_name("x" * 5000)).endswith("cannot be read: File name too long")


@pytest.mark.parametrize("name", ["\ud800.npz", "a\0b.npz"])
def test_an_impossible_name_is_bad_input(tmp_path, name):
    assert "is not an .npz file: " in message_of(tmp_path / name)


def test_a_file_that_may_not_be_read_is_bad_input(file, monkeypatch):
    np.savez(file, x=1.0)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(zipfile, "ZipFile", refuse)
    assert message_of(file) == f"'{file}' cannot be read: Permission denied"


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", b"PK\x03\x04" + bytes(50)],
    ids=["empty", "text", "the beginning of a zip"],
)
def test_a_file_that_is_not_an_archive_is_refused_with_help(file, data):
    file.write_bytes(data)
    (complaint,) = complaints_of(file)
    assert complaint.message == "'a.npz' is not an .npz file: File is not a zip file"
    assert complaint.help == "write one with numpy.savez(file, **arrays)"


def test_a_truncated_file_is_refused(file):
    np.savez(file, x=np.ones(100))
    file.write_bytes(file.read_bytes()[:-30])
    assert message_of(file).startswith("'a.npz' is not an .npz file: ")


def test_a_damaged_array_is_named(file):
    np.savez(file, x=np.ones(100))
    data = bytearray(file.read_bytes())
    data[400] ^= 255
    file.write_bytes(data)
    assert message_of(file) == "array 'x' of a.npz cannot be read: Bad CRC-32 for file 'x.npy'"


# --- the arrays ------------------------------------------------------------------------------------------


def test_missing_arrays_are_all_named_where_they_are_requested(file):
    np.savez(file, images=np.ones(2), labels=np.ones(2))
    first, second = complaints_of(file, {"image": ("data", "x"), "y": ("data", "y")})
    assert first.message == "a.npz has no array 'image'; it holds images, labels"
    assert (first.where, first.help) == (("data", "x"), "did you mean 'images'?")
    assert second.message == "a.npz has no array 'y'; it holds images, labels"
    assert (second.where, second.help) == (("data", "y"), None)


def test_only_the_first_of_many_arrays_are_listed(file):
    np.savez(file, **{f"w{i}": 0.0 for i in range(20)})
    ((complaint),) = complaints_of(file, {"qqq": HERE})
    assert complaint.message == (
        "a.npz has no array 'qqq'; it holds w0, w1, w2, w3, w4, w5, w6, w7 and 12 more"
    )


def test_an_empty_archive_holds_nothing(file):
    np.savez(file)
    (complaint,) = complaints_of(file, {"x": HERE})
    assert complaint.message == "a.npz has no array 'x'; it holds nothing"


def test_pickled_objects_are_refused_and_not_run(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    np.savez(file, x=np.array([Bomb()], dtype=object))
    (complaint,) = complaints_of(file)
    assert complaint.message == "array 'x' of a.npz holds pickled objects; reading them could run code"
    assert complaint.help == "save plain numbers: numpy.asarray(values, dtype=float)"
    assert os.listdir(file.parent) == ["a.npz"]


def test_a_structure_with_objects_in_it_is_refused_as_objects(file):
    np.savez(file, x=np.zeros(2, dtype=[("a", "f8"), ("b", "O")]))
    assert "holds pickled objects" in message_of(file)


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (np.ones(2, complex), "complex128"),
        (np.array(["a", "bc"]), "<U2"),
        (np.array([b"a"]), "|S1"),
        (np.zeros(2, "M8[s]"), "datetime64[s]"),
        (np.zeros(2, "m8[D]"), "timedelta64[D]"),
        (np.zeros(2, "V3"), "|V3"),
        (np.zeros(2, [("a", "f8")]), "[('a', '<f8')]"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_numbers_that_are_not_real_are_refused_by_type(file, array, kind):
    np.savez(file, x=array)
    assert message_of(file) == f"array 'x' of a.npz has dtype {kind}; real numbers are needed"


def test_every_array_that_cannot_be_used_is_named(file):
    write(file, a=npy(np.ones(1, complex)), b=npy(np.ones(1)), c=b"junk", d=npy(np.array(["x"])))
    assert [complaint.message.split("'")[1] for complaint in complaints_of(file)] == ["a", "c", "d"]


# --- refused before anything is allocated ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("descr", "shape"),
    [("'<f8'", "(20, 100000000000)"), ("'|i1'", "(2147483649,)"), ("'<f8'", f"({'9' * 400},)")],
)
@pytest.mark.usefixtures("nothing_is_read")
def test_an_absurd_shape_is_refused_by_its_header(file, descr, shape):
    write(file, x=npy_of(header(descr, shape)))
    message = message_of(file)
    assert message.startswith("array 'x' of a.npz, of shape [")
    assert message.endswith("brings the total over the limit of 2 GiB")


@pytest.mark.usefixtures("nothing_is_read")
def test_many_large_arrays_are_refused_together(file):
    write(file, **{name: npy_of(header("'|i1'", "(1000000000,)")) for name in "ab"})
    assert message_of(file).startswith("array 'a' of a.npz is cut short")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in "abc":
            info = zipfile.ZipInfo(f"{name}.npy")
            archive.writestr(info, npy_of(header("'|i1'", "(1000000000,)")))
            info.file_size = 2**40  # as a forged directory claims
    assert message_of(file).startswith("array 'c' of a.npz, of shape [1000000000], brings the total over")


@pytest.mark.parametrize("shape", ["(1000, 1000)", "(3, 3)", "(7,)"])
@pytest.mark.usefixtures("nothing_is_read")
def test_an_array_shorter_than_its_shape_is_refused_by_its_size(file, shape):
    write(file, x=npy_of(header(shape=shape), np.ones(6).tobytes()))
    found = shape.replace("(", "[").replace(",)", "]").replace(")", "]")
    assert message_of(file) == f"array 'x' of a.npz is cut short: the file lacks some of its {found} entries"


@pytest.mark.parametrize("shape", ["(-1,)", "(-2, -3)"])
@pytest.mark.usefixtures("nothing_is_read")
def test_a_negative_shape_is_refused(file, shape):
    write(file, x=npy_of(header(shape=shape), np.ones(6).tobytes()))
    assert "has the impossible shape [-" in message_of(file)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no npy at all",
        npy_of(header())[:9],
        npy_of(b"{}"),
        npy_of(b"{'descr': "),
        npy_of(b"{'a': ''' "),
        npy_of(b"(" * 9000),
        npy_of(b"(" * 100 + b")" * 100),
        npy_of(b"1" * 9000),
        npy_of(b"\xff\xfe"),
        npy_of(header() + b" " * 20000),
        npy_of(header("'foo'")),
        npy_of(header("'<f999'")),
        npy_of(header("None")),
        npy_of(header(shape="'a'")),
        npy_of(header(shape="(2.5,)")),
        npy_of(header(shape=f"({'9' * 5000},)")),
        npy_of(header(shape="(True, 6)"), np.ones(6).tobytes()),
        npy_of(header(shape="(0, 99999999999999999999999)")),
        npy_of(header(), np.ones(6).tobytes(), version=(9, 0)),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff{",
    ],
)
def test_a_header_that_is_garbage_is_refused(file, data):
    write(file, x=data)
    message = message_of(file)
    assert message.startswith("array 'x' of a.npz cannot be read: ")
    assert len(message) < 200
    assert "\n" not in message


def test_whatever_bytes_are_changed_the_file_is_read_or_refused(file):
    write(file, zipfile.ZIP_DEFLATED, x=npy(RNG.randn(20, 3)), y=npy(RNG.randint(2, size=20)))
    original, rng = file.read_bytes(), random.Random(0)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(500):
        data = bytearray(original)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        file.write_bytes(data[: rng.choice([None, rng.randrange(len(data))])])
        try:
            read_npz(file, HERE, {"x": HERE, "y": HERE})
            outcomes["read"] += 1
        except InputError:
            outcomes["refused"] += 1
    assert all(outcomes.values())
