"""Limit worst-case rounding bounds by the observed rounding of gradcheck's own backprop in a narrow type."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcheck_cli.network.network import Network, gradients
from gradcheck_cli.network.step import Arrays
from gradcheck_cli.types import Array

_SAMPLES = 8
_NUDGE = 2.0**-10
"""The relative distance between the samples, large enough for their rounding errors to be independent."""

_UNLIKE = 10.0
"""Formulas of other authors may round this many times worse than gradcheck's."""

_FLOOR = 3e-6
"""No bound is reduced below this share of a tensor's largest entry, since small bounds do no harm."""


def capped(
    bounds: Arrays, network: Network, parameters: Arrays, x: Array, target: Array, dtype: np.dtype[Any]
) -> dict[str, Array]:
    """Return the bounds of the first-order analysis, limited by what the observed rounding makes plausible.

    The analysis assumes the worst case of every rounding. Through a stack of batch normalisations, its bounds
    grow to the size of the gradients themselves and would excuse any mistake. If a step has common formulas
    that lose digits and gradcheck's formula does not, the observed rounding says nothing about them, and the
    bounds stay as they are.
    """
    if any(node.step.loses_digits for node in network.graph.nodes):
        return dict(bounds)
    rng = np.random.default_rng(0)
    seen = {name: np.zeros(bound.shape) for name, bound in bounds.items()}
    size = dict.fromkeys(bounds, 0.0)
    for _ in range(_SAMPLES):
        nudged = {
            name: (value * (1.0 + _NUDGE * rng.uniform(-1, 1, value.shape))).astype(dtype)
            for name, value in parameters.items()
        }
        narrow = gradients(network, nudged, x.astype(dtype), target.astype(dtype))
        wide = gradients(
            network,
            {name: value.astype(np.float64) for name, value in nudged.items()},
            x.astype(dtype).astype(np.float64),
            target.astype(dtype).astype(np.float64),
        )
        for name in bounds:
            seen[name] = np.fmax(seen[name], np.abs(narrow[name] - wide[name]))
            size[name] = max(size[name], float(np.abs(wide[name]).max()))
    return {name: np.fmin(bound, _cap(seen[name], size[name])) for name, bound in bounds.items()}


def _cap(seen: Array, size: float) -> Array:
    whole = np.sqrt(np.mean(np.square(seen)))
    cap = np.maximum(_UNLIKE * np.maximum(seen, whole), _FLOOR * size)
    return np.where(cap > 0, cap, np.inf)  # no rounding was observed if everything is exactly 0
