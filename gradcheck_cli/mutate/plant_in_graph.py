"""Plant mistakes in the backprop of a network whose steps form an arbitrary graph."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from gradcheck_cli.diagnose.branches import ONE_USE, lost_variants, owners
from gradcheck_cli.diagnose.loops import Repeated, everywhere, statements
from gradcheck_cli.diagnose.mistake import Mistake, Wrong
from gradcheck_cli.diagnose.rows import matrix
from gradcheck_cli.diagnose.site import RIGHT, Part, penalty_on
from gradcheck_cli.diagnose.sites import loss_site, result_of
from gradcheck_cli.diagnose.steps import VARIANTS
from gradcheck_cli.diagnose.table import MISTAKES
from gradcheck_cli.diagnose.variant import Handed, Pass, Visit, pass_through
from gradcheck_cli.network.network import gradients
from gradcheck_cli.problem.problem import Problem
from gradcheck_cli.types import Array


@dataclass(frozen=True)
class Planted:
    """A mistake planted in one layer, and the gradients that result.

    wrong: the mistake.
    where: the layer's name.
    gradients: all gradients of the network, as matrices and without penalties.
    """

    wrong: Wrong
    where: str
    gradients: Mapping[str, Array]


def planted_in_graph(problem: Problem) -> Iterator[Planted]:
    """Yield every mistake that applies to the network's graph, planted once in every possible place.

    A place is the loss, a step of the graph, or the sum over the uses of a parameter that several layers
    share. In a loop over time, a mistake is made in every iteration.
    """
    backprop = _backprop(problem)
    yield from _in_loss(backprop)
    yield from _in_steps(backprop)
    yield from _in_uses(backprop)


def planted_in_steps(problem: Problem, kinds: Collection[type]) -> Iterator[Planted]:
    """Yield every mistake in steps of these kinds, planted once in every step to which it applies."""
    yield from _in_steps(_backprop(problem), kinds)


def _backprop(problem: Problem) -> _Backprop:
    right = gradients(problem.network, problem.parameters, problem.x, problem.target)
    found = {name: matrix(value) + penalty_on(problem, name) for name, value in right.items()}
    return _Backprop(pass_through(problem, found))


@dataclass(frozen=True)
class _Backprop:
    """Backprop through the network's graph with at most one mistake."""

    at: Pass

    @property
    def right_loss(self) -> Array:
        return RIGHT[Part.LOSS](loss_site(self.at))

    def uses(self, of_loss: Array) -> dict[str, list[Array]]:
        """Return, for each parameter, the parts of its gradient: one per use, from the output down.

        of_loss: the gradient of the loss with respect to the output.
        """
        return self._parts({i: visit.right for i, visit in self._visits(of_loss).items()})

    def with_mistake(self, wrong: Repeated) -> Planted | None:
        """Return the gradients of a backprop with this mistake; None if the mistake changes nothing."""
        swept = _Sweep(self.at, self._right)
        made_at = [i for i in self._right if swept.visit(i, wrong)]
        if not made_at:
            return None
        layer = self.at.graph.nodes[max(made_at)].layer
        return Planted(wrong.variant.wrong, layer, _summed(self._parts(swept.handed)))

    @cached_property
    def _right(self) -> dict[int, Visit]:
        return self._visits(self.right_loss)

    def _visits(self, of_loss: Array) -> dict[int, Visit]:
        """Return the visits of a backprop without mistakes, by the node's index, from the output down."""
        visits: dict[int, Visit] = {}
        handed: dict[int, Handed] = {}
        for i in reversed(range(len(self.at.graph.nodes))):
            arrived = {k: visit.upstream for k, visit in visits.items()}
            upstream = _arriving(self.at, i, handed, of_loss if not visits else None)
            visits[i] = Visit(self.at, i, upstream, arrived)
            handed[i] = visits[i].right
        return visits

    def _parts(self, handed: Mapping[int, Handed]) -> dict[str, list[Array]]:
        """Return, for each parameter, the parts of its gradient in these results of the nodes' `vjp`s."""
        found: dict[str, list[Array]] = {}
        for i, (_, own) in handed.items():
            for name, gradient in own.items():
                found.setdefault(self.at.graph.nodes[i].names[name], []).append(matrix(gradient))
        return found


