"""Mistakes in the backward pass of the rotary embedding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradcheck_cli.diagnose.families import ATTENTION
from gradcheck_cli.diagnose.variant import Variant, Visit, share, variant
from gradcheck_cli.network.steps.rotary import Rotary
from gradcheck_cli.types import Array

_RIGHT = "∂L/∂x = g turned back by t θ"


def _turned_again(visit: Visit) -> Array:
    assert isinstance(visit.step, Rotary)
    return visit.step.apply(visit.upstream)


def _other_pairs(visit: Visit) -> Array:
    """Return the gradient rotated back with features paired in the other layout.

    One layout pairs neighbours, the other pairs the first half of the features with the second half.
    """
    step = visit.step
    assert isinstance(step, Rotary)
    other = replace(step, interleaved=not step.interleaved)
    return other.vjp(visit.p, visit.inputs, visit.output, visit.upstream)[0][0]


def _next_token(visit: Visit) -> Array:
    """Return the gradient rotated back by the preceding token's angle, as if positions started at 1."""
    step = visit.step
    assert isinstance(step, Rotary)
    shifted = replace(step, cos=np.roll(step.cos, 1, axis=0), sin=np.roll(step.sin, 1, axis=0))
    return shifted.vjp(visit.p, visit.inputs, visit.output, visit.upstream)[0][0]


ROTARY: tuple[Variant, ...] = (
    variant(
        Rotary,
        "rotation not inverted",
        ATTENTION,
        share(_turned_again),
        "the rotary embedding's backward pass rotates the gradient forward again instead of back",
        "∂L/∂x = g turned by t θ",
        _RIGHT,
        code="dL_dunturned = turned(y, angles)",
    ),
    variant(
        Rotary,
        "rotation left out",
        ATTENTION,
        share(lambda visit: visit.upstream),
        "the rotary embedding is left out of the backward pass",
        "∂L/∂x = g",
        _RIGHT,
        code="dL_dunturned = y",
    ),
    variant(
        Rotary,
        "rotation of other pairs",
        ATTENTION,
        share(_other_pairs),
        "the rotary embedding pairs adjacent features in one pass, forward or backward, but pairs the first "
        "half of the features with the second half in the other pass",
        "∂L/∂x = other pairs of g, turned back by t θ",
        _RIGHT,
        code="dL_dunturned = turned(y[..., [0, 2, 1, 3]], -angles)[..., [0, 2, 1, 3]]",
    ),
    variant(
        Rotary,
        "rotation of another token",
        ATTENTION,
        share(_next_token),
        "the rotary embedding's backward pass rotates each token by the angle of the preceding token",
        "∂L/∂x = g turned back by (t − 1) θ",
        _RIGHT,
        code="dL_dunturned = turned(y, -np.roll(angles, 1, axis=0))",
    ),
)
