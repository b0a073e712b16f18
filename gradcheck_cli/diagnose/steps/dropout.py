"""Mistakes in the backward pass of dropout with a fixed mask."""

from __future__ import annotations

import numpy as np

from gradcheck_cli.diagnose.families import DROPOUT as DROPOUT_FAMILY
from gradcheck_cli.diagnose.variant import Variant, Visit, share, variant
from gradcheck_cli.network.steps.dropout import Dropout
from gradcheck_cli.types import Array

_RIGHT = "∂L/∂x = mask ⊙ g"


def _mask(visit: Visit) -> Array:
    assert isinstance(visit.step, Dropout)
    return visit.step.mask


DROPOUT: tuple[Variant, ...] = (
    variant(
        Dropout,
        "dropout: mask not in backward",
        DROPOUT_FAMILY,
        share(lambda visit: visit.upstream),
        "dropout's backward pass leaves out the mask",
        "∂L/∂x = g",
        _RIGHT,
        code="dL_dkept = y",
    ),
    variant(
        Dropout,
        "dropout: mask applied twice",
        DROPOUT_FAMILY,
        share(lambda visit: visit.upstream * _mask(visit) ** 2),
        "dropout's backward pass applies the mask and its scale 1/(1 − p) twice",
        "∂L/∂x = mask² ⊙ g",
        _RIGHT,
        code="dL_dkept = mask * mask * y",
    ),
    variant(
        Dropout,
        "dropout: scale forgotten",
        DROPOUT_FAMILY,
        share(lambda visit: visit.upstream * (_mask(visit) != 0)),
        "dropout's backward pass applies the mask without its scale 1/(1 − p)",
        "∂L/∂x = (mask ≠ 0) ⊙ g",
        _RIGHT,
        code="dL_dkept = (mask > 0) * y",
    ),
    variant(
        Dropout,
        "dropout: mask inverted",
        DROPOUT_FAMILY,
        share(lambda visit: visit.upstream * np.where(_mask(visit) == 0, _mask(visit).max(), 0.0)),
        "dropout's backward pass keeps the values that the forward pass drops",
        "∂L/∂x = (1 − mask) ⊙ g",
        _RIGHT,
        code="dL_dkept = (2 - mask) * y",
    ),
)
