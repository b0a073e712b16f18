"""Say why finite differences of the user's code could not estimate some entries.

The code is evaluated again at a few points near its parameters, and the reason is what happens there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from gradcheck_cli.code.failures import failure
from gradcheck_cli.code.objective import ForeignObjective, length
from gradcheck_cli.code.points import Change
from gradcheck_cli.code.refusals import is_refusal
from gradcheck_cli.comparison import Comparison
from gradcheck_cli.errors import InputError
from gradcheck_cli.types import Array

_STEPS = (2.0**-24, 2.0**-10, 2.0**-2)
"""The steps on both sides of an entry at which to evaluate the code again, in units of the entry."""

UNSETTLED = "the slopes of the loss do not settle as the steps get shorter"
"""The reason if the code can be evaluated at all points nearby."""


def why_not_estimated(objective: ForeignObjective, comparisons: Sequence[Comparison]) -> str:
    """Return the reason why these tensors have entries without an estimate; empty if it cannot be found.

    The reason is in words without a full stop. It is what happens next to the first such entry.
    """
    firsts = ((c.name, int(np.argmax(~np.isfinite(c.error) & c.unresolved))) for c in comparisons)
    return next((failed for name, entry in firsts for failed in _failures(objective, name, entry)), "")


def _failures(objective: ForeignObjective, name: str, entry: int) -> Iterator[str]:
    """Yield, for each point near the entry that cannot be used, what happens at this point."""
    tensor = objective.function.parameters[name].ravel()
    unit = length(tensor)[entry]
    for step in _STEPS:
        for side in (step, -step):
            change = Change(name, np.array([entry]), tensor[[entry]] + side * unit)
            if failed := _failure(objective, change):
                yield failed


def _failure(objective: ForeignObjective, change: Change) -> str:
    """Return what is wrong with the losses at a point, such as the exception raised; empty if nothing is."""
    function = objective.function
    try:
        losses = function.losses_at([change.at(function.parameters)])
    except Exception as error:
        if not is_refusal(error):
            raise
        return _told(error, function.origin)
    return "" if np.isfinite(losses).all() else f"with slightly changed parameters, {_not_finite(losses)}"


def _not_finite(losses: Array) -> str:
    return "the loss is nan" if np.isnan(losses).any() else "the loss overflows"


def _told(error: Exception, origin: str) -> str:
    """Return an exception in words. A function that a test passes in raises the exception itself."""
    if isinstance(error, InputError):
        return "; ".join(complaint.message for complaint in error.complaints)
    return f"with slightly changed parameters, {origin} {failure(error, os.fspath(Path.cwd()))}"
