"""Mistakes in the backward pass of the rotary embedding."""

from __future__ import annotations

from gradcheck_cli.diagnose.families import ATTENTION
from gradcheck_cli.diagnose.variant import Variant, Visit, share, variant
from gradcheck_cli.network.steps.rotary import Rotary
from gradcheck_cli.types import Array

_RIGHT = "∂L/∂x = g turned back by t θ"


def _turned_again(visit: Visit) -> Array:
    assert isinstance(visit.step, Rotary)
    return visit.step.apply(visit.upstream)


ROTARY: tuple[Variant, ...] = (
    variant(
        Rotary,
        "rotation not inverted",
        ATTENTION,
        share(_turned_again),
        "the rotary embedding's backward pass rotates the gradient forward again instead of back",
        "∂L/∂x = g turned by t θ",
        _RIGHT,
    ),
    variant(
        Rotary,
        "rotation left out",
        ATTENTION,
        share(lambda visit: visit.upstream),
        "the rotary embedding is left out of the backward pass",
        "∂L/∂x = g",
        _RIGHT,
    ),
)
