"""Diagnosis for chains of layers, whose backprop we can compute with or without mistakes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import NamedTuple

import numpy as np

from gradcheck_cli.comparison import Comparison
from gradcheck_cli.diagnose.diagnosis import Answer, Diagnosis
from gradcheck_cli.diagnose.fair import is_fair
from gradcheck_cli.diagnose.families import BRANCHES, LOOPS
from gradcheck_cli.diagnose.mistake import Mistake, Wrong
from gradcheck_cli.diagnose.nothing import all_zero
from gradcheck_cli.diagnose.observe import faulty_layers, layer_of, observed
from gradcheck_cli.diagnose.search import Search
from gradcheck_cli.diagnose.state import Made, State
from gradcheck_cli.diagnose.subsets import as_sentence
from gradcheck_cli.diagnose.table import ORDER, OVERFLOW, SWAPPED, TENSOR_FACTOR
from gradcheck_cli.diagnose.target import RTOL, Target
from gradcheck_cli.diagnose.words import cause_of, layers_of
from gradcheck_cli.diagnose.wrong_precision import ROUNDED_AWAY
from gradcheck_cli.diagnose.wrong_scales import SCALED, Sizes, named
from gradcheck_cli.problem.problem import Problem
from gradcheck_cli.types import Array

MOST = 2
"""The largest number of simultaneous mistakes to search for."""

_MOST_ANSWERS = 12


@np.errstate(all="ignore")
def diagnose_network(
    problem: Problem,
    right: Mapping[str, Array],
    comparisons: Sequence[Comparison],
    without: frozenset[str] = frozenset(),
    most: int = MOST,
) -> Diagnosis:
    """Return a diagnosis: the mistakes that, if made in our own backprop, reproduce the author's gradients.

    comparisons: the author's gradients.
    right: the correct gradients, by parameter name.
    without: the kinds of mistakes to leave out, as if they were unknown.
    most: the largest number of simultaneous mistakes to search for.
    """
    targets = {c.name: target_of(c, right[c.name]) for c in comparisons}
    targets = {name: replace(target, silent=silent_units(name, targets)) for name, target in targets.items()}
    nothing = all_zero(targets, problem, without)
    answers, tried = (nothing, 0) if nothing else _answers(problem, targets, without, most)
    return Diagnosis(
        tuple(with_overflow(answers, targets, problem)),
        tried,
        () if answers else tuple(map(as_sentence, observed(problem, targets))),
        faulty_layers(problem, targets, answers),
        "network",
    )


def target_of(comparison: Comparison, right: Array) -> Target:
    """Return a `Target`: the gradient to explain, with a tolerance that suits its precision."""
    rtol = max(RTOL, 16.0 * comparison.eps) if comparison.eps > _DOUBLE else RTOL
    bound, eps = comparison.rounding, comparison.eps
    return Target(comparison.name, comparison.analytic, right, bound, rtol, eps=eps)


def silent_units(name: str, targets: Mapping[str, Target]) -> Array | None:
    """Return, for each unit, whether the gradients of its weights and its bias are all exactly 0.

    Returns None if the gradient of the layer's weight or bias is missing, or if the layer has no units, as in
    a layer normalisation.
    """
    layer = name.rpartition(".")[0]
    weight, bias = targets.get(f"{layer}.weight"), targets.get(f"{layer}.bias")
    if weight is None or bias is None or bias.found.shape != weight.found.shape[:-1]:
        return None
    return np.asarray((weight.found == 0).all(axis=-1) & (bias.found == 0))


_DOUBLE = 2.0**-50
"""A type with a machine epsilon above this is narrower than float64."""


def _answers(
    problem: Problem, targets: Mapping[str, Target], without: frozenset[str], limit: int
) -> tuple[list[Answer], int]:
    """Return the answers and the number of wrong formulas tried.

    Single mistakes are tried first, then pairs. Entries that are not finite are ignored.
    """
    second_best: list[Answer] = []
    if all(target.is_right for target in targets.values()):
        return [], 0
    setting = Setting(problem, Sizes.of(problem), norms_of(targets), without)
    search = Search(problem, targets, without)
    for most in range(1, limit + 1):
        states = search.run(most)
        fair = [state for state in states if is_fair(state.made, problem, targets)]
        if answers := in_words(fair, setting):
            return answers, search.tried
        second_best = second_best or in_words(states, setting)
    return second_best, search.tried


def _is_solved(wrong: Wrong) -> bool:
    """Return whether the mistake has an unknown whose value has no name.

    A factor such as 1/N does have a name.
    """
    return bool(wrong.unknown) and (wrong.unknown != "factor" or wrong.kind == "factor")


class Setting(NamedTuple):
    """The facts that decide how mistakes are named.

    problem: the network, if known.
    sizes: the numbers of samples and outputs.
    norms: the norm of each of the author's gradients.
    without: the kinds of mistakes that must not be named.
    """

    problem: Problem | None
    sizes: Sizes
    norms: Mapping[str, float]
    without: frozenset[str]

    def norm(self, made: Sequence[Made]) -> float:
        """Return the joint norm of all gradients that a factor scales; 0 if there are several factors."""
        if self.problem is None or made[0].tensor:
            names = {each.tensor for each in made if each.tensor} or set(self.norms)
        elif len(made) > 1:
            return 0.0
        else:
            layers = layers_of(self.problem)
            below = layers[: layers.index(made[0].layer) + 1]
            names = {name for name in self.norms if layer_of(name) in below}
        return float(np.linalg.norm([self.norms[name] for name in names]))


def norms_of(targets: Mapping[str, Target]) -> dict[str, float]:
    """Return the norm of each gradient to explain."""
    return {name: float(np.linalg.norm(np.asarray(target.found))) for name, target in targets.items()}


def in_words(found: Sequence[State], setting: Setting) -> list[Answer]:
    """Return an answer for each distinct set of mistakes in these states, in order of likelihood."""
    ranked = []
    for state in found:
        groups = _grouped(state.made)
        likely = sum(_order(group[0].wrong) for group in groups)
        places = sum(_says_less(group, setting) for group in groups), sum(map(_places, groups))
        names = [_names(group, state.on_penalty, setting) for group in groups]
        for k, each in enumerate(product(*names)):
            solved = any(_is_solved(group[0].wrong) for group in each)
            if len(each) > 1 and all(group[0].wrong.describes for group in each):
                continue  # two descriptions together fit anything
            if any(all(made.wrong is ROUNDED_AWAY for made in group) for group in each):
                continue
            if state.informed >= (2 if solved else 1):  # a single entry is a multiple of anything
                ranked.append(((*_rank(each), *places, likely, k), each, state.apart))
    distinct: dict[tuple[str, ...], tuple[Sequence[list[Made]], float]] = {}
    for _, called, apart in sorted(ranked, key=lambda each: each[0]):
        distinct.setdefault(tuple(sorted(group[0].wrong.kind for group in called)), (called, apart))
    said = {kind for kinds in distinct for kind in kinds}
    return [
        Answer(tuple(cause_of(group, setting.problem) for group in called), apart)
        for called, apart in distinct.values()
        if all(group[0].wrong.refined_by.isdisjoint(said) for group in called)
    ][:_MOST_ANSWERS]


def sentences_of(made: Sequence[Made], setting: Setting) -> Iterator[str]:
    """Yield one sentence for each mistake in a single tensor.

    If a factor may have several names, such as 2 in a batch of two samples, it is only called a factor.
    """
    for group in _grouped(made):
        names = _names(group, False, setting)
        yield cause_of(names[0] if len(names) == 1 else group, setting.problem).sentence


def likeliest(made: Sequence[Made]) -> Made:
    """Return the most likely explanation of one tensor's gradient. Causes are preferred to descriptions."""
    return min(made, key=lambda each: (each.wrong.describes, _order(each.wrong)))


