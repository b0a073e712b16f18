"""The chain rule of the output layer, factor by factor, each checked against differences of exactly its map.

∂L/∂w = ∂L/∂a · ∂a/∂z · ∂z/∂w = δᵀ a⁽ʰ⁾          ∂L/∂b = ∂L/∂a · ∂a/∂z · ∂z/∂b = Σₙ δₙ
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradcheck_cli.compare import Comparison, Verdict, compare, default_rtol, overall
from gradcheck_cli.errors import ExitCode, bad_input
from gradcheck_cli.model.maps import activation_map, bias_map, loss_map, weight_map
from gradcheck_cli.model.network import backprop
from gradcheck_cli.model.problem import Problem, build_problem
from gradcheck_cli.model.rounding import Arithmetic, factor_rounding, gradient_rounding
from gradcheck_cli.model.special import Array
from gradcheck_cli.numerical.estimate import Estimate, differentiate
from gradcheck_cli.numerical.objective import Movable
from gradcheck_cli.numerical.reference import Estimates, UnitDifferences
from gradcheck_cli.numerical.schemes import SCHEMES
from gradcheck_cli.report import EXIT_CODES
from gradcheck_cli.sources import read_gradients
from gradcheck_cli.sources.analytic import Analytic
from gradcheck_cli.spec import CheckSpec, NetworkSpec, Spec
from gradcheck_cli.subject import describe


@dataclass(frozen=True)
class Factor:
    """One line of the derivation: its symbol, its formula, and its numbers against differences of its map."""

    symbol: str
    formula: str
    comparison: Comparison
    origin: str

    @property
    def verdict(self) -> Verdict:
        return self.comparison.verdict


@dataclass(frozen=True)
class Explanation:
    """The derivation for one spec's output layer, from ∂L/∂a down to ∂L/∂w and ∂L/∂b.

    notes: what the loss has beside its name: smoothed or weighted targets, penalties.
    """

    layer: str
    network: str
    activation: str
    loss: str
    coefficient: float
    notes: tuple[str, ...]
    factors: tuple[Factor, ...]

    @property
    def verdict(self) -> Verdict:
        return overall([factor.verdict for factor in self.factors])

    @property
    def exit_code(self) -> ExitCode:
        return EXIT_CODES[self.verdict]


@np.errstate(all="ignore")  # what is not finite is judged, or refused, not warned of
def explain(spec: Spec) -> Explanation:
    """Derive the output layer's gradients of `spec`, checking every factor.

    Factors come from our backprop; ∂L/∂w, ∂L/∂b and any factor the user's gradient file holds come from
    there. Raises `InputError` where the spec does not fit its data.
    """
    problem = build_problem(spec)
    layer = problem.network.output
    if layer.batch_norm is not None:
        message = "the chain rule of an output layer with batch normalisation is not derived here"
        raise bad_input(message, "network", "layers", len(problem.network.layers) - 1, "batch_norm")
    problem = replace(problem, checked=(layer.weight, layer.bias))
    analytic = read_gradients(spec.gradients, problem)
    return Explanation(
        layer.name,
        describe(problem),
        layer.activation_name,
        spec.network.loss.name if spec.network else "",
        problem.network.coefficient,
        tuple(_notes(spec.network)) if spec.network else (),
        tuple(_factor(step, analytic, spec.check) for step in _derivation(problem, analytic, spec.check)),
    )


def _notes(network: NetworkSpec) -> Iterator[str]:
    if network.loss.label_smoothing:
        yield f"y: the targets, smoothed by {network.loss.label_smoothing:g}"
    if network.loss.weight:
        yield "y: the targets, times the weights of their classes, and softmax(a) times their sum"
    terms = {"l2": "½ · {:g} · Σ w²", "l1": "{:g} · Σ |w|"}
    for name, strength in network.penalty.strengths.items():
        yield f"plus a penalty {terms[name].format(strength)} in L"


@dataclass(frozen=True)
class _Step:
    """One factor: our own value, the map it is the derivative of (or its numerical value), and rounding."""

    symbol: str
    formula: str
    name: str
    value: Array
    numerical: Movable | Estimate
    rounding: Array


def _derivation(problem: Problem, analytic: Analytic, how: CheckSpec) -> list[_Step]:
    network, layer = problem.network, problem.network.output
    arithmetic = Arithmetic.of(_dtype(analytic), held=problem.dtype)
    at = (network, problem.parameters, problem.x, problem.target)
    ours, bounds = next(backprop(*at)), next(factor_rounding(*at, arithmetic))
    whole, rounding = _whole(problem, how), gradient_rounding(*at, arithmetic)
    z_to_a = activation_map(problem)
    some = slice(z_to_a.shape[0])  # of a large softmax, the Jacobians of the first samples alone
    z, z_error = ours.y[some], bounds.y[some]
    penalty = " + penalty" if network.penalties_on(layer.weight) else ""
    w, b = layer.weight, layer.bias
    return [
        _Step("∂L/∂a", f"c · {network.loss.formula}", "dL_da", ours.dL_da, loss_map(problem), bounds.dL_da),
        _Step(
            "∂a/∂z",
            layer.activation.formula,
            "da_dz",
            layer.activation.derivative(z),
            z_to_a,
            layer.activation.rounding.derivative(layer.activation, z, z_error, arithmetic.eps),
        ),
        _Step(
            "δ",
            "∂L/∂a · ∂a/∂z",
            "delta",
            ours.delta,
            _delta(problem, how),
            bounds.delta,
        ),
        _Step("∂z/∂w", "a⁽ʰ⁾", "dz_dw", ours.dz_dw, weight_map(problem), arithmetic.eps * np.abs(ours.dz_dw)),
        _Step("∂z/∂b", "1", "dz_db", np.ones_like(ours.y), bias_map(problem), np.zeros_like(ours.y)),
        _Step("∂L/∂w", f"δᵀ a⁽ʰ⁾{penalty}", w, analytic.values[w], whole[w], rounding[w]),
        _Step("∂L/∂b", "Σₙ δₙ", b, analytic.values[b], whole[b], rounding[b]),
    ]


def _whole(problem: Problem, how: CheckSpec) -> Estimates:
    """The numerical gradients of the output layer, with the whole ladder of steps."""
    units = UnitDifferences(problem.objective, SCHEMES[how.scheme], how.step)
    estimates = units.estimate(problem.checked)
    return units.refine(estimates, {name: np.full(e.value.shape, True) for name, e in estimates.items()})


def _delta(problem: Problem, how: CheckSpec) -> Estimate:
    """∂L/∂z of the output layer (N, C), whose numbers the objective has in the order of its units."""
    z = problem.objective.activity.z[-1]
    flat = differentiate(
        problem.objective.units((problem.network.output.name, "z")), SCHEMES[how.scheme], how.step
    )
    return Estimate(flat.value.reshape(z.T.shape).T, flat.error.reshape(z.T.shape).T)


def _factor(step: _Step, analytic: Analytic, how: CheckSpec) -> Factor:
    given = step.name in analytic.factors or step.name in analytic.values
    value = analytic.factors.get(step.name, step.value)[: len(step.value)]
    numerical = step.numerical
    if not isinstance(numerical, Estimate):
        flat = differentiate(numerical, SCHEMES[how.scheme], how.step)
        numerical = Estimate(flat.value.reshape(value.shape), flat.error.reshape(value.shape))
    rtol = how.rtol or default_rtol(_dtype(analytic))
    eps = float(np.finfo(_dtype(analytic)).eps)
    comparison = compare(step.name, value, numerical, step.rounding, rtol, eps)
    return Factor(step.symbol, step.formula, comparison, analytic.origin if given else "backprop")


def _dtype(analytic: Analytic) -> np.dtype[Any]:
    """The coarsest of the gradients' types."""
    return max(analytic.dtypes.values(), key=lambda dtype: float(np.finfo(dtype).eps))
