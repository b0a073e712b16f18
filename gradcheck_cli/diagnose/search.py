"""Search for mistakes that, if made in our own backprop, exactly reproduce the author's gradients.

The search goes from the output layer down, as backprop does. A `State` is a backprop with certain mistakes
that has reproduced every gradient so far. At the next layer, the state is continued with the correct steps
and with every wrong one; continuations that do not reproduce the layer's gradients are dropped. So a
candidate costs no more time after the first layer that rules it out. Mistakes in several layers are found
together, each with its effect on the layers below.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from itertools import product
from typing import TypeVar

from gradcheck_cli.diagnose.finished import Candidate, fitted, scaled_to, tensor_factors
from gradcheck_cli.diagnose.fit import affine_if_any, is_right, times
from gradcheck_cli.diagnose.found import Found
from gradcheck_cli.diagnose.layer_backprop import LayerBackprop
from gradcheck_cli.diagnose.mistake import Mistake, Steps, Wrong, WrongPenalty, WrongTensor
from gradcheck_cli.diagnose.partly import in_some_units, of_some_samples, rows_as, sum_over_some
from gradcheck_cli.diagnose.site import RIGHT, Part, Site
from gradcheck_cli.diagnose.state import Made, State, distinct, number_of
from gradcheck_cli.diagnose.table import CLIPPED, MISTAKES, SWAPPED, TENSOR_FACTOR, TENSOR_KINDS
from gradcheck_cli.diagnose.target import Target
from gradcheck_cli.diagnose.wrong_penalties import PAIRED_PENALTY_MISTAKES, PENALTY_MISTAKES
from gradcheck_cli.diagnose.wrong_samples import SOME_OF_LOSS, SOME_OF_TENSOR
from gradcheck_cli.diagnose.wrong_scales import SCALED
from gradcheck_cli.diagnose.wrong_tensors import TENSOR_MISTAKES
from gradcheck_cli.problem.problem import Problem
from gradcheck_cli.types import Array

_MOST_STATES = 64
"""The largest number of states to keep after each layer. States with few mistakes are preferred."""

W = TypeVar("W", bound=Wrong)


class Search:
    """A search for the mistakes that reproduce the gradients in `targets`.

    tried: the number of times that the backprop of a single layer has been computed.
    """

    def __init__(self, problem: Problem, targets: Mapping[str, Target], without: frozenset[str]) -> None:
        self.problem = problem
        self.targets = targets
        self.found = Found(problem, targets)
        self._layers = LayerBackprop(problem, self.found.values)
        self.most = 1
        self.without = without
        self.tried = 0
        self._options: dict[tuple[Part, int], list[Mistake]] = {}
        self._latest_rows: tuple[Site, Array] | None = None

    def run(self, most: int) -> list[State]:
        """Return every state with up to `most` mistakes that reproduces the gradients of all layers."""
        assert self._layers.right
        self.most = most
        states = [State()]
        for i in reversed(range(len(self.problem.network.layers))):
            found = [new for state in states for new in self._continued(state, i)]
            states = sorted(distinct(found), key=lambda state: number_of(state.made))[:_MOST_STATES]
        return [state for state in states if state.made and state.informed]

    # --- one layer -----------------------------------------------------------------------------------------

    def _continued(self, state: State, i: int) -> Iterator[State]:
        hopeless: dict[tuple[int, ...], bool] = {}
        for steps in self._choices(state, i):
            if not self._is_hopeless(state, i, steps, hopeless):
                yield from self._with_steps(state, i, steps)
        if state.site is None and self._allowed(self._known(SOME_OF_LOSS), state):
            yield from self._of_some_samples(state)

    def _choices(self, state: State, i: int) -> Iterator[Steps]:
        """Yield every combination of wrong steps in layer i that stays within the limit on mistakes."""
        parts = [Part.BELOW if state.site else Part.LOSS, Part.ACTIVATION]
        if self.problem.network.layers[i].batch_norm is not None:
            parts.append(Part.NORM)
        chosen: list[Steps] = [{}]
        for part in parts:
            options = self._applicable(part, i)
            chosen += [
                {**steps, part: mistake}
                for steps in chosen
                for mistake in self._allowed(options, state, steps)
            ]
        yield from chosen

    def _is_hopeless(self, state: State, i: int, steps: Steps, known: dict[tuple[int, ...], bool]) -> bool:
        """Return whether the wrong steps above the normalisation contradict a correct gradient of γ or β.

        known: a cache of the results, since many wrong normalisations share the steps above them.
        """
        before = {**steps}
        before.pop(Part.NORM, None)
        unsolved = any(mistake.unknown for mistake in before.values())
        if len(before) == len(steps) or not before or unsolved or self._allowed((SCALED,), state, steps):
            return False
        key = tuple(map(id, before.values()))
        if key not in known:
            site = self._layers.site(state, i, before, 0.0)
            known[key] = site is None or any(
                self.targets[name].is_right
                and name not in self.found.penalized
                and not self.targets[name].matches(RIGHT[part](site))
                for part, name in self.found.of_layer(site)
                if part in (Part.BETA, Part.GAMMA)
            )
        return known[key]

    def _allowed(self, options: Iterable[W], state: State, steps: Steps | None = None) -> list[W]:
        """Return the options that can be combined with the state's mistakes and these steps.

        Together, the mistakes may be of up to `most` kinds. Only one of the steps may have an unknown.
        """
        fresh = {mistake.kind for mistake in (steps or {}).values()} - state.kinds
        full = state.number + len(fresh) >= self.most
        solved = any(mistake.unknown for mistake in (steps or {}).values())
        if not full and not solved:
            return list(options)
        return [
            wrong
            for wrong in options
            if not (full and wrong.kind not in state.kinds and wrong.kind not in fresh)
            and not (solved and wrong.unknown)
        ]

    def _applicable(self, part: Part, i: int) -> list[Mistake]:
        """Return the known mistakes that apply to this part of layer i.

        Mistakes that are `alike` are included only in a search for a single mistake.
        """
        key = part, i
        if key not in self._options:
            site = self._layers.right[i + 1 if part is Part.BELOW else i]
            known = (mistake for mistake in MISTAKES[part] if mistake.kind not in self.without)
            self._options[key] = [
                mistake for mistake in known if mistake.made(site, mistake.planted) is not None
            ]
        if self.most == 1:
            return self._options[key]
        return [mistake for mistake in self._options[key] if not mistake.alike]

    def _with_steps(self, state: State, i: int, steps: Steps) -> Iterator[State]:
        for value, site in self._sites(state, i, steps):
            self.tried += 1
            made = tuple(
                Made(mistake, self._layer_of(part, i), value=value if mistake.unknown else None)
                for part, mistake in steps.items()
            )
            reached = replace(state, made=(*state.made, *made), site=site)
            if reached.number > self.most:
                continue
            straight = list(self._through_tensors(reached))
            yield from straight
            if any(each.number == reached.number for each in straight):
                continue
            yield from self._scaled(reached)
            if Part.ACTIVATION in steps:
                yield from self._in_some_units(state, reached, i, steps)

    def _layer_of(self, part: Part, i: int) -> str:
        """Return the name of the layer that computes this part of layer i's backprop.

        This is layer i, except that ∂L/∂a of a hidden layer is computed by the layer above.
        """
        return self.problem.network.layers[i + 1 if part is Part.BELOW else i].name

    # --- from ∂L/∂a to δ -----------------------------------------------------------------------------------

    def _sites(self, state: State, i: int, steps: Steps) -> Iterator[tuple[float, Site]]:
        """Yield each possible value of the steps' unknown, with layer i's site after these steps.

        If the steps have no unknown, the value is 0. A site is left out if it equals the site without the
        wrong steps.
        """
        site = self._layers.site(state, i, steps, 0.0)
        if site is None:
            return
        unknown = next((mistake for mistake in steps.values() if mistake.unknown), None)
        if unknown is None:
            if not steps or not is_right(site, self._layers.plain(state, i)):
                yield 0.0, site
            return
        for value in self._values(unknown, state, i, steps, site):
            if unknown.unknown == "learning rate" and value <= 0:
                continue
            solved = self._layers.site(state, i, steps, value)
            if solved is not None and not is_right(solved, self._layers.plain(state, i)):
                yield value, solved

    def _values(self, unknown: Mistake, state: State, i: int, steps: Steps, at_zero: Site) -> list[float]:
        """Return the values of the unknown to try.

        The mistake's solver proposes these values. Without a solver, they are the values that fit best.
        """
        if unknown.solver is not None:
            return self.found.solved(unknown, at_zero)
        at_one = self._layers.site(state, i, steps, 1.0)
        return [] if at_one is None else self.found.unknowns(at_zero, at_one)

    # --- a factor ------------------------------------------------------------------------------------------

    def _scaled(self, state: State) -> Iterator[State]:
        """Yield the states that result if the layer's ∂L/∂a is multiplied by a constant factor."""
        if state.site is None or not self._allowed((SCALED,), state):
            return
        for factor in self.found.factors(state.site):
            made = (*state.made, Made(SCALED, state.site.layer.name, value=factor))
            if number_of(made) <= self.most:
                yield from self._through_tensors(replace(state, made=made, site=times(state.site, factor)))

    # --- some units or samples alone -----------------------------------------------------------------------

    def _in_some_units(self, state: State, reached: State, i: int, steps: Steps) -> Iterator[State]:
        """Yield the states in which the wrong steps are made in only some units of the layer."""
        wrong, right = reached.site, self._layers.plain(state, i)
        name = wrong.layer.weight if wrong else ""
        if wrong is None or right is None or name not in self.targets or wrong.layer.batch_norm is not None:
            return
        at = self.targets[name], self.found.penalties[name]
        some = in_some_units(wrong, right, self._right_rows(right, *at), *at)
        if some is not None:
            place, site = some
            fresh = len(reached.made) - len(steps)
            made = (*reached.made[:fresh], *(replace(each, place=place) for each in reached.made[fresh:]))
            yield from self._through_tensors(replace(reached, made=made, site=site))

    def _right_rows(self, right: Site, target: Target, penalty: Array) -> Array:
        """Return a mask of the rows of the weight's gradient that the correct site reproduces.

        The mask is cached, since many combinations of wrong steps need it.
        """
        if self._latest_rows is None or self._latest_rows[0] is not right:
            self._latest_rows = right, rows_as(right, target, penalty)
        return self._latest_rows[1]

    def _of_some_samples(self, state: State) -> Iterator[State]:
        """Yield the states in which the loss is summed over only some of the samples."""
        if self._some_samples is not None:
            place, site = self._some_samples
            made = (*state.made, Made(SOME_OF_LOSS, site.layer.name, place=place))
            yield from self._through_tensors(replace(state, made=made, site=site))

    @cached_property
    def _some_samples(self) -> tuple[str, Site] | None:
        return of_some_samples(self._layers.right, self.found.of_data)

    def _sum_over_some(self, state: State, part: Part, name: str) -> Iterator[Candidate]:
        site = state.site
        if site is None or not self._allowed(self._known(SOME_OF_TENSOR), state):
            return
        some = sum_over_some(site, part, self.found.of_data[name])
        if some is not None:
            place, gradient = some
            yield (Made(SOME_OF_TENSOR, site.layer.name, name, place=place),), gradient

    def _known(self, *wrong: W) -> list[W]:
        return [each for each in wrong if each.kind not in self.without]

    # --- from δ to the gradients ---------------------------------------------------------------------------

    def _through_tensors(self, state: State) -> Iterator[State]:
        """Yield a state for each way to explain all of the layer's gradients."""
        assert state.site is not None
        states = [state]
        for part, name in self.found.of_layer(state.site):
            states = [new for each in states for new in self._explained(each, part, name)]
        yield from states

    def _explained(self, state: State, part: Part, name: str) -> Iterator[State]:
        assert state.site is not None
        target, data, penalty = self.targets[name], RIGHT[part](state.site), self.found.penalties[name]
        for multiple in (1.0, *self._scales(state, name)):
            whole = data + multiple * penalty if name in self.found.penalized else data
            if target.matches(whole):
                reached = replace(state, on_penalty=state.on_penalty or multiple != 1.0)
                yield self._reproduced(reached, target, whole)
                return
        if target.is_right:
            return  # a mistake here would have to cancel out an earlier one
        if state.number >= self.most and not state.kinds & TENSOR_KINDS:
            return
        for made, candidate in self._wrongly(state, part, name, data, penalty):
            if target.matches(candidate) and number_of((*state.made, *made)) <= self.most:
                yield self._reproduced(replace(state, made=(*state.made, *made)), target, candidate)

    def _scales(self, state: State, name: str) -> Iterator[float]:
        """Yield each factor by which a mistake of the state scales ∂L/∂a.

        The author may have scaled the parameter's penalty by the same factor. Nothing is yielded if the
        parameter has no penalty.
        """
        for made in state.made if name in self.found.penalized else ():
            if made.wrong is SCALED and made.value:
                yield made.value

    def _reproduced(self, state: State, target: Target, candidate: Array) -> State:
        return replace(
            state,
            informed=state.informed + target.informs(candidate),
            apart=max(state.apart, target.apart(candidate)),
        )

    def _wrongly(
        self, state: State, part: Part, name: str, data: Array, penalty: Array
    ) -> Iterator[Candidate]:
        """Yield the possible mistakes in one parameter's gradient, each with the gradient that results.

        These mistakes are wrong products with the state's δ, wrong penalty terms, or changes to the finished
        gradient.

        data, penalty: the two terms of the gradient without such a mistake.
        """
        products = [
            ((), data),
            *self._wrong_products(state, part, name),
            *self._sum_over_some(state, part, name),
        ]
        penalties = [((), penalty), *self._wrong_penalties(state, name, data)]
        for (made, d), (more, p) in product(products, penalties):
            if made or more:
                yield (*made, *more), d + p
        yield from self._spoilt(state, name, data, penalty)

    def _wrong_products(self, state: State, part: Part, name: str) -> Iterator[Candidate]:
        site = state.site
        assert site is not None
        for mistake in self._allowed(self._applicable(part, site.i), state):
            self.tried += 1
            made = mistake.made(site, 0.0)
            if made is not None:
                yield (Made(mistake, site.layer.name, name),), made

    def _wrong_penalties(self, state: State, name: str, data: Array) -> Iterator[Candidate]:
        layer = name.rsplit(".", 1)[0]
        for wrong in self._allowed(self._penalties, state):
            terms = [wrong.term(self.problem, name, value) for value in (0.0, 1.0)]
            value = affine_if_any(self.targets[name].found - data, *terms) if wrong.unknown else 0.0
            term = wrong.term(self.problem, name, value)
            if term is not None:
                yield (Made(wrong, layer, name, value if wrong.unknown else None),), term

    @cached_property
    def _penalties(self) -> list[WrongPenalty]:
        return [
            wrong for wrong in (*PENALTY_MISTAKES, *PAIRED_PENALTY_MISTAKES) if wrong.kind not in self.without
        ]

    @cached_property
    def _spoils(self) -> list[Wrong]:
        known = (TENSOR_FACTOR, CLIPPED, SWAPPED, *TENSOR_MISTAKES)
        return [wrong for wrong in known if wrong.kind not in self.without or wrong is TENSOR_FACTOR]

    def _spoilt(self, state: State, name: str, data: Array, penalty: Array) -> Iterator[Candidate]:
        target, layer = self.targets[name], name.rsplit(".", 1)[0]
        for wrong in self._allowed(self._spoils, state):
            if isinstance(wrong, WrongTensor):
                for spoilt, early in fitted(wrong, target, data, penalty):
                    yield (Made(wrong, layer, name, spoilt.value, spoilt.place, early),), spoilt.gradient
            elif wrong is SWAPPED:
                for other in self.targets.values():
                    if other.can_stand_for(target):
                        yield (Made(wrong, layer, name, place=other.name),), other.right
            elif not target.is_nothing:
                for factor, candidate in tensor_factors(target, data, penalty):
                    yield from scaled_to(wrong, layer, target, factor, candidate)