def _order(wrong: Wrong) -> int:
    """Return a mistake's rank by likelihood. Mistakes in steps of graphs are not ranked and come first."""
    return ORDER.get(id(wrong), {BRANCHES: -2, LOOPS: -1}.get(wrong.family, -3))


def _places(made: Sequence[Made]) -> int:
    """Return the number of layers or tensors in which a mistake was made. A loop over time counts once."""
    return len({(each.layer, each.tensor) for each in made})


def _grouped(made: Sequence[Made]) -> list[list[Made]]:
    """Return the mistakes in groups.

    A group holds one mistake, repeated for each place in which it was made.
    """
    groups: list[list[Made]] = []
    for each in made:
        for group in groups:
            if each.is_like(group[0]):
                group.append(each)
                break
        else:
            groups.append([each])
    return groups


def _names(group: list[Made], on_penalty: bool, setting: Setting) -> list[list[Made]]:
    """Return a copy of the group for each name that the group's factor may have.

    If the mistake is not a factor, the list holds only the group itself.
    """
    first = group[0]
    if first.wrong not in (SCALED, TENSOR_FACTOR) or first.value is None:
        return [group]
    names = named(first.value, setting.sizes, setting.norm(group), on_penalty, setting.without)
    return [
        [replace(each, wrong=replace(wrong, factor=first.wrong.factor)) for each in group] for wrong in names
    ]


