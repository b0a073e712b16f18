"""Mistakes in skip connections around a normalisation, or around a branch below a normalisation."""

from __future__ import annotations

from gradcheck_cli.diagnose.families import BRANCHES
from gradcheck_cli.diagnose.mistake import Wrong
from gradcheck_cli.diagnose.variant import Handed, Variant, Visit, share
from gradcheck_cli.network.step import Step
from gradcheck_cli.network.steps.add import Add
from gradcheck_cli.network.steps.normalise import Normalise, Scale
from gradcheck_cli.network.steps.rms_norm import Gain, RootMeanSquare
from gradcheck_cli.types import Array

_NORMS, _SCALES = (Normalise, RootMeanSquare), (Scale, Gain)
_KIND = "skip connection on the wrong side of the norm"

# --- x + f(norm(x)) ----------------------------------------------------------------------------------------


def _around(visit: Visit) -> Array | None:
    """Return the gradient that the skip connection around a normalisation passes to the norm's input.

    Returns None if no skip connection starts at the norm's input.

    visit: a visit to the normalisation or to its scale.
    """
    norm = visit.feeder if isinstance(visit.step, _SCALES) else visit.i
    nodes = visit.at.graph.nodes
    if norm < 0 or not isinstance(nodes[norm].step, _NORMS):
        return None
    start = nodes[norm].inputs[0]
    sums = [i for i, _ in visit.at.consumers(start) if isinstance(nodes[i].step, Add) and i in visit.arrived]
    return visit.arrived[sums[0]] if len(sums) == 1 else None


def _has_scale(visit: Visit) -> bool:
    taker = visit.taker
    return taker >= 0 and isinstance(visit.at.graph.nodes[taker].step, _SCALES)


def _through_the_norm(visit: Visit, _: float) -> Handed | None:
    """Return the result of a `vjp` that adds the skip's gradient above the normalisation, not below it."""
    skip = _around(visit) if isinstance(visit.step, (*_NORMS, *_SCALES)) else None
    if skip is None or skip.shape != visit.upstream.shape:
        return None
    is_norm = isinstance(visit.step, _NORMS)
    above = visit.upstream if is_norm and _has_scale(visit) else visit.upstream + skip
    (below,), gradients = visit.step.vjp(visit.p, visit.inputs, visit.output, above)
    return ((below - skip) if is_norm else below,), gradients


# --- norm(x + f(x)) ----------------------------------------------------------------------------------------


def _past_the_norm(visit: Visit) -> Array | None:
    """Return the gradient that arrives from above at the normalisation that follows the visited sum.

    If the normalisation has a scale, the gradient is the one that arrives at the scale. Returns None if no
    normalisation follows the sum directly.
    """
    nodes, above = visit.at.graph.nodes, visit.taker
    if above < 0 or not isinstance(nodes[above].step, _NORMS):
        return None
    takers = [i for i, _ in visit.at.consumers(above + 1)]
    if len(takers) == 1 and isinstance(nodes[takers[0]].step, _SCALES):
        above = takers[0]
    return visit.arrived.get(above)


RESIDUAL: tuple[Variant, ...] = (
    Variant(
        Wrong(
            _KIND,
            BRANCHES,
            "the skip connection around {where} starts below the norm, but its gradient is added above it",
            "∂L/∂x = norm's vjp of (∂L/∂f + ∂L/∂y)",
            "∂L/∂x = norm's vjp of ∂L/∂f, + ∂L/∂y",
            "δ",
            code=(
                "dL_dnormed = y @ w_2 + y\n"
                "dL_dhat = gamma * dL_dnormed\n"
                "dL_da_1 = (dL_dhat - mean(dL_dhat) - hat * mean(dL_dhat * hat)) / deviation"
            ),
        ),
        Step,
        _through_the_norm,
        everywhere=True,
    ),
    *(
        Variant(
            Wrong(
                _KIND,
                BRANCHES,
                "the sum in {where} goes through a norm, but its skip connection passes on the gradient "
                "from above the norm",
                "∂L/∂x = ∂L/∂y + …",
                "∂L/∂x = norm's vjp of ∂L/∂y, + …",
                "δ",
            ),
            Add,
            share(_past_the_norm, slot),
        )
        for slot in (0, 1)
    ),
)
