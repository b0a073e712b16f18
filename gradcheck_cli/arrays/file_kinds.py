"""Recognise files that gradcheck cannot read, and tell the user how to convert them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Kind:
    """A kind of file that is recognised by its content.

    name: the kind's name with an article, such as "a pickle".
    looks: a function that takes the first bytes and the names of zip members, and returns whether the file is
        of this kind.
    help: how to convert such a file to one that gradcheck reads.
    """

    name: str
    looks: Callable[[bytes, Collection[str]], bool]
    help: str


def kind_of(file: Path) -> Kind | None:
    """Return the kind of a file by its content; None if the kind is unknown or the file cannot be read.

    Nothing in the file is executed.
    """
    try:
        with open(file, "rb") as stream:
            start = stream.read(_BEGINNING)
        members = _members(file) if start.startswith(b"PK") else ()
    except Exception:  # the caller has already reported what is wrong with it
        return None
    return next((kind for kind in KINDS if kind.looks(start, members)), None)


_BEGINNING = 1024


def _members(file: Path) -> Collection[str]:
    with zipfile.ZipFile(file) as archive:
        return archive.namelist()


def _begins(*magics: bytes) -> Callable[[bytes, Collection[str]], bool]:
    return lambda start, members: start.startswith(magics)


def _has_member(*endings: str) -> Callable[[bytes, Collection[str]], bool]:
    return lambda start, members: any(name.endswith(endings) for name in members)


_HDF5 = b"\x89HDF\r\n\x1a\n"
_LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."

_FROM_TORCH = (
    "state = torch.load(file), then numpy.savez('….npz', **{name: t.numpy() for name, t in state.items()}), "
    "or safetensors.torch.save_file(state, '….safetensors')"
)

KINDS = (
    Kind(
        "a torch checkpoint",
        lambda start, members: (
            start.startswith(_LEGACY_TORCH) or any(name.endswith("data.pkl") for name in members)
        ),
        _FROM_TORCH,
    ),
    Kind(
        "a Keras model",
        _has_member("model.weights.h5"),
        "write its weights with numpy.savez('….npz', **{w.path: w.numpy() for w in model.weights})",
    ),
    Kind("an .npz file", _has_member(".npy"), "rename it to ….npz"),
    Kind(
        "a zip archive without arrays",
        lambda start, members: bool(members),
        "write one with numpy.savez(file, **arrays)",
    ),
    Kind(
        "a single array (.npy)",
        _begins(b"\x93NUMPY"),
        "name it: numpy.savez('….npz', NAME=numpy.load(file))",
    ),
    Kind(
        "a MATLAB file (.mat)",
        _begins(b"MATLAB "),
        "arrays = scipy.io.loadmat(file), or h5py.File(file) for v7.3, then numpy.savez('….npz', w=…)",
    ),
    Kind(
        "an HDF5 file",
        _begins(_HDF5),
        "arrays = h5py.File(file), then numpy.savez('….npz', w=arrays['w'][()])",
    ),
    Kind(
        "a .safetensors file",
        lambda start, members: start[7:9] == b"\0{",
        "rename it to ….safetensors",
    ),
    Kind(
        "a pickle",
        _begins(b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"),
        "reading a pickle could run code; write its arrays with numpy.savez('….npz', **arrays)",
    ),
    Kind("a Git LFS pointer", _begins(b"version https://git-lfs"), "fetch the file with git lfs pull"),
    Kind("gzip-compressed", _begins(b"\x1f\x8b"), "unpack it with gunzip"),
)
"""The known kinds of files. A file is of the first kind that matches it."""
