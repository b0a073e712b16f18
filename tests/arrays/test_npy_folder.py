"""Reading a folder of .npy files."""

from __future__ import annotations

import os

import numpy as np
import pytest
from npy_bytes import Bomb, header, npy_of

from gradcheck_cli.arrays.npy import read_npy_folder
from gradcheck_cli.errors import InputError

HERE = ("data", "file")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    return folder


def refused(folder):
    with pytest.raises(InputError) as caught:
        read_npy_folder(folder, HERE)
    assert {complaint.where for complaint in caught.value.complaints} == {HERE}
    return [complaint.message for complaint in caught.value.complaints]


def test_every_npy_of_a_folder_is_an_array_by_the_name_of_its_file(folder):
    np.save(folder / "hidden1.weight.npy", np.eye(2))
    np.save(folder / "b.npy", np.float32(3))
    (folder / "README.txt").write_text("passed over")
    (folder / "._b.npy").write_bytes(b"what some systems leave behind")
    read = read_npy_folder(folder, HERE)
    assert list(read) == ["b", "hidden1.weight"]
    assert (read["b"].shape, read["b"].dtype) == ((), np.float32)
    np.testing.assert_array_equal(read["hidden1.weight"], np.eye(2))


def test_a_folder_without_any_says_so(folder):
    (folder / "weights.npz").touch()
    (message,) = refused(folder)
    assert message == f"folder '{folder}' holds no .npy file"


def test_every_file_of_a_folder_that_cannot_be_used_is_named(folder):
    np.save(folder / "a.npy", np.ones(1, complex))
    np.save(folder / "b.npy", np.ones(1))
    (folder / "c.npy").write_bytes(b"junk")
    np.save(folder / "d.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    assert [message.split(" cannot")[0] for message in refused(folder)] == [
        "array 'a' of mine has dtype complex128; real numbers are needed",
        "array 'c' of mine",
        "array 'd' of mine holds pickled objects; reading them could run code",
    ]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders here")
def test_a_pipe_in_a_folder_is_refused_without_waiting_for_it(folder):
    os.mkfifo(folder / "a.npy")
    (folder / "b.npy").mkdir()
    (folder / "c.npy").symlink_to(folder / "gone.npy")
    first, second, third = refused(folder)
    assert first == f"'{folder / 'a.npy'}' is a pipe or device; expected an .npy file"
    assert second == f"'{folder / 'b.npy'}' is a folder; expected an .npy file"
    assert third == "array 'c' of mine cannot be read: No such file or directory"


@pytest.mark.usefixtures("nothing_is_read")
def test_headers_in_a_folder_are_checked_before_anything_is_allocated(folder):
    (folder / "a.npy").write_bytes(npy_of(header("'<f8'", "(20, 100000000000)")))
    assert refused(folder) == [
        "array 'a' of mine, of shape [20, 100000000000], brings the total over the limit of 2 GiB"
    ]
    (folder / "a.npy").write_bytes(npy_of(header(), np.ones(5).tobytes()))
    assert refused(folder) == ["array 'a' of mine is cut short: the file lacks some of its [2, 3] entries"]
