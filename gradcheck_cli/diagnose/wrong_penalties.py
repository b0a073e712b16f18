"""Mistakes in the penalty term of a gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from gradcheck_cli.diagnose.families import MORE_SAMPLES, PENALTY
from gradcheck_cli.diagnose.mistake import Term, WrongPenalty
from gradcheck_cli.diagnose.rows import parameter
from gradcheck_cli.diagnose.site import penalty_terms
from gradcheck_cli.network.penalties import PENALTIES
from gradcheck_cli.problem.problem import Problem
from gradcheck_cli.types import Array


def _row(
    kind: str,
    term: Term,
    sentence: str,
    wrong: str,
    unknown: str = "",
    planted: float = 0.0,
    right: str = "∂L/∂w = δᵀ a⁽ʰ⁾ + l2 w + l1 sign(w)",
    code: str = "",
    shown_by: str = "",
    freedom: int = 0,
) -> WrongPenalty:
    return WrongPenalty(
        kind,
        PENALTY,
        sentence,
        wrong,
        right,
        "∂L/∂w",
        unknown,
        code,
        shown_by=shown_by,
        freedom=freedom,
        term=term,
        planted=planted,
    )


def _times(multiple: Callable[[Problem], float], *only: str) -> Term:
    """Return a `Term` that multiplies the penalties by a factor.

    multiple: a function that returns the factor.
    only: the one penalty to multiply if the parameter has several; by default, all are multiplied.
    """

    def term(problem: Problem, name: str, _: float) -> Array | None:
        terms = penalty_terms(problem, name)
        if not terms or (only and (len(terms) < 2 or not set(only) <= set(terms))):
            return None
        chosen = only or tuple(terms)
        return sum((multiple(problem) if p in chosen else 1.0) * t for p, t in terms.items())  # type: ignore[return-value]

    return term


def _swapped(problem: Problem, name: str, _: float) -> Array | None:
    """Return the penalty term with the strengths of l1 and l2 swapped; None if only one of them applies."""
    strengths = problem.network.penalties_on(name)
    if len(strengths) < 2:
        return None
    return _mixture(problem, name, strengths["l2"], strengths["l1"])


def _mixture(problem: Problem, name: str, l1: float, l2: float) -> Array:
    w = parameter(problem, name)
    return PENALTIES["l1"].derivative(w, l1) + PENALTIES["l2"].derivative(w, l2)


def _by_share(problem: Problem, name: str, l1_ratio: float) -> Array | None:
    """Return the penalty term that results if l1 makes up the share `l1_ratio` of the total strength.

    Returns None unless both l1 and l2 apply.
    """
    strengths = problem.network.penalties_on(name)
    if len(strengths) < 2:
        return None
    total = sum(strengths.values())
    return _mixture(problem, name, l1_ratio * total, (1.0 - l1_ratio) * total)


def _one_strength(of: str) -> Term:
    """Return a `Term` that gives both penalties the strength of the penalty `of`."""

    def term(problem: Problem, name: str, _: float) -> Array | None:
        strengths = problem.network.penalties_on(name)
        return _mixture(problem, name, strengths[of], strengths[of]) if len(strengths) > 1 else None

    return term


def _other_strength(of: str) -> Term:
    """Return a `Term` that scales the strength of the penalty `of` by the unknown.

    The mistake applies only if there are two penalties.
    """

    def term(problem: Problem, name: str, multiple: float) -> Array | None:
        return _times(lambda _: multiple, of)(problem, name, multiple)

    return term


def _added(penalty: str) -> Term:
    """Return a `Term` that adds a penalty that is not in the spec."""

    def term(problem: Problem, name: str, strength: float) -> Array | None:
        if penalty in problem.network.penalties:
            return None
        w = parameter(problem, name)
        return sum(penalty_terms(problem, name).values(), PENALTIES[penalty].derivative(w, strength))

    return term


_MIXED: tuple[WrongPenalty, ...] = (
    _row(
        "elastic net mixed up",
        _swapped,
        "the l1 penalty has the strength of the l2 penalty, and vice versa",
        "… + l1 w + l2 sign(w)",
        code="dL_dw = delta.T @ a_h + l1 * w + l2 * np.sign(w)",
    ),
    *(
        _row(
            "elastic net mixed up",
            _one_strength(of),
            f"both penalties have the strength of the {of} penalty",
            f"… + {of} w + {of} sign(w)",
        )
        for of in ("l1", "l2")
    ),
    _row(
        "elastic net mixed up",
        _by_share,
        "the l1 penalty's share of the total penalty strength is {value}, not the spec's",
        "… + (l1 + l2) ({value} sign(w) + (1 − {value}) w)",
        "l1_ratio",
        0.15,
    ),
)

_ADDED: tuple[WrongPenalty, ...] = tuple(
    _row(
        "penalty that the spec lacks",
        _added(penalty),
        f"the gradient includes {name} of strength {{value}}; the spec has none",
        f"∂L/∂w + {{value}} {derivative}",
        f"{penalty} strength",
        0.01,
        "∂L/∂w",
        f"dL_dw = delta.T @ a_h + 0.01 * {code}",
        freedom=1,
    )
    for penalty, name, derivative, code in (
        ("l2", "weight decay (an l2 penalty)", "w", "w"),
        ("l1", "an l1 penalty", "sign(w)", "np.sign(w)"),
    )
)


def _any_multiple(problem: Problem, name: str, multiple: float) -> Array | None:
    return _times(lambda _: multiple)(problem, name, multiple)


_MULTIPLES: tuple[tuple[str, Callable[[Problem], float], str, str, str, str], ...] = (
    ("penalty forgotten", lambda p: 0.0, "{penalty} is forgotten", "∂L/∂w = δᵀ a⁽ʰ⁾", "", ""),
    (
        "penalty doubled",
        lambda p: 2.0,
        "{penalty} counts twice, as if it were λ w², not ½ λ w²",
        "… + 2 λ w",
        " + 2 * (l2 * w + l1 * np.sign(w))",
        "",
    ),
    (
        "penalty halved",
        lambda p: 0.5,
        "{penalty} counts only half",
        "… + ½ λ w",
        " + (l2 * w + l1 * np.sign(w)) / 2",
        "",
    ),
    (
        "penalty with the wrong sign",
        lambda p: -1.0,
        "{penalty} has the wrong sign",
        "… − λ w",
        " - l2 * w - l1 * np.sign(w)",
        "",
    ),
    (
        "penalty divided by N",
        lambda p: 1.0 / len(p.x),
        "{penalty} is divided by the number of samples",
        "… + λ w / N",
        " + (l2 * w + l1 * np.sign(w)) / N",
        MORE_SAMPLES,
    ),
    (
        "penalty divided by N",
        lambda p: float(len(p.x)),
        "{penalty} is multiplied by the number of samples",
        "… + N λ w",
        " + N * (l2 * w + l1 * np.sign(w))",
        MORE_SAMPLES,
    ),
)


def _fixed() -> Iterator[WrongPenalty]:
    for only in ((), ("l2",), ("l1",)):
        for kind, multiple, sentence, wrong, added, shown_by in _MULTIPLES:
            said = sentence.format(penalty=f"the {only[0]} penalty" if only else "the penalty")
            code = "" if only else f"dL_dw = delta.T @ a_h{added}"
            said = said[0].lower() + said[1:]
            yield _row(kind, _times(multiple, *only), said, wrong, code=code, shown_by=shown_by)


def _on_biases(problem: Problem, name: str, _: float) -> Array | None:
    network, b = problem.network, parameter(problem, name)
    if not network.penalties or network.penalties_on(name):
        return None
    return sum(PENALTIES[p].derivative(b, strength) for p, strength in network.penalties.items())  # type: ignore[return-value]


def _instead(penalty: str, derivative: Callable[[Array], Array]) -> Term:
    """Return a `Term` that replaces a penalty's derivative with another function of w."""

    def term(problem: Problem, name: str, _: float) -> Array | None:
        terms = penalty_terms(problem, name)
        if penalty not in terms:
            return None
        wrong = problem.network.penalties[penalty] * derivative(parameter(problem, name))
        return sum((wrong if p == penalty else t) for p, t in terms.items())  # type: ignore[return-value]

    return term


