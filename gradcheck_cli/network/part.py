"""The part of a value that a perturbation changes. All other elements of the value stay unperturbed.

A value is x or the output of a step. In the steps right after it, a perturbed element changes only one
element or one row; many steps later, it changes all elements. So each step computes only the part of its
output that changes (`Step.part`), from the parts of its inputs that change.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import compress
from typing import Any, Self, TypeVar

import numpy as np

from gradcheck_cli.types import Array, Shape

T = TypeVar("T")

Fixed = tuple[Array | None, ...]
"""The position of a part's elements in a sample.

For each axis, it holds one index for each of B copies of samples, (B,), or None for all indices.
"""


@dataclass(frozen=True)
class Resting:
    """An unperturbed value, as seen by B copies of its samples.

    value: the unperturbed elements, (N, *features), for N samples.
    samples: the index of each copy's sample, (B,).
    memory: what has been computed from the value by `once`. All copies of a value share one memory.
    """

    value: Array
    samples: Array
    memory: dict[Any, Any] = field(default_factory=dict)

    def once(self, compute: Callable[[Array], T]) -> T:
        """Return the result of `compute` for the value. The result is computed only once per value."""
        if compute not in self.memory:
            self.memory[compute] = compute(self.value)
        found: T = self.memory[compute]
        return found

    @property
    def features(self) -> Shape:
        return self.value.shape[1:]

    @cached_property
    def copies(self) -> Array:
        return np.arange(len(self.samples))

    @cached_property
    def takes_turns(self) -> bool:
        """Whether the copies are of all samples in order, then of all samples again, and so on."""
        count = len(self.value)
        turns = self.samples.reshape(-1, count) if len(self.samples) % count == 0 else np.zeros((1, 0))
        return turns.size > 0 and bool((turns == np.arange(count)).all())

    @property
    def all(self) -> Fixed:
        """The position of a part that holds whole samples: None for every axis."""
        return (None,) * len(self.features)

    def at(self, fixed: Fixed) -> Array:
        """Return the unperturbed elements at the position `fixed` in each of the B copies, (B, *free).

        The axes after the first are those that `fixed` leaves free. The result is a new array.
        """
        first = next((axis for axis, index in enumerate(fixed) if index is None), len(fixed))
        if first == len(fixed) > 0 or any(index is not None for index in fixed[first:]):
            found: Array = self.value[(self.samples, *_index(fixed))]
            return found
        return self._rows_at(fixed[:first])

    def _rows_at(self, fixed: Fixed) -> Array:
        """Return all elements after the first axes of a sample, at a position in these axes.

        This takes whole rows, which is faster than numpy's general indexing.
        """
        if not fixed:
            return self.value.take(self.samples, axis=0)
        sizes, position = self.value.shape[: 1 + len(fixed)], (self.samples, *fixed)
        rows = self.value.reshape(-1, *self.value.shape[len(sizes) :])
        return rows.take(np.ravel_multi_index(position, sizes), axis=0)  # type: ignore[arg-type]

    @property
    def whole(self) -> Array:
        return self.at(self.all)


@dataclass(frozen=True)
class Part:
    """The perturbed elements of a value in B copies of samples. All other elements are unperturbed.

    A part holds either the elements themselves (`Valued`) or their changes (`Risen`). Adding and multiplying
    changes needs no unperturbed elements, so steps that are affine in their inputs compute changes.

    rest: the unperturbed value.
    fixed: the position of the perturbed elements in each copy.
    held: what the part holds, (B, *free). Its axes after the first are those that `fixed` leaves free.
    """

    rest: Resting
    fixed: Fixed
    held: Array

    @property
    def value(self) -> Array:
        """The perturbed elements, with the shape of `held`."""
        raise NotImplementedError

    @property
    def rise(self) -> Array:
        """The perturbed elements minus the unperturbed elements, with the shape of `held`."""
        raise NotImplementedError

    def _at_rest(self, fixed: Fixed) -> Array:
        """Return what a part of this kind holds at a position if nothing is perturbed, (B, *free)."""
        raise NotImplementedError

    def placed(self, rest: Resting, fixed: Fixed, place: Callable[[Array], Array] | None = None) -> Self:
        """Return the part of another value that holds the same elements, in other places.

        rest: the other value, unperturbed.
        fixed: the position of the elements in the other value.
        place: a function that rearranges the elements, or picks some of them; None to keep them all.
        """
        return type(self)(rest, fixed, self.held if place is None else place(self.held))

    def freed(self, axes: Collection[int]) -> Self:
        """Return the part, extended to all elements along `axes`. The additional elements are unperturbed."""
        changed = [axis in axes and index is not None for axis, index in enumerate(self.fixed)]
        if not any(changed):
            return self
        fixed = tuple(None if free else index for index, free in zip(self.fixed, changed, strict=True))
        inner = compress(self.fixed, (index is None for index in fixed))
        held = self._at_rest(fixed)
        held[(self.rest.copies, *_index(tuple(inner)))] = self.held
        return type(self)(self.rest, fixed, held)

    @property
    def free(self) -> tuple[int, ...]:
        """The axes of a sample along which the part holds all elements."""
        return tuple(axis for axis, index in enumerate(self.fixed) if index is None)

    @property
    def whole(self) -> Array:
        """All B copies of whole samples, perturbed elements included, (B, *features)."""
        return self.freed(range(len(self.fixed))).value

    @property
    def whole_rise(self) -> Array:
        """The changes of all B copies of whole samples, (B, *features)."""
        return self.freed(range(len(self.fixed))).rise

    @property
    def size(self) -> int:
        """The number of perturbed elements in each copy."""
        return math.prod(self.rest.features[axis] for axis in self.free)

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


@dataclass(frozen=True)
class Valued(Part):
    """A part that holds the perturbed elements themselves."""

    @property
    def value(self) -> Array:
        return self.held

    @cached_property
    def rise(self) -> Array:
        risen: Array = self.held - self.rest.at(self.fixed)
        return risen

    def _at_rest(self, fixed: Fixed) -> Array:
        return self.rest.at(fixed).astype(self.held.dtype, copy=False)


@dataclass(frozen=True)
class Risen(Part):
    """A part that holds the changes of the perturbed elements."""

    @cached_property
    def value(self) -> Array:
        value = self.rest.at(self.fixed)
        value += self.held
        return value

    @property
    def rise(self) -> Array:
        return self.held

    def _at_rest(self, fixed: Fixed) -> Array:
        sizes = (size for size, index in zip(self.rest.features, fixed, strict=True) if index is None)
        return np.zeros((len(self.held), *sizes), self.held.dtype)


Input = Part | Resting
"""An input of a step: its perturbed part, or the unperturbed value if no part of it is perturbed."""


def _index(fixed: Sequence[Array | int | None]) -> tuple[Any, ...]:
    return tuple(slice(None) if index is None else index for index in fixed)


def alike(fixed: Fixed, copies: int) -> list[slice]:
    """Return the groups of adjacent copies, of all B copies, that have the same position."""
    indices = [index for index in fixed if index is not None]
    changes = np.zeros(max(0, copies - 1), dtype=bool)
    for index in indices:
        changes |= index[1:] != index[:-1]
    ends = [*(np.flatnonzero(changes) + 1), copies]
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def shared_index(fixed: Fixed, group: slice) -> tuple[Any, ...]:
    """Return the position of a group of copies that have the same position, as an index of a sample."""
    return tuple(slice(None) if index is None else index[group.start] for index in fixed)


def aligned(inputs: Sequence[Input]) -> tuple[Fixed, list[Array]]:
    """Return a position that covers all perturbed elements, and the elements of each input at that position.

    All inputs have the same shape, and at least one is perturbed.
    """
    parts = [each for each in inputs if isinstance(each, Part)]
    fixed, parts = together(parts)
    values = iter(part.value for part in parts)
    return fixed, [next(values) if isinstance(each, Part) else each.at(fixed) for each in inputs]


def together(parts: Sequence[Part]) -> tuple[Fixed, list[Part]]:
    """Return a position that covers all the parts, and the parts extended to it. All have the same shape."""
    first, *others = parts
    if not others:
        return first.fixed, [first]
    differ = [axis for axis in range(len(first.fixed)) if not _equal(axis, first, others)]
    freed = [part.freed(differ) for part in parts]
    return freed[0].fixed, freed


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
    return Valued(output, fixed, forward(*values))


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
        return x.placed(output, fixed)
    mask = inside.reshape(-1, *(1,) * len(x.free))
    return Risen(output, fixed, np.where(mask, x.rise, 0.0))


def reshaped(x: Part, output: Resting) -> Part:
    """Return the perturbed part of an output that is x reshaped, in C order."""
    fixed: list[Array | None] = []
    for axes, sizes in _groups(x.rest.features, output.features):
        if any(x.fixed[axis] is None for axis in axes):
            x = x.freed(axes)
            fixed += [None] * len(sizes)
        else:
            indices, before = [x.fixed[axis] for axis in axes], [x.rest.features[axis] for axis in axes]
            place = _flat(indices, before, len(x.rest.samples))
            fixed += np.unravel_index(place, sizes) if sizes else ()
    free = (size for size, index in zip(output.features, fixed, strict=True) if index is None)
    sizes = tuple(free)
    return x.placed(output, tuple(fixed), lambda elements: elements.reshape(len(elements), *sizes))


def _flat(indices: Sequence[Array | None], sizes: Sequence[int], copies: int) -> Array:
    """Return each copy's flat index, in C order, from its indices along axes of the given sizes.

    Without any axes, the index is 0 in every copy.
    """
    place: Any = np.zeros(copies, dtype=np.intp)
    for index, size in zip(indices, sizes, strict=True):
        place = place * size + index
    return np.asarray(place)


@cache
def _groups(before: Shape, after: Shape) -> tuple[tuple[range, Shape], ...]:
    """Return the smallest groups of axes that a reshape from shape `before` to shape `after` keeps together.

    Each group consists of a range of axes before, and the sizes of the corresponding axes after.
    """
    i = j = 0
    groups = []
    while i < len(before) or j < len(after):
        start, first, numbers, reached = i, j, 1, 1
        while i == start or j == first or numbers != reached:
            if j == len(after) or (i < len(before) and numbers <= reached):
                numbers, i = numbers * before[i], i + 1
            else:
                reached, j = reached * after[j], j + 1
            if i == len(before) and j == len(after):
                break
        groups.append((range(start, i), after[first:j]))
    return tuple(groups)
