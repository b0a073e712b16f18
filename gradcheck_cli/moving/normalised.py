"""Perturb one unit before a batch normalisation: only one column of the normalised value changes."""

from __future__ import annotations

from gradcheck_cli.moving.at_rest import AtRest
from gradcheck_cli.network.steps.normalise import Normalise, Scale
from gradcheck_cli.types import Array


def scaled_value(objective: AtRest, at: int) -> int | None:
    """Return the index of y = γ ẑ + β, the output of a batch normalisation directly after the value `at`.

    The value `at` is z.

    Returns None if batch normalisation does not follow, or if z does not have the shape (N, units), for N
    samples.
    """
    graph = objective.graph
    if len(graph.value_features[at]) != 1 or graph.readers[at] != (at,) or graph.readers[at + 1] != (at + 1,):
        return None
    norm, scale = graph.nodes[at].step, graph.nodes[at + 1].step
    both = isinstance(norm, Normalise) and norm.couples == "batch" and isinstance(scale, Scale)
    return at + 2 if both else None


def normalised_columns(objective: AtRest, at: int, units: Array, z: Array) -> Array:
    """Return B columns of the batch-normalised value y = γ ẑ + β, (B, N), for N samples.

    at: the index of z, which batch normalisation follows.
    units: the unit of each column, (B,).
    z: the columns of z, (B, N).
    """
    norm, scale = (objective.graph.nodes[i].step for i in (at, at + 1))
    assert isinstance(scale, Scale)
    gamma, beta = (objective.own[at + 1][name][units, None] for name in scale.names)
    y: Array = gamma * norm.forward({}, z[..., None])[..., 0] + beta
    return y
