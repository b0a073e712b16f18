"""Search for the sites of a torch module once, for all upstreams with which the module is checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from gradcheck_cli.code.failures import RefusedError, may_fail
from gradcheck_cli.code.sites import NoSites, Sites
from gradcheck_cli.code.torch_calls import unchanged
from gradcheck_cli.code.torch_graph import Graph
from gradcheck_cli.code.torch_sites import find_sites
from gradcheck_cli.code.torch_spots import TorchSites
from gradcheck_cli.code.torch_upstream import Weights
from gradcheck_cli.types import Array

_TOLERANCE = 1e-11


@dataclass
class Searched:
    """The sites found so far, by the names of the parameters for which sites were searched.

    The weights in the loss change the loss terms, but not the sites, nor the way parameters enter the sites.
    """

    found: dict[tuple[str, ...], Sites] = field(default_factory=dict)

    def sites(
        self, graph: Graph, point: Mapping[str, Array], weights: Weights, names: Sequence[str]
    ) -> Sites:
        """Return the sites of these parameters, for a loss with these weights.

        If the code fails while its modules are watched, there are no sites.
        """
        try:
            with may_fail():
                return self._sites(graph, point, weights, names)
        except RefusedError as refused:
            return NoSites(str(refused))

    def _sites(
        self, graph: Graph, point: Mapping[str, Array], weights: Weights, names: Sequence[str]
    ) -> Sites:
        known = self.found.get(tuple(names))
        again = _weighted(known, graph, point, weights) if isinstance(known, TorchSites) else known
        if again is not None:
            return again
        self.found[tuple(names)] = find_sites(graph, point, weights, names)
        return self.found[tuple(names)]


def _weighted(
    known: TorchSites, graph: Graph, point: Mapping[str, Array], weights: Weights
) -> TorchSites | None:
    """Return known sites for other weights in the loss; None if the losses then differ from the graph's."""
    terms = len(known.at_rest)
    of_terms = weights
    if len(weights.terms) != terms:  # the loss was split into one term for each sample
        of_terms = replace(weights, terms=np.full(terms, weights.terms.mean()))
    calls = replace(known.calls, weights=of_terms)
    rest = calls.losses(unchanged)
    with graph.code.running():
        losses = graph.losses(point, weights)
    allowed = _TOLERANCE * float(np.abs(rest).sum() + np.abs(losses).sum())
    if len(rest) != terms or not abs(float(rest.sum() - losses.sum())) <= allowed:
        return None
    return replace(known, calls=calls, at_rest=rest)
