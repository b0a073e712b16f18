"""Split a loss that is one number into one term per sample, if the loss is the sum or mean of such terms.

Then a forward pass can perturb all samples at once and still show the effect of each perturbation. Only
finite differences use the split loss; backward runs with the author's loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from gradcheck_cli.code.failures import RefusedError, may_fail
from gradcheck_cli.code.objective import length
from gradcheck_cli.code.torch_graph import Graph
from gradcheck_cli.code.torch_loss import OwnLoss
from gradcheck_cli.code.torch_upstream import Weights
from gradcheck_cli.types import Array

Tensor = Any

_DRAWS = 3
"""The number of random points at which the terms must add up to the loss."""

_SPLIT = "with its loss taken sample by sample"
_SHIFT = 2.0**-4
_TOLERANCE = 1e-12


def in_terms(graph: Graph, point: Mapping[str, Array], weights: Weights) -> tuple[Graph, Weights]:
    """Return the graph with a loss of one term for each sample, and the weights for these terms.

    If the loss already has several terms, or cannot be split, the graph and the weights are returned
    unchanged.
    """
    samples = 0 if graph.x is None or not graph.x.ndim else len(graph.x)
    if isinstance(graph.loss, OwnLoss) and len(weights.terms) == 1 and samples > 1:
        for share in (1.0 / samples, 1.0):
            split = replace(graph, loss=_of_samples(graph, graph.loss, share))
            of_terms = replace(weights, terms=np.ones(samples))
            with suppress(RefusedError), may_fail(), graph.code.running(_SPLIT):
                if all(_adds_up(graph, weights, split, of_terms, at) for at in near(point)):
                    return split, of_terms
    return graph, weights


def _of_samples(graph: Graph, loss: OwnLoss, share: float) -> OwnLoss:
    """Return the loss with one term for each sample: the sample's loss times `share`."""

    def of_one(*sample: Tensor) -> Tensor:
        return loss(*(each[None] for each in sample)).reshape(())

    return replace(loss, function=lambda output, *y: share * graph.torch.func.vmap(of_one)(output, *y))


def near(point: Mapping[str, Array]) -> Iterator[Mapping[str, Array]]:
    """Yield the point itself, then random points near it."""
    yield point
    rng = np.random.default_rng(0)
    for _ in range(_DRAWS):
        yield {
            name: array + _SHIFT * length(array) * rng.normal(size=array.shape)
            for name, array in point.items()
        }


def _adds_up(
    graph: Graph, weights: Weights, split: Graph, of_terms: Weights, at: Mapping[str, Array]
) -> bool:
    whole, terms = graph.losses(at, weights), split.losses(at, of_terms)
    allowed = _TOLERANCE * (np.abs(whole).sum() + np.abs(terms).sum())
    return len(terms) == len(of_terms.terms) and bool(np.abs(whole.sum() - terms.sum()) <= allowed)
