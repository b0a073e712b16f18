"""The part of a value that a perturbation changes. All other elements of the value stay unperturbed.

A value is x or the output of a step. In the steps right after it, a perturbed element changes only one
element or one row; many steps later, it changes all elements. So each step computes only the part of its
output that changes (`Step.part`), from the parts of its inputs that change.
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
"""The position of a part's elements in a sample.

For each axis, it holds one index for each of B copies of samples, (B,), or None for all indices.
"""


@dataclass(frozen=True)
class Resting:
    """An unperturbed value, as seen by B copies of its samples.

    value: the unperturbed elements, (N, *features), for N samples.
    samples: the index of each copy's sample, (B,).
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
        """The position of a part that holds whole samples: None for every axis."""
        return (None,) * len(self.features)

    def at(self, fixed: Fixed) -> Array:
        """Return the unperturbed elements at the position `fixed` in each of the B copies, (B, *free).

        The axes after the first are those that `fixed` leaves free. The result is a new array.
        """
        found: Array = self.value[(self.samples, *_index(fixed))]
        return found

    @property
    def whole(self) -> Array:
        return self.at(self.all)


@dataclass(frozen=True)
class Part:
    """The perturbed elements of a value in B copies of samples. All other elements are unperturbed.

    rest: the unperturbed value.
    fixed: the position of the perturbed elements in each copy.
    value: the perturbed elements, (B, *free). Its axes after the first are those that `fixed` leaves free.
    """

    rest: Resting
    fixed: Fixed
    value: Array

    @property
    def free(self) -> tuple[int, ...]:
        """The axes of a sample along which the part holds all elements."""
        return tuple(axis for axis, index in enumerate(self.fixed) if index is None)

    @property
    def rise(self) -> Array:
        """The perturbed elements minus the unperturbed elements, with the shape of `value`."""
        risen: Array = self.value - self.rest.at(self.fixed)
        return risen

    @property
    def whole(self) -> Array:
        """All B copies of whole samples, perturbed elements included, (B, *features)."""
        return self.freed(range(len(self.fixed))).value

    def freed(self, axes: Collection[int]) -> Part:
        """Return the part, extended to all elements along `axes`. The additional elements are unperturbed."""
        changed = [axis in axes and index is not None for axis, index in enumerate(self.fixed)]
        if not any(changed):
            return self
        fixed = tuple(None if free else index for index, free in zip(self.fixed, changed, strict=True))
        value = self.rest.at(fixed).astype(self.value.dtype, copy=False)
        inner = compress(self.fixed, (index is None for index in fixed))
        value[(self.rest.copies, *_index(tuple(inner)))] = self.value
        return Part(self.rest, fixed, value)

    def along(self, axis: int) -> int:
        """Return the index that a free axis of a sample has in `value`."""
        return 1 + self.free.index(axis)

    def of(self, array: Array) -> Array:
        """Return the elements at the part's position in an array that broadcasts to (*features).

        The result broadcasts to `value`.
        """
        spread = array.reshape((1,) * (1 + len(self.fixed) - array.ndim) + array.shape)
        fixed = [
            0 if index is not None and size == 1 else index
            for index, size in zip(self.fixed, spread.shape[1:], strict=True)
        ]
        found: Array = spread[(0, *_index(fixed))]  # with the 0, numpy puts the copies first
        return found


Input = Part | Resting
"""An input of a step: its perturbed part, or the unperturbed value if no part of it is perturbed."""


def _index(fixed: Sequence[Array | int | None]) -> tuple[Any, ...]:
    return tuple(slice(None) if index is None else index for index in fixed)


def aligned(inputs: Sequence[Input]) -> tuple[Fixed, list[Array]]:
    """Return a position that covers all perturbed elements, and the elements of each input at that position.

    All inputs have the same shape, and at least one is perturbed.
    """
    parts = [each for each in inputs if isinstance(each, Part)]
    first, *others = parts
    differ = [axis for axis in range(len(first.fixed)) if not _equal(axis, first, others)]
    fixed = first.freed(differ).fixed
    return fixed, [each.freed(differ).value if isinstance(each, Part) else each.at(fixed) for each in inputs]


def _equal(axis: int, first: Part, others: Sequence[Part]) -> bool:
    """Return whether an axis is free in all parts, or fixed at the same indices in all parts."""
    return all(_same(first.fixed[axis], each.fixed[axis]) for each in others)


def _same(one: Array | None, other: Array | None) -> bool:
    if one is None or other is None:
        return one is other
    return one is other or np.array_equal(one, other)


def elementwise(forward: Callable[..., Array], inputs: Sequence[Input], output: Resting) -> Part:
    """Return the perturbed part of the output of an elementwise step."""
    fixed, values = aligned(inputs)
    return Part(output, fixed, forward(*values))


def only(inputs: Sequence[Input]) -> Part:
    """Return the perturbed part of a step's only input."""
    (x,) = inputs
    assert isinstance(x, Part), "nothing is perturbed"
    return x


def taken(x: Part, inside: Array, output: Resting, fixed: Fixed) -> Part | None:
    """Return the perturbed part of an output that takes over some of the elements of x.

    Returns None if the output takes over no perturbed element.

    inside: for each of B copies of samples, whether the output takes over the copy's perturbed elements,
        (B,).
    fixed: the position of these elements in the output.
    """
    if not inside.any():
        return None
    if inside.all():
        return Part(output, fixed, x.value)
    mask = inside.reshape(-1, *(1,) * (x.value.ndim - 1))
    return Part(output, fixed, np.where(mask, x.value, output.at(fixed)))


def reshaped(x: Part, output: Resting) -> Part:
    """Return the perturbed part of an output that is x reshaped, in C order."""
    fixed: list[Array | None] = []
    for axes, sizes in _groups(x.rest.features, output.features):
        if any(x.fixed[axis] is None for axis in axes):
            x = x.freed(axes)
            fixed += [None] * len(sizes)
        else:
            indices, before = [x.fixed[axis] for axis in axes], [x.rest.features[axis] for axis in axes]
            place = _flat(indices, before, len(x.value))
            fixed += np.unravel_index(place, sizes) if sizes else ()
    free = (size for size, index in zip(output.features, fixed, strict=True) if index is None)
    return Part(output, tuple(fixed), x.value.reshape(len(x.value), *free))


def _flat(indices: Sequence[Array | None], sizes: Sequence[int], copies: int) -> Array:
    """Return each copy's flat index, in C order, from its indices along axes of the given sizes.

    Without any axes, the index is 0 in every copy.
    """
    place: Any = np.zeros(copies, dtype=np.intp)
    for index, size in zip(indices, sizes, strict=True):
        place = place * size + index
    return np.asarray(place)


def _groups(before: Shape, after: Shape) -> Iterator[tuple[range, Shape]]:
    """Yield the smallest groups of axes that a reshape from shape `before` to shape `after` keeps together.

    Each group consists of a range of axes before, and the sizes of the corresponding axes after.
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
