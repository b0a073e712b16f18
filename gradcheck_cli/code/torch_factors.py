"""Guess how a parameter w enters the output of a torch module: z = J w + c, with J given by its `Factors`.

A guess may be bold, because it is verified with forward passes afterwards (`torch_sites`). So guesses are
made for modules that a user wrote as well as for modules of torch. No derivative is involved.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from math import prod
from typing import Any, Protocol

import numpy as np

from gradcheck_cli.code.returned import plain
from gradcheck_cli.code.torch_calls import Call, Tensor
from gradcheck_cli.network.factors import Channels, Ones, Own, Picked, Rows
from gradcheck_cli.numerical.objective import Factors
from gradcheck_cli.types import Array, Shape

_MOST_NUMBERS = 2**25
"""The largest number of factors to hold in memory: 256 MiB in float64."""

_ROUNDING = 1e-12
"""The tolerance for an output that should rise by 1 if all entries of a parameter rise by 1.

The parameter of such an output is added, not multiplied.
"""


@dataclass(frozen=True)
class Layout:
    """How the elements of an output are split into F features of N samples.

    shape: the shape of the output, in which the axis of the samples may have been split from another axis.
    axis: the axis of the samples.
    """

    shape: Shape
    axis: int

    @property
    def samples(self) -> int:
        return self.shape[self.axis]

    @property
    def features(self) -> Shape:
        return (*self.shape[: self.axis], *self.shape[self.axis + 1 :])

    def split(self, numbers: Array) -> Array:
        """Reshape an array from the output's shape to (F, N)."""
        return np.moveaxis(numbers.reshape(self.shape), self.axis, -1).reshape(-1, self.samples)

    def samples_last(self, inputs: Array) -> Array | None:
        """Return the inputs that the module read at each position of each sample, (positions, N, K).

        Returns None if the rows of the inputs do not match those of the output.

        inputs: (…, K), with one row of K inputs for each row of the output.
        """
        rows = self.shape[:-1]
        if self.axis == len(self.shape) - 1 or prod(rows) != prod(inputs.shape[:-1]):
            return None
        in_axes = np.moveaxis(inputs.reshape(*rows, inputs.shape[-1]), self.axis, -2)
        return in_axes.reshape(-1, self.samples, inputs.shape[-1])


@dataclass(frozen=True)
class Turned:
    """Factors of a matrix that is stored transposed, or of several such matrices below each other.

    factors: the factors of the transposed matrices.
    rows: the rows of the matrices to keep.
    groups: the number of matrices. An entry of a matrix may itself be an array.
    """

    factors: Factors
    shape: Shape
    rows: Array
    groups: int = 1

    def sums(self, d: Array) -> Array:
        return self._kept(self.factors.sums(d))

    def sizes(self, u: Array) -> Array:
        return self._kept(self.factors.sizes(u))

    def squares(self, u: Array) -> Array:
        return self._kept(self.factors.squares(u))

    def _kept(self, transposed: Array) -> Array:
        return np.ascontiguousarray(_transposed(transposed, self.groups)[self.rows])

    def feeding(self, entries: Array) -> Array:
        whole = np.zeros(self.shape, dtype=bool)
        whole[self.rows] = entries
        return self.factors.feeding(_transposed(whole, self.groups))

    def of(self, units: Array) -> Array:
        return np.flatnonzero(self.feeding(np.ones((len(self.rows), *self.shape[1:]), dtype=bool)))

    def only(self, units: Array) -> Turned:
        return replace(self, rows=self.rows[units])


def _transposed(array: Array, groups: int) -> Array:
    rows, columns = array.shape[0] // groups, array.shape[1]
    by_group = array.reshape(groups, rows, columns, *array.shape[2:])
    return by_group.swapaxes(1, 2).reshape(groups * columns, rows, *array.shape[2:])


def turned(factors: Factors, shape: Shape, groups: int = 1) -> Turned:
    """Return the factors of a parameter of this shape, from those of its transpose."""
    return Turned(factors, shape, np.arange(shape[0]), groups)


