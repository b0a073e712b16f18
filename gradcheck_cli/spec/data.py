"""The data section of a spec."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from gradcheck_cli.spec.model import File, Index, Kinds, Model, Positive, Seed, Size, by_key


def _not_empty(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] == ends[1]:
        raise PydanticCustomError("empty_interval", "the interval is empty: both ends are the same")
    return ends


class Rescale(Model):
    """A linear rescaling of x that maps the range `from` to the range `to`.

    from: The range of x in the file or list, such as [0, 255].
    to: The range of x after rescaling, such as [-1, 1].
    """

    source: Annotated[tuple[float, float], Field(strict=False, alias="from"), AfterValidator(_not_empty)]
    target: Annotated[tuple[float, float], Field(strict=False, alias="to")]


class DataFile(Model):
    """A batch from an .npz file that contains the arrays `x` [samples, …] and `y` (labels or targets).

    file: The .npz file, relative to the spec.
    x: The name of the array of samples.
    y: The name of the array of labels or targets. For an autoencoder, give the name of x. The targets are
        then rescaled, too.
    start: The index of the first sample, counted from 0.
    batch: The number of samples. By default, all samples from `start` on.
    rescale: A linear rescaling of x.
    """

    file: File
    x: str = "x"
    y: str = "y"
    start: Index = 0
    batch: Size | None = None
    rescale: Rescale | None = None


_Row = Annotated[tuple[float, ...], Field(strict=False, min_length=1)]

_Rows = Annotated[tuple[_Row, ...], Field(strict=False, min_length=1)]


def _kind_of_y(value: object) -> str:
    rows = isinstance(value, (list, tuple)) and any(isinstance(row, (list, tuple)) for row in value)
    return "rows of targets" if rows else "labels or targets"


class InlineData(Model):
    """Samples written out in the spec.

    x: A list of rows, one per sample.
    y: A list of labels, of targets, or of rows of targets.
    rescale: A linear rescaling of x.
    """

    x: _Rows
    y: Annotated[_Rows | _Row, Kinds({"rows of targets": _Rows, "labels or targets": _Row}, _kind_of_y)]
    rescale: Rescale | None = None


class SyntheticData(Model):
    """Random samples with y drawn to suit the loss.

    synthetic: The kind of x. `normal` and `uniform` are random numbers of any shape. `images` [channels,
        height, width] are soft blobs in 17 grey levels from 0 to scale. `sequences` [steps, features] are
        sines. `tokens` suit an embedding: some are frequent and others rare, as in a text.
    samples: The number of samples.
    scale: The standard deviation of a normal x; a uniform x lies between −scale and scale.
    seed: The seed of the random number generator.
    """

    synthetic: Literal["normal", "uniform", "images", "sequences", "tokens"]
    samples: Size = 16
    scale: Positive = 1.0
    seed: Seed = 0


Data = Annotated[
    DataFile | SyntheticData | InlineData,
    by_key({"file": DataFile, "synthetic": SyntheticData, "x": InlineData}),
]
