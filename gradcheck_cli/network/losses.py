"""The losses, one row each, with value and gradient next to each other.

To add one, write its row; the spec, the command line and the tests read the table.
Every function takes a of shape (…, N, C) and a target of shape (N, C), and treats each sample separately:
the network reduces over the samples. Values must also accept complex a. If the output has positions, as in
(N, T, C), each position is a row of its own, and a sample's loss is the sum over its positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, Literal

import numpy as np

from gradcheck_cli.network.functions import log1p, row_max, row_sums, sigmoid, softmax
from gradcheck_cli.network.row_rounding import (
    NUDGED_LOSS,
    CrossEntropyRounding,
    HingeRounding,
    LossRounding,
    RoundingOfPositions,
)
from gradcheck_cli.network.rows import bound
from gradcheck_cli.types import Array, Shape

Function = Callable[..., Array]
Reduction = Literal["batchmean", "mean", "sum"]


@dataclass(frozen=True)
class Loss:
    """A loss ℓₙ(a, target) with its gradient and its smooth pieces.

    name:       what a spec calls it.
    value:      ℓ, shape (…, N): summed over the outputs of a sample.
    gradient:   ∂ℓ/∂a, shape (…, N, C).
    pieces:     for a loss with kinks, the smooth piece that each a is on, shape (…, N, C).
    branch:     for a loss with kinks, ℓ on the given pieces, extended past their ends, shape (…, N).
    sides:      for a loss with kinks, the pieces whose slopes are common choices at the kink.
    per_output: a sum of one term per output; the reduction `mean` then divides by C as well.
    target:     what y must be: "values" for each output (labels become one-hot), a "distribution" over
                the outputs (or labels), or "labels" only.
    applies:    the activation that the loss applies to its logits, if any.
    unbounded:  a may be of any size: logits, or scores that are compared with a margin.
    limits:     the range that each target is meant to be in.
    rounding:   how exact value and gradient are; the default works for any row.
    options:    names and defaults of the loss's parameters.
    formula:    the gradient as a textbook writes it.
    """

    name: str
    value: Function
    gradient: Function
    pieces: Function | None = None
    branch: Function | None = None
    sides: tuple[float, ...] = ()
    per_output: bool = True
    target: Literal["values", "distribution", "labels"] = "values"
    applies: str | None = None
    unbounded: bool = False
    limits: tuple[float, float] = (-inf, inf)
    rounding: LossRounding = NUDGED_LOSS
    options: Mapping[str, Any] = field(default_factory=dict)
    formula: str = "∂ℓ/∂a"

    @property
    def settings(self) -> tuple[str, ...]:
        """The keys that a spec may set for this loss: its reduction, a factor and its options.

        A loss of distributions also allows the target to be smoothed, and its classes to be weighted.
        """
        of_target = ("label_smoothing", "weight") if self.target == "distribution" else ()
        return ("reduction", "scale", *self.options, *of_target)

    def with_options(self, **given: Any) -> Loss:
        """Return a copy with its options bound, so that every function takes only (a, target)."""
        options = {**self.options, **given}
        return replace(self, **bound(self, options, "value", "gradient", "pieces", "branch"))

    def over(self, positions: int) -> Loss:
        """Return the loss of outputs with this many position axes before the last one, summed over them."""
        if not positions:
            return self
        axes = tuple(range(-positions, 0))

        def summed(function: Function) -> Function:
            return lambda *given: function(*given).sum(axis=axes)

        branch = None if self.branch is None else summed(self.branch)
        rounding = RoundingOfPositions(self, axes)
        return replace(self, value=summed(self.value), branch=branch, rounding=rounding)


def _abs(d: Array) -> Array:
    """Return |d|, extended along each branch into the complex plane."""
    return np.where(d.real < 0, -d, d) if np.iscomplexobj(d) else np.abs(d)


def _mse(a: Array, target: Array) -> Array:
    d = a - target
    d *= d
    return row_sums(d)


def _huber(a: Array, target: Array, delta: float) -> Array:
    return _huber_branch(a, target, _huber_pieces(a, target, delta), delta)


def _huber_branch(a: Array, target: Array, side: Array, delta: float) -> Array:
    d = a - target
    return row_sums(np.where(side == 0, 0.5 * d * d, delta * (side * d - 0.5 * delta)))


def _huber_pieces(a: Array, target: Array, delta: float) -> Array:
    d = (a - target).real
    return (d > delta).astype(np.int8) - (d < -delta)


def _cross_entropy(a: Array, target: Array) -> Array:
    """Return Σ_c target_c (log Σₖ e^aₖ − a_c) for logits a, with the log-sum-exp taken around the largest.

    The largest term of the sum is 1; log1p of the others keeps the digits of a loss near 0.
    """
    if np.iscomplexobj(a):
        largest = np.take_along_axis(a, a.real.argmax(axis=-1, keepdims=True), axis=-1)
    else:
        largest = row_max(a)
    shifted = a - largest
    others = np.exp(shifted)
    others[_first_zeros(shifted)] = 0.0
    log_sum = log1p(row_sums(others))[..., None]
    return row_sums(target * (log_sum - shifted))


def _first_zeros(shifted: Array) -> Array:
    """Mark the first 0 of each row; a single sweep suffices if every row has only one."""
    zero = shifted == 0
    if np.count_nonzero(zero) > zero.size // zero.shape[-1]:
        zero &= zero.cumsum(axis=-1) == 1
    return zero


def _cross_entropy_gradient(a: Array, target: Array) -> Array:
    return softmax(a) * target.sum(axis=-1, keepdims=True) - target


def _bce_with_logits(a: Array, target: Array) -> Array:
    """Return Σ target softplus(−a) + (1 − target) softplus(a), keeping the digits of a loss near 0."""
    right = a.real > 0
    linear = np.where(right, a * (1.0 - target), -a * target)
    return row_sums(linear + log1p(np.exp(np.where(right, -a, a))))


def _margins(a: Array, target: Array) -> Array:
    """Return s_j − s_y + 1 for every output j; −1 at the labelled one, so that it never counts."""
    labelled = row_sums(a * target)[..., None]
    return np.where(target > 0, -1.0, a - labelled + 1.0)


def _hinge(a: Array, target: Array) -> Array:
    return _hinge_branch(a, target, _margins(a, target).real > 0)


def _hinge_branch(a: Array, target: Array, counts: Array) -> Array:
    return row_sums(np.where(counts, _margins(a, target), 0.0))


def _hinge_gradient(a: Array, target: Array) -> Array:
    over = (_margins(a, target) > 0).astype(a.dtype)
    return over - target * over.sum(axis=-1, keepdims=True)


_ROWS: tuple[Loss, ...] = (
    Loss("mse", _mse, lambda a, target: 2.0 * (a - target), formula="2 (a − y)"),
    Loss(
        "l1",
        lambda a, target: row_sums(_abs(a - target)),
        lambda a, target: np.sign(a - target),
        pieces=lambda a, target: np.sign((a - target).real),
        branch=lambda a, target, sign: row_sums(sign * (a - target)),
        sides=(-1, 0, 1),
        formula="sign(a − y)",
    ),
    Loss(
        "huber",
        _huber,
        lambda a, target, delta: np.clip(a - target, -delta, delta),
        pieces=_huber_pieces,
        branch=_huber_branch,
        sides=(0,),
        options={"delta": 1.0},
        formula="clip(a − y, ± delta)",
    ),
    Loss(
        "cross_entropy",
        _cross_entropy,
        _cross_entropy_gradient,
        per_output=False,
        target="distribution",
        applies="softmax",
        unbounded=True,
        rounding=CrossEntropyRounding(),
        formula="(softmax(a) − y)",
    ),
    Loss(
        "bce_with_logits",
        _bce_with_logits,
        lambda a, target: sigmoid(a) - target,
        applies="sigmoid",
        unbounded=True,
        limits=(0.0, 1.0),
        formula="(σ(a) − y)",
    ),
    Loss(
        "hinge",
        _hinge,
        _hinge_gradient,
        pieces=lambda a, target: _margins(a, target).real > 0,
        branch=_hinge_branch,
        sides=(False, True),
        per_output=False,
        target="labels",
        unbounded=True,
        rounding=HingeRounding(),
        formula="(1[aⱼ − a_y + 1 > 0], at y −Σ of these)",
    ),
)

LOSSES: Mapping[str, Loss] = {row.name: row for row in _ROWS}


def coefficient(loss: Loss, reduction: Reduction, scale: float, outputs: Shape, weight: float) -> float:
    """Return the factor that multiplies ℓ in the plain sum over the samples.

    outputs: the shape of one sample of the output, (C,) or (*positions, C).
    weight: the total of all samples and positions: N · T, or the sum of their class weights.
    `batchmean` averages over the samples and sums over positions and outputs, `mean` averages over all of
    them, `sum` sums over all of them.
    """
    *positions, units = outputs
    divisor = {
        "sum": 1.0,
        "batchmean": weight / math.prod(positions),
        "mean": weight * units if loss.per_output else weight,
    }
    return scale / divisor[reduction]


def same_loss(one: float, other: float, eps: float) -> bool:
    """Return whether two numbers are the same loss, up to rounding in types of this machine epsilon."""
    return abs(one - other) <= max(1e-6, 1e3 * eps) * max(abs(one), abs(other))
