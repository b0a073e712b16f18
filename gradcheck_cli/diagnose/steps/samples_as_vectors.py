"""A backward pass of layer normalisation that treats each sample, (T, n), as one vector of T n numbers.

The correct backward pass normalises N T vectors, for N samples. The mistake normalises N vectors, with the
means and variances of the first N of the correct vectors. It keeps the first n entries of γ's and β's
gradients.
"""

from __future__ import annotations

import math

from gradcheck_cli.diagnose.families import LAYER_NORM
from gradcheck_cli.diagnose.mistake import Wrong
from gradcheck_cli.diagnose.norm_sites import norm_below
from gradcheck_cli.diagnose.variant import Handed, Variant, Visit
from gradcheck_cli.network.step import Step
from gradcheck_cli.network.steps.group_norm import GroupNormalise
from gradcheck_cli.network.steps.normalise import Normalise, Scale
from gradcheck_cli.types import Array


def _statistics(visit: Visit) -> tuple[Array, Array] | None:
    """Return ẑ, (N, T n), and the deviation, (N, 1), with each sample as one vector.

    Returns None unless a sample has several vectors.
    """
    norm, (x,) = visit.step, visit.inputs
    assert isinstance(norm, Normalise)
    is_last = norm.axes == tuple(range(-len(norm.axes), 0))
    if norm.couples != "row" or isinstance(norm, GroupNormalise) or not is_last:
        return None
    samples, size = len(x), norm.count(x.shape)
    if x[0].size == size:
        return None
    mean, deviation = (
        each.reshape(-1, 1)[:samples] for each in (x.mean(axis=norm.axes, keepdims=True), norm.deviation(x))
    )
    return (x.reshape(samples, -1) - mean) / deviation, deviation


def _handed_down(visit: Visit) -> Handed | None:
    known = _statistics(visit)
    if known is None:
        return None
    (z_hat, deviation), g = known, visit.upstream.reshape(len(visit.upstream), -1)
    along = (g * z_hat).mean(axis=1, keepdims=True)
    delta = (g - g.mean(axis=1, keepdims=True) - z_hat * along) / deviation
    return (delta.reshape(visit.upstream.shape),), {}


def _of_scale(visit: Visit) -> Handed | None:
    below = norm_below(visit)
    known = None if below is None else _statistics(below)
    if known is None:
        return None
    shares, gradients = visit.right
    gamma, beta = visit.step.shapes
    shape, g = gradients[gamma].shape, visit.upstream.reshape(len(visit.upstream), -1)
    sums = {gamma: (g * known[0]).sum(axis=0), beta: g.sum(axis=0)}
    return shares, {name: value[: math.prod(shape)].reshape(shape) for name, value in sums.items()}


def _as_vectors(visit: Visit, _: float) -> Handed | None:
    if isinstance(visit.step, Normalise):
        return _handed_down(visit)
    return _of_scale(visit) if isinstance(visit.step, Scale) else None


SAMPLES_AS_VECTORS: tuple[Variant, ...] = (
    Variant(
        Wrong(
            "layer norm: samples not split",
            LAYER_NORM,
            "in {where}, layer normalisation's backward pass treats each sample as one vector, but a sample "
            "has several vectors, each with its own mean and variance",
            "x as N vectors of T n numbers",
            "x as N T vectors of n numbers",
            "δ",
            code="M = N",
            shown_by="samples with several vectors",
        ),
        Step,
        _as_vectors,
        everywhere=True,
    ),
    Variant(
        Wrong(
            "layer norm: samples not split",
            LAYER_NORM,
            "in {where}, ∂L/∂x of layer normalisation treats each sample as one vector, but a sample has "
            "several vectors, each with its own mean and variance",
            "∂L/∂x from N vectors of T n numbers",
            "∂L/∂x from N T vectors of n numbers",
            "δ",
            code=(
                "wide, up = x.reshape(N, -1), (gamma * y).reshape(N, -1)\n"
                "wide = (wide - means[:N, None]) / deviations[:N, None]\n"
                "dL_dz = (up - mean(up) - wide * mean(up * wide)) / deviations[:N, None]"
            ),
            shown_by="samples with several vectors",
        ),
        Normalise,
        lambda visit, _: _handed_down(visit),
    ),
)
