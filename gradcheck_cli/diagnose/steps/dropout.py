"""Mistakes in the backward pass of dropout with a fixed mask."""

from __future__ import annotations

import numpy as np

from gradcheck_cli.diagnose.families import DROPOUT as DROPOUT_FAMILY
from gradcheck_cli.diagnose.variant import Of, Variant, Visit, share, variant
from gradcheck_cli.network.steps.dropout import Dropout, SampleDropout
from gradcheck_cli.types import Array

_RIGHT = "∂L/∂x = mask ⊙ g"
_TINY = float(np.finfo(float).tiny)


def _mask(visit: Visit) -> Array:
    """Return the mask multiplied by its scale."""
    step = visit.step
    if isinstance(step, SampleDropout):
        return step.scale * visit.inputs[1]
    assert isinstance(step, Dropout)
    return step.mask


def _keep(visit: Visit) -> float:
    """Return 1 − p for the dropout's p, or 1 if the dropout is not inverted or keeps nothing."""
    scale = float(_mask(visit).max())
    return 1.0 / scale if scale > 1.0 else 1.0


def _of_first_sample(visit: Visit) -> Array | None:
    if not isinstance(visit.step, SampleDropout):
        return None
    return visit.upstream * _mask(visit)[:1]


_ROWS: tuple[tuple[str, Of, str, str, str], ...] = (
    (
        "dropout: mask not in backward",
        lambda visit: visit.upstream,
        "dropout's backward pass leaves out the mask",
        "∂L/∂x = g",
        "dL_dkept = y",
    ),
    (
        "dropout: mask not in backward",
        lambda visit: visit.upstream * _mask(visit).max(),
        "dropout's backward pass keeps its scale 1/(1 − p), but leaves out the mask",
        "∂L/∂x = g / (1 − p)",
        "dL_dkept = 2 * y",
    ),
    (
        "dropout: mask applied twice",
        lambda visit: visit.upstream * _mask(visit) ** 2,
        "dropout's backward pass applies the mask and its scale 1/(1 − p) twice",
        "∂L/∂x = mask² ⊙ g",
        "dL_dkept = mask * mask * y",
    ),
    (
        "dropout: scale forgotten",
        lambda visit: visit.upstream * (_mask(visit) != 0),
        "dropout's backward pass applies the mask without its scale 1/(1 − p)",
        "∂L/∂x = (mask ≠ 0) ⊙ g",
        "dL_dkept = (mask > 0) * y",
    ),
    (
        "dropout: another scale",
        lambda visit: visit.upstream * (_mask(visit) != 0) * _keep(visit),
        "dropout's backward pass multiplies by 1 − p, but it should divide by 1 − p",
        "∂L/∂x = (1 − p) (mask ≠ 0) ⊙ g",
        "dL_dkept = (mask > 0) * y * 0.5",
    ),
    (
        "dropout: another scale",
        lambda visit: visit.upstream * (_mask(visit) != 0) / max(1.0 - _keep(visit), _TINY),
        "dropout's backward pass divides by p, but it should divide by 1 − p",
        "∂L/∂x = (mask ≠ 0) ⊙ g / p",
        "",
    ),
    (
        "dropout: mask inverted",
        lambda visit: visit.upstream * np.where(_mask(visit) == 0, _mask(visit).max(), 0.0),
        "dropout's backward pass keeps the values that the forward pass drops",
        "∂L/∂x = (1 − mask) ⊙ g",
        "dL_dkept = (2 - mask) * y",
    ),
    (
        "dropout: mask of another sample",
        _of_first_sample,
        "dropout's backward pass uses the mask of the first sample for all samples",
        "∂L/∂x = mask of sample 0 ⊙ g",
        "dL_dkept = mask[0] * y",
    ),
)

DROPOUT: tuple[Variant, ...] = tuple(
    variant(step, kind, DROPOUT_FAMILY, share(of), sentence, wrong, _RIGHT, code)
    for step in (Dropout, SampleDropout)
    for kind, of, sentence, wrong, code in _ROWS
)
