"""Derive gradients by the chain rule, and check each factor against differences of just its own step.

∂L/∂w = ∂L/∂a · ∂a/∂z · ∂z/∂w = δᵀ a⁽ʰ⁾          ∂L/∂b = ∂L/∂a · ∂a/∂z · ∂z/∂b = Σₙ δₙ

∂L/∂a of the output layer comes from the loss; in a layer below it is δ w of the layer above.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from gradcheck_cli.compare import Comparison, Verdict, compare, default_rtol, overall
from gradcheck_cli.errors import ExitCode, bad_input, did_you_mean, shortened
from gradcheck_cli.model.arrays import listed
from gradcheck_cli.model.blind import unusual
from gradcheck_cli.model.maps import activation_map, bias_map, loss_map, weight_map
from gradcheck_cli.model.problem import Problem, build_problem
from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.layer import Layer
from gradcheck_cli.network.network import ChainRule, Places, backprop
from gradcheck_cli.network.rounding import Rounding, gradient_rounding, rounding_of
from gradcheck_cli.numerical.estimate import Estimate, differentiate
from gradcheck_cli.numerical.objective import Movable
from gradcheck_cli.numerical.reference import Estimates, UnitDifferences
from gradcheck_cli.numerical.schemes import SCHEMES
from gradcheck_cli.report import EXIT_CODES
from gradcheck_cli.sources import read_gradients
from gradcheck_cli.sources.analytic import Analytic
from gradcheck_cli.spec import Backprop, CheckSpec, NetworkSpec, Spec
from gradcheck_cli.subject import analytic_of, describe, other_loss, read_function
from gradcheck_cli.types import Array


@dataclass(frozen=True)
class Factor:
    """One factor of the derivation: its symbol, its formula, and its comparison with differences.

    origin: where the numbers come from.  given: whether they are the user's.
    parts: the symbols of the factors in its formula.
    """

    symbol: str
    formula: str
    comparison: Comparison
    origin: str
    given: bool
    parts: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        return self.comparison.verdict


@dataclass(frozen=True)
class Derivation:
    """The derivation of one layer's gradients, from ∂L/∂a down to ∂L/∂w and ∂L/∂b.

    above: the layer that passes ∂L/∂a down; empty for the output layer.
    normalised: whether y = γ ẑ + β stands between z and the activation.
    """

    layer: str
    activation: str
    above: str
    normalised: bool
    factors: tuple[Factor, ...]

    def unseen(self, factor: Factor) -> tuple[Factor, ...]:
        """The factors that `factor` is made of and that the user's file could hold, but does not."""
        reached = self._reached(factor)
        return tuple(f for f in self.factors if f.symbol in reached and not f.given and f.symbol != _ONES)

    def _reached(self, factor: Factor) -> set[str]:
        """The symbols behind a factor. A factor that the user gives hides what it is made of."""
        reached: set[str] = set()
        for part in (f for f in self.factors if f.symbol in factor.parts):
            reached |= {part.symbol} | (set() if part.given else self._reached(part))
        return reached


_ONES = "∂z/∂b"
"""The one factor that no file holds: it is 1."""


@dataclass(frozen=True)
class Explanation:
    """The derivation for one spec, the output layer first.

    notes: what else the loss contains: smoothed or weighted targets, penalties.
    unusual: what is allowed and rarely intended, and a loss in the gradient file that is not the network's.
    """

    network: str
    loss: str
    coefficient: float
    notes: tuple[str, ...]
    unusual: tuple[str, ...]
    layers: tuple[Derivation, ...]

    @property
    def factors(self) -> tuple[Factor, ...]:
        return tuple(factor for derivation in self.layers for factor in derivation.factors)

    @property
    def verdict(self) -> Verdict:
        return overall([factor.verdict for factor in self.factors])

    @property
    def exit_code(self) -> ExitCode:
        return EXIT_CODES[self.verdict]


@np.errstate(all="ignore")  # numbers that are not finite are judged or refused later
def explain(spec: Spec, only: str = "") -> Explanation:
    """Derive the gradients of `spec` layer by layer, checking every factor.

    only: the one layer to derive, by default every layer with a checked parameter. The gradients are those
    that the spec names, and so are the factors that a gradient file holds. gradcheck's own backprop computes
    all other factors. Raises `InputError` if the spec does not fit its data or has no such layer.
    """
    problem, analytic = _network_and_gradients(spec, only)
    given = not isinstance(spec.gradients, Backprop)
    return Explanation(
        describe(problem),
        spec.network.loss.name if spec.network else "",
        problem.network.coefficient,
        tuple(_notes(spec.network)) if spec.network else (),
        (*unusual(problem), *other_loss(problem, analytic)),
        tuple(_derived(problem, analytic, given, spec.check)),
    )


