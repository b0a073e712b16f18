"""View a graph as a chain of dense and convolution layers, if the graph is such a chain.

Each layer is a step with a weight and a bias, then optional batch normalisation, then an activation. Steps
without parameters, such as flatten, may come between two layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gradcheck_cli.network.graph import Graph, Node
from gradcheck_cli.network.layer import Layer
from gradcheck_cli.network.steps.conv2d import Conv2d
from gradcheck_cli.network.steps.dense import Dense
from gradcheck_cli.network.steps.normalise import Normalise, Scale
from gradcheck_cli.network.steps.pointwise import Pointwise
from gradcheck_cli.types import Shape


@dataclass(frozen=True)
class Places:
    """The indices of a layer's values in the graph: input, z, normalised ẑ, y = γ ẑ + β, and output a = φ(y).

    Without batch normalisation, z, ẑ and y are the same value.
    """

    input: int
    z: int
    z_hat: int
    y: int
    a: int


class Placed(NamedTuple):
    """A layer, and the indices of its values in the graph."""

    layer: Layer
    at: Places


def chain_of(graph: Graph) -> tuple[Placed, ...]:
    """Return the layers of a chain, from the input up.

    The result is empty if the graph is not a chain of dense and convolution layers.
    """
    nodes, found, first = graph.nodes, list[Placed](), 0
    straight = all(node.inputs == (i,) for i, node in enumerate(nodes))
    shared = any(len(uses) > 1 for uses in graph.uses.values())
    if not straight or shared or len(graph.value_features[-1]) != 1:
        return ()
    while first < len(nodes):
        placed = _layer_from(graph, first)
        if placed is None:
            return ()
        found.append(placed)
        first = placed.at.a
    return tuple(found)


def _layer_from(graph: Graph, first: int) -> Placed | None:
    """Return the layer whose nodes begin at index `first`.

    Returns None if the nodes there do not form a dense or convolution layer.
    """
    nodes = graph.nodes
    enters = next((i for i in range(first, len(nodes)) if not _passes(nodes[i])), len(nodes))
    if enters == len(nodes) or not _is_affine(graph, enters):
        return None
    end, norm = enters + 1, None
    if _is_batch_norm(nodes[end : end + 2]):
        norm, end = nodes[end].step, end + 2
    last = nodes[end].step if end < len(nodes) else None
    if not isinstance(last, Pointwise) or any(
        n.layer != nodes[enters].layer for n in nodes[enters : end + 1]
    ):
        return None
    before = tuple(node.step for node in nodes[first:enters])
    eps = norm.eps if isinstance(norm, Normalise) else None
    middle = (nodes[enters].step, graph.value_features[enters], last.row)
    z_hat = enters + 1 if norm is None else enters + 2
    return Placed(
        Layer(nodes[enters].layer, *middle, eps, before), Places(enters, enters + 1, z_hat, end, end + 1)
    )


def _passes(node: Node) -> bool:
    """Return whether a node may come between two layers of a chain."""
    step = node.step
    return not step.shapes and not step.is_activation and step.couples != "batch"


def _is_affine(graph: Graph, i: int) -> bool:
    """Return whether node `i` is a convolution or a dense step, with a bias and the usual parameter names.

    The input of a dense step must not have position axes.
    """
    node = graph.nodes[i]
    usual = all(name == f"{node.layer}.{own}" for own, name in node.names.items())
    positions = len(graph.value_features[i]) > 1
    is_dense = isinstance(node.step, Dense) and node.step.bias and not positions
    return usual and (isinstance(node.step, Conv2d) or is_dense)


def _is_batch_norm(nodes: Sequence[Node]) -> bool:
    if len(nodes) != 2:
        return False
    norm, scale = (node.step for node in nodes)
    usual = isinstance(norm, Normalise) and norm.couples == "batch" and not norm.unbiased
    return usual and isinstance(scale, Scale)


def chained(features: Shape, layers: Sequence[Layer]) -> Graph:
    """Return the graph of a chain of layers.

    features: the shape of one sample of x.
    """
    nodes: list[Node] = []
    for layer in layers:
        for step in layer.steps:
            names = {own: f"{layer.name}.{own}" for own in step.shapes}
            nodes.append(Node(step, layer.name, (len(nodes),), names))
    return Graph(tuple(nodes), features)
