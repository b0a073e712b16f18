"""Gradients of a network that are right except for one changed tensor, and ways to change it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from judged import Judge

from gradcheck_cli import Spec, Verdict
from gradcheck_cli.network.network import gradients
from gradcheck_cli.problem.problem import build_problem


def assert_an_error_in_any_tensor_is_wrong(spec: Spec) -> None:
    """Change the largest entry of each tensor by 0.1 %, and assert that only this tensor is called wrong."""
    problem = build_problem(spec)
    judge = Judge(spec, problem)
    right = gradients(problem.network, problem.parameters, problem.x, problem.target)
    for name, value in right.items():
        if np.abs(value).max() < 1e-12:  # such as a bias below a normalisation, or of the keys
            continue
        wrong = value.copy()
        wrong.flat[np.abs(value).argmax()] *= 1.001
        report = judge.report({**right, name: wrong})
        assert report.verdict is Verdict.WRONG, name
        assert [c.name for c in report.comparisons if c.wrong.any()] == [name]


# --- ways to spoil a tensor --------------------------------------------------------------------------------

Spoil = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""A function that returns a wrong gradient of one tensor, given the right one."""


def _entry(change: Callable[[float], float], largest: bool = False) -> Spoil:
    """Return a function that changes one entry: the largest, or an entry of at least 1 % of the largest."""

    def spoil(right: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        size, wrong = np.abs(right).ravel(), right.copy()
        least = size.max() if largest else 0.01 * size.max()
        place = rng.choice(np.flatnonzero(size >= least))
        wrong.flat[place] = change(float(right.flat[place]))
        return wrong

    return spoil


def _row(factor: float) -> Spoil:
    """Return a function that multiplies one row of the first axis."""

    def spoil(right: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        wrong = right.copy()
        wrong[rng.integers(len(right))] *= factor
        return wrong

    return spoil


def _transposed(right: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.ascontiguousarray(right.T).reshape(right.shape)


SPOILS: Mapping[str, Spoil] = {
    "one entry 0.1 % off": _entry(lambda number: 1.001 * number, largest=True),
    "one entry with the wrong sign": _entry(lambda number: -number),
    "one entry 0": _entry(lambda number: 0.0),
    "one entry doubled": _entry(lambda number: 2.0 * number),
    "one entry not a number": _entry(lambda number: np.nan),
    "a row doubled": _row(2.0),
    "a row 0": _row(0.0),
    "a row with the wrong sign": _row(-1.0),
    "a factor 2": lambda right, rng: 2.0 * right,
    "a factor": lambda right, rng: float(10 ** rng.uniform(-3, 3)) * right,
    "a factor of nearly 1": lambda right, rng: 1.001 * right,
    "the wrong sign": lambda right, rng: -right,
    "zeros": lambda right, rng: np.zeros_like(right),
    "noise of 1 %": lambda right, rng: right * (1.0 + 0.01 * rng.normal(size=right.shape)),
    "an offset of 1 %": lambda right, rng: right + 0.01 * np.abs(right).max(),
    "rows in reverse": lambda right, rng: right[::-1].copy(),
    "rolled along the last axis": lambda right, rng: np.roll(right, 1, axis=-1),
    "entries permuted": lambda right, rng: rng.permutation(right.ravel()).reshape(right.shape),
    "transposed": _transposed,
    "absolute values": lambda right, rng: np.abs(right),
}
"""The ways to change the gradient of one tensor, by name."""
