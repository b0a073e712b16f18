"""Array files of the wrong kind are recognised by their content, with advice on what to do."""

from __future__ import annotations

import io
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest

from gradcheck_cli.arrays.file_kinds import KINDS, kind_of
from gradcheck_cli.arrays.named_arrays import read_array_file, read_fitting
from gradcheck_cli.errors import InputError
from gradcheck_cli.network.losses import LOSSES
from gradcheck_cli.problem.data import Needed, read_batch
from gradcheck_cli.spec.data import DataFile
from gradcheck_cli.spec.gradients import GradientFile


def saved(save, *arguments, **arrays) -> bytes:
    stream = io.BytesIO()
    save(stream, *arguments, **arrays)
    return stream.getvalue()


def zipped(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")
    return stream.getvalue()


FOUND = {
    "torch": (zipped("net/data.pkl", "net/version", "net/data/0"), "a torch checkpoint", "torch.load"),
    "old torch": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M", "a torch checkpoint", "torch.load"),
    "keras": (zipped("config.json", "model.weights.h5"), "a Keras model", "model.weights"),
    "zip": (zipped("readme.txt"), "a zip archive without arrays", "numpy.savez"),
    "npy": (saved(np.save, np.ones(3)), "a single array (.npy)", "numpy.load"),
    "mat": (b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(128), "a MATLAB file (.mat)", "loadmat"),
    "mat 7.3": (b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n", "a MATLAB file (.mat)", "v7.3"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file", "h5py.File"),
    "safetensors": (b"\x08\0\0\0\0\0\0\0{}      ", "a .safetensors file", "rename it"),
    "pickle": (b"\x80\x04K\x01.", "a pickle", "numpy.savez"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer", "git lfs pull"),
    "gzip": (b"\x1f\x8b\x08\0", "gzip-compressed", "gunzip"),
}


@pytest.mark.parametrize(("content", "name", "help"), FOUND.values(), ids=FOUND)
def test_a_file_of_another_kind_is_recognised(content, name, help, tmp_path):
    file = tmp_path / "gradients.npz"
    file.write_bytes(content)
    with pytest.raises(InputError) as refused:
        read_array_file(file, ("gradients", "file"))
    (complaint,) = refused.value.complaints
    assert complaint.message == f"'gradients.npz' is {name}; expected an .npz file"
    assert help in (complaint.help or "")


def test_every_kind_has_been_tried():
    assert {name for _, name, _ in FOUND.values()} | {"an .npz file"} == {kind.name for kind in KINDS}


def test_an_npz_with_another_suffix_is_recognised(tmp_path):
    pytest.importorskip("safetensors")
    file = tmp_path / "gradients.safetensors"
    file.write_bytes(saved(np.savez, w=np.ones(3)))
    with pytest.raises(InputError, match=r"is an \.npz file; expected a \.safetensors file"):
        read_array_file(file, ())


def test_torch_files_are_recognised(tmp_path):
    torch = pytest.importorskip("torch")
    for zipped in (True, False):
        file = tmp_path / "state.pt"
        torch.save({"w": torch.ones(3)}, file, _use_new_zipfile_serialization=zipped)
        found = kind_of(file)
        assert found is not None
        assert found.name == "a torch checkpoint"


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" + bytes(50), saved(np.savez), b"\x93"])
def test_unknown_files_are_not_guessed(content, tmp_path):
    (tmp_path / "file.npz").write_bytes(content)
    assert kind_of(tmp_path / "file.npz") is None


def _as_gradients(file):
    read_fitting(GradientFile(file=file), "gradients", "gradient", {"x": (3,), "y": (2, 3)})


def _as_data(file):
    read_batch(DataFile(file=file), Needed((3,), (1,), LOSSES["mse"]))


def _beyond_the_batch(file):
    read_batch(DataFile(file=file, start=NUMBERS), Needed((1,), (1,), LOSSES["mse"]))


@pytest.mark.parametrize("read", [_as_gradients, _as_data])
def test_two_arrays_of_one_name_are_refused(read, tmp_path):
    file = tmp_path / "a.npz"
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w") as archive:
        warnings.simplefilter("ignore")
        for value in (1.0, 2.0):
            archive.writestr("x.npy", saved(np.save, np.full((2, 3), value)))
        archive.writestr("y.npy", saved(np.save, np.zeros((2, 1))))
    with pytest.raises(InputError, match=r"array 'x' of a\.npz appears twice"):
        read(file)


NUMBERS = 2**24
"""128 MiB of numbers, in a file of a tenth of a MiB."""


@pytest.fixture
def bomb(tmp_path):
    file = tmp_path / "bomb.npz"
    np.savez_compressed(file, x=np.zeros(NUMBERS), y=np.zeros(NUMBERS))
    assert file.stat().st_size < 2**20
    return file


@pytest.mark.parametrize("read", [_as_gradients, _as_data, _beyond_the_batch])
def test_misfits_are_refused_before_they_are_read(read, bomb, monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("it is read")

    monkeypatch.setattr("gradcheck_cli.arrays.npy.Npy.read", refuse)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=rf"\[{NUMBERS}(, 1)?\]|has {NUMBERS} samples"):
            read(bomb)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


def test_misfits_in_safetensors_are_refused_before_they_are_read(tmp_path, monkeypatch):
    numpy = pytest.importorskip("safetensors.numpy")
    numpy.save_file({"x": np.zeros(5)}, tmp_path / "g.safetensors")
    monkeypatch.setattr("gradcheck_cli.arrays.safetensors_file.Tensor.read", None)
    source = GradientFile(file=tmp_path / "g.safetensors")
    with pytest.raises(InputError, match=r"has shape \[5\], not \[3\]"):
        read_fitting(source, "gradients", "gradient", {"x": (3,)})