_OTHER_DERIVATIVES: Mapping[str, tuple[tuple[Callable[[Array], Array], str, str], ...]] = {
    "l2": (
        (np.sign, "λ sign(w)", "np.sign(w)"),
        (np.abs, "λ |w|", "np.abs(w)"),
        (lambda w: w * w, "λ w²", "w**2"),
        (np.ones_like, "λ", "np.ones_like(w)"),
    ),
    "l1": (
        (lambda w: w, "λ w", "w"),
        (np.abs, "λ |w|", "np.abs(w)"),
        (np.ones_like, "λ", "np.ones_like(w)"),
        (lambda w: (w > 0).astype(float), "λ where w > 0, else 0", "(w > 0)"),
    ),
}
"""The wrong derivatives of each penalty, each as a function, a formula and numpy code.

The first rows of l2 and of l1 together would swap the two derivatives. That mistake has a kind of its own,
"elastic net mixed up".
"""

_OTHER_KIND = "penalty of the other kind"

_RIGHT = {"l2": "λ w", "l1": "λ sign(w)"}
"""The derivative of each penalty as a formula."""


def _code_of(**instead: str) -> str:
    """Return numpy code for the gradient in which the named penalties have these derivatives."""
    derivatives = {"l2": "w", "l1": "np.sign(w)", **instead}
    return "dL_dw = delta.T @ a_h" + "".join(f" + {name} * {each}" for name, each in derivatives.items())