def _rank(groups: Sequence[Sequence[Made]]) -> tuple[int, ...]:
    """Return a sort key that puts smaller sets of mistakes first.

    Among sets of equal size, sets without one-sided swaps come first. In a one-sided swap, only one of the
    two tensors is wrong. Causes then come before mere descriptions, mistakes with less freedom before those
    with more, and mistakes in all units of a layer before those in some.
    """
    firsts = [group[0] for group in groups]
    return (
        len(firsts),
        sum(first.wrong is SWAPPED and len(group) == 1 for first, group in zip(firsts, groups, strict=True)),
        sum(first.wrong.describes for first in firsts),
        sum(first.wrong.freedom for first in firsts),
        sum(isinstance(first.wrong, Mistake) and bool(first.place) for first in firsts),
    )


def _says_less(group: Sequence[Made], setting: Setting) -> bool:
    """Return whether the group's factor on ∂L/∂a may really be a factor on one layer's gradients only."""
    if group[0].wrong is not SCALED or setting.problem is None:
        return False
    lowest, *above = layers_of(setting.problem)
    return len(group) > 1 or bool(above and group[0].layer == lowest)


def with_overflow(
    answers: list[Answer], targets: Mapping[str, Target], problem: Problem | None
) -> list[Answer]:
    """Return the answers, each with an overflow added if any gradient has entries that are not finite."""
    made = [_overflow(target) for target in targets.values() if not target.finite.all()]
    if not made:
        return answers
    if problem is not None:
        made[0] = replace(made[0], place=f"{made[0].place}; {_arises(made[0].layer, problem)}")
    cause = cause_of(made, problem)
    if answers:
        return [Answer((cause, *answer.causes), answer.apart) for answer in answers]
    return [Answer((cause,), 0.0)] if all(target.is_right for target in targets.values()) else []


def _overflow(target: Target) -> Made:
    bad = ~target.finite
    kind = "NaN" if np.isnan(target.found[bad]).all() else "NaN or inf"
    first = [int(i) for i in np.argwhere(bad)[0]]
    place = f"{kind} in {int(bad.sum()):,} of {bad.size:,} entries, the first at {first}"
    return Made(OVERFLOW, target.name.rsplit(".", 1)[0], target.name, place=place)


def _arises(layer: str, problem: Problem) -> str:
    """Return a clause that says in which layer the first NaN or inf arose.

    layer: the topmost layer with a gradient that is not finite. Backprop starts at the output layer, so the
        gradients of all layers above this one are finite.
    """
    if layer == problem.network.output.name:
        return f"it arises in layer {layer} or in the loss"
    return f"it arises in layer {layer}, because the gradients of the layers above are finite"
