"""Mistakes in the backward pass of PReLU, whose slope is a parameter."""

from __future__ import annotations

import numpy as np

from gradcheck_cli.diagnose.families import PRELU as PRELU_FAMILY
from gradcheck_cli.diagnose.mistake import Wrong
from gradcheck_cli.diagnose.variant import Of, Variant, Visit, gradient, share, variant
from gradcheck_cli.network.steps.prelu import PReLU
from gradcheck_cli.types import Array

_RIGHT_BELOW = "∂L/∂x = g where x > 0, else w g"
_RIGHT_SLOPE = "∂L/∂w = Σ g min(x, 0)"


def _with_slope(visit: Visit, slope: Array) -> Array:
    """Return ∂L/∂x computed with `slope` in place of the step's own slope."""
    (shares, _) = visit.step.vjp({"weight": slope}, visit.inputs, visit.output, visit.upstream)
    return shares[0]


def _slope(visit: Visit, x: Array, upstream: Array) -> Array:
    """Return the slope's gradient Σ g x for the given x and upstream gradient g."""
    _, gradients = visit.step.vjp(visit.p, (-np.abs(x),), visit.output, -np.sign(x) * upstream)
    return gradients["weight"]


def _averaged(visit: Visit) -> Array:
    return visit.right[1]["weight"] * len(visit.p["weight"]) / visit.inputs[0].size


def _of_one_channel(visit: Visit) -> Array | None:
    """Return a shared slope's gradient computed from the last channel only; None for other slopes."""
    step = visit.step
    assert isinstance(step, PReLU)
    channels = visit.inputs[0].shape[1]
    if step.slopes > 1 or channels == 1:
        return None
    kept = np.zeros_like(visit.upstream)
    kept[:, -1] = visit.upstream[:, -1]
    return _slope(visit, np.minimum(visit.inputs[0], 0.0), kept)


_BELOW: tuple[tuple[str, Of, str, str, str], ...] = (
    (
        "prelu: slope forgotten",
        lambda v: v.upstream,
        "PReLU's backward pass lacks the slope where x is negative",
        "∂L/∂x = g",
        "dL_dx = y",
    ),
    (
        "prelu: nothing below 0",
        lambda v: v.upstream * (v.inputs[0] > 0),
        "PReLU's backward pass is that of relu: nothing passes where x is negative",
        "∂L/∂x = g where x > 0, else 0",
        "dL_dx = (x > 0) * y",
    ),
    (
        "prelu: slope of leaky relu",
        lambda v: _with_slope(v, np.full_like(v.p["weight"], 0.01)),
        "PReLU's backward pass uses leaky relu's slope, 0.01, not the weight",
        "∂L/∂x = g where x > 0, else 0.01 g",
        "dL_dx = np.where(x > 0, 1, 0.01) * y",
    ),
    (
        "prelu: slope twice",
        lambda v: _with_slope(v, v.p["weight"] ** 2),
        "PReLU's backward pass uses the square of the slope where x is negative",
        "∂L/∂x = g where x > 0, else w² g",
        "dL_dx = np.where(x > 0, 1, slope**2) * y",
    ),
)

_SLOPES: tuple[tuple[str, Of, str, str, str], ...] = (
    (
        "prelu: slope's gradient above 0",
        lambda v: _slope(v, v.inputs[0], v.upstream),
        "the slope's gradient is summed over positive x, too",
        "∂L/∂w = Σ g x",
        "dL_dslope = (y * x).sum().reshape(1)",
    ),
    (
        "prelu: slope's gradient from a",
        lambda v: _slope(v, np.minimum(v.output, 0.0), v.upstream),
        "the slope's gradient uses the output instead of x",
        "∂L/∂w = Σ g min(a, 0)",
        "dL_dslope = (y * np.minimum(a, 0)).sum().reshape(1)",
    ),
    (
        "prelu: slope's gradient without x",
        lambda v: _slope(v, -(v.inputs[0] <= 0).astype(float), -v.upstream),
        "the slope's gradient lacks x",
        "∂L/∂w = Σ g where x ≤ 0",
        "dL_dslope = (y * (x <= 0)).sum().reshape(1)",
    ),
    (
        "prelu: slope's gradient averaged",
        _averaged,
        "the slope's gradient is averaged over the entries of x, not summed",
        "∂L/∂w = mean of g min(x, 0)",
        "dL_dslope = (y * np.minimum(x, 0)).mean().reshape(1)",
    ),
    (
        "prelu: slope's gradient from one channel",
        _of_one_channel,
        "the gradient of the slope, which all channels share, comes from the last channel alone",
        "∂L/∂w = Σ g min(x, 0) over one channel",
        "dL_dslope = (y * np.minimum(x, 0))[:, -1].sum().reshape(1)",
    ),
)

PRELU: tuple[Variant, ...] = (
    *(
        variant(PReLU, kind, PRELU_FAMILY, share(of), sentence, wrong, _RIGHT_BELOW, code)
        for kind, of, sentence, wrong, code in _BELOW
    ),
    *(
        Variant(
            Wrong(kind, PRELU_FAMILY, f"in {{where}}, {sentence}", wrong, _RIGHT_SLOPE, "∂L/∂w", code=code),
            PReLU,
            gradient("weight", of),
        )
        for kind, of, sentence, wrong, code in _SLOPES
    ),
)
