"""Find the places at which to perturb a network to get the gradient of a parameter.

The usual place is the output z of the step that uses the parameter. If copies of z enter products, as q, k
and v do in attention, the parameter also enters the products affinely (`network.carried`), and an element of
a product may affect far fewer elements above it than an element of z does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gradcheck_cli.network.carried import Carried, Copies, Product
from gradcheck_cli.network.factors import Ones, Rows
from gradcheck_cli.network.graph import Graph
from gradcheck_cli.numerical.objective import Site, Use
from gradcheck_cli.types import Array


def places(graph: Graph, values: Sequence[Array], use: Use) -> list[Use]:
    """Return the uses of a parameter at the products that copies of its site enter, if such products exist.

    Each step that reads the site has a copy of its own and leads to a use of its own. If no copy enters a
    product, or if a reader does not copy the site, the result is the given use alone.
    """
    site, factors = use
    if not isinstance(factors, Rows | Ones):
        return [use]
    found = [_highest(graph, values, site, reader, factors) for reader in graph.readers[site]]
    if None in found or not any(each and each.factors.is_of_product for each in found):
        return [use]
    return [Use(each.site, each.factors) for each in found if each]


class _Above(NamedTuple):
    site: Site
    factors: Carried


def _highest(
    graph: Graph, values: Sequence[Array], site: Site, reader: int, factors: Rows | Ones
) -> _Above | None:
    """Return the highest value that copies `site`, or a product with that copy; None if there is neither.

    A product with more features than the copy is left out, since it would take more perturbations.

    reader: the node that reads `site`.
    """
    units, found = _units_of(factors), None
    readers: tuple[int, ...] = (reader,)
    while len(readers) == 1 and (link := _link(graph, values, site, readers[0], units)) is not None:
        features = (len(units), math.prod(graph.value_features[readers[0] + 1]))
        if isinstance(link, Product) and features[1] > features[0]:
            break
        site = readers[0] + 1
        found = _Above(site, Carried(found.factors if found else factors, link, features))
        if isinstance(link, Product):
            break
        units, readers = units[link.source], graph.readers[site]
    return found


def _link(
    graph: Graph, values: Sequence[Array], value: Site, reader: int, units: Array
) -> Copies | Product | None:
    """Return how a node's output depends on one of its inputs; None if the node reads the input twice."""
    node = graph.nodes[reader]
    if node.inputs.count(value) > 1:
        return None
    return node.step.link(node.inputs.index(value), tuple(values[k] for k in node.inputs), units)


def _units_of(factors: Rows | Ones) -> Array:
    """Return the unit of each feature of a step's output, (F,)."""
    features = np.arange(math.prod(factors.channels.features))
    by_unit = factors.channels.by_unit(features[:, None])
    units = np.empty_like(features)
    units[by_unit] = np.arange(len(by_unit))[:, None]
    return units
