"""Bounds on the errors of a network's unperturbed values, measured in wider floats if that pays.

A bound that is carried from step to step assumes that all rounding errors have the worst signs. Each layer
multiplies it, so that it is a million units in the last place after a few layers, where the errors are three.
One forward pass in wider floats measures the errors to within the bound on its own errors, which is
thousands of times smaller.
"""

from __future__ import annotations

import numpy as np

from gradcheck_cli.moving.at_rest import AtRest
from gradcheck_cli.moving.wide_floats import ARE_WIDER, WIDE, widened
from gradcheck_cli.network.arithmetic import NUDGED
from gradcheck_cli.types import EPS, Array

_LOOSE = 2.0**15
"""The bound on the outputs' errors, in units of machine epsilon, from which measuring pays."""

_MOST_WIDE = 2**24
"""The largest number of multiplications in a forward pass in wide floats. They take 5 ns each."""


def in_wide_floats(objective: AtRest) -> AtRest | None:
    """Return the same network in the widest floats available.

    Returns None if they are no wider than x, or if a forward pass takes too long.
    """
    if not ARE_WIDER or objective.x.dtype != np.float64 or _multiplications(objective) > _MOST_WIDE:
        return None
    return AtRest(objective.network, *widened(objective), objective.arithmetic)


def carried_errors(objective: AtRest) -> tuple[Array, ...]:
    """Return bounds on the errors of all values, (N, *features) each, in units of machine epsilon.

    The errors are those of the values at rest for an exact x and exact parameters.
    """
    return tuple(each / NUDGED.eps for each in objective.nudged_errors)


def are_loose(carried: tuple[Array, ...]) -> bool:
    """Return whether carried bounds are so loose that it pays to measure the errors."""
    return float(carried[-1].max(initial=0.0)) > _LOOSE


def measured_errors(objective: AtRest, wide: AtRest, carried: tuple[Array, ...]) -> tuple[Array, ...]:
    """Return bounds as `carried_errors` does, from the errors that the wide floats show."""
    off = (np.abs(one - other) / EPS for one, other in zip(wide.values, objective.values, strict=True))
    each = zip(off, carried, strict=True)
    return tuple(np.fmin(bound, seen.astype(np.float64) + WIDE * bound) for seen, bound in each)


def _multiplications(objective: AtRest) -> int:
    """Return the approximate number of multiplications in a forward pass of all samples."""
    features, nodes = objective.graph.value_features, objective.graph.nodes
    each = (node.step.multiplications(*(features[k] for k in node.inputs)) for node in nodes)
    return len(objective.x) * sum(each)
