"""Words for one step of a layer that has several steps of the same kind, such as the gates of an LSTM."""

from __future__ import annotations

from gradcheck_cli.diagnose.variant import Visit
from gradcheck_cli.network.graph import Graph, Node
from gradcheck_cli.network.steps.gates import Complement, Multiply
from gradcheck_cli.network.steps.pointwise import Pointwise


def place_of(visit: Visit) -> str:
    """Return words for the visited product or activation; empty for other steps, or if it is the only one.

    At every time step of a recurrent layer, the words are the same.
    """
    graph, node = visit.at.graph, visit.node
    here = _named(graph, node)
    others = {_named(graph, each) for each in graph.nodes if each.layer == node.layer}
    kinds = {name for name in others if name.split(" ")[1:2] == here.split(" ")[1:2]}
    return here if len(kinds) > 1 else ""


def _named(graph: Graph, node: Node) -> str:
    if isinstance(node.step, Multiply):
        first = node.inputs[0]
        return f"the product with {_symbol(graph, first)}" if _symbol(graph, first) else ""
    if isinstance(node.step, Pointwise):
        symbol = _symbol(graph, graph.nodes.index(node) + 1)
        return f"the activation {symbol}" if symbol else ""
    return ""


def _symbol(graph: Graph, value: int) -> str:
    """Return the symbol of a value, or one that follows from its step; empty if there is none."""
    node = graph.nodes[value - 1] if value else None
    if node is None or node.symbol or not node.inputs:
        return node.symbol if node else ""
    below = _symbol(graph, node.inputs[0])
    if isinstance(node.step, Complement):
        return below and f"1 − {below}"
    return below and f"{node.step.name}({below})" if isinstance(node.step, Pointwise) else ""
