"""Max pooling over any number of position axes: the largest element of each window.

    ∂L/∂x = Σ ∂L/∂out over the windows in which x is the largest

If several elements of a window tie for the largest, the result has a kink. The smooth piece of a window is
the index of the window's largest element. In a tie, the first of the tied elements gets ∂L/∂out, as in
PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Self

import numpy as np

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.formulas import Argument, Formulas
from gradcheck_cli.network.part import Input, Part, Resting, only
from gradcheck_cli.network.piecewise import Sides, any_of_each
from gradcheck_cli.network.step import Arrays, Inputs, Known, Sensitivity, Step, Upstream
from gradcheck_cli.network.steps.fit import (
    refuse_other_positions,
    refuse_too_small,
    refuse_wide_padding,
)
from gradcheck_cli.network.steps.risen_maxima import MaximaAtRest, Members
from gradcheck_cli.network.windows import Windows
from gradcheck_cli.types import Array, Shape

SAFETY = 3.0
"""Elements count as tied if errors of this many times their rounding bounds could make them equal."""


class Maxima(Step):
    """Map x, (…, N, *before, *positions), to the maxima of its windows, (…, N, *before, *windows)."""

    has_pieces = True
    rises = True
    formulas = Formulas(
        "out",
        "the largest {x} of each window",
        (
            Argument(
                "x",
                "1 for the largest x of the window, else 0",
                "Σ {g} over the windows where x is the largest",
            ),
        ),
    )

    @property
    def axes(self) -> int:
        """The number of position axes, which are the last axes of x."""
        raise NotImplementedError

    def overlapping(self, features: Shape) -> int:
        """Return a bound on the number of windows that hold the same element.

        features: the shape of one sample of x.
        """
        raise NotImplementedError

    def padded(self, x: Array, around: float) -> Array:
        """Return x with padding added around its positions.

        around: the number to pad with.
        """
        raise NotImplementedError

    def cropped(self, padded: Array) -> Array:
        """Return a padded array without its padding, the inverse of the method `padded`."""
        raise NotImplementedError

    def parts(self, size: Shape) -> Iterator[tuple[Any, Any]]:
        """Yield the index of each output, and the index of its window in the padded x.

        size: the number of positions of x along each axis.
        """
        raise NotImplementedError

    def _views(self, x: Array, around: float = -np.inf) -> Array:
        """Return the elements of each window, (…, *before, *windows, kernel).

        around: the number to pad x with.
        """
        raise NotImplementedError

    def _elements(self, x: Array, around: float) -> Sequence[Array]:
        """Return the elements of each window as K arrays, (…, *before, *windows), one for each place."""
        return tuple(np.moveaxis(self._views(x, around), -1, 0))

    def _spread(self, shares: Callable[[int], Array], shape: Shape) -> Array:
        """Return, for each element of x, the sum of the element's shares from all windows.

        shares: a function that takes an index into a window and returns the share of the element there, for
            all windows.
        shape: the shape of x.
        """
        raise NotImplementedError

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        (x,) = inputs
        if np.iscomplexobj(x):
            return self.branch(p, x, self.pieces(x))
        largest: Array = reduce(np.maximum, self._elements(x, -np.inf))
        return largest

    def pieces(self, x: Array) -> Array:
        largest: Array = self._views(x.real).argmax(axis=-1)
        return largest

    def branch(self, p: Arrays, x: Array, pieces: Array) -> Array:
        picked: Array = np.take_along_axis(self._views(x), pieces[..., None], axis=-1)[..., 0]
        return picked

    def sides(self, x: Array, reach: Array) -> Sides:
        windows, reaches = self._views(x), self._views(reach, 0.0)
        candidates = self._candidates(windows, reaches)
        counts = candidates.sum(axis=-1)
        in_order = np.argsort(~candidates, axis=-1, kind="stable")
        pieces = [
            np.take_along_axis(in_order, np.minimum(k, counts - 1)[..., None], axis=-1)[..., 0]
            for k in range(int(counts.max(initial=1)))
        ]
        return Sides(np.stack(pieces), np.where(candidates, reaches, 0.0).max(axis=-1))

    def _candidates(self, windows: Array, reaches: Array) -> Array:
        """Return a mask of the elements of each window that may be the largest.

        reaches: bounds on the errors of the elements.
        """
        highest = (windows - reaches).max(axis=-1, keepdims=True)
        marked: Array = windows + reaches >= highest
        return marked

    def distance_to_kinks(self, x: Array) -> float:
        return self._at_rest(x).clear

    def crossed(self, x: Part, output: Part, pieces: Resting) -> Array:
        return any_of_each(output.rise > x.rest.once(self._at_rest).of_largest(x))

    def part(self, p: Arrays, inputs: Sequence[Input], output: Resting) -> Part | None:
        x = only(inputs)
        return x.rest.once(self._at_rest).after(x, output)

    def _at_rest(self, x: Array) -> MaximaAtRest:
        size = x.shape[x.ndim - self.axes :]
        members = Members(self._views(np.arange(math.prod(size)).reshape(size), -1), size)
        windows = self._views(x)
        behind = windows.max(axis=-1, keepdims=True) - windows
        return MaximaAtRest(members, windows.argmax(axis=-1), behind, self._elements_of_changes)

    def _elements_of_changes(self, changes: Array) -> Sequence[Array]:
        return self._elements(changes, 0.0)

    def sensitivities(self, p: Arrays, known: Known, above: Sensitivity) -> tuple[Sensitivity, ...]:
        (x,) = known.inputs
        pieces = self.pieces(x)
        both = (self._handed(pieces, each, x.shape) for each in (above.terms, above.error))
        return (Sensitivity(*both),)  # nothing is rounded, and no slope depends on the unperturbed input

    def vjp(
        self, p: Arrays, inputs: Inputs, output: Array, upstream: Array
    ) -> tuple[Inputs, dict[str, Array]]:
        pieces = self.pieces(inputs[0])
        return (self._handed(pieces, upstream, inputs[0].shape),), {}

    def _handed(self, pieces: Array, upstream: Array, shape: Shape) -> Array:
        return self._spread(lambda k: upstream * (pieces == k), shape)

    def error(
        self, p: Arrays, inputs: Inputs, output: Array, errors: Inputs, arithmetic: Arithmetic
    ) -> Array:
        windows, reaches = self._views(inputs[0]), self._views(errors[0], 0.0)
        most: Array = np.where(self._candidates(windows, reaches), reaches, 0.0).max(axis=-1)
        return most

    def vjp_error(
        self, p: Arrays, known: Known, upstream: Upstream, arithmetic: Arithmetic
    ) -> tuple[tuple[Upstream, ...], dict[str, Array]]:
        (x,), (x_error,) = known.inputs, known.input_errors
        g, may_be = upstream.value, self._candidates(self._views(x), self._views(SAFETY * x_error, 0.0))

        def to_candidates(numbers: Array) -> Array:
            return self._spread(lambda k: numbers * may_be[..., k], x.shape)

        handed, size = self._handed(self.pieces(x), g, x.shape), to_candidates(np.abs(g))
        # Code may choose any element of a tie, so that each candidate's gradient may have the error.
        error = to_candidates(upstream.error)
        error = error + arithmetic.summed(size, handed, self.overlapping(x.shape[1:]))
        hidden = to_candidates(np.abs(g) + upstream.hidden) - np.abs(handed)
        return (Upstream(handed, error + arithmetic.tiny, hidden),), {}

    def heard(self, p: Arrays, features: tuple[Shape, ...], above: Array) -> tuple[Array, ...]:
        return (self._spread(lambda _: above, features[0]),)


@dataclass(frozen=True)
class MaxPool(Maxima):
    """Map x, (…, N, *before, *positions), to the maxima of windows, (…, N, *before, *windows), for N samples.

    All options have one number for each position axis.
    """

    kernel: Shape
    stride: Shape
    padding: Shape
    dilation: Shape

    @classmethod
    def pooling(cls, features: Shape, key: str, axes: int, **options: Shape | None) -> Self:
        """Return max pooling with a spec's options.

        Raises an `UnfitError` if the windows do not fit samples of shape `features`.

        key: the spec's key for this kind of pooling, which holds the size of the window.
        axes: the number of position axes.
        """
        refuse_other_positions(features, axes, "pooling", key)
        kernel, padding, dilation = options[key], options["padding"], options["dilation"]
        assert kernel is not None
        assert padding is not None
        assert dilation is not None
        windows = Windows(kernel, options["stride"] or kernel, padding, dilation)
        refuse_wide_padding(windows)
        refuse_too_small(windows, features, "the window", key)
        return cls(kernel, windows.stride, padding, dilation)

    @property
    def label(self) -> str:
        return "max_pool" + "×".join(map(str, dict.fromkeys(self.kernel)))

    @property
    def windows(self) -> Windows:
        return Windows(self.kernel, self.stride, self.padding, self.dilation)

    def _size(self, x: Array) -> Shape:
        return x.shape[x.ndim - self.windows.axes :]

    def out(self, *features: Shape) -> Shape:
        axes = self.windows.axes
        return (*features[0][:-axes], *self.windows.out(features[0][-axes:]))

    @property
    def axes(self) -> int:
        return len(self.kernel)

    def overlapping(self, features: Shape) -> int:
        return math.prod(self.kernel)

    def padded(self, x: Array, around: float) -> Array:
        return self.windows.padded(x, around)

    def cropped(self, padded: Array) -> Array:
        return self.windows.cropped(padded)

    def parts(self, size: Shape) -> Iterator[tuple[Any, Any]]:
        for place in np.ndindex(*self.windows.out(size)):
            along = zip(place, self.stride, self.dilation, self.kernel, strict=True)
            yield (..., *place), (..., *(slice(i * s, i * s + d * (k - 1) + 1, d) for i, s, d, k in along))

    def _views(self, x: Array, around: float = -np.inf) -> Array:
        return np.stack(self._elements(x, around), axis=-1)

    def _elements(self, x: Array, around: float) -> Sequence[Array]:
        windows, size = self.windows, self.windows.out(self._size(x))
        padded = windows.padded(x, around)
        return [view for _, view in windows.views(padded, size)]

    def _spread(self, shares: Callable[[int], Array], shape: Shape) -> Array:
        axes, first = self.windows.axes, shares(0)
        padded = np.zeros((*shape[:-axes], *self.windows.around(shape[-axes:])), first.dtype)
        for k, (_, there) in enumerate(self.windows.views(padded, self._size(first))):
            there += shares(k)
        return self.windows.cropped(padded)
