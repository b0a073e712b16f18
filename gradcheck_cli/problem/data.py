"""Read a batch of samples from an .npz file or from the spec, or draw it with a seeded generator."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck_cli.errors import Complaint, InputError, Location, bad_input, did_you_mean
from gradcheck_cli.network.loss import Loss
from gradcheck_cli.problem.synthetic import Needed, draw
from gradcheck_cli.spec.data import Data, DataFile, InlineData, Rescale, SyntheticData
from gradcheck_cli.spec.model import MAX_NUMBERS
from gradcheck_cli.types import Array, Shape

if TYPE_CHECKING:
    from gradcheck_cli.arrays.stored import Header


@dataclass(frozen=True)
class Batch:
    """The N samples of a check.

    x: the inputs, (N, inputs).
    y: labels, (N, *positions), or targets, (N, *outputs) or (N,), as they are in the file or the spec.
    first: the index of the batch's first sample in the file.
    """

    x: Array
    y: Array
    first: int = 0


def read_arrays(data: Data) -> tuple[Array, Array]:
    """Return x and y in any shape, for the user's code to interpret. x is rescaled if the spec asks for it.

    Raises an `InputError` for synthetic data, which need a network.
    """
    if isinstance(data, SyntheticData):
        raise bad_input("synthetic data need a network section, which gives the number of inputs", "data")
    if isinstance(data, InlineData):
        batch = _inline(data)
        return batch.x, batch.y
    x, y = _sliced(data)
    if data.rescale is None:
        return x, y
    rescaled = _rescaled(x.astype(np.float64), data.rescale)
    return rescaled, rescaled if data.y == data.x else y


def read_batch(data: Data, needed: Needed) -> Batch:
    """Return the samples that the spec asks for.

    x has one row of numbers per sample, and is rescaled if the spec asks for it. Raises an `InputError` that
    points at the offending place in the spec if the data do not fit the network.
    """
    with np.errstate(all="ignore"):  # overflow is refused below
        batch = _READERS[type(data)](data, needed)
    x, y = batch.x, batch.y
    where: Location = ("data", "file") if isinstance(data, DataFile) else ("data", "x")
    _refuse_width(x.shape, needed.inputs, where)
    if len(x) != len(y):
        raise bad_input(f"x has {len(x)} samples, but y has {len(y)}", *where)
    _refuse_infinite("x", batch, x, place_of(data, "x"))
    _refuse_infinite("y", batch, y, place_of(data, "y"))
    if needed.tokens:
        _refuse_other_than_tokens(batch, needed.tokens, place_of(data, "x"))
    return batch


def _refuse_other_than_tokens(batch: Batch, tokens: int, where: Location) -> None:
    outside = (batch.x != np.floor(batch.x)) | (batch.x < 0) | (batch.x >= tokens)
    if outside.any():
        sample, position = (int(i) for i in np.argwhere(outside)[0])
        found = f"x[{batch.first + sample}, {position}] is {batch.x[sample, position]:g}"
        raise bad_input(f"{found}, not a token; the embedding has tokens 0 to {tokens - 1}", *where)


def _refuse_width(shape: tuple[int, ...], inputs: int, where: Location) -> None:
    if len(shape) != 2 or shape[1] != inputs:
        message = f"x has shape {list(shape)}; {inputs} inputs need [samples, {inputs}]"
        turned = len(shape) == 2 and shape[0] == inputs
        raise bad_input(message, *where, help=_turned("x") if turned else None)


def place_of(data: Data, name: str) -> Location:
    """Return the place in the spec that defines an array. The array's name is `x` or `y`."""
    if isinstance(data, DataFile):
        return ("data", "file")
    return ("data", name) if isinstance(data, InlineData) else ("data", "scale")


def _refuse_infinite(name: str, batch: Batch, array: Array, where: Location) -> None:
    finite = np.isfinite(array)
    if not finite.all():
        sample, *rest = (int(i) for i in np.argwhere(~finite)[0])
        place, found = f"{name}{[batch.first + sample, *rest]}", array[(sample, *rest)]
        raise bad_input(f"{place} is {found}; finite numbers are needed", *where)