@dataclass(frozen=True)
class Entry:
    """A parameter that may enter the output of a call.

    shape: the shape of the parameter in the module.
    padding: the indices of the parameter's padding rows, which stay fixed.
    rise: the change of the output if all entries of the parameter rise by 1, in the shape of the output.
    """

    call: Call
    layout: Layout
    shape: Shape
    padding: Sequence[int]
    rise: Array

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors among the arguments of the call."""
        given = [*self.call.args, *self.call.kwargs.values()]
        return [each for each in given if _is_dense(each) and each.ndim]


def _is_dense(value: Any) -> bool:
    return str(getattr(value, "layout", "")) == "torch.strided"


class Guess(Protocol):
    """A function that yields the factors by which a parameter may enter an output."""

    def __call__(self, entry: Entry) -> Iterator[Factors]: ...


def _dense(entry: Entry) -> Iterator[Factors]:
    """Yield the factors of w in z = a wᵀ, and then the factors of w in z = a w."""
    if len(entry.shape) != 2:
        return
    features = entry.layout.features
    for rows in _inputs(entry):
        a = rows.reshape(1, -1, rows.shape[-1])
        channels, widths = Channels(features, len(features) - 1), (features[-1], rows.shape[-1])
        if entry.shape == widths:
            yield Rows(a, channels, widths)
        if entry.shape == widths[::-1]:
            yield turned(Rows(a, channels, widths), entry.shape)


def _side_by_side(entry: Entry) -> Iterator[Factors]:
    """Yield the factors of w in z = [a₁ w₁ᵀ, a₂ w₂ᵀ, …], where w holds the matrices w₁, w₂, … in its rows.

    The projections of query, key and value in an attention are an example.
    """
    inputs, features = list(_inputs(entry)), entry.layout.features
    shapes = {rows.shape for rows in inputs}
    if len(inputs) < 2 or len(shapes) > 1 or features[-1] % len(inputs):
        return
    a = np.stack([rows.reshape(-1, rows.shape[-1]) for rows in inputs])
    if entry.shape == (features[-1], a.shape[-1]):
        yield Rows(a, Channels(features, len(features) - 1), entry.shape)


def _inputs(entry: Entry) -> Iterator[Array]:
    """Yield, for each tensor of a call, the inputs at each position of each sample, (positions, N, K)."""
    for tensor in entry.tensors:
        if tensor.is_floating_point() and tensor.numel() <= _MOST_NUMBERS:
            rows = entry.layout.samples_last(_numbers(tensor))
            if rows is not None:
                yield rows


def _convolution(entry: Entry) -> Iterator[Factors]:
    """Yield the factors of the weight of a convolution, [out, in / groups, *kernel].

    The weight of a transposed convolution is [in, out / groups, *kernel].
    """
    module, shape = entry.call.module, entry.shape
    transposed, kernel = getattr(module, "transposed", None), getattr(module, "kernel_size", None)
    if transposed is None or shape[2:] != kernel or not entry.tensors:
        return
    groups = module.groups
    if transposed:
        shape = (groups * shape[1], shape[0] // groups, *shape[2:])
    patches = _patches(module, entry.tensors[0], entry.call.output.shape[2:])
    layout = entry.layout
    if patches is None or layout.axis != 0 or patches.shape[0] not in (layout.samples, layout.shape[1]):
        return
    if layout.samples == len(patches):  # each image is a sample; otherwise all images are one sample
        patches = np.moveaxis(patches, 0, -2)
    by_group = patches.reshape(-1, groups, prod(shape[1:]))
    channel = len(layout.features) - len(kernel) - 1
    factors = Rows(np.moveaxis(by_group, 1, 0), Channels(layout.features, channel), shape)
    yield turned(factors, entry.shape, groups) if transposed else factors


def _patches(module: Any, images: Tensor, positions: Sequence[int]) -> Array | None:
    """Return the patch that each position of a convolution sees, (N, *positions, channels · kernel).

    Returns None if the images are not a batch, or if their patches take too much memory.
    """
    axes = len(module.kernel_size)
    padding = getattr(module, "_reversed_padding_repeated_twice", None)
    if images.ndim != axes + 2 or padding is None:
        return None
    padded = _spread(module, images, positions) if module.transposed else _padded(module, images, padding)
    reach = tuple((k - 1) * d + 1 for k, d in zip(module.kernel_size, module.dilation, strict=True))
    if any(s < r for s, r in zip(padded.shape[2:], reach, strict=True)):
        return None
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, tuple(range(2, axes + 2)))
    stride = (1,) * axes if module.transposed else module.stride
    windows = windows[:, :, *[slice(None, None, each) for each in (*stride, *module.dilation)]]
    if windows.size > _MOST_NUMBERS:
        return None
    if module.transposed:
        windows = np.flip(windows, tuple(range(-axes, 0)))
    in_order = np.moveaxis(windows, 1, axes + 1)
    return in_order.reshape(*in_order.shape[: axes + 1], -1)


def _padded(module: Any, images: Tensor, padding: Sequence[int]) -> Array:
    functional: Any = import_module("torch.nn.functional")
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    return _numbers(functional.pad(images, tuple(padding), mode=mode))


def _spread(module: Any, images: Tensor, positions: Sequence[int]) -> Array:
    """Return the images with zeros inserted between pixels, as a transposed convolution reads them.

    The padding is chosen so that there is one patch for each position of the output.
    """
    functional: Any = import_module("torch.nn.functional")
    numbers = _numbers(images)
    sizes = [(n - 1) * s + 1 for n, s in zip(numbers.shape[2:], module.stride, strict=True)]
    spread = np.zeros((*numbers.shape[:2], *sizes))
    spread[:, :, *[slice(None, None, s) for s in module.stride]] = numbers
    padding: list[int] = []
    for axis in reversed(range(len(sizes))):  # torch pads the last axis first
        reach = (module.kernel_size[axis] - 1) * module.dilation[axis]
        before = reach - module.padding[axis]
        padding += [before, positions[axis] + reach - before - sizes[axis]]
    return plain(functional.pad(import_module("torch").from_numpy(spread), padding))


def _numbers(tensor: Tensor) -> Array:
    return plain(tensor.cpu()).astype(np.float64)


def _embedding(entry: Entry) -> Iterator[Factors]:
    """Yield the factors of the weight of an embedding, whose rows are selected by integers."""
    for tensor in entry.tensors:
        if tensor.is_floating_point() or tensor.is_complex() or len(entry.shape) != 2:
            continue
        tokens = entry.layout.samples_last(plain(tensor.cpu())[..., None])
        if tokens is not None and entry.layout.features[-1] == entry.shape[1]:
            picked = tokens[..., 0]
            yield Picked(np.where(np.isin(picked, entry.padding), -1, picked), entry.shape)


def _elementwise(entry: Entry) -> Iterator[Factors]:
    """Yield the factors of a parameter that is added, or multiplied by known values, as γ is by ẑ in γ ẑ."""
    rise = entry.layout.split(entry.rise)
    adds = bool((np.abs(rise - 1.0) < _ROUNDING).all())
    for channels in _channels(entry.layout.features, prod(entry.shape)):
        ones = Ones(channels, entry.shape)
        yield ones if adds else Own(rise, ones)


def _channels(features: Shape, units: int) -> Iterator[Channels]:
    """Yield every way to see an axis, or several last axes together, as `units` units."""
    yield from (Channels(features, axis) for axis, size in enumerate(features) if size == units)
    for axis in range(len(features) - 1):
        if prod(features[axis:]) == units:
            yield Channels((prod(features[:axis]), units), 1)
    if units == 1:
        yield Channels((1, prod(features)), 0)


GUESSES: Sequence[Guess] = (_dense, _side_by_side, _convolution, _embedding, _elementwise)
