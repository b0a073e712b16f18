"""Steps that only rearrange elements: reshape, permute, slice, concatenate, stack and repeat.

    ∂L/∂x is ∂L/∂out moved back: 0 for an element that was dropped, and a sum for an element that was copied.

Axes are counted from the first axis of a sample, so that axis 0 holds the channels of an image or the tokens
of a sequence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from gradcheck_cli.network.carried import Copies
from gradcheck_cli.network.formulas import Argument, Formulas
from gradcheck_cli.network.part import Input, Part, Resting, Risen, only, reshaped, taken
from gradcheck_cli.network.step import Arrays, Inputs, UnfitError
from gradcheck_cli.network.steps.fit import axis_of
from gradcheck_cli.network.steps.linear import Linear
from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True)
class _Rearranged(Linear):
    """A step whose outputs are copies of its inputs.

    axes: the number of axes of one sample of an input.
    """

    axes: int
    couples = "nothing"

    def _first(self, x: Array) -> int:
        """Return the index of the first feature axis of x, (…, N, *features), for N samples."""
        return x.ndim - self.axes

    def link(self, k: int, inputs: Inputs, units: Array) -> Copies | None:
        return _copies(self, inputs)


@dataclass(frozen=True)
class Reshape(_Rearranged):
    """Reshape each sample to `shape`, in C order."""

    shape: Shape
    keeps_axes = False
    formulas = Formulas("out", "reshape({all})", (Argument("x", "1", "{g}, reshaped back"),), moves=True)

    @classmethod
    def of(cls, features: Shape, **options: Any) -> Reshape:
        shape, numbers = options["reshape"], math.prod(features)
        known = math.prod(size for size in shape if size > 0)
        open_, rest = shape.count(-1), divmod(numbers, known)
        if 0 in shape or open_ > 1 or rest[1] or (not open_ and rest[0] != 1):
            message = (
                f"samples of shape {list(features)}, with {numbers} values, do not fit into {list(shape)}"
            )
            raise UnfitError(message, "reshape", f"give sizes whose product is {numbers}; one may be -1")
        return cls(len(features), tuple(rest[0] if size == -1 else size for size in shape))

    @property
    def label(self) -> str:
        return "reshape " + "×".join(map(str, self.shape))

    def out(self, *features: Shape) -> Shape:
        return self.shape

    def apply(self, *inputs: Array) -> Array:
        (x,) = inputs
        return x.reshape(*x.shape[: self._first(x)], *self.shape)

    def part(self, p: Arrays, inputs: Sequence[Input], output: Resting) -> Part | None:
        return reshaped(only(inputs), output)

    def adjoint(self, delta: Array, features: tuple[Shape, ...]) -> tuple[Array, ...]:
        return (delta.reshape(len(delta), *features[0]),)


@dataclass(frozen=True)
class Permute(_Rearranged):
    """Reorder the axes of each sample: axis i of the output is axis `order[i]` of the input."""

    order: tuple[int, ...]
    keeps_axes = False
    formulas = Formulas("out", "permute({all})", (Argument("x", "1", "{g}, its axes put back"),), moves=True)

    @classmethod
    def of(cls, features: Shape, **options: Any) -> Permute:
        order, axes = options["permute"], len(features)
        if sorted(order) != list(range(axes)):
            message = (
                f"{list(order)} does not name each axis of samples of shape {list(features)} exactly once"
            )
            raise UnfitError(
                message, "permute", f"give the axes 0 to {axes - 1}; do not count the batch axis"
            )
        return cls(axes, order)

    @property
    def label(self) -> str:
        return f"permute {self.order}"

    def out(self, *features: Shape) -> Shape:
        return tuple(features[0][axis] for axis in self.order)

    def apply(self, *inputs: Array) -> Array:
        (x,) = inputs
        first = self._first(x)
        return np.transpose(x, (*range(first), *(first + axis for axis in self.order)))

    def part(self, p: Arrays, inputs: Sequence[Input], output: Resting) -> Part | None:
        x = only(inputs)
        free = [x.along(axis) for axis in self.order if x.fixed[axis] is None]
        fixed = tuple(x.fixed[axis] for axis in self.order)
        return x.placed(output, fixed, lambda elements: elements.transpose(0, *free))

    def adjoint(self, delta: Array, features: tuple[Shape, ...]) -> tuple[Array, ...]:
        back = np.argsort(self.order)
        return (np.transpose(delta, (0, *(1 + axis for axis in back))),)


@dataclass(frozen=True)
class Slice(_Rearranged):
    """Take the elements from `start` up to `stop` along one axis of each sample."""

    axis: int
    start: int
    stop: int

    @property
    def formulas(self) -> Formulas:  # type: ignore[override]
        at = f"[{self.start}:{self.stop}]"
        return Formulas("out", f"{{x}}{at}", (Argument("x", f"1 at {at}, else 0", f"({{g}} at {at})"),))

    @property
    def label(self) -> str:
        return f"[{self.start}:{self.stop}] of axis {self.axis}"

    def out(self, *features: Shape) -> Shape:
        shape = list(features[0])
        shape[self.axis] = self.stop - self.start
        return tuple(shape)

    def _at(self, first: int) -> tuple[slice, ...]:
        return (*(slice(None),) * (first + self.axis), slice(self.start, self.stop))

    def apply(self, *inputs: Array) -> Array:
        (x,) = inputs
        return x[self._at(self._first(x))]

    def part(self, p: Arrays, inputs: Sequence[Input], output: Resting) -> Part | None:
        x = only(inputs)
        index = x.fixed[self.axis]
        if index is None:
            cut = (*(slice(None),) * x.along(self.axis), slice(self.start, self.stop))
            return x.placed(output, x.fixed, lambda elements: elements[cut])
        inside = (self.start <= index) & (index < self.stop)
        # An index outside the slice may get any place, since nothing changes there. The place is the same in
        # slices of one length.
        place = (index - self.start) % (self.stop - self.start)
        return taken(x, inside, output, (*x.fixed[: self.axis], place, *x.fixed[self.axis + 1 :]))

    def adjoint(self, delta: Array, features: tuple[Shape, ...]) -> tuple[Array, ...]:
        handed = np.zeros((len(delta), *features[0]), delta.dtype)
        handed[self._at(1)] = delta
        return (handed,)


@dataclass(frozen=True)
class Select(_Rearranged):
    """Take the elements at one index along an axis of each sample, and drop the axis.

    index: the index to take; −1 stands for the last index, such as the last time step.
    """

    axis: int
    index: int = -1

    @property
    def formulas(self) -> Formulas:  # type: ignore[override]
        at, axis = f"[{self.index}]", f"with the index {self.index} of axis {self.axis}"
        of_x = Argument("x", f"1 at {at}, else 0", f"{{g}} at {at}")
        return Formulas("out", f"{{x}}{at}", (of_x,), where=axis, index=at)

    @classmethod
    def of(cls, features: Shape, **options: Any) -> Select:
        axis, index = axis_of(features, options["dim"], "select"), options["select"]
        if not -features[axis] <= index < features[axis]:
            message = (
                f"select is {index}, but axis {axis} of samples of shape {list(features)} has "
                f"length {features[axis]}"
            )
            raise UnfitError(message, "select", f"give {-features[axis]} to {features[axis] - 1}")
        return cls(len(features), axis, index)

    @property
    def label(self) -> str:
        return f"[{self.index}] of axis {self.axis}"

    def out(self, *features: Shape) -> Shape:
        return (*features[0][: self.axis], *features[0][self.axis + 1 :])

    def _at(self, first: int) -> Any:
        return (*(slice(None),) * (first + self.axis), self.index)

    def apply(self, *inputs: Array) -> Array:
        (x,) = inputs
        selected: Array = x[self._at(self._first(x))]
        return selected

    def part(self, p: Arrays, inputs: Sequence[Input], output: Resting) -> Part | None:
        x = only(inputs)
        index, fixed = x.fixed[self.axis], (*x.fixed[: self.axis], *x.fixed[self.axis + 1 :])
        size = x.rest.features[self.axis]
        if index is None:
            axis = x.along(self.axis)
            return x.placed(output, fixed, lambda elements: elements.take(self.index % size, axis=axis))
        return taken(x, index == self.index % size, output, fixed)

    def adjoint(self, delta: Array, features: tuple[Shape, ...]) -> tuple[Array, ...]:
        handed = np.zeros((len(delta), *features[0]), delta.dtype)
        handed[self._at(1)] = delta
        return (handed,)


@dataclass(frozen=True)
class Concatenate(_Rearranged):
    """Join the inputs along one axis of each sample."""

    axis: int
    formulas = Formulas("out", "({all})", (Argument("x", "1 in its part", "part of {g}"),))

    @property
    def label(self) -> str:
        return f"concatenate axis {self.axis}"

    def out(self, *features: Shape) -> Shape:
        shape = list(features[0])
        shape[self.axis] = sum(each[self.axis] for each in features)
        return tuple(shape)

    def apply(self, *inputs: Array) -> Array:
        return np.concatenate(_spread(inputs, self.axes), axis=self.axis - self.axes)

    def adjoint(self, delta: Array, features: tuple[Shape, ...]) -> tuple[Array, ...]:
        ends = list(accumulate(each[self.axis] for each in features))
        return tuple(np.split(delta, ends[:-1], axis=1 + self.axis))


@dataclass(frozen=True)
class Stack(_Rearranged):
    """Join inputs of one shape along a new axis of each sample, such as the outputs of all time steps."""

    axis: int
    formulas = Formulas("out", "{all} for every t", (Argument("x", "1 at its step", "{g}ₜ"),))

    @property
    def label(self) -> str:
        return f"stack axis {self.axis}"

    def out(self, *features: Shape) -> Shape:
        return (*features[0][: self.axis], len(features), *features[0][self.axis :])

    def apply(self, *inputs: Array) -> Array:
        return np.stack(_spread(inputs, self.axes), axis=self.axis - self.axes - 1)

    def part(self, p: Arrays, inputs: Sequence[Input], output: Resting) -> Part | None:
        parts = {k: each for k, each in enumerate(inputs) if isinstance(each, Part)}
        if len(parts) > 1:
            rise = np.zeros((len(output.samples), *output.features))
            for k, each in parts.items():
                np.moveaxis(rise, 1 + self.axis, 0)[k] = each.freed(range(len(each.fixed))).rise
            return Risen(output, output.all, rise)
        ((k, x),) = parts.items()
        place = np.full(len(x.rest.samples), k)
        fixed = (*x.fixed[: self.axis], place, *x.fixed[self.axis :])
        return x.placed(output, fixed)

    def adjoint(self, delta: Array, features: tuple[Shape, ...]) -> tuple[Array, ...]:
        return tuple(np.moveaxis(delta, 1 + self.axis, 0))


@dataclass(frozen=True)
class Repeat(Linear):
    """Repeat every index of an axis of each sample, as numpy.repeat does.

    Grouped-query attention repeats each head of the keys and values in this way.

    axes: the number of axes of a sample.
    """

    axes: int
    axis: int
    times: int
    formulas = Formulas("out", "repeat({all})", (Argument("x", "1 in each copy", "Σ {g} over the copies"),))

    @property
    def label(self) -> str:
        return f"repeat {self.times} along axis {self.axis}"

    def out(self, *features: Shape) -> Shape:
        shape = list(features[0])
        shape[self.axis] *= self.times
        return tuple(shape)

    def counts(self, features: tuple[Shape, ...]) -> tuple[int, int]:
        return 1, self.times

    def apply(self, *inputs: Array) -> Array:
        (x,) = inputs
        return np.repeat(x, self.times, axis=self.axis - self.axes)

    def link(self, k: int, inputs: Inputs, units: Array) -> Copies | None:
        return _copies(self, inputs)

    def adjoint(self, delta: Array, features: tuple[Shape, ...]) -> tuple[Array, ...]:
        before, (size, *after) = features[0][: self.axis], features[0][self.axis :]
        return (delta.reshape(len(delta), *before, size, self.times, *after).sum(axis=2 + self.axis),)


def _copies(step: Linear, inputs: Inputs) -> Copies | None:
    """Return which features of its only input a step copies; None if the step has several inputs."""
    if len(inputs) > 1:
        return None
    features = inputs[0].shape[1:]
    number = np.arange(math.prod(features)).reshape(1, *features)
    return Copies(step.apply(number).ravel(), number.size)


def _spread(inputs: tuple[Array, ...], axes: int) -> list[Array]:
    """Return the inputs broadcast to common leading axes, that is, all axes before those of a sample.

    axes: the number of axes of a sample.
    """
    leading = np.broadcast_shapes(*(x.shape[: x.ndim - axes] for x in inputs))
    return [np.broadcast_to(x, (*leading, *x.shape[x.ndim - axes :])) for x in inputs]
