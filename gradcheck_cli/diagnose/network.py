"""The diagnosis by a network whose backprop we can compute, rightly and wrongly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from gradcheck_cli.compare import Comparison
from gradcheck_cli.diagnose.diagnosis import Answer, Diagnosis
from gradcheck_cli.diagnose.mistake import Wrong
from gradcheck_cli.diagnose.observe import faulty_layers, observed
from gradcheck_cli.diagnose.search import Made, Search
from gradcheck_cli.diagnose.table import ORDER, OVERFLOW, TENSOR_FACTOR
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
    answers, tried = _answers(problem, targets, without)
    return Diagnosis(
        tuple(with_overflow(answers, targets, problem)),
        tried,
        () if answers else tuple(observed(problem, targets)),
        faulty_layers(problem, targets, answers),
        "network",
    )


def target_of(comparison: Comparison, right: Array) -> Target:
    rtol = max(RTOL, 16.0 * comparison.eps) if comparison.eps > _DOUBLE else RTOL
    return Target(comparison.name, comparison.analytic, right, comparison.rounding, rtol)


_DOUBLE = 2.0**-50
"""Types with a coarser ε than this are narrower than float64."""


def _answers(
    problem: Problem, targets: Mapping[str, Target], without: frozenset[str]
) -> tuple[list[Answer], int]:
    """What explains the finite numbers, and how much was tried: one mistake, or if none does, two."""
    tried = 0
    if all(target.is_right for target in targets.values()):
        return [], tried
    for most in range(1, MOST + 1):
        search = Search(problem, targets, most, without)
        states = search.run()
        tried += search.tried
        if states:
            return in_words(
                [(state.made, state.apart) for state in states], problem, Sizes.of(problem), without
            ), tried
    return [], tried


def in_words(
    found: Sequence[tuple[Sequence[Made], float]],
    problem: Problem | None,
    sizes: Sizes,
    without: frozenset[str],
) -> list[Answer]:
    """Sets of mistakes in words, the likeliest first; those of the same names once."""
    ranked = []
    for made, apart in found:
        groups = _grouped(made)
        likely = sum(ORDER[id(group[0].wrong)] for group in groups)
        for k, named_groups in enumerate(_named(groups, sizes, without)):
            ranked.append(((*_rank(named_groups), likely, k), named_groups, apart))
    answers: dict[tuple[str, ...], Answer] = {}
    for _, groups, apart in sorted(ranked, key=lambda each: each[0]):
        causes = tuple(cause_of(group, problem) for group in groups)
        answers.setdefault(tuple(sorted(cause.kind for cause in causes)), Answer(causes, apart))
    return list(answers.values())[:_MOST_ANSWERS]


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


def _named(groups: list[list[Made]], sizes: Sizes, without: frozenset[str]) -> Iterator[list[list[Made]]]:
    """The same with every name that a factor may have."""
    yield from map(list, product(*(_names(group, sizes, without) for group in groups)))


def _names(group: list[Made], sizes: Sizes, without: frozenset[str]) -> list[list[Made]]:
    first = group[0]
    if first.wrong not in (SCALED, TENSOR_FACTOR) or first.value is None:
        return [group]
    factor = first.wrong.factor
    return [
        [replace(each, wrong=replace(wrong, factor=factor)) for each in group]
        for wrong in named(first.value, sizes, without)
    ]


def _rank(groups: Sequence[Sequence[Made]]) -> tuple[int, ...]:
    """Few mistakes first, then what says why, then what needs no solving, then whole layers."""
    firsts = [group[0] for group in groups]
    return (
        len(firsts),
        sum(first.wrong.kind in DESCRIPTIONS for first in firsts),
        sum(_is_free(first.wrong) for first in firsts),
        sum(bool(first.place) for first in firsts),
    )


def _is_free(wrong: Wrong) -> bool:
    """Whether its value says nothing by itself."""
    return bool(wrong.unknown) and wrong.kind in (
        "factor",
        "penalty strength",
        "activation option",
        "label smoothing",
    )


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
