"""Functions whose gradients are checked, possibly with a change that spoils them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcheck_cli import WrongGradientError, check_gradients, check_layer
from gradcheck_cli.report import Report

Array = np.ndarray
Arrays = dict[str, Array]
Gradients = Callable[[Arrays], Arrays]
Change = Callable[[Arrays], Arrays]
"""A function that spoils right gradients."""


def drawn_by(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@dataclass(frozen=True)
class Case:
    """A function with a gradient.

    run: checks the gradient with these changes to it, and returns the report.
    """

    name: str
    run: Callable[[Change], Report]


def of_numpy(name: str, loss: Callable[[Arrays], float], gradients: Gradients, at: Arrays) -> Case:
    def run(change: Change) -> Report:
        return _report(check_gradients, lambda p: (loss(p), change(gradients(p))), at)

    return Case(name, run)


def of_pair(name: str, forward: Any, backward: Any, at: Arrays) -> Case:
    def run(change: Change) -> Report:
        def remembering(*given: Array) -> Any:
            return forward(*given), given

        def changed(dout: Any, cache: Any) -> Any:
            return tuple(change(dict(zip(at, backward(dout, *cache), strict=True))).values())

        return _report(check_layer, remembering, changed, tuple(at.values()))

    return Case(name, run)


def of_code(name: str, check: Callable[..., Any], *given: Any, **more: Any) -> Case:
    """Return a case whose gradient cannot be changed, because torch or jax computes it."""
    return Case(name, lambda _: _report(check, *given, **more))


def _report(check: Callable[..., Report], *given: Any, **more: Any) -> Report:
    try:
        return check(*given, **more, allow_undecided=True)
    except WrongGradientError as error:
        return error.report


def unchanged(gradients: Arrays) -> Arrays:
    return gradients


def named(report: Report) -> set[str]:
    """Return the kinds that the first answer of a report names, or its note on a staircase."""
    if any("is a staircase in" in note for note in report.unusual):
        return {"straight-through estimate"}
    if report.diagnosis is None or not report.diagnosis.answers:
        return set()
    return {cause.kind for cause in report.diagnosis.answers[0].causes}


def each(change: Callable[[Array], Array]) -> Change:
    return lambda gradients: {name: change(value) for name, value in gradients.items()}


def first(change: Callable[[Array], Array | None]) -> Change:
    """Return a change of the first tensor alone."""

    def changed(gradients: Arrays) -> Arrays:
        name = next(iter(gradients))
        wrong = change(gradients[name])
        return gradients if wrong is None else {**gradients, name: wrong}

    return changed


X, Y = drawn_by(5).normal(size=(6, 4)), drawn_by(6).normal(size=(6, 3))
W = drawn_by(7).normal(size=(3, 4))
SHARED = {"w": W, "b": drawn_by(8).normal(size=3)}
