"""The widest floats available, in which the rounding errors of a network are far smaller."""

from __future__ import annotations

import numpy as np

from gradcheck_cli.moving.at_rest import AtRest
from gradcheck_cli.network.step import Arrays
from gradcheck_cli.types import EPS, Array

WIDE = float(np.finfo(np.longdouble).eps) / EPS
"""The machine epsilon of the widest floats, relative to float64's."""

ARE_WIDER = WIDE < 1.0 / 1000.0
"""Whether they are so much wider than float64 that using them pays. On some machines, they are not."""


def widened(objective: AtRest) -> tuple[Arrays, Array, Array]:
    """Return the parameters, x and the target of a network in the widest floats."""
    parameters = {name: value.astype(np.longdouble) for name, value in objective.parameters.items()}
    return parameters, objective.x.astype(np.longdouble), objective.target.astype(np.longdouble)
