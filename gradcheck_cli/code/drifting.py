"""Detect code whose loss at the same parameters changes in the course of a check."""

from __future__ import annotations

import numpy as np

from gradcheck_cli.code.objective import ForeignObjective
from gradcheck_cli.errors import bad_input
from gradcheck_cli.types import EPS

_BEYOND_NOISE = 32.0
"""The loss has changed if it differs by more than this multiple of the noise in the losses."""

_HELP = "let the results depend on the arguments alone, and keep no state between calls"


def refuse_drifting(objective: ForeignObjective) -> None:
    """Raise `InputError` if the loss at the unperturbed parameters is no longer what it was at first.

    Every process that has evaluated the loss is asked. Nothing is raised if the code refuses the call, since
    the report then says so.
    """
    function, first, evaluator = objective.function, objective.losses, objective.evaluated_by
    rounding = EPS * float(np.abs(first).sum())
    noise = max((float(np.linalg.norm(level)) for level in objective.noise.values()), default=0.0)
    allowed = _BEYOND_NOISE * max(noise, rounding) + evaluator.tolerated
    for where, again in evaluator.losses_at_rest():
        if abs(float((again - first).sum())) > allowed:
            losses = f"the loss {first.sum():.9g} at first, and {again.sum():.9g}{where}"
            message = f"{function.origin} returned {losses} for the same arguments after more calls"
            raise bad_input(f"{message}: it keeps state between calls", "gradients", help=_HELP)
