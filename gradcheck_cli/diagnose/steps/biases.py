"""Mistakes in the gradient of a bias that all samples and positions share: only some of them count."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gradcheck_cli.diagnose.families import BIAS
from gradcheck_cli.diagnose.mistake import Wrong
from gradcheck_cli.diagnose.variant import Backward, Handed, Of, Variant, Visit, gradient
from gradcheck_cli.diagnose.wrong_biases import NOT_SUMMED
from gradcheck_cli.network.steps.conv_transpose2d import ConvTranspose2d
from gradcheck_cli.network.steps.convolution import Convolution
from gradcheck_cli.network.steps.dense import Dense
from gradcheck_cli.network.steps.normalise import Scale
from gradcheck_cli.types import Array

_PARTS = (
    (0, 0, 0, "first sample"),
    (0, 0, -1, "last sample"),
    (3, 2, 0, "first position"),
    (4, 2, 0, "first row"),
    (4, 3, 0, "first column"),
)
"""The parts of δ that are summed.

Each row holds the number of axes that δ must have (0 for any), the axis and the index on it, and the words.
Axis 1 holds the channels.
"""


def _bias_of_part(axes: int, axis: int, index: int) -> Of:
    """Return a function that sums only the δ at one index of an axis."""

    def of(visit: Visit) -> Array | None:
        delta = _channels_first(visit)
        if axes not in (0, delta.ndim) or delta.shape[axis] == 1:
            return None
        if isinstance(visit.step, Dense) and delta.ndim == 2:
            return None  # the table of chains has this mistake
        part = np.take(delta, [index], axis=axis)
        summed: Array = np.moveaxis(part, 1, 0).reshape(part.shape[1], -1).sum(axis=1)
        return summed

    return of


def _channels_first(visit: Visit) -> Array:
    after = visit.step.after if isinstance(visit.step, Scale) else 0
    is_last = isinstance(visit.step, Dense | Scale) and not after
    return np.moveaxis(visit.upstream, -1, 1) if is_last else visit.upstream


def _of_last_parameter(of: Of) -> Backward:
    """Return a `vjp` with a wrong gradient of the step's last parameter, the bias or β."""

    def backward(visit: Visit, unknown: float) -> Handed | None:
        *_, name = visit.step.shapes
        return gradient(name, of)(visit, unknown)

    return backward


def _rows() -> Iterator[Variant]:
    for axes, axis, index, which in _PARTS:
        for step in (Convolution, ConvTranspose2d, Dense, Scale):
            wrong = Wrong(
                NOT_SUMMED,
                BIAS,
                f"in {{where}}, the bias's gradient is the sum of δ over the {which} alone",
                f"∂L/∂b = Σ δ over the {which}",
                "∂L/∂b = Σₙ δₙ",
                "∂L/∂b",
            )
            yield Variant(wrong, step, _of_last_parameter(_bias_of_part(axes, axis, index)))


BIASES: tuple[Variant, ...] = tuple(_rows())
