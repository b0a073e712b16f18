"""Mistakes that are made at several nodes, as a mistake in the body of a loop over time steps is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gradcheck_cli.diagnose.variant import Handed, Variant, Visit
from gradcheck_cli.network.graph import Node

Places = frozenset[int]
"""The indices of nodes."""


@dataclass(frozen=True)
class Repeated:
    """A mistake that is made at each of these nodes."""

    variant: Variant
    nodes: Places

    def made(self, visit: Visit, unknown: float = 0.0) -> Handed | None:
        """Return the wrong result; None if the node is not among them or the mistake changes nothing."""
        return self.variant.made(visit, unknown) if visit.i in self.nodes else None

    def applies(self, visits: Mapping[int, Visit]) -> bool:
        """Return whether the mistake changes anything at one of these visits, by node."""
        return any(self.made(visits[i]) is not None for i in self.nodes if i in visits)


def everywhere(variants: Sequence[Sequence[Variant]]) -> Iterator[Repeated]:
    """Yield each mistake at all nodes of its kind, given the mistakes possible at each node."""
    for variant, places in _by_variant(variants).items():
        if len(places) > 1 and not variant.wrong.unknown:
            yield Repeated(variant, places)


def in_loops(nodes: Sequence[Node], variants: Sequence[Sequence[Variant]]) -> Iterator[Repeated]:
    """Yield each mistake at all nodes of one statement of a loop, given those possible at each node."""
    loops = [loop for loop in statements(nodes) if len(loop) > 1]
    for variant, places in _by_variant(variants).items():
        if not variant.everywhere and not variant.wrong.unknown:
            yield from (Repeated(variant, loop) for loop in loops if loop < places)


def _by_variant(variants: Sequence[Sequence[Variant]]) -> dict[Variant, Places]:
    known: dict[Variant, set[int]] = {}
    for i, each in enumerate(variants):
        for variant in each:
            known.setdefault(variant, set()).add(i)
    return {variant: frozenset(places) for variant, places in known.items()}


def statements(nodes: Sequence[Node]) -> Iterator[Places]:
    """Yield the nodes of each statement of an author's code; one in a loop over time has several nodes.

    Such nodes belong to one layer, and compute the same from the same parameters.
    """
    groups: dict[tuple[str, ...], set[int]] = {}
    for i in range(len(nodes)):
        groups.setdefault(tuple(_traced(nodes, i)), set()).add(i)
    yield from map(frozenset, groups.values())


def _traced(nodes: Sequence[Node], i: int) -> Iterator[str]:
    """Yield in words what a node computes, back along the first inputs to a node with parameters."""
    layer = nodes[i].layer
    yield layer
    while i >= 0 and nodes[i].layer == layer:
        node = nodes[i]
        yield repr(node.step)
        if node.names:
            yield from node.names.values()
            return
        i = node.inputs[0] - 1
