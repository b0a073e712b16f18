"""Plant mistakes in the backprop of a network whose steps form an arbitrary graph."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from gradcheck_cli.diagnose.branches import ONE_USE, lost_variants, owners
from gradcheck_cli.diagnose.loops import Repeated, everywhere, statements
from gradcheck_cli.diagnose.mistake import Mistake, Wrong
from gradcheck_cli.diagnose.rows import matrix
from gradcheck_cli.diagnose.site import RIGHT, Part
from gradcheck_cli.diagnose.sites import loss_site, result_of
from gradcheck_cli.diagnose.steps import VARIANTS
from gradcheck_cli.diagnose.table import MISTAKES
from gradcheck_cli.diagnose.variant import Pass, Visit, pass_through
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
    return _Backprop(pass_through(problem, {name: matrix(value) for name, value in right.items()}))


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
        return self._swept(of_loss)[0]

    def with_mistake(self, wrong: Repeated) -> Planted | None:
        """Return the gradients of a backprop with this mistake; None if the mistake changes nothing."""
        found, made_at = self._swept(self.right_loss, wrong)
        if not made_at:
            return None
        return Planted(wrong.variant.wrong, self.at.graph.nodes[max(made_at)].layer, _summed(found))

    def _swept(
        self, of_loss: Array, wrong: Repeated | None = None
    ) -> tuple[dict[str, list[Array]], list[int]]:
        """Return the parts of each parameter's gradient, one per use, and the nodes with the mistake."""
        upstream, arrived = {len(self.at.graph.nodes): of_loss}, dict[int, Array]()
        found: dict[str, list[Array]] = {}
        made_at: list[int] = []
        for i in reversed(range(len(self.at.graph.nodes))):
            visit = Visit(
                self.at, i, upstream.pop(i + 1, np.zeros_like(self.at.values[i + 1])), dict(arrived)
            )
            arrived[i] = visit.upstream
            handed = None if wrong is None else wrong.made(visit)
            made_at += [] if handed is None else [i]
            shares, own = visit.right if handed is None else handed
            for k, share in zip(visit.node.inputs, shares, strict=True):
                upstream[k] = upstream[k] + share if k in upstream else share
            for name, gradient in own.items():
                found.setdefault(visit.node.names[name], []).append(matrix(gradient))
        return found, made_at


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
    for variant in (*VARIANTS, *lost_variants(nodes)):
        known = [[variant] if isinstance(node.step, variant.step) else [] for node in nodes]
        if isinstance(variant.wrong, Mistake) and variant.wrong.alike:
            continue
        if variant.everywhere:
            yield from everywhere(known)
        else:
            value = _planted(variant.wrong)
            yield from (Repeated(variant, each, value) for each in statements(nodes) if known[min(each)])


def _in_uses(backprop: _Backprop) -> Iterator[Planted]:
    """Yield, for each parameter that several layers use, the mistake of counting only one of these uses."""
    uses, owner = backprop.uses(backprop.right_loss), owners(backprop.at.graph)
    for name, parts in uses.items():
        layers = {node.layer for node in backprop.at.graph.nodes if name in node.names.values()}
        if len(layers) > 1:
            yield Planted(ONE_USE, owner[name], {**_summed(uses), name: parts[0]})
