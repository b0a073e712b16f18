"""Models for arrays that use their author's names and layout."""

from __future__ import annotations

from typing import Literal, get_args

from gradcheck_cli.spec.model import File, Model

Layout = Literal["out_in", "in_out"]

LAYOUTS: tuple[Layout, ...] = get_args(Layout)


class Named(Model):
    """Arrays that use their author's names and layout.

    names: Maps the author's parameter names to the network's (`fc1.weight: hidden1.weight`).
    layout: `out_in` for weights of shape [out, in], as in PyTorch; `in_out` for weights of shape [in, out].
    """

    names: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it
    layout: Layout = "out_in"


class ArrayFile(Named):
    """A file with one array per parameter: .npz, .safetensors, or a folder of .npy files.

    file: The file or folder, relative to the spec.
    names: Maps the file's parameter names to the network's (`fc1.weight: hidden1.weight`).
    layout: `out_in` for weights of shape [out, in], as in PyTorch; `in_out` for weights of shape [in, out].
    """

    file: File
