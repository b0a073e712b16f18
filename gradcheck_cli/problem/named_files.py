"""Check that all files that a spec names exist, before reading any of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from gradcheck_cli.errors import Complaint, InputError, Location, did_you_mean_file
from gradcheck_cli.problem.fixed import LAYERS
from gradcheck_cli.spec.arrays import ArrayFile
from gradcheck_cli.spec.data import DataFile
from gradcheck_cli.spec.gradients import FromCode
from gradcheck_cli.spec.layers import in_order
from gradcheck_cli.spec.layers.fixed import ArrayInFile
from gradcheck_cli.spec.spec import Spec


def refuse_absent_files(spec: Spec) -> None:
    """Raise an `InputError` that lists every missing file that the spec names."""
    complaints = [
        Complaint(f"there is no file '{file}'", where, did_you_mean_file(file))
        for where, file in files_of(spec)
        if _is_absent(file)
    ]
    if complaints:
        raise InputError(*complaints)


def _is_absent(file: Path) -> bool:
    """Return whether the file is certainly missing. Other problems are reported when the file is read."""
    try:
        os.stat(file)
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    return False


def files_of(spec: Spec) -> Iterator[tuple[Location, Path]]:
    """Yield the place and the path of each file that the spec names."""
    for section, named in (
        ("parameters", spec.parameters),
        ("data", spec.data),
        ("gradients", spec.gradients),
    ):
        match named:
            case ArrayFile() | DataFile():
                yield (section, "file"), named.file
            case FromCode():
                yield named.where, named.code.file
    weights = spec.network.loss.sample_weight if spec.network else None
    if isinstance(weights, ArrayInFile):
        yield ("network", "loss", "sample_weight", "file"), weights.file
    for place, layer in in_order(spec.network.layers if spec.network else ()):
        for key, array in layer.fixed.items():
            if isinstance(array, ArrayInFile):
                yield (*LAYERS, *place, *key, "file"), array.file
