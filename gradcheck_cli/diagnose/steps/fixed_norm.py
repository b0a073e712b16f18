"""Mistakes in the backward pass of batch normalisation with fixed statistics, as in PyTorch's eval mode."""

from __future__ import annotations

import numpy as np

from gradcheck_cli.diagnose.families import NORM
from gradcheck_cli.diagnose.mistake import Wrong
from gradcheck_cli.diagnose.variant import Of, Variant, Visit, gradient, share, variant
from gradcheck_cli.network.steps.fixed_norm import FixedNormalise
from gradcheck_cli.network.steps.normalise import Normalise, Scale
from gradcheck_cli.types import Array

_RIGHT = "∂L/∂z = ∂L/∂ẑ / √(running variance + eps)"


def _norm(visit: Visit) -> FixedNormalise:
    assert isinstance(visit.step, FixedNormalise)
    return visit.step


def _axes(visit: Visit) -> tuple[int, ...]:
    """Return the axes of the samples and positions."""
    channel = -1 - _norm(visit).positions
    return tuple(axis for axis in range(-visit.upstream.ndim, 0) if axis != channel)


def _mean(visit: Visit, array: Array) -> Array:
    mean: Array = array.mean(axis=_axes(visit), keepdims=True)
    return mean


def _per_channel(visit: Visit, of_channels: Array) -> Array:
    return of_channels.reshape(-1, *(1,) * _norm(visit).positions)


def _as_in_training(visit: Visit) -> Array:
    """Return ∂L/∂z with the terms that training adds for the mean and the variance, but with the same ẑ."""
    g, z_hat = visit.upstream, visit.output
    centred = g - _mean(visit, g) - z_hat * _mean(visit, g * z_hat)
    return _norm(visit).apply(centred)


def _of_the_batch(visit: Visit) -> Array:
    """Return ∂L/∂z as in training, which uses the batch's own mean and variance."""
    step, z = _norm(visit), visit.inputs[0]
    own = Normalise(step.eps, _axes(visit), "batch")
    return own.vjp({}, (z,), own.forward({}, z), visit.upstream)[0][0]


_ROWS: tuple[tuple[str, Of, str, str, str], ...] = (
    (
        "training formula",
        _of_the_batch,
        "the backward pass is the one for training, with the batch's own statistics",
        "∂L/∂z = (g − mean g − ẑ mean(g ẑ)) / √(variance of the batch + eps)",
        (
            "spread = np.sqrt(z.var(axis=0) + eps)\n"
            "own = (z - z.mean(axis=0)) / spread\n"
            "centred = g - g.mean(axis=0) - own * (g * own).mean(axis=0)\n"
            "dL_dz_fixed = centred / spread"
        ),
    ),
    (
        "training formula",
        _as_in_training,
        "the backward pass has the terms of a mean and a variance that depend on z, as in training",
        "∂L/∂z = (g − mean g − ẑ mean(g ẑ)) / √(running variance + eps)",
        "dL_dz_fixed = (g - g.mean(axis=0) - z_hat * (g * z_hat).mean(axis=0)) / root",
    ),
    (
        "left out",
        lambda v: v.upstream,
        "the normalisation is left out of the backward pass",
        "∂L/∂z = ∂L/∂ẑ",
        "dL_dz_fixed = g",
    ),
    (
        "variance in place of deviation",
        lambda v: v.upstream / (_per_channel(v, _norm(v).variance) + _norm(v).eps),
        "the backward pass divides by the variance, not by its root",
        "∂L/∂z = ∂L/∂ẑ / (running variance + eps)",
        "dL_dz_fixed = g / (running_var + eps)",
    ),
)


def _below(visit: Visit) -> Visit | None:
    """Return the visit to the fixed normalisation just below a scale; None if another step is there."""
    nodes, i = visit.at.graph.nodes, visit.feeder
    fixed = i >= 0 and isinstance(nodes[i].step, FixedNormalise)
    return Visit(visit.at, i, visit.upstream, visit.arrived) if fixed else None


def _without_gamma(visit: Visit) -> Array | None:
    return visit.upstream if _below(visit) else None


def _gamma_of(name: str) -> Of:
    """Return a function that computes γ's gradient with z or z − mean in place of ẑ.

    name: the quantity that takes the place of ẑ, "z" or "z − mean".
    """

    def of(visit: Visit) -> Array | None:
        below = _below(visit)
        if below is None:
            return None
        z, mean = below.inputs[0], _per_channel(below, _norm(below).mean)
        inputs = (z if name == "z" else z - mean,)
        return visit.step.vjp(visit.p, inputs, visit.output, visit.upstream)[1]["gamma"]

    return of


def _gamma(name: str, code: str = "") -> Wrong:
    return Wrong(
        f"batch norm: gamma gradient from {name}",
        NORM,
        f"in {{where}}, the gradient of γ uses {name} instead of ẑ",
        f"∂L/∂γ = Σ ∂L/∂y {name}",
        "∂L/∂γ = Σ ∂L/∂y ẑ",
        "∂L/∂γ",
        code=code,
    )


FIXED_NORM: tuple[Variant, ...] = (
    *(
        variant(FixedNormalise, f"batch norm, fixed: {kind}", NORM, share(of), sentence, wrong, _RIGHT, code)
        for kind, of, sentence, wrong, code in _ROWS
    ),
    variant(
        FixedNormalise,
        "batch norm, fixed: eps forgotten",
        NORM,
        share(lambda v: v.upstream / np.sqrt(_per_channel(v, _norm(v).variance))),
        "the backward pass lacks eps",
        "∂L/∂z = ∂L/∂ẑ / √(running variance)",
        _RIGHT,
        "dL_dz_fixed = g / np.sqrt(running_var)",
        "a larger eps, or smaller running variances",
    ),
    variant(
        Scale,
        "batch norm: gamma forgotten",
        NORM,
        share(_without_gamma),
        "batch normalisation's backward pass lacks γ",
        "∂L/∂ẑ = ∂L/∂y",
        "∂L/∂ẑ = γ ∂L/∂y",
    ),
    Variant(_gamma("z"), Scale, gradient("gamma", _gamma_of("z"))),
    Variant(
        _gamma("z − mean", "dL_dgamma = (y * (z - running_mean)).sum(axis=0)"),
        Scale,
        gradient("gamma", _gamma_of("z − mean")),
    ),
)