@dataclass(frozen=True)
class _Sweep:
    """A backprop with a mistake. It computes only what the mistake changes.

    right: the visits of a backprop without mistakes, by the node's index, from the output down.
    handed: the result of the `vjp` of every node visited so far.
    arrived: ∂L/∂output of every node visited so far.
    changed: the values whose gradients the mistake has changed so far.
    """

    at: Pass
    right: Mapping[int, Visit]
    handed: dict[int, Handed] = field(default_factory=dict)
    arrived: dict[int, Array] = field(default_factory=dict)
    changed: set[int] = field(default_factory=set)

    def visit(self, i: int, wrong: Repeated) -> bool:
        """Visit the next node, and return whether the mistake changes the result of the node's `vjp`."""
        right = self.right[i]
        visit = right
        if i + 1 in self.changed:
            visit = Visit(self.at, i, _arriving(self.at, i, self.handed), self.arrived)
        elif self.changed and i in wrong.nodes:
            visit = replace(right, arrived=self.arrived)
        made = wrong.made(visit)
        self.arrived[i], self.handed[i] = visit.upstream, visit.right if made is None else made
        if self.handed[i] is not right.right:
            pairs = zip(right.node.inputs, self.handed[i][0], right.right[0], strict=True)
            self.changed.update(k for k, share, same in pairs if share is not same)
        return made is not None


def _arriving(at: Pass, i: int, handed: Mapping[int, Handed], of_loss: Array | None = None) -> Array:
    """Return ∂L/∂output of node i: the sum of the shares from the nodes that take this output.

    handed: the results of the `vjp`s of these nodes.
    of_loss: the gradient of the loss with respect to the output, if node i is the last one.
    """
    shares = [
        share
        for taker in reversed(at.graph.readers[i + 1])
        for k, share in zip(at.graph.nodes[taker].inputs, handed[taker][0], strict=True)
        if k == i + 1
    ]
    first, *others = ([] if of_loss is None else [of_loss]) + shares or [np.zeros_like(at.values[i + 1])]
    return sum(others, first)


def _planted(wrong: Wrong) -> float:
    return wrong.planted if isinstance(wrong, Mistake) else 0.0


def _summed(uses: Mapping[str, list[Array]]) -> dict[str, Array]:
    return {name: sum(parts[1:], parts[0]) for name, parts in uses.items()}


def _in_loss(backprop: _Backprop) -> Iterator[Planted]:
    layer = backprop.at.graph.nodes[-1].layer
    for mistake in MISTAKES[Part.LOSS]:
        wrong = None if mistake.alike else result_of(mistake, loss_site(backprop.at), mistake.planted)
        if wrong is not None:
            yield Planted(mistake, layer, _summed(backprop.uses(wrong)))


def _in_steps(backprop: _Backprop, kinds: Collection[type] = (object,)) -> Iterator[Planted]:
    nodes = backprop.at.graph.nodes
    for repeated in _places(backprop.at):
        if not isinstance(nodes[max(repeated.nodes)].step, tuple(kinds)):
            continue
        planted = backprop.with_mistake(repeated)
        if planted is not None:
            yield planted


def _places(at: Pass) -> Iterator[Repeated]:
    """Yield each mistake in a step once for every place where it can be made."""
    nodes = at.graph.nodes
    places = list(statements(nodes))
    for variant in (*VARIANTS, *lost_variants(nodes)):
        known = [[variant] if isinstance(node.step, variant.step) else [] for node in nodes]
        if isinstance(variant.wrong, Mistake) and variant.wrong.alike:
            continue
        if variant.everywhere:
            yield from everywhere(known)
        else:
            value = _planted(variant.wrong)
            yield from (Repeated(variant, each, value) for each in places if known[min(each)])


def _in_uses(backprop: _Backprop) -> Iterator[Planted]:
    """Yield, for each parameter that several layers use, the mistake of counting only one of these uses."""
    uses, owner = backprop.uses(backprop.right_loss), owners(backprop.at.graph)
    for name, parts in uses.items():
        layers = {node.layer for node in backprop.at.graph.nodes if name in node.names.values()}
        if len(layers) > 1:
            yield Planted(ONE_USE, owner[name], {**_summed(uses), name: parts[0]})
