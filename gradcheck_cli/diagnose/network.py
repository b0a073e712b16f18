"""The diagnosis for a network whose backprop can be computed rightly and wrongly."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import NamedTuple

import numpy as np

from gradcheck_cli.compare import Comparison
from gradcheck_cli.diagnose.diagnosis import Answer, Diagnosis
from gradcheck_cli.diagnose.fair import is_fair
from gradcheck_cli.diagnose.mistake import Mistake, Wrong
from gradcheck_cli.diagnose.nothing import all_zero
from gradcheck_cli.diagnose.observe import faulty_layers, layer_of, observed
from gradcheck_cli.diagnose.search import Search
from gradcheck_cli.diagnose.state import Made, State
from gradcheck_cli.diagnose.subsets import as_sentence
from gradcheck_cli.diagnose.table import ORDER, OVERFLOW, SWAPPED, TENSOR_FACTOR
from gradcheck_cli.diagnose.target import RTOL, Target
from gradcheck_cli.diagnose.words import cause_of
from gradcheck_cli.diagnose.wrong_precision import ROUNDED_AWAY
from gradcheck_cli.diagnose.wrong_scales import SCALED, Sizes, named
from gradcheck_cli.diagnose.wrong_tensors import DESCRIPTIONS
from gradcheck_cli.model.problem import Problem
from gradcheck_cli.types import Array

MOST = 2
"""How many mistakes at once it looks for."""

_MOST_ANSWERS = 12


@np.errstate(all="ignore")
def diagnose_network(
    problem: Problem,
    right: Mapping[str, Array],
    comparisons: Sequence[Comparison],
    without: frozenset[str] = frozenset(),
) -> Diagnosis:
    """Return which mistakes in our backprop lead to these gradients.

    right: the right gradients.  without: kinds of mistakes to leave out, as if they were not known.
    """
    targets = {c.name: target_of(c, right[c.name]) for c in comparisons}
    targets = {name: replace(target, silent=_silent_units(name, targets)) for name, target in targets.items()}
    nothing = all_zero(targets, problem, without)
    answers, tried = (nothing, 0) if nothing else _answers(problem, targets, without)
    return Diagnosis(
        tuple(with_overflow(answers, targets, problem)),
        tried,
        () if answers else tuple(map(as_sentence, observed(problem, targets))),
        faulty_layers(problem, targets, answers),
        "network",
    )


def target_of(comparison: Comparison, right: Array) -> Target:
    """Return the gradient to explain, with the tolerance of its comparison."""
    rtol = max(RTOL, 16.0 * comparison.eps) if comparison.eps > _DOUBLE else RTOL
    bound, eps = comparison.rounding, comparison.eps
    return Target(comparison.name, comparison.analytic, right, bound, rtol, eps=eps)


def _silent_units(name: str, targets: Mapping[str, Target]) -> Array | None:
    """Return which units of a layer have only zeros in their weights and bias, (units,)."""
    layer = name.rpartition(".")[0]
    weight, bias = targets.get(f"{layer}.weight"), targets.get(f"{layer}.bias")
    if weight is None or bias is None:
        return None
    return np.asarray((weight.found == 0).all(axis=1) & (bias.found == 0))


_DOUBLE = 2.0**-50
"""A type whose ε is larger is narrower than float64."""


def _answers(
    problem: Problem, targets: Mapping[str, Target], without: frozenset[str]
) -> tuple[list[Answer], int]:
    """Return one mistake that explains the finite numbers, or if none does, two; and how many were tried."""
    second_best: list[Answer] = []
    if all(target.is_right for target in targets.values()):
        return [], 0
    setting = Setting(problem, Sizes.of(problem), norms_of(targets), without)
    search = Search(problem, targets, without)
    for most in range(1, MOST + 1):
        states = search.run(most)
        fair = [state for state in states if is_fair(state.made, problem, targets)]
        if answers := in_words(fair, setting):
            return answers, search.tried
        second_best = second_best or in_words(states, setting)
    return second_best, search.tried


def _is_solved(wrong: Wrong) -> bool:
    """Whether its value was solved for and has no name of its own, such as 1/N."""
    return bool(wrong.unknown) and (wrong.unknown != "factor" or wrong.kind == "factor")


class Setting(NamedTuple):
    """What the names of mistakes depend on.

    problem: the network, if known.  norms: the norm of each gradient found.
    without: kinds that must not be named.
    """

    problem: Problem | None
    sizes: Sizes
    norms: Mapping[str, float]
    without: frozenset[str]

    def norm(self, made: Sequence[Made]) -> float:
        """Return the norm of all tensors that one factor applies to; 0 if it applies to some twice."""
        if self.problem is None or made[0].tensor:
            names = {each.tensor for each in made if each.tensor} or set(self.norms)
        elif len(made) > 1:
            return 0.0
        else:
            layers = [layer.name for layer in self.problem.network.layers]
            below = layers[: layers.index(made[0].layer) + 1]
            names = {name for name in self.norms if layer_of(name) in below}
        return float(np.linalg.norm([self.norms[name] for name in names]))


def norms_of(targets: Mapping[str, Target]) -> dict[str, float]:
    """Return the norm of each gradient to explain."""
    return {name: float(np.linalg.norm(np.asarray(target.found))) for name, target in targets.items()}


def in_words(found: Sequence[State], setting: Setting) -> list[Answer]:
    """Return the mistakes of these states in words, the likeliest first, each set of names once."""
    ranked = []
    for state in found:
        groups = _grouped(state.made)
        likely = sum(ORDER[id(group[0].wrong)] for group in groups)
        places = sum(_says_less(group, setting) for group in groups), sum(map(len, groups))
        names = [_names(group, state.on_penalty, setting) for group in groups]
        for k, each in enumerate(product(*names)):
            solved = any(_is_solved(group[0].wrong) for group in each)
            if len(each) > 1 and all(group[0].wrong in DESCRIPTIONS for group in each):
                continue  # two of these together fit anything
            if any(all(made.wrong is ROUNDED_AWAY for made in group) for group in each):
                continue
            if state.informed >= (2 if solved else 1):  # a single entry is a multiple of anything
                ranked.append(((*_rank(each), *places, likely, k), each, state.apart))
    answers: dict[tuple[str, ...], Answer] = {}
    for _, called, apart in sorted(ranked, key=lambda each: each[0]):
        causes = tuple(cause_of(group, setting.problem) for group in called)
        answers.setdefault(tuple(sorted(cause.kind for cause in causes)), Answer(causes, apart))
    said = {cause.kind for answer in answers.values() for cause in answer.causes}
    return [
        answer
        for answer in answers.values()
        if not any(said & _SPECIAL.get(cause.kind, frozenset()) for cause in answer.causes)
    ][:_MOST_ANSWERS]


_SPECIAL: Mapping[str, frozenset[str]] = {
    "batch subset": frozenset({"last sample lost", "first sample lost", "bias not summed"}),
    "delta before the activation": frozenset({"activation derivative missing"}),
    "1/N twice": frozenset({"bias averaged"}),
}
"""For each kind, the kinds that say the same and more precisely."""


def says(kinds: Collection[str], kind: str) -> bool:
    """Whether one of these kinds is this one, or says the same more precisely."""
    return kind in kinds or bool(_SPECIAL.get(kind, frozenset()) & set(kinds))


def sentences_of(made: Sequence[Made], setting: Setting) -> Iterator[str]:
    """Yield a sentence for each mistake in single tensors, by its likeliest name."""
    for group in _grouped(made):
        yield cause_of(_names(group, False, setting)[0], setting.problem).sentence


def likeliest(made: Sequence[Made]) -> Made:
    """Return the likeliest explanation of one tensor; one that says why comes first."""
    return min(made, key=lambda each: (each.wrong in DESCRIPTIONS, ORDER[id(each.wrong)]))


def _grouped(made: Sequence[Made]) -> list[list[Made]]:
    """Group the same mistake in several places."""
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
    """Return the group under each name that it may have, if it is a factor."""
    first = group[0]
    if first.wrong not in (SCALED, TENSOR_FACTOR) or first.value is None:
        return [group]
    names = named(first.value, setting.sizes, setting.norm(group), on_penalty, setting.without)
    return [
        [replace(each, wrong=replace(wrong, factor=first.wrong.factor)) for each in group] for wrong in names
    ]


def _rank(groups: Sequence[Sequence[Made]]) -> tuple[int, ...]:
    """Rank few mistakes first, then those that say why, need no solving, and concern whole layers."""
    firsts = [group[0] for group in groups]
    return (
        len(firsts),
        sum(first.wrong is SWAPPED and len(group) == 1 for first, group in zip(firsts, groups, strict=True)),
        sum(first.wrong in DESCRIPTIONS for first in firsts),
        sum(_FREE.get(first.wrong.kind, 0) for first in firsts),
        sum(isinstance(first.wrong, Mistake) and bool(first.place) for first in firsts),
    )


def _says_less(group: Sequence[Made], setting: Setting) -> bool:
    """Whether it blames ∂L/∂a for a factor that may be on one layer's gradients only."""
    if group[0].wrong is not SCALED or setting.problem is None:
        return False
    lowest, *above = (layer.name for layer in setting.problem.network.layers)
    return len(group) > 1 or bool(above and group[0].layer == lowest)


_FREE = {
    "factor": 2,
    "penalty strength": 1,
    "penalty that the spec lacks": 1,
    "activation option": 1,
    "flat spot added": 1,
    "label smoothing": 1,
}
"""How little each kind explains whose value is solved for; a plain factor explains least."""


def with_overflow(
    answers: list[Answer], targets: Mapping[str, Target], problem: Problem | None
) -> list[Answer]:
    """Add numbers that are not finite as a mistake of their own to whatever explains the others."""
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
    """Which step gave the first of these numbers: the output layer's gradients are computed first."""
    if layer == problem.network.output.name:
        return f"it arises in layer {layer} or in the loss"
    return f"it arises in layer {layer}, since the layers above are finite"
