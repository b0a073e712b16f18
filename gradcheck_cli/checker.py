"""The straight line from a spec to a report."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

import numpy as np

from gradcheck_cli.compare import ERROR_BARS, ROUNDING_SAFETY, Comparison, compare
from gradcheck_cli.errors import UntrustedReferenceError
from gradcheck_cli.model.blind import unexercised, unusual
from gradcheck_cli.model.problem import Problem, build_problem
from gradcheck_cli.model.rounding import Arithmetic, gradient_rounding
from gradcheck_cli.model.special import Array
from gradcheck_cli.numerical.estimate import Progress
from gradcheck_cli.numerical.reference import Estimates, LiteralDifferences, Reference, UnitDifferences
from gradcheck_cli.numerical.schemes import SCHEMES
from gradcheck_cli.numerical.witness import Testimony, contradictions, hear
from gradcheck_cli.report import Report, Witness
from gradcheck_cli.sources import read_gradients
from gradcheck_cli.sources.analytic import Analytic
from gradcheck_cli.spec import CheckSpec, Spec


@np.errstate(all="ignore")  # what is not finite is judged, or refused, not warned of
def check(spec: Spec, progress: Progress | None = None) -> Report:
    """Compare the analytic gradients that `spec` names with finite differences, entry by entry.

    progress is told how many evaluations have just been made. Raises `InputError` where the spec does not
    fit its data, and `UntrustedReferenceError` if unit and literal differences contradict each other.
    """
    problem = build_problem(spec)
    analytic = read_gradients(spec.gradients, problem)
    rounding = _rounding(problem, analytic)
    reference, witness = _references(problem, spec.check, progress)

    estimates = reference.estimate(problem.checked)
    comparisons = _compare(analytic, estimates, rounding, spec.check)
    undecided = {c.name: ~c.agrees for c in comparisons if not c.agrees.all()}
    if undecided:  # only what does not agree yet is worth the whole ladder of steps
        estimates = reference.refine(estimates, undecided)
    estimates, heard = _cross_examine(reference, witness, estimates, rounding, spec.check.seed)
    comparisons = _compare(analytic, estimates, rounding, spec.check)

    return Report(
        tuple(comparisons),
        network=describe(problem),
        loss_name=f"{spec.network.loss.name} ({spec.network.loss.reduction})",
        loss=float(problem.objective.total),
        source=analytic.origin,
        scheme=spec.check.scheme,
        differences=spec.check.differences,
        rtol={c.name: c.rtol for c in comparisons},
        witness=heard,
        unexercised=unexercised(problem),
        unusual=unusual(problem),
    )


def _references(
    problem: Problem, how: CheckSpec, progress: Progress | None
) -> tuple[Reference, LiteralDifferences | None]:
    """The reference, and the witness it is held against: the literal way needs none."""
    scheme = SCHEMES[how.scheme]
    literal = LiteralDifferences(problem.objective, scheme, how.step, progress)
    if how.differences == "literal":
        return literal, None
    return UnitDifferences(problem.objective, scheme, how.step, progress), literal


def _rounding(problem: Problem, analytic: Analytic) -> Mapping[str, Array]:
    """How far rounding may carry each right gradient, in the arithmetic that it was computed in."""
    bounds = {}
    for dtype in set(analytic.dtypes.values()):
        arithmetic = Arithmetic.of(dtype, held=problem.dtype)
        bounds[dtype] = gradient_rounding(
            problem.network, problem.parameters, problem.x, problem.target, arithmetic
        )
    return {name: bounds[dtype][name] for name, dtype in analytic.dtypes.items()}


def _compare(
    analytic: Analytic, estimates: Estimates, rounding: Mapping[str, Array], how: CheckSpec
) -> list[Comparison]:
    return [
        compare(
            name,
            value,
            estimates[name],
            rounding[name],
            how.rtol or default_rtol(analytic.dtypes[name]),
        )
        for name, value in analytic.values.items()
    ]


def _cross_examine(
    reference: Reference,
    witness: LiteralDifferences | None,
    estimates: Estimates,
    rounding: Mapping[str, Array],
    seed: int,
) -> tuple[Estimates, Witness | None]:
    """Hold the reference against its witness; where they differ, only after the closest look at both."""
    if witness is None:
        return estimates, None
    allowed = {name: ROUNDING_SAFETY * bound for name, bound in rounding.items()}
    testimony = hear(witness, estimates, allowed, seed)
    doubts = contradictions(testimony, estimates)
    if doubts:
        estimates = reference.refine(estimates, doubts)
        if contradictions(testimony, estimates):
            raise UntrustedReferenceError(_contradiction(testimony, estimates))
    entries = sum(len(t.which) for t in testimony)
    return estimates, Witness(entries, max(float(t.distance(estimates).max()) for t in testimony))


def _contradiction(testimony: list[Testimony], estimates: Estimates) -> str:
    worst = max(testimony, key=lambda t: float(t.distance(estimates).max()))
    i = int(worst.distance(estimates).argmax())
    units = estimates[worst.name]
    index = [int(k) for k in np.unravel_index(worst.which[i], units.value.shape)]
    return (
        f"two ways to difference {worst.name}{index} contradict each other: by units "
        f"{units.value.ravel()[worst.which[i]]:.9e} ± {units.error.ravel()[worst.which[i]]:.1e}, literally "
        f"{worst.literal.value[i]:.9e} ± {worst.literal.error[i]:.1e} (over {ERROR_BARS:g} error bars apart)"
    )


def default_rtol(dtype: np.dtype[Any]) -> float:
    """1e-6, or 16 ε of the type the gradient was computed in if that is larger."""
    return max(1e-6, 16 * float(np.finfo(dtype).eps))


def describe(problem: Problem) -> str:
    """``64-50-10, 2 × sigmoid, 100 samples``"""
    layers = problem.network.layers
    sizes = "-".join(str(n) for n in (layers[0].inputs, *(layer.units for layer in layers)))
    runs = [(name, len(list(run))) for name, run in groupby(layer.activation_name for layer in layers)]
    activations = ", ".join(name if times == 1 else f"{times} × {name}" for name, times in runs)
    samples = f"{len(problem.x)} sample" + ("s" if len(problem.x) != 1 else "")
    return f"{sizes}, {activations}, {samples}"
