"""Mistakes in the penalty's part of a gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from gradcheck_cli.diagnose.mistake import Term, WrongPenalty
from gradcheck_cli.diagnose.site import penalty_terms
from gradcheck_cli.model.penalties import PENALTIES
from gradcheck_cli.model.problem import Problem
from gradcheck_cli.model.special import Array

PENALTY = "penalty"


def _row(
    kind: str, term: Term, sentence: str, wrong: str, unknown: str = "", planted: float = 0.0
) -> WrongPenalty:
    return WrongPenalty(
        kind,
        PENALTY,
        sentence,
        wrong,
        "∂L/∂w = δᵀ a⁽ʰ⁾ + l2 w + l1 sign(w)",
        "∂L/∂w",
        unknown,
        term=term,
        planted=planted,
    )


def _times(multiple: Callable[[Problem], float], *only: str) -> Term:
    """The penalties, or one of several, times a multiple."""

    def term(problem: Problem, name: str, _: float) -> Array | None:
        terms = penalty_terms(problem, name)
        if not terms or (only and (len(terms) < 2 or not set(only) <= set(terms))):
            return None
        chosen = only or tuple(terms)
        return sum((multiple(problem) if p in chosen else 1.0) * t for p, t in terms.items())  # type: ignore[return-value]

    return term


def _any_multiple(problem: Problem, name: str, multiple: float) -> Array | None:
    return _times(lambda _: multiple)(problem, name, multiple)


_MULTIPLES: tuple[tuple[str, Callable[[Problem], float], str, str], ...] = (
    ("penalty forgotten", lambda p: 0.0, "{penalty} is forgotten", "∂L/∂w = δᵀ a⁽ʰ⁾"),
    (
        "penalty doubled",
        lambda p: 2.0,
        "{penalty} counts twice, as where ½ λ w² is taken for λ w²",
        "… + 2 λ w",
    ),
    ("penalty halved", lambda p: 0.5, "{penalty} counts half", "… + ½ λ w"),
    ("penalty with the wrong sign", lambda p: -1.0, "{penalty} has the wrong sign", "… − λ w"),
    (
        "penalty divided by N",
        lambda p: 1.0 / len(p.x),
        "{penalty} is divided by the number of samples",
        "… + λ w / N",
    ),
    (
        "penalty divided by N",
        lambda p: float(len(p.x)),
        "{penalty} is multiplied by the number of samples",
        "… + N λ w",
    ),
)


def _fixed() -> Iterator[WrongPenalty]:
    for only in ((), ("l2",), ("l1",)):
        for kind, multiple, sentence, wrong in _MULTIPLES:
            said = sentence.format(penalty=f"the {only[0]} penalty" if only else "the penalty")
            yield _row(kind, _times(multiple, *only), said[0].lower() + said[1:], wrong)


def _on_biases(problem: Problem, name: str, _: float) -> Array | None:
    network, b = problem.network, problem.parameters[name]
    if not network.penalties or network.penalties_on(name):
        return None
    return sum(PENALTIES[p].derivative(b, strength) for p, strength in network.penalties.items())  # type: ignore[return-value]


def _instead(penalty: str, derivative: Callable[[Array], Array]) -> Term:
    """λ times something else of w in place of this penalty's own derivative."""

    def term(problem: Problem, name: str, _: float) -> Array | None:
        terms = penalty_terms(problem, name)
        if penalty not in terms:
            return None
        wrong = problem.network.penalties[penalty] * derivative(problem.parameters[name])
        return sum((wrong if p == penalty else t) for p, t in terms.items())  # type: ignore[return-value]

    return term


_INSTEAD = tuple(
    _row(
        "penalty of the other kind",
        _instead(penalty, derivative),
        f"the {penalty} penalty adds {wrong}",
        f"… + {wrong}",
    )
    for penalty, derivative, wrong in (
        ("l2", np.sign, "λ sign(w)"),
        ("l2", np.abs, "λ |w|"),
        ("l2", lambda w: w * w, "λ w²"),
        ("l2", np.ones_like, "λ"),
        ("l1", lambda w: w, "λ w"),
        ("l1", np.abs, "λ |w|"),
        ("l1", np.ones_like, "λ"),
    )
)


PENALTY_MISTAKES: tuple[WrongPenalty, ...] = (
    *_fixed(),
    *_INSTEAD,
    _row(
        "penalty on the biases too", _on_biases, "the penalty bears on the biases, too", "∂L/∂b = Σₙ δₙ + λ b"
    ),
    _row(
        "penalty strength",
        _any_multiple,
        "the penalty counts {value} times",
        "… + {value} λ w",
        "multiple",
        3.5,
    ),
)
