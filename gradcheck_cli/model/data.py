"""Where a batch comes from: an .npz, the spec itself, or a seeded generator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcheck_cli.errors import Complaint, InputError, Location, bad_input
from gradcheck_cli.model.arrays import read_npz
from gradcheck_cli.model.losses import Loss
from gradcheck_cli.model.special import Array
from gradcheck_cli.spec import MAX_NUMBERS, DataFile, InlineData, Rescale, SyntheticData


@dataclass(frozen=True)
class Batch:
    """x (N, inputs) and y as given: labels (N,), or targets (N,) or (N, C)."""

    x: Array
    y: Array


def read_batch(data: DataFile | InlineData | SyntheticData, inputs: int, outputs: int, loss: Loss) -> Batch:
    """The samples of the spec, x rescaled. Raises `InputError` at the place in the spec."""
    batch = _READERS[type(data)](data, inputs, outputs, loss)
    where: Location = ("data", "file") if isinstance(data, DataFile) else ("data", "x")
    if batch.x.ndim != 2 or batch.x.shape[1] != inputs:
        raise bad_input(
            f"x has shape {list(batch.x.shape)}; with {inputs} inputs [samples, {inputs}] is needed",
            *where,
        )
    if not len(batch.x):
        raise bad_input("there are no samples in x", *where)
    if len(batch.x) != len(batch.y):
        raise bad_input(f"x has {len(batch.x)} samples and y has {len(batch.y)}", *where)
    for name, array in (("x", batch.x), ("y", batch.y)):
        if not np.isfinite(array).all():
            at = [int(i) for i in np.argwhere(~np.isfinite(array))[0]]
            raise bad_input(f"{name}{at} is {array[tuple(at)]}; finite numbers are needed", *where)
    return batch


def _from_file(data: DataFile, inputs: int, outputs: int, loss: Loss) -> Batch:
    where = ("data", "file")
    arrays = read_npz(data.file, where, [data.x, data.y])
    x, y = arrays[data.x], arrays[data.y]
    for name, array in ((data.x, x), (data.y, y)):
        if array.ndim == 0:
            raise bad_input(f"array '{name}' of {data.file.name} is a single number, not a batch", *where)
    if len(x) != len(y):
        raise bad_input(f"'{data.x}' has {len(x)} samples and '{data.y}' has {len(y)}", *where)
    stop = len(x) if data.batch is None else data.start + data.batch
    if data.start >= len(x) or stop > len(x):
        key = "start" if data.start >= len(x) else "batch"
        raise bad_input(
            f"{data.file.name} has {len(x)} samples; samples {data.start} to {stop - 1} were asked for",
            "data",
            key,
        )
    x, y = x[data.start : stop], y[data.start : stop]
    return Batch(_rescaled(x.reshape(len(x), -1).astype(np.float64), data.rescale), y)


def _inline(data: InlineData, inputs: int, outputs: int, loss: Loss) -> Batch:
    complaints = []
    for name in ("x", "y"):
        rows = getattr(data, name)
        for i, row in enumerate(rows):
            if isinstance(row, tuple) and len(row) != len(rows[0]):
                message = f"row {i} of {name} has {len(row)} numbers, row 0 has {len(rows[0])}"
                complaints.append(Complaint(message, ("data", name, i)))
    if complaints:
        raise InputError(*complaints)
    return Batch(
        _rescaled(np.array(data.x, dtype=np.float64), data.rescale), np.array(data.y, dtype=np.float64)
    )


def _synthetic(data: SyntheticData, inputs: int, outputs: int, loss: Loss) -> Batch:
    """x from the named distribution; y: labels, or values as widely spread as x."""
    if data.samples * max(inputs, outputs) > MAX_NUMBERS:
        raise bad_input(
            f"{data.samples:,} samples of {max(inputs, outputs):,} numbers are too many", "data", "samples"
        )
    rng = np.random.RandomState(data.seed)
    draw = rng.normal if data.synthetic == "normal" else lambda size: rng.uniform(-1.0, 1.0, size=size)
    x = data.scale * draw(size=(data.samples, inputs))
    if outputs > 1:
        return Batch(x, rng.randint(outputs, size=data.samples))
    return Batch(x, draw(size=(data.samples, 1)))


_READERS: dict[type, Callable[[Any, int, int, Loss], Batch]] = {
    DataFile: _from_file,
    InlineData: _inline,
    SyntheticData: _synthetic,
}


def _rescaled(x: Array, rescale: Rescale | None) -> Array:
    if rescale is None:
        return x
    (low, high), (to_low, to_high) = rescale.source, rescale.target
    return to_low + (x - low) * ((to_high - to_low) / (high - low))


def one_target_per_output(y: Array, outputs: int, loss: Loss, where: Location) -> tuple[Array, Array | None]:
    """y as (N, C) numbers, and as labels (N,) if labels they are.

    A list of whole numbers is labels, unless there is a single output and the loss compares values.
    """
    if y.ndim == 2 and y.shape[1] == outputs and not (outputs == 1 and loss.target == "labels"):
        if loss.target == "labels":
            raise bad_input("this loss takes labels, one whole number per sample, not targets", *where)
        if loss.target == "distribution" and (y < 0).any():
            raise bad_input("y holds negative numbers; this loss takes labels or probabilities", *where)
        return y.astype(np.float64), None
    if y.ndim == 1 and outputs == 1 and loss.target == "values":
        return y.astype(np.float64)[:, None], None
    if y.ndim != 1:
        raise bad_input(
            f"y has shape {list(y.shape)}; labels [N] or targets [N, {outputs}] are needed", *where
        )
    labels = y.astype(np.int64) if np.abs(y).max() < 2**53 else y
    if (labels != y).any():
        i = int(np.flatnonzero(labels != y)[0])
        raise bad_input(
            f"y[{i}] is {y[i]}, no label; labels [N] or targets [N, {outputs}] are needed",
            *where,
            *_item(where, i),
        )
    outside = (labels < 0) | (labels >= outputs)
    if outside.any():
        i = int(np.flatnonzero(outside)[0])
        raise bad_input(
            f"y[{i}] is {labels[i]}, but there are {outputs} outputs: labels are 0 to {outputs - 1}",
            *where,
            *_item(where, i),
        )
    one_hot = np.zeros((len(y), outputs))
    one_hot[np.arange(len(y)), labels] = 1.0
    return one_hot, labels


def _item(where: Location, i: int) -> Location:
    """The item itself can be pointed at only where it stands in the spec."""
    return (i,) if where == ("data", "y") else ()
