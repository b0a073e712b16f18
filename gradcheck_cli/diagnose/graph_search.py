"""Search the backprop of any graph for the mistakes that exactly reproduce the author's gradients.

The search is one sweep over the nodes, from the loss down, as in `network/backprop.py`. A `Swept` is a sweep
with certain mistakes. At every node, the search continues each sweep with the correct `vjp` and with each
wrong one. As soon as the gradient of a parameter is complete, sweeps that do not reproduce it are dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from gradcheck_cli.diagnose.consequences import Consequences
from gradcheck_cli.diagnose.endings import Endings
from gradcheck_cli.diagnose.fit import NOTHING, affine, projected, unlike
from gradcheck_cli.diagnose.loops import Places, Repeated, everywhere, in_loops, statements
from gradcheck_cli.diagnose.mistake import Mistake, Wrong
from gradcheck_cli.diagnose.probe import Probe, Trial
from gradcheck_cli.diagnose.rows import matrix
from gradcheck_cli.diagnose.site import RIGHT, Part
from gradcheck_cli.diagnose.sites import loss_site, result_of
from gradcheck_cli.diagnose.state import State, number_of
from gradcheck_cli.diagnose.steps import variants_of
from gradcheck_cli.diagnose.swept import MadeAt, Swept, made_at
from gradcheck_cli.diagnose.table import MISTAKES
from gradcheck_cli.diagnose.target import Target
from gradcheck_cli.diagnose.variant import Handed, Pass, Variant, Visit, changed
from gradcheck_cli.diagnose.wrong_scales import SCALED, is_same
from gradcheck_cli.types import Array

_MOST_VISITS = 60_000
"""The number of visits to nodes after which the search gives up."""

_ENOUGH = 20_000
"""The number of visits to nodes after which the search stops if it has found an explanation."""

Way = tuple[Iterator[Swept], int]
"""The sweeps to continue with, and the index of the next node to visit; -1 if no node is left."""

WithValue = Callable[[float], Swept | None]
"""A function of a mistake's unknown. It returns the sweep with the mistake, or None if nothing changes."""


