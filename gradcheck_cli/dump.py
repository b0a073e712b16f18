"""Write a spec's parameters, data and numerical gradients to array files that any language can read."""

from __future__ import annotations

import errno
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from gradcheck_cli.arrays.named_arrays import Dialect
from gradcheck_cli.code.sources import with_own_inputs
from gradcheck_cli.errors import Complaint, InputError, bad_input, shortened
from gradcheck_cli.files.output import Output
from gradcheck_cli.gradients.array_file import factor_shapes
from gradcheck_cli.network.shifted import INPUTS
from gradcheck_cli.numerical.estimate import Progress
from gradcheck_cli.numerical.reference import UnitDifferences
from gradcheck_cli.numerical.schemes import SCHEMES
from gradcheck_cli.problem.data import Batch, one_target_per_output
from gradcheck_cli.problem.problem import Problem, build_problem
from gradcheck_cli.spec.gradients import GradientFile
from gradcheck_cli.spec.spec import Spec
from gradcheck_cli.types import Array


@np.errstate(all="ignore")  # input that is not finite is refused; a gradient that is not finite is dumped
def dump(spec: Spec, progress: Progress | None = None) -> dict[str, Array]:
    """Return the arrays to dump for a spec, by name.

    For N samples and C outputs, these are:

    - each parameter, under its own name;
    - `x`, (N, inputs);
    - `y`: the labels as int64, (N,), or, if there are no labels, the targets as the spec gives them;
    - `target`: the targets with which the loss compares the output, (N, C);
    - `loss`: the loss, a scalar;
    - for each layer with a mask, `LAYER.mask` of dropout, which multiplies x; `LAYER.attn_mask`, which is
      added to the scores of attention; and `LAYER.key_padding_mask`, (N, tokens), with 1 for padding;
    - for each checked parameter, the numerical gradient, `numerical.NAME`, and its error bars, `error.NAME`;
      an entry on a kink has the value NaN and the error bar inf;
    - with `check: {inputs: true}`, the same for ∂L/∂x: `numerical.input` and `error.input`.

    Parameters, `x` and targets have the spec's dtype, labels are int64, and everything else is float64.

    If the spec's gradients come from a file, parameters have the names and the layout of that file, but the
    file need not exist. Raises an `InputError` if the spec does not fit its data.
    """
    problem = build_problem(*with_own_inputs(spec))
    dialect = _dialect(spec, problem)
    held = {name: array.astype(problem.dtype) for name, array in problem.parameters.items()}
    objective = problem.with_shifts(problem.checked_values).objective
    units = UnitDifferences(objective, SCHEMES[spec.check.scheme], spec.check.step, progress)
    numerical = units.estimate_by_whole_ladder((*problem.checked, *problem.checked_values))
    return _merged(
        dialect.theirs(held),
        _batch(problem),
        _masks(problem),
        _prefixed("numerical", dialect.theirs({name: e.value for name, e in numerical.items()})),
        _prefixed("error", dialect.theirs({name: e.error for name, e in numerical.items()})),
    )


def _dialect(spec: Spec, problem: Problem) -> Dialect:
    """Return the names and layout of the spec's gradient file or, without such a file, gradcheck's own."""
    source = spec.gradients if isinstance(spec.gradients, GradientFile) else GradientFile(file=Path())
    dialect = Dialect(source, "gradients")
    dialect.refuse_unfit({**problem.network.shapes, INPUTS: (), **factor_shapes(problem)})
    return dialect


def _batch(problem: Problem) -> dict[str, Array]:
    given = Batch(problem.x, problem.y)
    _, labels = one_target_per_output(given, problem.network.outputs, problem.network.loss, ("data",))
    return {
        "x": problem.x.astype(problem.dtype),
        "y": problem.y.astype(problem.dtype) if labels is None else labels,
        "target": problem.network.loss.plain(problem.target).astype(problem.dtype),
        **_weights(problem),
        "loss": np.array(problem.objective.total, dtype=np.float64),
    }


def _weights(problem: Problem) -> dict[str, Array]:
    """Return the weights of the samples, (N,), if they are not part of the target."""
    if not problem.network.loss.has_weights or problem.sample_weight is None:
        return {}
    return {"sample_weight": problem.sample_weight.reshape(-1).astype(problem.dtype)}


