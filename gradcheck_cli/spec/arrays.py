"""Files of arrays with their author's names and layout."""

from __future__ import annotations

from typing import Literal, get_args

from gradcheck_cli.spec.model import File, Model

Layout = Literal["out_in", "in_out"]

LAYOUTS: tuple[Layout, ...] = get_args(Layout)


class Named(Model):
    """Arrays with their author's names and layout.

    names: The author's names for parameters, and the network's (`fc1.weight: hidden1.weight`).
    layout: `out_in` if the weights are [out, in], as in PyTorch; `in_out` if they are [in, out].
    """

    names: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it
    layout: Layout = "out_in"


class ArrayFile(Named):
    """A file of arrays by parameter name: an .npz, a .safetensors, or a folder of .npy.

    file: The file or folder, relative to the spec.
    names: The file's names for parameters, and the network's (`fc1.weight: hidden1.weight`).
    layout: `out_in` if the weights are [out, in], as in PyTorch; `in_out` if they are [in, out].
    """

    file: File
