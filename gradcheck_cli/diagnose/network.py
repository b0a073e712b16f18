"""The diagnosis by a network whose backprop we can compute, rightly and wrongly."""

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
from gradcheck_cli.diagnose.observe import faulty_layers, layer_of, observed
from gradcheck_cli.diagnose.search import Search
from gradcheck_cli.diagnose.state import Made, State
from gradcheck_cli.diagnose.subsets import as_sentence
from gradcheck_cli.diagnose.table import ORDER, OVERFLOW, SWAPPED, TENSOR_FACTOR
from gradcheck_cli.diagnose.target import RTOL, Target
from gradcheck_cli.diagnose.words import cause_of
from gradcheck_cli.diagnose.wrong_scales import SCALED, Sizes, named
from gradcheck_cli.diagnose.wrong_tensors import DESCRIPTIONS
from gradcheck_cli.model.problem import Problem
from gradcheck_cli.model.special import Array

MOST = 2
"""So many mistakes at once are looked for."""

_MOST_ANSWERS = 12


@np.errstate(all="ignore")
def diagnose_network(
    problem: Problem,
    right: Mapping[str, Array],
    comparisons: Sequence[Comparison],
    without: frozenset[str] = frozenset(),
) -> Diagnosis:
    """Why these gradients are wrong, by what mistakes in our backprop lead to; right: what that gives.

    without: kinds of mistakes to leave out, to see what is said of one that is not known.
    """
    targets = {c.name: target_of(c, right[c.name]) for c in comparisons}
    targets = {name: replace(target, silent=_silent_units(name, targets)) for name, target in targets.items()}
    answers, tried = _answers(problem, targets, without)
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
    """The units of a layer of whose weights and bias all was found to be exactly 0."""
    layer = name.rpartition(".")[0]
    weight, bias = targets.get(f"{layer}.weight"), targets.get(f"{layer}.bias")
    if weight is None or bias is None:
        return None
    return np.asarray((weight.found == 0).all(axis=1) & (bias.found == 0))


_DOUBLE = 2.0**-50
"""Types with a coarser ε than this are narrower than float64."""


def _answers(
    problem: Problem, targets: Mapping[str, Target], without: frozenset[str]
) -> tuple[list[Answer], int]:
    """What explains the finite numbers, and how much was tried: one mistake, or if none does, two."""
    tried = 0
    second_best: list[Answer] = []
    if all(target.is_right for target in targets.values()):
        return [], tried
    setting = Setting(problem, Sizes.of(problem), norms_of(targets), without)
    for most in range(1, MOST + 1):
        search = Search(problem, targets, most, without)
        states = search.run()
        tried += search.tried
        fair = [state for state in states if is_fair(state.made, problem, targets)]
        if answers := in_words(fair, setting):
            return answers, tried
        second_best = second_best or in_words(states, setting)
    return second_best, tried


def _is_solved(wrong: Wrong) -> bool:
    """Whether its value was read off the entries, and is none that anybody expects."""
    return bool(wrong.unknown) and (wrong.unknown != "factor" or wrong.kind == "factor")


class Setting(NamedTuple):
    """What mistakes are named by.

    problem: the network, where one is known.  norms: that of every tensor found.
    without: kinds that are not to be named.
    """

    problem: Problem | None
    sizes: Sizes
    norms: Mapping[str, float]
    without: frozenset[str]

    def norm(self, made: Sequence[Made]) -> float:
        """That of all tensors together that a factor bears on; 0 where it bears on some of them again."""
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
    """What led to each of these states, in words, the likeliest first; those of the same names once."""
    ranked = []
    for state in found:
        groups = _grouped(state.made)
        likely = sum(ORDER[id(group[0].wrong)] for group in groups)
        places = sum(_says_less(group, setting) for group in groups), sum(map(len, groups))
        names = [_names(group, state.on_penalty, setting) for group in groups]
        for k, each in enumerate(product(*names)):
            solved = any(_is_solved(group[0].wrong) for group in each)
            if len(each) > 1 and all(group[0].wrong in DESCRIPTIONS for group in each):
                continue  # between them two of these cover anything
            if state.informed >= (2 if solved else 1):  # of a single entry everything is a multiple
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
"""What is said of each of these is the same, and more to the point."""


def says(kinds: Collection[str], kind: str) -> bool:
    """Whether one of these kinds is this one, or says the same more to the point."""
    return kind in kinds or bool(_SPECIAL.get(kind, frozenset()) & set(kinds))


def sentences_of(made: Sequence[Made], setting: Setting) -> Iterator[str]:
    """What is known of single tensors, by the likeliest name; the same mistake in several of them once."""
    for group in _grouped(made):
        yield cause_of(_names(group, False, setting)[0], setting.problem).sentence


def likeliest(made: Sequence[Made]) -> Made:
    """Of what one tensor may have suffered, what says why, and is seen most."""
    return min(made, key=lambda each: (each.wrong in DESCRIPTIONS, ORDER[id(each.wrong)]))


def _grouped(made: Sequence[Made]) -> list[list[Made]]:
    """The same mistake in several places is one."""
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
    """The same under every name that it may have, if it is a factor."""
    first = group[0]
    if first.wrong not in (SCALED, TENSOR_FACTOR) or first.value is None:
        return [group]
    names = named(first.value, setting.sizes, setting.norm(group), on_penalty, setting.without)
    return [
        [replace(each, wrong=replace(wrong, factor=first.wrong.factor)) for each in group] for wrong in names
    ]


def _rank(groups: Sequence[Sequence[Made]]) -> tuple[int, ...]:
    """Few mistakes first, then what says why, needs no solving, and is of whole layers."""
    firsts = [group[0] for group in groups]
    return (
        len(firsts),
        sum(first.wrong is SWAPPED and len(group) == 1 for first, group in zip(firsts, groups, strict=True)),
        sum(first.wrong in DESCRIPTIONS for first in firsts),
        sum(_FREE.get(first.wrong.kind, 0) for first in firsts),
        sum(isinstance(first.wrong, Mistake) and bool(first.place) for first in firsts),
    )


def _says_less(group: Sequence[Made], setting: Setting) -> bool:
    """Whether it blames what is handed down for a factor that some layer's gradients alone may have."""
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
"""What a value had to be found for that says nothing by itself, as a mere factor does least."""


def with_overflow(
    answers: list[Answer], targets: Mapping[str, Target], problem: Problem | None
) -> list[Answer]:
    """Numbers that are not finite are a mistake of their own, beside whatever explains the others."""
    made = [_overflow(target) for target in targets.values() if not target.finite.all()]
    if not made:
        return answers
    cause = cause_of(made, problem)
    if answers:
        return [Answer((cause, *answer.causes), answer.apart) for answer in answers]
    return [Answer((cause,), 0.0)] if all(target.is_right for target in targets.values()) else []


def _overflow(target: Target) -> Made:
    numbers = target.found[~target.finite]
    nan = int(np.isnan(numbers).sum())
    what = f"{nan} NaN" if nan == numbers.size else f"{numbers.size} numbers that are not finite"
    return Made(OVERFLOW, target.name.rsplit(".", 1)[0], target.name, place=what)