def _masks(problem: Problem) -> dict[str, Array]:
    """Return the masks of all layers, as `LAYER.mask`, `LAYER.attn_mask` and `LAYER.key_padding_mask`."""
    masks: dict[str, Array] = {}
    for node in problem.network.graph.nodes:
        inputs = tuple(problem.objective.values[k] for k in node.inputs)
        for key, mask in node.step.masks(inputs).items():
            name = f"{node.layer}.{key}"
            masks[name] = masks[name] + mask if name in masks else mask
    return {name: mask.astype(problem.dtype) for name, mask in masks.items()}


def _prefixed(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {f"{prefix}.{name}": array for name, array in arrays.items()}


def _merged(*groups: Mapping[str, Array]) -> dict[str, Array]:
    """Return all groups of arrays merged into one dict.

    Raises an `InputError` if a parameter has a name that the dump itself uses.
    """
    merged: dict[str, Array] = {}
    for group in groups:
        taken = [name for name in group if name in merged]
        if taken:
            message = f"a parameter cannot be named '{shortened(taken[0])}': the dump uses that name"
            raise bad_input(message, "gradients", "names", taken[0])
        merged |= group
    return merged


# --- files -------------------------------------------------------------------------------------------------


_OTHER_FILES = (".npy", ".safetensors", ".pt", ".pth", ".h5", ".hdf5", ".json", ".csv", ".zip", ".yaml")
"""File suffixes that are not accepted in the name of a new folder."""


def refuse_taken(output: Output, force: bool = False) -> None:
    """Raise an `InputError` if the output exists and must not be overwritten, or cannot be written."""
    target = output.target
    into_one, folder = _is_npz(output), os.path.isdir(target)
    if not into_one and not folder and os.path.exists(target):
        raise output.refused("is a file; a folder or an .npz file is needed")
    if Path(output.path).suffix in _OTHER_FILES and not folder:
        raise output.refused("would become a folder of that name", "choose an .npz file, or a folder")
    if into_one:
        output.refuse_file("an .npz file is needed")
    if not force and (_is_filled(output) if folder else os.path.exists(target)):
        what = "is not an empty folder" if folder else "already exists; not overwritten"
        raise output.refused(what, "--force overwrites files with the same names")
    if not into_one:
        output.refuse_unwritable()


def write(arrays: Mapping[str, Array], output: Output, force: bool = False) -> None:
    """Write all arrays, or none, to an .npz file or to a folder with one .npy file per array.

    force: whether to overwrite files with the same names.

    Raises an `InputError` if the arrays cannot be written.
    """
    refuse_taken(output, force)
    into_one = _is_npz(output)
    _refuse_impossible(arrays, output, into_one)
    with output.whole() as new, _short_writes():
        (_write_npz if into_one else _write_folder)(arrays, new)


@contextmanager
def _short_writes() -> Iterator[None]:
    """Add an error number and a reason to any error that numpy raises without a number and a reason."""
    try:
        yield
    except OSError as error:
        if error.strerror:
            raise
        raise OSError(errno.ENOSPC, f"no space left on the disk? ({error})") from None


def _write_npz(arrays: Mapping[str, Array], file: Path) -> None:
    """Write the arrays like `numpy.savez`, but also accept an array named `file`."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)


def _write_folder(arrays: Mapping[str, Array], folder: Path) -> None:
    folder.mkdir()
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)


def _refuse_impossible(names: Iterable[str], output: Output, into_one: bool) -> None:
    """Raise an `InputError` for array names that are not valid as file names.

    into_one: whether the files go into one .npz file, in which names may contain slashes.
    """
    impossible = "\0" if into_one else "\0/\\"
    complaints = [
        Complaint(
            f"{output.option}: '{shortened(name)}' is not a valid file name",
            help=None if into_one else "write an .npz file, where names may have slashes",
        )
        for name in names
        if not set(impossible).isdisjoint(name)
    ]
    if complaints:
        raise InputError(*complaints)


def _is_npz(output: Output) -> bool:
    return Path(output.path).suffix == ".npz"


def _is_filled(folder: Output) -> bool:
    try:
        return bool(os.listdir(folder.target))
    except OSError as error:
        raise folder.refused(f"cannot be read: {error.strerror or error}") from None
