"""Every way to explain the parameter gradients that a sweep has completed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from functools import cached_property

from gradcheck_cli.diagnose.branches import owners
from gradcheck_cli.diagnose.complete import Complete, allowed_after
from gradcheck_cli.diagnose.site import penalty_on
from gradcheck_cli.diagnose.state import Made, number_of
from gradcheck_cli.diagnose.swept import MadeAt, Swept
from gradcheck_cli.diagnose.target import Target
from gradcheck_cli.diagnose.variant import Pass
from gradcheck_cli.diagnose.wrong_scales import SCALED
from gradcheck_cli.types import Array


class Endings:
    """Compares each gradient in `targets` with a sweep, as soon as the sweep has completed that gradient.

    A sweep is a backprop with certain mistakes (see `graph_search.py`).
    """

    def __init__(self, at: Pass, targets: Mapping[str, Target], without: frozenset[str]) -> None:
        self.at = at
        self.targets = targets
        self.without = without

    @cached_property
    def complete(self) -> list[list[str]]:
        """For each node, the checked parameters whose gradients are complete after the visit to the node."""
        first: dict[str, int] = {}
        for i, node in enumerate(self.at.graph.nodes):
            for name in node.names.values():
                first.setdefault(name, i)
        return [
            [name for name, at in first.items() if at == i and name in self.targets]
            for i in range(len(self.at.graph.nodes))
        ]

    @cached_property
    def penalties(self) -> dict[str, Array]:
        return {name: penalty_on(self.at.problem, name) for name in self.targets}

    def settled(self, swept: Swept, i: int, most: int) -> Iterator[Swept]:
        """Yield the sweep once for each way to explain all gradients that are complete after node i.

        most: the largest number of mistakes, including the mistakes that the sweep already has.
        """
        ways = [swept]
        for name in self.complete[i]:
            ways = [new for way in ways for new in self._explained(way, name, most)]
        yield from ways

    def _explained(self, swept: Swept, name: str, most: int) -> Iterator[Swept]:
        target, penalty = self.targets[name], self.penalties[name]
        uses = self._in_words(swept.uses.get(name, {}))
        if not uses:
            return
        complete = Complete(self.at.problem, target, self._owner[name], uses, penalty)
        data = complete.data
        for multiple in (1.0, *_scales(swept, penalty)):
            if target.matches(data + multiple * penalty):
                reached = replace(swept, on_penalty=swept.on_penalty or multiple != 1.0)
                yield _reproduced(reached, target, data + multiple * penalty)
                return
        if target.is_right:
            return  # a mistake here would have to cancel out an earlier one
        for made, candidate in complete.wrong(allowed_after(swept.made, most, self.without), self.targets):
            whole = swept.with_made(*(_shown(each) for each in made))
            if number_of(whole.made) <= most and target.matches(candidate):
                yield _reproduced(whole, target, candidate)

    @cached_property
    def _owner(self) -> dict[str, str]:
        return owners(self.at.graph)

    def _in_words(self, uses: Mapping[int, Array]) -> dict[str, Array]:
        """Return the parts of a gradient, one per use of the parameter, keyed by a description of the use.

        The description names the layer or, if a layer uses the parameter more than once, numbers the use.
        """
        layers = [self.at.graph.nodes[i].layer for i in sorted(uses)]
        if len(set(layers)) == len(layers):
            return {f"its use in layer {self.at.graph.nodes[i].layer}": part for i, part in uses.items()}
        return {f"its use number {k + 1} of {len(uses)}": uses[i] for k, i in enumerate(sorted(uses))}


def _scales(swept: Swept, penalty: Array) -> Iterator[float]:
    """Yield each factor by which a mistake of the sweep scales an upstream gradient.

    The author may have scaled the penalty by the same factor. Without a penalty, nothing is yielded.
    """
    for made in swept.made if penalty.any() else ():
        if made.wrong is SCALED and made.value:
            yield made.value


def _reproduced(swept: Swept, target: Target, candidate: Array) -> Swept:
    informed = swept.informed + target.informs(candidate)
    return replace(swept, informed=informed, apart=max(swept.apart, target.apart(candidate)))


def _shown(made: Made) -> MadeAt:
    """Return a mistake in one tensor as a `MadeAt` whose effect shows in that tensor."""
    known = {each.name: getattr(made, each.name) for each in fields(Made)}
    return MadeAt(**known, shows_in=(made.tensor,))
