"""The part of a value that a perturbation changes, while all else stays as it is at rest.

A perturbed number changes one number of the next values, or one row of them, long before it changes all. A
step computes the part of its output that changes (`Step.part`) from the changed parts of its inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from typing import Any

import numpy as np

from gradcheck_cli.types import Array, Shape

Fixed = tuple[Array | None, ...]
"""Which numbers of a sample a part holds: for each axis an index for every copy, (B,), or None for all."""


@dataclass(frozen=True)
class Resting:
    """A value at rest (N, *features), as B copies of samples see it.

    samples: the sample of each copy, (B,).
    """

    value: Array
    samples: Array

    @property
    def features(self) -> Shape:
        return self.value.shape[1:]

    @cached_property
    def copies(self) -> Array:
        return np.arange(len(self.samples))

    @property
    def all(self) -> Fixed:
        """The `Fixed` of a part that holds whole samples."""
        return (None,) * len(self.features)

    def at(self, fixed: Fixed) -> Array:
        """Return a copy of these numbers, (B, *free)."""
        found: Array = self.value[(self.samples, *_index(fixed))]
        return found

    @property
    def whole(self) -> Array:
        return self.at(self.all)


@dataclass(frozen=True)
class Part:
    """Perturbed numbers of a value in B copies of samples; all other numbers are as at rest.

    value: the numbers, (B, *free), with the axes that `fixed` leaves free.
    """

    rest: Resting
    fixed: Fixed
    value: Array

    @property
    def free(self) -> tuple[int, ...]:
        """The axes that are not fixed."""
        return tuple(axis for axis, index in enumerate(self.fixed) if index is None)

    @property
    def rise(self) -> Array:
        """The change of the numbers."""
        risen: Array = self.value - self.rest.at(self.fixed)
        return risen

    @property
    def whole(self) -> Array:
        """The copies of the whole samples, (B, *features)."""
        return self.freed(range(len(self.fixed))).value

    def freed(self, axes: Collection[int]) -> Part:
        """Return the part with all numbers along these axes."""
        changed = [axis in axes and index is not None for axis, index in enumerate(self.fixed)]
        if not any(changed):
            return self
        fixed = tuple(None if free else index for index, free in zip(self.fixed, changed, strict=True))
        value = self.rest.at(fixed).astype(self.value.dtype, copy=False)
        inner = compress(self.fixed, (index is None for index in fixed))
        value[(self.rest.copies, *_index(tuple(inner)))] = self.value
        return Part(self.rest, fixed, value)

    def along(self, axis: int) -> int:
        """Return the axis of `value` that a free axis has become."""
        return 1 + self.free.index(axis)

    def of(self, array: Array) -> Array:
        """Return the same numbers of an array that broadcasts to (*features), broadcastable to `value`."""
        spread = array.reshape((1,) * (1 + len(self.fixed) - array.ndim) + array.shape)
        fixed = [
            0 if index is not None and size == 1 else index
            for index, size in zip(self.fixed, spread.shape[1:], strict=True)
        ]
        found: Array = spread[(0, *_index(fixed))]  # with the 0, numpy puts the copies first
        return found


Input = Part | Resting
"""An input of a step: what is perturbed of it, or nothing."""


def _index(fixed: Sequence[Array | int | None]) -> tuple[Any, ...]:
    return tuple(slice(None) if index is None else index for index in fixed)


def aligned(inputs: Sequence[Input]) -> tuple[Fixed, list[Array]]:
    """Return the same numbers of inputs of one shape: those that are perturbed in any of them."""
    parts = [each for each in inputs if isinstance(each, Part)]
    first, *others = parts
    differ = [axis for axis in range(len(first.fixed)) if not _equal(axis, first, others)]
    fixed = first.freed(differ).fixed
    return fixed, [each.freed(differ).value if isinstance(each, Part) else each.at(fixed) for each in inputs]


def _equal(axis: int, first: Part, others: Sequence[Part]) -> bool:
    """Return whether this axis is free in all parts, or fixed at the same indices."""
    return all(_same(first.fixed[axis], each.fixed[axis]) for each in others)


def _same(one: Array | None, other: Array | None) -> bool:
    if one is None or other is None:
        return one is other
    return one is other or np.array_equal(one, other)


def elementwise(forward: Callable[..., Array], inputs: Sequence[Input], output: Resting) -> Part:
    """Return the part of the output of a step that maps each number on its own, by the same function."""
    fixed, values = aligned(inputs)
    return Part(output, fixed, forward(*values))


def only(inputs: Sequence[Input]) -> Part:
    """Return the part of a step's only input."""
    (x,) = inputs
    assert isinstance(x, Part), "nothing is perturbed"
    return x


def taken(x: Part, inside: Array, output: Resting, fixed: Fixed) -> Part | None:
    """Return the part of an output that copies some of the numbers of x; None if it copies no perturbed one.

    inside: whether a copy's numbers are among those that are copied, (B,).  fixed: where they go.
    """
    if not inside.any():
        return None
    if inside.all():
        return Part(output, fixed, x.value)
    mask = inside.reshape(-1, *(1,) * (x.value.ndim - 1))
    return Part(output, fixed, np.where(mask, x.value, output.at(fixed)))


def reshaped(x: Part, output: Resting) -> Part:
    """Return the part of an output that has the numbers of x in another shape, in C order."""
    fixed: list[Array | None] = []
    for axes, sizes in _groups(x.rest.features, output.features):
        if any(x.fixed[axis] is None for axis in axes):
            x = x.freed(axes)
            fixed += [None] * len(sizes)
        else:
            place = _flat([x.fixed[axis] for axis in axes], [x.rest.features[axis] for axis in axes])
            fixed += np.unravel_index(place, sizes) if sizes else ()
    free = (size for size, index in zip(output.features, fixed, strict=True) if index is None)
    return Part(output, tuple(fixed), x.value.reshape(len(x.value), *free))


def _flat(indices: Sequence[Array | None], sizes: Sequence[int]) -> Array:
    """Return the index in C order of these indices along axes of these sizes."""
    place: Any = 0
    for index, size in zip(indices, sizes, strict=True):
        place = place * size + index
    return np.asarray(place)


def _groups(before: Shape, after: Shape) -> Iterator[tuple[range, Shape]]:
    """Yield the smallest groups of axes of one shape that a reshape turns into axes of the other.

    Each is a range of axes before, with the sizes of the axes after.
    """
    i = j = 0
    while i < len(before) or j < len(after):
        start, first, numbers, reached = i, j, 1, 1
        while i == start or j == first or numbers != reached:
            if j == len(after) or (i < len(before) and numbers <= reached):
                numbers, i = numbers * before[i], i + 1
            else:
                reached, j = reached * after[j], j + 1
            if i == len(before) and j == len(after):
                break
        yield range(start, i), after[first:j]