def _sliced(data: DataFile, needed: Needed | None = None) -> tuple[Array, Array]:
    """Return the samples that the spec asks for, as arrays x and y from the file.

    needed: the data that the network needs; None without a network.
    """
    from gradcheck_cli.arrays.npy import read_npz  # only a spec that names a file needs it

    named = {data.x: _key_or_file(data, "x"), data.y: _key_or_file(data, "y")}
    arrays = read_npz(
        data.file, _FILE, named, lambda headers: _refuse_unfit(data, headers, needed), _key_to_say
    )
    x, y = arrays[data.x], arrays[data.y]
    samples = _samples(data, len(x))
    return x[samples], y[samples]


def _key_or_file(data: DataFile, key: str) -> Location:
    """Return the place in the spec that names an array: `key` if the spec sets it, otherwise the file."""
    return ("data", key) if key in data.model_fields_set else _FILE


_FILE: Location = ("data", "file")


def _refuse_unfit(data: DataFile, headers: Mapping[str, Header], needed: Needed | None) -> None:
    """Raise an `InputError` if the headers of the arrays alone show that the batch cannot be used."""
    x, y = headers[data.x].shape, headers[data.y].shape
    for name, shape in ((data.x, x), (data.y, y)):
        if not shape:
            raise bad_input(f"array '{name}' of {data.file.name} is a single number, not a batch", *_FILE)
    if x[0] != y[0]:
        message = f"'{data.x}' has {x[0]} samples, but '{data.y}' has {y[0]}"
        turned = len(x) == 2 and x[1] == y[-1]
        raise bad_input(message, *_FILE, help=_turned(data.x) if turned else None)
    samples = _samples(data, x[0])
    count = samples.stop - samples.start
    largest = count * max(math.prod(x[1:]), math.prod(y[1:]))
    if largest > MAX_NUMBERS:
        message = f"a batch of {largest:,} numbers is over the limit of {MAX_NUMBERS:,}"
        raise bad_input(message, "data", "batch", help="check a smaller batch")
    if needed is not None:
        _refuse_width((count, math.prod(x[1:])), needed.inputs, _FILE)
        _refuse_other_order(data.x, x, needed.features)


def _refuse_other_order(name: str, shape: Shape, features: Shape) -> None:
    """Raise an `InputError` if the axes of the samples are in another order, such as channels last."""
    sizes, theirs = tuple(n for n in features if n > 1), tuple(n for n in shape[1:] if n > 1)
    if sizes == theirs or sorted(sizes) != sorted(theirs):
        return
    order = [0, *(1 + axis for axis in _order(shape[1:], features))]
    found = f"'{name}' has samples of shape {list(shape[1:])}, but the network's inputs are {list(features)}"
    raise bad_input(found, *_FILE, help=f"store {name}.transpose{tuple(order)}, or change 'inputs'")


def _order(shape: Shape, features: Shape) -> list[int]:
    """Return the axes of `shape`, ordered so that their sizes match `features`."""
    left = list(range(len(shape)))
    order = []
    for size in features:
        axis = next((axis for axis in left if shape[axis] == size), None)
        if axis is not None:
            left.remove(axis)
            order.append(axis)
    return [*order, *left]


_USUAL = {"x": ("x", "input", "feature", "image"), "y": ("y", "label", "target")}
"""Common prefixes of the names that people give to the two arrays of a batch."""


def _key_to_say(name: str, held: Collection[str]) -> str | None:
    """Return the help for a missing array: the key to set under `data`, or a similar name in the file.

    held: the names of the arrays in the file.
    """
    if name not in _USUAL:
        return did_you_mean(name, held)
    likely = [each for each in held if each.lower().startswith(_USUAL[name])]
    return f"under 'data', give its name: {name}: {likely[0] if len(likely) == 1 else 'NAME'}"


