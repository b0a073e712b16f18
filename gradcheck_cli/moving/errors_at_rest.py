"""Bounds on the errors of a network's unperturbed values, measured in wider floats if that pays.

A bound that is carried from step to step assumes that all rounding errors have the worst signs. Each layer
multiplies it, so that it is a million units in the last place after a few layers, where the errors are three.
One forward pass in wider floats measures the errors to within the bound on its own errors, which is
thousands of times smaller.
"""

from __future__ import annotations

import numpy as np

from gradcheck_cli.moving.at_rest import AtRest
from gradcheck_cli.network.arithmetic import NUDGED
from gradcheck_cli.network.graph import run
from gradcheck_cli.types import EPS, Array

_WIDE = float(np.finfo(np.longdouble).eps) / EPS
"""The machine epsilon of the widest floats, relative to float64's."""

_LOOSE = 2.0**15
"""The bound on the outputs' errors, in units of machine epsilon, from which measuring pays."""

_MOST_WIDE = 2**22
"""The largest number of multiplications in a forward pass in wide floats. They take 5 ns each."""


def errors_at_rest(objective: AtRest) -> tuple[Array, ...]:
    """Return bounds on the errors of all values, (N, *features) each, in units of machine epsilon.

    The errors are those of the values at rest for an exact x and exact parameters.
    """
    carried = tuple(each / NUDGED.eps for each in objective.nudged_errors)
    if not _is_worth_measuring(objective, carried[-1]):
        return carried
    parameters = {name: value.astype(np.longdouble) for name, value in objective.parameters.items()}
    exact = run(objective.graph, parameters, objective.x.astype(np.longdouble))
    off = (np.abs(one - other) / EPS for one, other in zip(exact, objective.values, strict=True))
    measured = zip(off, carried, strict=True)
    return tuple(np.fmin(bound, each.astype(np.float64) + _WIDE * bound) for each, bound in measured)


def _is_worth_measuring(objective: AtRest, carried: Array) -> bool:
    is_wider = _WIDE < 1.0 / 1000.0 and objective.x.dtype == np.float64
    return is_wider and float(carried.max(initial=0.0)) > _LOOSE and _multiplications(objective) <= _MOST_WIDE


def _multiplications(objective: AtRest) -> int:
    """Return the approximate number of multiplications in a forward pass of all samples."""
    features, nodes = objective.graph.value_features, objective.graph.nodes
    each = (node.step.multiplications(*(features[k] for k in node.inputs)) for node in nodes)
    return len(objective.x) * sum(each)
