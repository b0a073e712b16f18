"""Read gradients from a source: an array file, or a spec whose gradients are computed or read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gradcheck_cli.arrays.named_arrays import read_array_file
from gradcheck_cli.errors import Complaint, InputError
from gradcheck_cli.gradients.analytic import dtype_of
from gradcheck_cli.spec.spec import Spec
from gradcheck_cli.subject.load import subject_of
from gradcheck_cli.types import Array

_LOSS = "loss"
"""The name under which a file of gradients may hold the loss, which is not a gradient."""


@dataclass(frozen=True)
class Source:
    """Gradients by name, and the type in which each gradient was computed."""

    name: str
    values: Mapping[str, Array]
    dtypes: Mapping[str, np.dtype[Any]]

    def only(self, names: Collection[str]) -> Source:
        """Return a source that contains only the gradients `names`."""
        return replace(self, values={name: array for name, array in self.values.items() if name in names})


def of_file(file: str) -> Source:
    """Return the gradients in an .npz file, a .safetensors file or a folder of .npy files.

    Raises an `InputError` on failure.
    """
    arrays = {name: array for name, array in read_array_file(Path(file), ()).items() if name != _LOSS}
    return Source(file, arrays, {name: dtype_of(array) for name, array in arrays.items()})


@np.errstate(all="ignore")  # gradients that are not finite get a verdict, not a warning
def of_spec(name: str, spec: Spec) -> Source:
    """Return the gradients that a spec checks, in their original types. Raises an `InputError` on failure."""
    analytic = subject_of(spec).analytic
    return Source(name, analytic.values, analytic.dtypes)


def renamed(source: Source, names: Mapping[str, str]) -> Source:
    """Return the source with other names for some of its arrays. Raises `InputError` for an unknown name."""
    if unknown := [name for name in names if name not in source.values]:
        raise InputError(*(Complaint(f"{source.name} has no '{name}'") for name in unknown))
    values = {names.get(name, name): array for name, array in source.values.items()}
    return Source(source.name, values, {names.get(name, name): d for name, d in source.dtypes.items()})
