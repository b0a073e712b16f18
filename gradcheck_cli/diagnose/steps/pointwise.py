"""Mistakes in the derivative of an activation, as `table.py` lists them for chains of layers."""

from __future__ import annotations

from gradcheck_cli.diagnose.mistake import Mistake
from gradcheck_cli.diagnose.site import Part
from gradcheck_cli.diagnose.sites import pointwise_site, result_of
from gradcheck_cli.diagnose.table import MISTAKES
from gradcheck_cli.diagnose.variant import Backward, Handed, Variant, Visit
from gradcheck_cli.network.steps.pointwise import Pointwise


def _backward(mistake: Mistake) -> Backward:
    def backward(visit: Visit, value: float) -> Handed | None:
        delta = result_of(mistake, pointwise_site(visit), value)
        return None if delta is None else ((delta,), {})

    return backward


POINTWISE = tuple(
    Variant(mistake, Pointwise, _backward(mistake))
    for mistake in MISTAKES[Part.ACTIVATION]
    if mistake.solver is None
)
