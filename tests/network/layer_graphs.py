"""The graph of one composed layer, and backprop through it."""

from __future__ import annotations

from collections import defaultdict

from gradcheck_cli.network.backprop import sweep
from gradcheck_cli.network.composed.nodes import Nodes
from gradcheck_cli.network.graph import INPUT, Graph, Node, run


def graph_of(layer, features):
    """Return the graph of one layer."""
    nodes = []

    def add_node(step, *inputs, names, symbol=""):
        nodes.append(Node(step, "layer", inputs, names))
        return len(nodes)

    layer.build(Nodes(add_node), INPUT)
    return Graph(tuple(nodes), features)


def ours(graph, p, x, upstream):
    """Return the output, ∂L/∂x and all gradients."""
    values = run(graph, p, x)
    gradients, below = defaultdict(float), []
    for swept in sweep(graph, p, values, upstream):
        for name, gradient in swept.gradients.items():
            gradients[name] = gradients[name] + gradient
        node = graph.nodes[swept.node]
        if INPUT in node.inputs:
            inputs = tuple(values[k] for k in node.inputs)
            handed, _ = node.step.vjp(node.own(p), inputs, values[swept.node + 1], swept.upstream)
            below += [share for k, share in zip(node.inputs, handed, strict=True) if k == INPUT]
    return values[-1], sum(below), gradients


def above(graph, p, values, at, moved, samples):
    """Return the output after the value `at` of each of these samples has been set to `moved`."""
    fresh = {at: moved}
    for i in graph.above(at):
        node = graph.nodes[i]
        inputs = (fresh.get(k, values[k][samples]) for k in node.inputs)
        fresh[i + 1] = node.step.forward(node.own(p), *inputs)
    return fresh.get(len(values) - 1, values[-1][samples])