def _turned(name: str) -> str:
    """Return the help for an array that is stored as [features, samples], as in some textbooks."""
    return f"'{name}' seems to be [features, samples]; store its .T, with one row per sample"


def _from_file(data: DataFile, needed: Needed) -> Batch:
    x, y = _sliced(data, needed)
    rescaled = _rescaled(x.reshape(len(x), -1).astype(np.float64), data.rescale)
    if data.y == data.x:  # an autoencoder's targets are its inputs
        return Batch(rescaled, rescaled, data.start)
    return Batch(rescaled, y.astype(np.float64) if y.dtype.kind == "f" else y, data.start)


def _samples(data: DataFile, held: int) -> slice:
    """Return the slice of the samples that the spec asks for.

    Raises an `InputError` if the file has too few samples.

    held: the number of samples in the file.
    """
    name = data.file.name
    if not held:
        raise bad_input(f"there are no samples in {name}", "data", "file")
    if data.start >= held:
        raise bad_input(f"{name} has {held} samples, so start is at most {held - 1}", "data", "start")
    stop = held if data.batch is None else data.start + data.batch
    if stop > held:
        message = f"{name} has {held} samples; samples {data.start} to {stop - 1} were requested"
        raise bad_input(message, "data", "batch")
    return slice(data.start, stop)


def _inline(data: InlineData, needed: Needed | None = None) -> Batch:
    complaints = []
    for name in ("x", "y"):
        rows = getattr(data, name)
        for i, row in enumerate(rows):
            if isinstance(row, tuple) and len(row) != len(rows[0]):
                message = f"row {i} of {name} has {len(row)} numbers, but row 0 has {len(rows[0])}"
                complaints.append(Complaint(message, ("data", name, i)))
    if complaints:
        raise InputError(*complaints)
    return Batch(
        _rescaled(np.array(data.x, dtype=np.float64), data.rescale), np.array(data.y, dtype=np.float64)
    )


def _synthetic(data: SyntheticData, needed: Needed) -> Batch:
    return Batch(*draw(data, needed))


_READERS: dict[type, Callable[[Any, Needed], Batch]] = {
    DataFile: _from_file,
    InlineData: _inline,
    SyntheticData: _synthetic,
}


def _rescaled(x: Array, rescale: Rescale | None) -> Array:
    if rescale is None:
        return x
    (low, high), (to_low, to_high) = rescale.source, rescale.target
    width = high - low
    rescaled = to_low + (x - low) * ((to_high - to_low) / width)
    if math.isinf(width) or (np.isfinite(x).all() and not np.isfinite(rescaled).all()):
        raise bad_input("x is not finite after rescaling", "data", "rescale")
    return rescaled


def one_target_per_output(
    batch: Batch, outputs: Shape, loss: Loss, where: Location
) -> tuple[Array, Array | None]:
    """Return the targets, (N, *positions, C), and the class labels in y, (N, *positions), for N samples.

    A y of shape (N, *positions) holds labels, unless there is only C = 1 output and the loss takes targets.
    Labels become one-hot targets; a label that the loss ignores becomes a target of 0. If y holds no labels,
    the labels are None.

    outputs: the shape of one sample of the output, (*positions, C).
    where: the place in the spec that errors point at.
    """
    y, (*positions, units) = batch.y, outputs
    if loss.target == "nothing":
        return np.zeros((len(y), *outputs)), None
    if loss.target == "pairs":
        alike, _ = _labels(batch, (*positions, 2), loss, where)
        return np.repeat(alike.astype(np.float64)[..., None], units, axis=-1), None
    if loss.target == "first vector":
        return _of_first_vector(batch, outputs, loss, where), None
    if positions and y.shape[1:] == (math.prod(outputs),) != (*positions,):  # inline rows are flat
        y = y.reshape(-1, *outputs)
    if y.shape[1:] == outputs and loss.target != "labels":
        if loss.target == "distribution" and (y < 0).any():
            raise bad_input("y holds negative numbers; this loss takes labels or probabilities", *where)
        return y.astype(np.float64), None
    if y.shape[1:] == (*positions,) and units == 1 and not loss.takes_labels:
        return y.astype(np.float64)[..., None], None
    labels, counted = _labels(batch, outputs, loss, where)
    one_hot = np.eye(units)[np.where(counted, labels, 0)]
    return np.where(counted[..., None], one_hot, 0.0), labels


