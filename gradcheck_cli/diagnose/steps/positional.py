"""Mistakes in the gradient of a learned positional embedding."""

from __future__ import annotations

import numpy as np

from gradcheck_cli.diagnose.families import EMBEDDING
from gradcheck_cli.diagnose.mistake import Wrong
from gradcheck_cli.diagnose.variant import Of, Variant, Visit, gradient
from gradcheck_cli.network.steps.positional import PositionalAdd
from gradcheck_cli.types import Array


def _summed_over_positions(visit: Visit) -> Array:
    total = visit.right[1]["weight"]
    return np.broadcast_to(total.sum(axis=0, keepdims=True), total.shape) + 0.0


def _reversed(visit: Visit) -> Array:
    turned: Array = visit.right[1]["weight"][::-1]
    return turned


_ROWS: tuple[tuple[str, Of, str, str, str], ...] = (
    (
        "positions averaged over samples",
        lambda v: v.upstream.mean(axis=0),
        "the gradient of the positions is averaged over the samples, not summed",
        "∂L/∂w = mean of δ over the samples",
        "dL_dpositions = y.mean(axis=0)",
    ),
    (
        "positions' gradient from one sample",
        lambda v: v.upstream[-1],
        "the gradient of the positions is that of the last sample alone (= instead of +=)",
        "∂L/∂w = δ of the last sample",
        "dL_dpositions = y[-1]",
    ),
    (
        "positions' gradient from one sample",
        lambda v: v.upstream[0],
        "the gradient of the positions is that of the first sample alone",
        "∂L/∂w = δ of the first sample",
        "dL_dpositions = y[0]",
    ),
    (
        "positions summed",
        _summed_over_positions,
        "every position gets the sum of the gradients of all positions",
        "∂L/∂w[t] = Σ δ over samples and positions",
        "dL_dpositions = np.tile(y.sum(axis=(0, 1)), (4, 1))",
    ),
    (
        "positions reversed",
        _reversed,
        "the gradient of the positions is in reverse order",
        "∂L/∂w[t] = Σ δ at the position T − 1 − t",
        "dL_dpositions = y.sum(axis=0)[::-1]",
    ),
)

POSITIONAL = tuple(
    Variant(
        Wrong(
            kind,
            EMBEDDING,
            f"in {{where}}, {sentence}",
            wrong,
            "∂L/∂w = Σ δ over the samples",
            "∂L/∂w",
            code=code,
            shown_by="several samples, and positions whose gradients differ",
        ),
        PositionalAdd,
        gradient("weight", of),
    )
    for kind, of, sentence, wrong, code in _ROWS
)
