"""Evaluate perturbations in blocks whose temporary arrays fit into the cache."""

from __future__ import annotations

import math

import numpy as np

from gradcheck_cli.network.graph import Graph
from gradcheck_cli.numerical.objective import Move, Moved
from gradcheck_cli.types import Array


def widest_above(graph: Graph, value: int) -> int:
    """Return the largest number of features among the value itself and all values that depend on it."""
    values = [value, *(i + 1 for i in graph.above(value))]
    return max(math.prod(graph.value_features[each]) for each in values)


def fitting(block: int, numbers: int) -> int:
    """Return the number of perturbations that fit into a block, at least 1.

    block: the size of the block in bytes.
    numbers: the number of floats that each perturbation needs.
    """
    return max(1, block // (8 * numbers))


def in_blocks(move: Move, size: int, which: Array, to: Array) -> Moved:
    """Evaluate `move` in blocks of `size` perturbations. Long steps need more memory than short steps."""
    if len(which) <= size:
        return move(which, to)
    parts = [slice(start, start + size) for start in range(0, len(which), size)]
    moved = [move(which[part], to[part]) for part in parts]
    return Moved(*(np.concatenate(each) for each in zip(*moved, strict=True)))


def by_length(short: Array, near: Move, far: Move, which: Array, to: Array) -> Moved:
    """Evaluate short perturbations by `near` and all others by `far`.

    short: a mask of the short ones among B perturbations, (B,).
    """
    if short.all():
        return near(which, to)
    if not short.any():
        return far(which, to)
    each = near(which[short], to[short]), far(which[~short], to[~short])
    back = np.argsort(np.argsort(~short, kind="stable"))
    return Moved(*(np.concatenate(parts)[back] for parts in zip(*each, strict=True)))