def _of_first_vector(batch: Batch, outputs: Shape, loss: Loss, where: Location) -> Array:
    """Return the targets of a loss whose y has a number for each entry of a vector of outputs.

    The targets of N samples have the shape (N, *positions, C), where the C outputs consist of several
    vectors. Each vector gets a copy of y.
    """
    count = len(loss.vectors)
    shape = (*outputs[:-1], outputs[-1] // count)
    y = batch.y[:, None] if batch.y.ndim == 1 and shape == (1,) else batch.y
    if y.shape[1:] not in (shape, (math.prod(shape),)):
        needed = ", ".join(map(str, shape))
        message = (
            f"y has shape {list(y.shape)}; targets [N, {needed}], one for each entry of "
            f"'{loss.vectors[0]}', are needed"
        )
        raise bad_input(message, *where)
    return np.concatenate([y.reshape(-1, *shape).astype(np.float64)] * count, axis=-1)


def _labels(batch: Batch, outputs: Shape, loss: Loss, where: Location) -> tuple[Array, Array]:
    """Return the labels in y as integers, (N, *positions), and a mask of the labels that the loss counts.

    N is the number of samples. Raises an `InputError` if y has another shape, or holds anything but labels of
    classes.
    """
    y, (*positions, classes), needed = batch.y, outputs, _needed(outputs, loss)
    if y.shape[1:] != (*positions,):
        help = "store its .ravel()" if y.ndim == 2 and 1 in y.shape and not positions else None
        raise bad_input(f"y has shape {list(y.shape)}; {needed}", *where, help=help)
    labels = y.astype(np.int64) if float(np.abs(y).max()) < 2**53 else y
    if (labels != y).any():
        place, number, i = _first(batch, labels != y)
        raise bad_input(f"{place} is {number}, not a label; {needed}", *where, *_item(where, i))
    counted = ~np.isin(labels, loss.ignored)
    outside = counted & ((labels < 0) | (labels >= classes))
    if outside.any():
        place, _, i = _first(batch, outside)
        message = f"{place} is {labels[outside][0]}, but {_allowed(classes, loss)}"
        raise bad_input(message, *where, *_item(where, i))
    return labels, counted


def _first(batch: Batch, marked: Array) -> tuple[str, Any, int]:
    """Return the first marked entry of y: its position as text, the entry itself, and its sample's index."""
    sample, *rest = (int(i) for i in np.argwhere(marked)[0])
    place = ", ".join(str(i) for i in (batch.first + sample, *rest))
    return f"y[{place}]", batch.y[(sample, *rest)], sample


def _allowed(classes: int, loss: Loss) -> str:
    if loss.target == "pairs":
        return "pair labels are 1 (similar) or 0 (dissimilar)"
    return f"there are {classes} outputs: labels are 0 to {classes - 1}"


def _needed(outputs: Shape, loss: Loss) -> str:
    positions = "".join(f", {size}" for size in outputs[:-1])
    each = "position" if positions else "sample"
    if loss.target == "pairs":
        return f"pair labels [N{positions}], 1 (similar) or 0 (dissimilar) for each {each}, are needed"
    labels = f"labels [N{positions}], one whole number per {each},"
    return (
        f"{labels} are needed"
        if loss.target == "labels"
        else f"{labels} or targets [N{positions}, {outputs[-1]}] are needed"
    )


def _item(where: Location, i: int) -> Location:
    """Return the end of sample `i`'s location: the index `i` for inline data, otherwise an empty tuple."""
    return (i,) if where == ("data", "y") else ()
