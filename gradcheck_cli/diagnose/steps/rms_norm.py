"""Mistakes in the backward pass of RMS normalisation."""

from __future__ import annotations

import numpy as np

from gradcheck_cli.diagnose.families import RMS_NORM as RMS_NORM_FAMILY
from gradcheck_cli.diagnose.mistake import Wrong
from gradcheck_cli.diagnose.variant import Of, Variant, Visit, gradient, share, variant
from gradcheck_cli.network.steps.rms_norm import Gain, RootMeanSquare
from gradcheck_cli.types import Array

_RIGHT = "∂L/∂x = (g − x̂ mean(g x̂)) / √(mean x² + eps)"


def _axes(visit: Visit) -> tuple[int, ...]:
    assert isinstance(visit.step, RootMeanSquare)
    return tuple(range(-visit.step.axes, 0))


def _root(visit: Visit, eps: float | None = None) -> Array:
    """Return √(mean x² + eps) over the normalised axes. By default, eps is the step's own."""
    assert isinstance(visit.step, RootMeanSquare)
    x = visit.inputs[0]
    mean = np.square(x).mean(axis=_axes(visit), keepdims=True)
    root: Array = np.sqrt(mean + (visit.step.eps if eps is None else eps))
    return root


def _along(visit: Visit) -> Array:
    along: Array = visit.output * (visit.upstream * visit.output).mean(axis=_axes(visit), keepdims=True)
    return along


def _centred(visit: Visit) -> Array:
    g = visit.upstream
    return (g - g.mean(axis=_axes(visit), keepdims=True) - _along(visit)) / _root(visit)


def _over(axis: int) -> Of:
    """Return a function that computes ∂L/∂x with the mean taken over another axis."""

    def of(visit: Visit) -> Array | None:
        g, z = visit.upstream, visit.output
        if axis < 0 and g.ndim < 3:
            return None
        return (g - z * (g * z).mean(axis=axis, keepdims=True)) / _root(visit)

    return of


_ROWS: tuple[tuple[str, Of, str, str, str], ...] = (
    (
        "root held constant",
        lambda v: v.upstream / _root(v),
        "holds the root constant",
        "∂L/∂x = g / √(…)",
        "dL_dx = dL_dx_hat / root",
    ),
    (
        "mean subtracted",
        _centred,
        "subtracts mean g, as layer normalisation does",
        "∂L/∂x = (g − mean g − x̂ mean(g x̂)) / √(…)",
        "dL_dx = (dL_dx_hat - mean(dL_dx_hat) - x_hat * mean(dL_dx_hat * x_hat)) / root",
    ),
    (
        "root forgotten",
        lambda v: v.upstream - _along(v),
        "does not divide by the root",
        "∂L/∂x = g − x̂ mean(g x̂)",
        "dL_dx = dL_dx_hat - x_hat * mean(dL_dx_hat * x_hat)",
    ),
    (
        "sum in place of mean",
        lambda v: (
            (v.upstream - v.output * (v.upstream * v.output).sum(axis=_axes(v), keepdims=True)) / _root(v)
        ),
        "uses a sum instead of a mean",
        "∂L/∂x = (g − x̂ Σ(g x̂)) / √(…)",
        "dL_dx = (dL_dx_hat - x_hat * (dL_dx_hat * x_hat).sum(axis=1, keepdims=True)) / root",
    ),
    (
        "x in place of normalised x",
        lambda v: (
            (v.upstream - v.inputs[0] * (v.upstream * v.inputs[0]).mean(axis=_axes(v), keepdims=True))
            / _root(v)
        ),
        "uses x instead of x̂",
        "∂L/∂x = (g − x mean(g x)) / √(…)",
        "dL_dx = (dL_dx_hat - x * mean(dL_dx_hat * x)) / root",
    ),
    (
        "x in place of normalised x",
        lambda v: (v.upstream - _along(v) * _root(v)) / _root(v),
        "uses x instead of x̂ in one of two places",
        "∂L/∂x = (g − x mean(g x̂)) / √(…)",
        "dL_dx = (dL_dx_hat - x * mean(dL_dx_hat * x_hat)) / root",
    ),
    (
        "divided by the mean square",
        lambda v: v.right[0][0] / _root(v),
        "divides by mean x² + eps, not by its root",
        "∂L/∂x = (…) / (mean x² + eps)",
        "dL_dx = (dL_dx_hat - x_hat * mean(dL_dx_hat * x_hat)) / root**2",
    ),
    (
        "root's term added",
        lambda v: (v.upstream + _along(v)) / _root(v),
        "adds the term from the root instead of subtracting it",
        "∂L/∂x = (g + x̂ mean(g x̂)) / √(…)",
        "dL_dx = (dL_dx_hat + x_hat * mean(dL_dx_hat * x_hat)) / root",
    ),
    ("left out", lambda v: v.upstream, "is left out", "∂L/∂x = g", "dL_dx = dL_dx_hat"),
    *(
        ("over the wrong axis", _over(axis), f"takes its mean over {over}", f"… mean over {over} …", code)
        for axis, over, code in (
            (0, "the samples", "dL_dx = (dL_dx_hat - x_hat * (dL_dx_hat * x_hat).mean(axis=0)) / root"),
            (-2, "the last axis but one", ""),
        )
    ),
)