_INSTEAD = tuple(
    _row(
        _OTHER_KIND,
        _instead(penalty, derivative),
        f"the {penalty} penalty adds {wrong}, not {_RIGHT[penalty]}",
        f"… + {wrong}",
        code=_code_of(**{penalty: code}),
    )
    for penalty, rows in _OTHER_DERIVATIVES.items()
    for derivative, wrong, code in rows
)


def _both_instead(of_l2: Callable[[Array], Array], of_l1: Callable[[Array], Array]) -> Term:
    """Return a `Term` that replaces the derivatives of both penalties with other functions of w."""

    def term(problem: Problem, name: str, _: float) -> Array | None:
        strengths = problem.network.penalties_on(name)
        if len(strengths) < 2:
            return None
        w = parameter(problem, name)
        wrong: Array = strengths["l2"] * of_l2(w) + strengths["l1"] * of_l1(w)
        return wrong

    return term


PAIRED_PENALTY_MISTAKES = tuple(
    _row(
        _OTHER_KIND,
        _both_instead(of_l2, of_l1),
        f"the l2 penalty adds {from_l2}, and the l1 penalty adds {from_l1}",
        f"… + {from_l2} + {from_l1}",
    )
    for i, (of_l2, from_l2, _) in enumerate(_OTHER_DERIVATIVES["l2"])
    for j, (of_l1, from_l1, _) in enumerate(_OTHER_DERIVATIVES["l1"])
    if i or j
)
"""The mistakes that give both penalties wrong derivatives at once."""


PENALTY_MISTAKES: tuple[WrongPenalty, ...] = (
    *_fixed(),
    *_INSTEAD,
    *_MIXED,
    _row(
        "penalty on the biases too",
        _on_biases,
        "the penalty also applies to the biases",
        "∂L/∂b = Σₙ δₙ + λ b",
        code="dL_db = delta.sum(axis=0) + l2 * b + l1 * np.sign(b)",
        shown_by="biases other than 0",
    ),
    _row(
        "penalty strength",
        _any_multiple,
        "the penalty is {value} times what it should be",
        "… + {value} λ w",
        "multiple",
        3.5,
        code="dL_dw = delta.T @ a_h + 3.5 * (l2 * w + l1 * np.sign(w))",
        freedom=1,
    ),
    *(
        _row(
            "penalty strength",
            _other_strength(of),
            f"the {of} penalty is {{value}} times what it should be",
            f"… + {{value}} {of} {derivative}",
            "multiple",
            3.5,
            freedom=1,
        )
        for of, derivative in (("l2", "w"), ("l1", "sign(w)"))
    ),
    *_ADDED,
)
