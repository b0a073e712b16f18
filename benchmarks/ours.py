"""gradcheck's own methods, for the benchmarks: the verdict, and plain central differences alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from gradcheck_cli import Spec
from gradcheck_cli.network.network import gradients
from gradcheck_cli.numerical.objective import Movable, Site
from gradcheck_cli.numerical.schemes import SCHEMES
from gradcheck_cli.problem.problem import Problem
from gradcheck_cli.spec.gradients import GradientFile

Array = np.ndarray

ONE_STEP = replace(SCHEMES["central"], ladder=(1.0,), certify=(0,))
"""Plain central differences at a single step, without an error estimate."""


def with_jobs(spec: Spec, jobs: int) -> Spec:
    """Return the same spec, to be checked with this many processes."""
    return spec.model_copy(update={"check": spec.check.model_copy(update={"jobs": jobs})})


def with_wrong_gradient(spec: Spec, problem: Problem, path: Path) -> Spec:
    """Return the same spec with every entry of the gradient times 1.1, written to `path` (.npz)."""
    right = gradients(problem.network, problem.parameters, problem.x, problem.target)
    np.savez(path, **{name: 1.1 * value for name, value in right.items()})
    return spec.model_copy(update={"gradients": GradientFile(file=path)})


def plain_by_units(problem: Problem) -> dict[str, Array]:
    """Return every entry, by parameter name, from plain central unit differences at one step.

    The differences have no error bars. Batch normalisation is not supported.
    """
    names = list(problem.network.shapes)
    pairs: dict[Site, Array] = {}
    result = {}
    for name in names:
        ((site, factors),) = problem.objective.uses(name)
        if site not in pairs:
            pairs[site] = slopes(problem.objective.units(site)).reshape(-1, len(problem.x))
        result[name] = factors.sums(pairs[site])
    return result


def plain_literally(problem: Problem, names: Sequence[str], which: Array) -> Array:
    """Compute the entries with the flat indices `which`, each perturbed individually.

    The indices count through the parameters `names`, one after the other.
    """
    result, start = np.empty(len(which)), 0
    for name in names:
        entries = problem.objective.entries(name)
        end = start + len(entries.position)
        here = (start <= which) & (which < end)
        if here.any():
            result[here] = slopes(entries, which[here] - start)
        start = end
    return result


def slopes(movable: Movable, which: Array | None = None) -> Array:
    """Return plain central differences of the numbers `which`, or of all, at one step."""
    which = np.arange(len(movable.position)) if which is None else which
    batch = movable.batch
    return np.concatenate([_slopes(movable, which[i : i + batch]) for i in range(0, len(which), batch)])


def _slopes(movable: Movable, which: Array) -> Array:
    x, h = movable.position[which], ONE_STEP.step * movable.unit[which]
    rise = movable.move(which, x + h).losses - movable.move(which, x - h).losses
    return (rise if rise.ndim == 1 else rise.sum(axis=1)) / (2.0 * h)