class GraphSearch:
    """A search for the mistakes that reproduce the gradients in `targets`.

    tried: the number of visits to nodes so far.
    """

    def __init__(self, at: Pass, targets: Mapping[str, Target], without: frozenset[str]) -> None:
        self.at = at
        self.targets = targets
        self.without = without
        self.most = 1
        self.tried = 0
        self._nodes = at.graph.nodes
        self._ends = Endings(at, targets, without)

    def run(self, most: int) -> list[State]:
        """Return a `State` for each sweep that reproduces every gradient with up to `most` mistakes."""
        self.most = most
        found, last = list[State](), len(self._nodes) - 1  # depth first, so that few arrays are kept
        in_loops = reversed(list(self._in_loops()))
        ways: list[Way] = [(self._from_loss(), last), *in_loops, (self._everywhere(), last)]
        begun = self.tried
        while ways and self.tried - begun < self._limit(found):
            each, i = ways[-1]
            swept = next(each, None)
            if swept is None:
                ways.pop()
            elif i < 0:
                found += filter(self._is_fair, [swept.as_state()])
            else:
                ways.append((self._continued(swept, i), i - 1))
        return found

    def _limit(self, found: Sequence[State]) -> int:
        """Return the number of visits to nodes after which the search gives up.

        If every single mistake can be tested without a sweep, the search for one mistake tries all of them.
        So it finds all mistakes that give the same gradients. The more visits the tests of mistakes at
        several nodes have taken, the earlier the search for two mistakes gives up.
        """
        if self.most == 1 and self._probe is not None:
            return _MOST_VISITS
        return _ENOUGH if found else max(_MOST_VISITS - self._consequences.visited, _ENOUGH)

    def _is_fair(self, state: State) -> bool:
        """Return whether the state has mistakes and each of them affects a gradient that is really wrong."""
        if not state.made or not state.informed:
            return False
        for made in state.made:
            assert isinstance(made, MadeAt)
            checked = [self.targets[name] for name in made.shows_in if name in self.targets]
            if checked and all(target.is_right for target in checked):
                return False
        return True

    # --- the loss ------------------------------------------------------------------------------------------

    def _from_loss(self) -> Iterator[Swept]:
        last = len(self._nodes)
        site, layer, shows = loss_site(self.at), self._nodes[-1].layer, self._first_below(last)
        right = RIGHT[Part.LOSS](site)
        begin = Swept(upstream={last: right})
        yield begin
        for mistake in MISTAKES[Part.LOSS]:
            if mistake.kind in self.without or mistake.solver is not None:
                continue

            def begun(value: float, mistake: Mistake = mistake) -> Swept | None:
                wrong = result_of(mistake, site, value)
                if wrong is None or not any(True for _ in changed(((right,), {}), ((wrong,), {}))):
                    return None
                made = MadeAt(mistake, layer, value=value if mistake.unknown else None, shows_in=shows)
                return Swept((made,), {last: wrong})

            yield from self._solved(mistake, begun, begin, last - 1)

    # --- one node ------------------------------------------------------------------------------------------

    def _continued(self, swept: Swept, i: int) -> Iterator[Swept]:
        visit = self._visit(swept, i)
        if visit is None:
            yield swept
            return
        if swept.always:
            yield from self._as_always(swept, visit)
            return
        yield from self._settled(swept, visit, visit.right)
        for variant in self._variants[i]:
            if not variant.everywhere and self._is_allowed(variant.wrong, swept, i):
                yield from self._with_variant(swept, visit, variant)
        yield from self._scaled(swept, visit)

    def _visit(self, swept: Swept, i: int) -> Visit | None:
        """Return the visit to node i; None if no gradient has arrived at the node."""
        upstream = swept.upstream.get(i + 1)
        self.tried += 1
        return None if upstream is None else Visit(self.at, i, upstream, swept.arrived)

    @cached_property
    def _variants(self) -> list[list[Variant]]:
        table = self.at.once("variants", lambda: variants_of(self.at))
        known = [variant for variant in table if variant.wrong.kind not in self.without]
        return [[v for v in known if isinstance(node.step, v.step)] for node in self._nodes]

    def _is_allowed(self, wrong: Wrong, swept: Swept, i: int) -> bool:
        """Return whether this mistake may be made next, at node i, without exceeding the limit on mistakes.

        Repeats of a mistake at other nodes do not count. In a loop, repeats do count, since otherwise every
        subset of the rounds would be tried. No other mistake is allowed until a gradient has confirmed the
        mistakes made so far.
        """
        is_known = i not in self._looped and any(made.wrong is wrong for made in swept.made)
        return swept.is_proven and (is_known or number_of(swept.made) < self.most)

    def _after(self, swept: Swept, visit: Visit, handed: Handed) -> Swept:
        """Return the sweep after a visit whose `vjp` returned `handed`."""
        shares, gradients = handed
        upstream, uses, node = dict(swept.upstream), dict(swept.uses), visit.node
        for k, share in zip(node.inputs, shares, strict=True):
            upstream[k] = upstream[k] + share if k in upstream else share
        for own, gradient in gradients.items():
            name = node.names[own]
            uses[name] = {**uses.get(name, {}), visit.i: matrix(gradient)}
        arrived = {**swept.arrived, visit.i: visit.upstream}
        return replace(swept, upstream=upstream, arrived=arrived, uses=uses)

    @cached_property
    def _looped(self) -> Places:
        return frozenset().union(*self._loops)

    @cached_property
    def _loops(self) -> list[Places]:
        """The nodes of each statement in a loop."""
        every = self.at.once("statements", lambda: list(statements(self._nodes)))
        return [places for places in every if len(places) > 1]

    def _settled(self, swept: Swept, visit: Visit, handed: Handed) -> Iterator[Swept]:
        """Yield the sweep after a visit, once for each way to explain the gradients it completes."""
        yield from self._ends.settled(self._after(swept, visit, handed), visit.i, self.most)

    def _with_variant(self, swept: Swept, visit: Visit, variant: Variant) -> Iterator[Swept]:
        if not swept.made and not self._may_fit(visit, variant):
            return

        def after(value: float) -> Swept | None:
            handed = variant.made(visit, value)
            shows = () if handed is None else self._shows(visit, handed)
            if handed is None or not shows:
                return None
            solved = value if variant.wrong.unknown else None
            made = made_at(visit, variant, solved, shows)
            return self._after(swept.with_made(made), visit, handed)

        straight = self._after(swept, visit, visit.right)
        yield from self._solved(variant.wrong, after, straight, visit.i, of_node=True)

    def _may_fit(self, visit: Visit, variant: Variant) -> bool:
        """Return whether this mistake, if it is the first one, may reproduce the author's gradients.

        In a loop, whose many nodes take long to search, the mistake must give a wrong gradient on its own.
        """
        if self._probe is None or (self.most > 1 and visit.i not in self._looped):
            return True
        return self._probe.admits(Trial(visit, variant), is_alone=self.most == 1)

    @cached_property
    def _probe(self) -> Probe | None:
        probe = Probe(self.at, self.targets, self._ends.complete)
        return probe if probe.is_reliable(self._right_visits) else None

    def _shows(self, visit: Visit, handed: Handed) -> tuple[str, ...]:
        names: list[str] = []
        for what in changed(visit.right, handed):
            names += (
                self._first_below(visit.node.inputs[what])
                if isinstance(what, int)
                else [visit.node.names[what]]
            )
        return tuple(dict.fromkeys(names))

    def _first_below(self, value: int) -> tuple[str, ...]:
        """Return the checked parameters whose gradients are the first to depend on ∂L/∂value in backprop."""
        return self._first[value]

    @cached_property
    def _first(self) -> list[tuple[str, ...]]:
        first: list[tuple[str, ...]] = [()]
        for node in self._nodes:
            own = tuple(name for name in node.names.values() if name in self.targets)
            below = dict.fromkeys(name for k in node.inputs for name in first[k])
            first.append(own or tuple(below))
        return first

    # --- one wrong function at several nodes ----------------------------------------------------------------

    def _everywhere(self) -> Iterator[Swept]:
        """Yield a sweep for each mistake that can be made at several nodes, made at all these nodes."""
        right = RIGHT[Part.LOSS](loss_site(self.at))
        for each in everywhere(self._variants):
            if self._applies(each) and self._may_fit_at_several(each):
                yield Swept(upstream={len(self._nodes): right}, always=(each,))

    def _in_loops(self) -> Iterator[Way]:
        """Yield, for each mistake in a loop, the sweeps after the topmost node where the mistake is made."""
        before = self._right_down()
        for each in in_loops(self._loops, self._variants):
            top = max(each.nodes)
            if top in before and self._applies(each):
                solved = self._consequences.solved(each)
                if self._may_fit_at_several(solved):
                    yield self._continued(replace(before[top], always=(solved,)), top), top - 1

    def _applies(self, repeated: Repeated) -> bool:
        """Return whether the mistake changes anything.

        A mistake with an unknown does not apply if a second mistake may follow.
        """
        if repeated.variant.wrong.unknown and self.most > 1:
            return False
        return self.at.once(("applies", repeated), lambda: repeated.applies(self._right_visits))

    def _may_fit_at_several(self, repeated: Repeated) -> bool:
        """Return whether the mistake explains all gradients (one of them if a second mistake may follow)."""
        tests = self._consequences
        return tests.explain_one(repeated) if self.most > 1 else tests.reproduce(repeated)

    @cached_property
    def _consequences(self) -> Consequences:
        return Consequences(self._right_visits, self.targets, self._ends.complete)

    @cached_property
    def _right_visits(self) -> dict[int, Visit]:
        """The visits of a backprop without mistakes, by node. The author's gradients play no part in them."""
        last, visits = len(self._nodes), dict[int, Visit]()
        swept = Swept(upstream={last: RIGHT[Part.LOSS](loss_site(self.at))})
        for i in reversed(range(last)):
            visit = self._visit(swept, i)
            if visit is not None:
                visits[i], swept = visit, self._after(swept, visit, visit.right)
        return visits

    def _right_down(self) -> dict[int, Swept]:
        """Return the sweep without mistakes at each node, from the loss down to the first wrong gradient."""
        last, found = len(self._nodes), dict[int, Swept]()
        swept: Swept | None = Swept(upstream={last: RIGHT[Part.LOSS](loss_site(self.at))})
        for i in reversed(range(last)):
            if swept is None or swept.made:
                break
            found[i] = swept
            swept = next(self._continued(swept, i), None)  # the sweep without mistakes comes first
        return found

    def _as_always(self, swept: Swept, visit: Visit) -> Iterator[Swept]:
        """Yield the sweeps after this visit, for a sweep that makes the same mistake at several nodes."""
        (repeated_mistake,) = swept.always
        handed = repeated_mistake.made(visit)
        shows = () if handed is None else self._shows(visit, handed)
        if handed is None or not shows:
            yield from self._settled(swept, visit, visit.right)
            return
        variant, value = repeated_mistake.variant, repeated_mistake.value
        solved = value if variant.wrong.unknown else None
        made = swept.with_made(made_at(visit, variant, solved, shows))
        if number_of(made.made) <= self.most:
            yield from self._settled(made, visit, handed)

    # --- an unknown ----------------------------------------------------------------------------------------

    def _solved(
        self, wrong: Wrong, made: WithValue, right: Swept, i: int, of_node: bool = False
    ) -> Iterator[Swept]:
        """Yield the sweep with a mistake, once for each value of the mistake's unknown that fits.

        made: a function that returns the sweep with the mistake; None if the mistake changes nothing.
        right: the sweep without the mistake.
        i: the node just visited if `of_node` is set, else the next node to visit.
        """
        values = self._fitting(made, right, i, of_node) if wrong.unknown else [0.0]
        for value in values:
            swept = made(value)
            if swept is not None:
                yield from self._ends.settled(swept, i, self.most) if of_node else iter((swept,))

    def _fitting(self, made: WithValue, right: Swept, i: int, of_node: bool) -> list[float]:
        """Return, for each gradient in `_first_gradients`, the value of the unknown that fits it best."""
        at_zero = self._first_gradients(made(0.0) or right, i, of_node)
        at_one = self._first_gradients(made(1.0) or right, i, of_node)
        values = [
            affine(self.targets[name].found - self._ends.penalties[name], at_zero[name], at_one[name])
            for name in at_zero
        ]
        return unlike([value for value in values if np.isfinite(value)])

    def _first_gradients(self, swept: Swept, i: int, of_node: bool) -> dict[str, Array]:
        """Return the gradients of the next node down that completes at least one wrong gradient.

        This method assumes that the steps of backward between that node and node i are correct. The result
        is empty if there is no such node.
        """
        at = i
        while at >= 0:
            if not (of_node and at == i):
                visit = self._visit(swept, at)
                if visit is not None:
                    swept = self._after(swept, visit, visit.right)
            found = {
                name: sum(swept.uses[name].values(), np.zeros(1))
                for name in self._ends.complete[at]
                if name in swept.uses
            }
            if found and any(not self.targets[name].is_right for name in found):
                return found
            at -= 1
        return {}

    # --- a factor ------------------------------------------------------------------------

    def _scaled(self, swept: Swept, visit: Visit) -> Iterator[Swept]:
        """Yield the sweeps after a visit at which the upstream gradient is multiplied by a constant factor.

        There are such sweeps only if the visit completes a checked gradient.
        """
        names = {own: name for own, name in visit.node.names.items() if name in self._ends.complete[visit.i]}
        if not names or number_of(swept.made) > self.most or not self._may_be_scaled(visit):
            return
        for factor in self._factors(names, visit.right[1]):
            made = MadeAt(SCALED, visit.node.layer, value=factor, shows_in=tuple(names.values()))
            scaled = swept.with_made(made)
            if number_of(scaled.made) <= self.most:
                scaled_visit = replace(visit, upstream=factor * visit.upstream)
                yield from self._settled(scaled, scaled_visit, scaled_visit.right)

    def _may_be_scaled(self, visit: Visit) -> bool:
        """Return whether scaling the upstream gradient differs from scaling the node's own gradients.

        The two differ if the factor also reaches parameters below. They also count as different if no checked
        gradient is complete above the node.
        """
        below = any(self._first_below(k) for k in visit.node.inputs)
        above = any(self._ends.complete[i] for i in self.at.graph.above(visit.i + 1))
        return below or not above

    def _factors(self, names: Mapping[str, str], gradients: Mapping[str, Array]) -> list[float]:
        factors = []
        for own, name in names.items():
            target, penalty, data = self.targets[name], self._ends.penalties[name], matrix(gradients[own])
            if target.matches(data + penalty):
                continue
            factors.append(projected(target.found - penalty, data))
            if penalty.any():
                factors.append(projected(target.found, data + penalty))
        return unlike([f for f in factors if np.isfinite(f) and abs(f) > NOTHING and not is_same(f, 1.0)])