def _network_and_gradients(spec: Spec, only: str) -> tuple[Problem, Analytic]:
    """The network, with the parameters to derive, and the gradients that the spec names for it."""
    if spec.names_code is None or spec.network is None:
        problem = _narrowed(build_problem(spec), only)
        return problem, read_gradients(spec.gradients, problem)
    function, inputs = read_function(spec)
    assert inputs.problem is not None
    problem = _narrowed(inputs.problem, only)
    return problem, analytic_of(function, function.gradients(function.parameters), problem.checked)


def _narrowed(problem: Problem, only: str) -> Problem:
    return replace(problem, checked=_parameters_of(problem, only)) if only else problem


def _parameters_of(problem: Problem, name: str) -> tuple[str, ...]:
    for layer in problem.network.layers:
        if layer.name == name:
            return tuple(layer.shapes)
    names = [layer.name for layer in reversed(problem.network.layers)]
    help = did_you_mean(name, names) or f"there is {listed(names)}"
    raise bad_input(f"--layer: there is no layer '{shortened(name)}'", "network", "layers", help=help)


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
    """One factor: gradcheck's own value, the map whose derivative it is (or its estimate), and rounding."""

    symbol: str
    formula: str
    name: str
    value: Array
    numerical: Movable | Estimate
    rounding: Array
    parts: tuple[str, ...] = ()


def _derived(problem: Problem, analytic: Analytic, given: bool, how: CheckSpec) -> Iterator[Derivation]:
    """Derive every layer with a checked parameter, from the output down.

    given: whether the gradients are the user's, not gradcheck's own.
    """
    arithmetic = Arithmetic.of(_dtype(analytic), held=problem.dtype)
    at = (problem.network, problem.parameters, problem.x, problem.target)
    whole, rounding = _whole(problem, how), gradient_rounding(*at, arithmetic)
    layers, bounds = problem.network.layers, rounding_of(*at, arithmetic)
    for i, ours in zip(reversed(range(len(layers))), backprop(*at), strict=True):
        layer, above = layers[i], layers[i + 1].name if i + 1 < len(layers) else ""
        checked = [name for name in layer.shapes if name in problem.checked]
        if checked:
            steps = [
                *_steps(_Place(problem, i, arithmetic.eps, how), ours, bounds),
                *(_product(problem, name, analytic, whole, rounding) for name in checked),
            ]
            factors = tuple(_factor(step, analytic, given, how) for step in steps)
            yield Derivation(layer.name, layer.activation_name, above, layer.batch_norm is not None, factors)


class _Place(NamedTuple):
    """The layer to derive, and how; eps: of the gradients' type."""

    problem: Problem
    i: int
    eps: float
    how: CheckSpec

    @property
    def layer(self) -> Layer:
        return self.problem.network.layers[self.i]

    @property
    def places(self) -> Places:
        return self.problem.network.places[self.i]


def _steps(at: _Place, ours: ChainRule, bounds: Rounding) -> Iterator[_Step]:
    """Yield the factors from ∂L/∂a to ∂z/∂b."""
    layer, normalised = at.layer, at.layer.batch_norm is not None
    slope = "∂a/∂y" if normalised else "∂a/∂z"
    yield _handed_down(at, ours, bounds)
    yield _slope(at, ours, bounds, slope)
    through = f"∂L/∂a · {slope}"
    parts: tuple[str, ...] = ("∂L/∂a", slope)
    if normalised:
        dL_dy, bound = _differences(at.problem, at.places.y, at.how), bounds.of(at.places.y)
        yield _Step("∂L/∂y", through, f"{layer.name}.dL_dy", ours.dL_dy, dL_dy, bound, parts)
        through, parts = "∂L/∂y · ∂y/∂z", ("∂L/∂y",)
    delta, bound = _differences(at.problem, at.places.z, at.how), bounds.of(at.places.z)
    yield _Step("δ", through, f"{layer.name}.delta", ours.delta, delta, bound, parts)
    rows = layer.step.rows(ours.inputs)
    if rows is not None:
        weights, size = weight_map(at.problem, at.i), at.eps * np.abs(rows)
        yield _Step("∂z/∂w", "a⁽ʰ⁾", f"{layer.name}.dz_dw", rows, weights, size)
        ones = np.ones((len(rows), layer.units))
        yield _Step(_ONES, "1", f"{layer.name}.dz_db", ones, bias_map(at.problem, at.i), np.zeros_like(ones))


def _handed_down(at: _Place, ours: ChainRule, bounds: Rounding) -> _Step:
    """Return ∂L/∂a: from the loss, or δ w of the layer above, whose z is affine in a."""
    problem, name = at.problem, f"{at.layer.name}.dL_da"
    if at.layer is problem.network.output:
        formula = f"c · {problem.network.loss.formula}"
        return _Step("∂L/∂a", formula, name, ours.dL_da, loss_map(problem), bounds.of(at.places.a))
    above = problem.network.layers[at.i + 1]
    delta = _differences(problem, problem.network.places[at.i + 1].z, at.how)
    numerical = Estimate(_through(at, delta.value, np.copy), _through(at, delta.error, np.abs))
    return _Step("∂L/∂a", f"δ w of {above.name}", name, ours.dL_da, numerical, bounds.of(at.places.a))


