"""The loss L = Σ c · out of a layer that is recognised, as a loss of our layer's output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from gradcheck_cli.code.call import Call
from gradcheck_cli.network.loss import Loss
from gradcheck_cli.network.losses import LOSSES, Reduction
from gradcheck_cli.types import Array, Shape

_SAME = 1e-9
"""The largest difference between outputs that count as equal, relative to the largest entry."""


class End(NamedTuple):
    """A loss of a layer's output: coefficient · Σₙ ℓ(outₙ, targetₙ)."""

    loss: Loss
    coefficient: float
    target: Array
    reduction: Reduction


class Ending(Protocol):
    """The way in which L = Σ c · out follows from the output of our layer."""

    def fits(self, call: Call, output: Array) -> bool:
        """Return whether our layer's output leads to the outputs of the call."""

    def of(self, call: Call, features: Shape) -> End:
        """Return the loss of our layer's output.

        features: the shape of one sample of our layer's output.
        """


@dataclass(frozen=True)
class Dot:
    """Our layer's output is out. If forward has several outputs, they are joined along their last axis.

    samples: the axis of the samples in forward's outputs, 0 or 1. Our layer's output has the samples first.
    """

    samples: int = 0

    def fits(self, call: Call, output: Array) -> bool:
        if not self._can_join(call.outputs):
            return False
        joined = self._joined(call.outputs)
        return joined.size == output.size and _is_same(joined.reshape(output.shape), output)

    def of(self, call: Call, features: Shape) -> End:
        target = self._joined(call.upstreams).reshape(-1, *features)
        return End(LOSSES["dot"].with_options().over(len(features) - 1), 1.0, target, "sum")

    def _can_join(self, arrays: tuple[Array, ...]) -> bool:
        alike = len({array.shape[:-1] for array in arrays}) == 1
        return alike and arrays[0].ndim >= (2 if self.samples else len(arrays) > 1)

    def _joined(self, arrays: tuple[Array, ...]) -> Array:
        joined = arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=-1)
        return np.swapaxes(joined, 0, 1) if self.samples else joined


DOT = Dot()
TIME_FIRST = Dot(samples=1)


@dataclass(frozen=True)
class Scalar:
    """The only output of forward is a loss of our layer's output, times a factor.

    name: the name of the loss.
    target: the targets, (N, *features).
    reduction: how the loss is averaged.
    factor: the factor for L = out.
    """

    name: str
    target: Array
    reduction: Reduction
    factor: float

    def fits(self, call: Call, output: Array) -> bool:
        if output.shape != self.target.shape or call.outputs[0].size != 1:
            return False
        losses = self._loss(output.ndim - 2).value(output, self.target)
        return _is_same(call.outputs[0].reshape(()), np.asarray(self.factor * losses.sum()))

    def of(self, call: Call, features: Shape) -> End:
        coefficient = self.factor * float(call.upstreams[0].reshape(()))
        return End(self._loss(len(features) - 1), coefficient, self.target, self.reduction)

    def _loss(self, positions: int) -> Loss:
        return LOSSES[self.name].with_options().over(positions)


def _is_same(array: Array, other: Array) -> bool:
    return bool(np.abs(array - other).max(initial=0.0) <= _SAME * np.abs(array).max(initial=0.0))