_OF_X = Wrong(
    "rms norm: gain's gradient from x",
    RMS_NORM_FAMILY,
    "in {where}, the gradient of RMS normalisation's weight uses x instead of x̂",
    "∂L/∂w = Σ ∂L/∂y x",
    "∂L/∂w = Σ ∂L/∂y x̂",
    "∂L/∂w",
    code="dL_dgain = (y * x).sum(axis=0)",
)


_WITH_GAIN = Wrong(
    "rms norm: gain's gradient times the gain",
    RMS_NORM_FAMILY,
    "in {where}, the gradient of RMS normalisation's weight has an extra factor w",
    "∂L/∂w = w Σ ∂L/∂y x̂",
    "∂L/∂w = Σ ∂L/∂y x̂",
    "∂L/∂w",
    code="dL_dgain = gain * (y * x_hat).sum(axis=0)",
)


def _gradient_of_x(visit: Visit) -> Array | None:
    below = visit.at.graph.nodes[visit.feeder] if visit.feeder >= 0 else None
    if below is None or not isinstance(below.step, RootMeanSquare):
        return None
    x = visit.at.values[below.inputs[0]]
    return visit.step.vjp(visit.p, (x,), visit.output, visit.upstream)[1]["weight"]


RMS_NORM: tuple[Variant, ...] = (
    variant(
        Gain,
        "rms norm: weight forgotten",
        RMS_NORM_FAMILY,
        share(lambda visit: visit.upstream),
        "the backward pass of RMS normalisation leaves out the normalisation's weight",
        "∂L/∂x̂ = ∂L/∂y",
        "∂L/∂x̂ = w ∂L/∂y",
        "dL_dx_hat = y",
    ),
    Variant(_OF_X, Gain, gradient("weight", _gradient_of_x)),
    Variant(_WITH_GAIN, Gain, gradient("weight", lambda visit: visit.p["weight"] * visit.right[1]["weight"])),
    *(
        variant(
            RootMeanSquare,
            f"rms norm: {kind}",
            RMS_NORM_FAMILY,
            share(of),
            f"RMS normalisation's backward pass {sentence}",
            wrong,
            _RIGHT,
            code,
        )
        for kind, of, sentence, wrong, code in _ROWS
    ),
    variant(
        RootMeanSquare,
        "rms norm: eps forgotten",
        RMS_NORM_FAMILY,
        share(lambda v: v.right[0][0] * _root(v) / _root(v, 0.0)),
        "RMS normalisation's backward pass lacks eps",
        "∂L/∂x = (…) / √(mean x²)",
        _RIGHT,
        "dL_dx = (dL_dx_hat - x_hat * mean(dL_dx_hat * x_hat)) / np.sqrt(mean(x**2))",
        "a larger eps, or smaller values",
    ),
)
