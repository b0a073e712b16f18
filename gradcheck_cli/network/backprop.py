"""Backprop: one sweep over the steps from the output down. Each step passes ∂L/∂input to the steps below."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gradcheck_cli.network.graph import Graph
from gradcheck_cli.network.step import Arrays, Inputs
from gradcheck_cli.types import Array


@dataclass(frozen=True)
class Swept:
    """The result of a backward sweep at one node.

    node: the index of the node.
    upstream: ∂L/∂output of the node, (N, *features), for N samples.
    gradients: the gradients of the node's parameters, by the parameters' names in the network. If other nodes
        also use a parameter, the gradient here is only this node's share.
    """

    node: int
    upstream: Array
    gradients: dict[str, Array]


def sweep(graph: Graph, parameters: Arrays, values: tuple[Array, ...], dL_dout: Array) -> Iterator[Swept]:
    """Run a backward sweep, and yield its result at each node, from the output down.

    dL_dout: ∂L/∂output of the network, (N, *features), for N samples.
    """
    upstream: dict[int, Array] = {len(values) - 1: dL_dout}
    for i in reversed(range(len(graph.nodes))):
        node = graph.nodes[i]
        arriving = upstream.pop(i + 1, None)
        if arriving is None:  # no later node depends on this one
            arriving = np.zeros_like(values[i + 1])
        inputs = tuple(values[k] for k in node.inputs)
        at_node = node.own(parameters), inputs, values[i + 1], arriving
        handed: Inputs = ()
        if graph.reads_only_input(i):
            own = node.step.gradients(*at_node)
        else:
            handed, own = node.step.vjp(*at_node)
        yield Swept(i, arriving, {node.names[name]: gradient for name, gradient in own.items()})
        for k, share in zip(node.inputs, handed, strict=False):  # nothing is handed to x alone
            upstream[k] = upstream[k] + share if k in upstream else share
