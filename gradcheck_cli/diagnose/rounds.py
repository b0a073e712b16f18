"""The rounds of an unrolled loop over time, and the state that each round passes to the next.

The nodes of a round follow each other in the graph. Some products use the same parameters in every round. A
round begins with the first of these products, or with the nodes before it that compute the product's input.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

from gradcheck_cli.network.graph import Node

Taken = tuple[int, int]
"""The index of a node and the position of one of its inputs."""


def carried(nodes: Sequence[Node]) -> frozenset[Taken]:
    """Return the inputs that take their value from an earlier round of the same loop."""
    return frozenset(taken for begins in _loops(nodes) for taken in _carried_in(nodes, begins))


def first_round(nodes: Sequence[Node]) -> frozenset[int]:
    """Return the indices of the nodes in the first round of each loop."""
    return frozenset(i for begins in _loops(nodes) for i in range(*begins[:2]))


def _loops(nodes: Sequence[Node]) -> Iterator[Sequence[int]]:
    """For each loop, yield the index of the node that begins each round."""
    users: dict[tuple[str, ...], list[int]] = {}
    for i, node in enumerate(nodes):
        if node.names:
            users.setdefault((node.layer, *node.names.values()), []).append(i)
    ends: dict[str, int] = {}
    for (layer, *_), uses in users.items():
        if len(uses) > 1 and uses[0] > ends.get(layer, -1):
            ends[layer] = uses[-1]
            before = _nodes_before(nodes, uses)
            yield [i - before for i in uses]


def _nodes_before(nodes: Sequence[Node], products: Sequence[int]) -> int:
    """Return the number of nodes that compute the input of the product, just before it, in every round.

    products: the index of the first product of each round.
    """
    count = 0
    while products[0] > count:
        before = [i - count - 1 for i in products]
        alike = len({(type(nodes[i].step), nodes[i].layer, bool(nodes[i].names)) for i in before}) == 1
        if not alike or nodes[before[0]].names or nodes[before[0]].layer != nodes[products[0]].layer:
            break
        count += 1
    return count


def _carried_in(nodes: Sequence[Node], begins: Sequence[int]) -> Iterator[Taken]:
    layer = nodes[begins[0]].layer
    for i in range(begins[1] + 1, len(nodes)):
        if nodes[i].layer != layer or i in begins or _is_after(nodes[i], begins):
            continue  # the first node of a round takes the round's own input
        now = bisect_right(begins, i)
        for slot, value in enumerate(nodes[i].inputs):
            if 0 < bisect_right(begins, value - 1) < now:
                yield i, slot


def _is_after(node: Node, begins: Sequence[int]) -> bool:
    """Return whether a node takes values from every round, as the node that stacks a loop's outputs does."""
    rounds = {bisect_right(begins, value - 1) for value in node.inputs}
    return len(rounds - {0}) == len(begins)