def _through(at: _Place, delta: Array, of: Callable[[Array], Array]) -> Array:
    """Return δ of the layer above, or its error bars, taken through that layer's step to this one's output.

    of: what to make of the weights: themselves, or their sizes.
    """
    problem, above = at.problem, at.problem.network.layers[at.i + 1]
    values, first = problem.objective.values, at.places.a
    p = {own: of(problem.parameters[f"{above.name}.{own}"]) for own in above.step.shapes}
    for number, step in reversed(list(enumerate((*above.before, above.step), start=first + 1))):
        inputs = (values[number - 1],)
        (delta,), _ = step.vjp(p, inputs, values[number], delta)
    return delta


def _slope(at: _Place, ours: ChainRule, bounds: Rounding, symbol: str) -> _Step:
    slopes = activation_map(at.problem, at.i)
    some = slice(slopes.shape[0])  # for a large softmax, only the Jacobians of the first samples
    y, y_error, activation = ours.y[some], bounds.values[at.places.y][some], at.layer.activation
    rounding = activation.rounding.derivative(activation, y, y_error, at.eps)
    value = activation.derivative(y)
    formula = activation.formula
    if at.layer.batch_norm is not None:
        formula = formula.translate(_OF_Y)
    return _Step(symbol, formula, f"{at.layer.name}.da_dz", value, slopes, rounding)


_OF_Y = str.maketrans("zᶻ", "yʸ")
"""Rewrites a formula in z to one in y, which the activation gets after a batch normalisation."""


_PRODUCTS = {
    "weight": ("∂L/∂w", "δᵀ a⁽ʰ⁾", ("δ", "∂z/∂w")),
    "bias": ("∂L/∂b", "Σₙ δₙ", ("δ",)),
    "gamma": ("∂L/∂γ", "Σₙ ∂L/∂yₙ ẑₙ", ("∂L/∂y",)),
    "beta": ("∂L/∂β", "Σₙ ∂L/∂yₙ", ("∂L/∂y",)),
}
"""The symbol and formula of each kind of parameter's gradient, and the factors in it."""


def _product(
    problem: Problem,
    name: str,
    analytic: Analytic,
    whole: Estimates,
    rounding: Mapping[str, Array],
) -> _Step:
    symbol, formula, parts = _PRODUCTS[name.rpartition(".")[2]]
    penalty = " + penalty" if problem.network.penalties_on(name) else ""
    value = analytic.values[name]
    return _Step(symbol, f"{formula}{penalty}", name, value, whole[name], rounding[name], parts)


def _whole(problem: Problem, how: CheckSpec) -> Estimates:
    """Return the numerical gradients of the checked parameters, with the whole ladder of steps."""
    units = UnitDifferences(problem.objective, SCHEMES[how.scheme], how.step)
    estimates = units.estimate(problem.checked)
    return units.refine(estimates, {name: np.full(e.value.shape, True) for name, e in estimates.items()})


def _differences(problem: Problem, site: int, how: CheckSpec) -> Estimate:
    """Return ∂L/∂ value `site`, in its shape (N, *features)."""
    features, samples = problem.objective.site_shape(site)
    flat = differentiate(problem.objective.units(site), SCHEMES[how.scheme], how.step)
    shape = problem.objective.values[site].shape
    by_feature = flat.reshape(features, samples)
    return Estimate(by_feature.value.T.reshape(shape), by_feature.error.T.reshape(shape))


def _factor(step: _Step, analytic: Analytic, given: bool, how: CheckSpec) -> Factor:
    its_own = step.name in analytic.factors or step.name in analytic.values
    value = analytic.factors.get(step.name, step.value)[: len(step.value)]
    numerical = step.numerical
    if not isinstance(numerical, Estimate):
        flat = differentiate(numerical, SCHEMES[how.scheme], how.step)
        numerical = Estimate(flat.value.reshape(value.shape), flat.error.reshape(value.shape))
    rtol = how.rtol or default_rtol(_dtype(analytic))
    eps = float(np.finfo(_dtype(analytic)).eps)
    comparison = compare(step.name, value, numerical, step.rounding, rtol, eps)
    origin = analytic.origin if its_own else "backprop"
    return Factor(step.symbol, step.formula, comparison, origin, given and its_own, step.parts)


def _dtype(analytic: Analytic) -> np.dtype[Any]:
    """Return the coarsest type among the gradients."""
    return max(analytic.dtypes.values(), key=lambda dtype: float(np.finfo(dtype).eps))
