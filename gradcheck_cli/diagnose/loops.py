"""Mistakes that are made at several nodes, such as those in the body of a loop over time steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gradcheck_cli.diagnose.variant import Handed, Variant, Visit
from gradcheck_cli.network.graph import Node

Places = frozenset[int]
"""The indices of several nodes of a graph."""


@dataclass(frozen=True)
class Repeated:
    """A mistake that is made at several nodes of a graph.

    nodes: the indices of all these nodes.
    value: the value of the mistake's unknown, if it has one.
    """

    variant: Variant
    nodes: Places
    value: float = 0.0

    def made(self, visit: Visit) -> Handed | None:
        """Return the result of the wrong `vjp` on a visit to a node.

        Returns None if the mistake is not made at this node or changes nothing.
        """
        return self.variant.made(visit, self.value) if visit.i in self.nodes else None

    def applies(self, visits: Mapping[int, Visit]) -> bool:
        """Return whether the mistake changes anything on any of these visits.

        visits: the visits, by the index of the node.
        """
        return any(self.made(visits[i]) is not None for i in self.nodes if i in visits)


def everywhere(variants: Sequence[Sequence[Variant]]) -> Iterator[Repeated]:
    """Yield each mistake that can be made at several nodes, repeated at all of these nodes.

    variants: the mistakes that can be made at each node.
    """
    for variant, places in _by_variant(variants).items():
        if len(places) > 1 and not variant.wrong.unknown:
            yield Repeated(variant, places)


def in_loops(loops: Sequence[Places], variants: Sequence[Sequence[Variant]]) -> Iterator[Repeated]:
    """Yield each mistake in a statement of a loop, repeated at all nodes of the statement.

    If the mistake has an unknown, the unknown starts at 0.1.

    loops: the nodes of each statement in a loop.
    variants: the mistakes that can be made at each node.
    """
    for variant, places in _by_variant(variants).items():
        if not variant.everywhere:
            value = 0.1 if variant.wrong.unknown else 0.0
            yield from (Repeated(variant, loop, value) for loop in loops if loop < places)


def _by_variant(variants: Sequence[Sequence[Variant]]) -> dict[Variant, Places]:
    known: dict[Variant, set[int]] = {}
    for i, each in enumerate(variants):
        for variant in each:
            known.setdefault(variant, set()).add(i)
    return {variant: frozenset(places) for variant, places in known.items()}


def statements(nodes: Sequence[Node]) -> Iterator[Places]:
    """Yield, for each statement of the author's code, the nodes that the statement computes.

    A statement in a loop over time computes several nodes. These nodes belong to one layer and compute the
    same function of the same parameters.
    """
    groups: dict[tuple[str, ...], set[int]] = {}
    for i in range(len(nodes)):
        groups.setdefault(tuple(_traced(nodes, i)), set()).add(i)
    yield from map(frozenset, groups.values())


def _traced(nodes: Sequence[Node], i: int) -> Iterator[str]:
    """Yield a description of what a node computes: its layer, its step and the steps that lead to it.

    The steps are traced back within the layer, along each node's first input, to a node that has parameters
    or no inputs.
    """
    layer = nodes[i].layer
    yield layer
    while i >= 0 and nodes[i].layer == layer:
        node = nodes[i]
        yield repr(node.step)
        if node.names or not node.inputs:
            yield from node.names.values()
            return
        i = node.inputs[0] - 1
