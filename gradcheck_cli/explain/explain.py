"""Derive gradients by the chain rule, and check each factor against finite differences of that step alone.

∂L/∂w = ∂L/∂a · ∂a/∂z · ∂z/∂w = δᵀ a⁽ʰ⁾          ∂L/∂b = ∂L/∂a · ∂a/∂z · ∂z/∂b = Σₙ δₙ

In the output layer ∂L/∂a comes from the loss; in every other layer it is δ w of the layer above.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from gradcheck_cli.arrays.shapes import listed
from gradcheck_cli.comparison import Comparison, compare
from gradcheck_cli.errors import ExitCode, bad_input, did_you_mean, shortened
from gradcheck_cli.explain.maps import activation_map, bias_map, loss_map, weight_map
from gradcheck_cli.gradients.analytic import Analytic
from gradcheck_cli.gradients.sources import read_gradients
from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.chain import Places
from gradcheck_cli.network.layer import Layer
from gradcheck_cli.network.network import ChainRule, backprop
from gradcheck_cli.network.rounding import Rounding, gradient_rounding, rounding_of
from gradcheck_cli.numerical.estimate import Estimate, differentiate
from gradcheck_cli.numerical.objective import Movable
from gradcheck_cli.numerical.reference import Estimates, UnitDifferences
from gradcheck_cli.numerical.schemes import SCHEMES
from gradcheck_cli.problem.problem import Problem, build_problem, refuse_other_than_chain
from gradcheck_cli.problem.unexercised import unusual
from gradcheck_cli.report import EXIT_CODES
from gradcheck_cli.spec.check import CheckSpec
from gradcheck_cli.spec.gradients import Backprop
from gradcheck_cli.spec.network import NetworkSpec
from gradcheck_cli.spec.spec import Spec
from gradcheck_cli.subject.said import describe, other_loss
from gradcheck_cli.types import Array
from gradcheck_cli.verdict import Verdict, default_rtol, overall


@dataclass(frozen=True)
class Factor:
    """One factor of the derivation: its symbol, its formula, and its comparison with finite differences.

    origin: where the checked array comes from, in a few words.
    given: whether that array comes from the user rather than from gradcheck's own backprop.
    parts: the symbols of the factors in the formula.
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

    layer: the layer's name.  activation: the name of its activation.
    above: the name of the next layer above, which passes ∂L/∂a down; empty for the output layer.
    normalised: whether a batch normalisation, y = γ ẑ + β, lies between z and the activation.
    """

    layer: str
    activation: str
    above: str
    normalised: bool
    factors: tuple[Factor, ...]

    def unseen(self, factor: Factor) -> tuple[Factor, ...]:
        """Return the factors that `factor` is computed from and that the user's file leaves out.

        Factors that no file can contain are not included, nor those behind a factor that the file contains.
        """
        reached = self._reached(factor)
        return tuple(f for f in self.factors if f.symbol in reached and not f.given and f.symbol != _ONES)

    def _reached(self, factor: Factor) -> set[str]:
        """Return the symbols of all factors that `factor` is computed from, directly or indirectly.

        The search does not look behind a factor that the user gives.
        """
        reached: set[str] = set()
        for part in (f for f in self.factors if f.symbol in factor.parts):
            reached |= {part.symbol} | (set() if part.given else self._reached(part))
        return reached


_ONES = "∂z/∂b"
"""The symbol of the only factor that no gradient file contains, because it is always 1."""


@dataclass(frozen=True)
class Explanation:
    """The derivation of the gradients of one spec, with the output layer first.

    network: a description of the network.  loss: the name of its loss.
    coefficient: the loss's coefficient c, such as 1/N for a mean over N samples.
    notes: one line each about smoothed targets, weighted targets and penalties.
    unusual: warnings about settings that are allowed but rarely intended, and about a loss in the gradient
    file that differs from the network's.
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
    """Derive the gradients of `spec` layer by layer, and check every factor.

    The gradients come from the source that the spec names, and so do the factors that a gradient file
    contains. All other factors are computed by gradcheck's own backprop.

    only: the name of the one layer to derive; by default, every layer with a checked parameter is derived.

    Raises an `InputError` if the spec does not fit its data, or if it has no layer named `only`.
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
    """Return the problem and the gradients that the spec names.

    only: the name of the one layer whose parameters to derive; empty for every checked parameter.
    """
    source = spec.code_source
    if source is None or spec.network is None:
        problem = _narrowed(build_problem(spec), only)
        return problem, read_gradients(spec.gradients, problem)
    from gradcheck_cli.subject.code import analytic_of, read_function  # loads what only code needs

    function, inputs = read_function(spec, source)
    assert inputs.problem is not None
    problem = _narrowed(inputs.problem, only)
    return problem, analytic_of(function, function.gradients(function.parameters), problem.checked)


def _narrowed(problem: Problem, only: str) -> Problem:
    refuse_other_than_chain(problem.network, "explain")
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
    """One factor to check in the derivation of a layer.

    symbol, formula: how to write the factor.  name: the factor's name in a gradient file.
    value: the factor as gradcheck's own backprop computes it or, for a parameter's gradient, the array to
    check.
    numerical: the map whose derivative is the factor, or an estimate of the factor.
    rounding: bounds on the rounding error of `value`.
    parts: the symbols of the factors in the formula.
    """

    symbol: str
    formula: str
    name: str
    value: Array
    numerical: Movable | Estimate
    rounding: Array
    parts: tuple[str, ...] = ()


def _derived(problem: Problem, analytic: Analytic, given: bool, how: CheckSpec) -> Iterator[Derivation]:
    """Yield the derivation of every layer with a checked parameter, from the output layer down.

    given: whether the gradients come from the user rather than from gradcheck's own backprop.
    """
    arithmetic = Arithmetic.of(_dtype(analytic), held=problem.dtype)
    at = (problem.network, problem.parameters, problem.x, problem.target)
    units = UnitDifferences(problem.objective, SCHEMES[how.scheme], how.step)
    whole, rounding = units.estimate_by_whole_ladder(problem.checked), gradient_rounding(*at, arithmetic)
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
            yield Derivation(layer.name, layer.activation.name, above, layer.batch_norm is not None, factors)


class _Place(NamedTuple):
    """A layer to derive.

    i: the layer's index.
    eps: the machine epsilon of the gradients' least precise dtype.
    how: the settings of the check.
    """

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
    """Yield the factors to check in one layer, in the order of the derivation, from ∂L/∂a to ∂z/∂b.

    ours: the factors as gradcheck's own backprop computes them.  bounds: bounds on their rounding errors.
    """
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
    """Return the step for ∂L/∂a: δ w of the layer above or, in the output layer, the loss's gradient.

    The numerical estimate of δ w is as exact as that of δ, since z of the layer above is affine in a.
    """
    problem, name = at.problem, f"{at.layer.name}.dL_da"
    if at.layer is problem.network.output:
        formula = f"c · {problem.network.loss.formula}"
        return _Step("∂L/∂a", formula, name, ours.dL_da, loss_map(problem), bounds.of(at.places.a))
    above = problem.network.layers[at.i + 1]
    delta = _differences(problem, problem.network.places[at.i + 1].z, at.how)
    numerical = Estimate(_through(at, delta.value, np.copy), _through(at, delta.error, np.abs))
    return _Step("∂L/∂a", f"δ w of {above.name}", name, ours.dL_da, numerical, bounds.of(at.places.a))


def _through(at: _Place, delta: Array, of: Callable[[Array], Array]) -> Array:
    """Return δ w of the layer above, or the error bars of δ w, at the output of this layer.

    delta: δ of the layer above, or its error bars.
    of: a function to apply to the weights: a copy for δ, the absolute value for error bars.
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
    some = slice(slopes.shape[0])  # for a large softmax, only the first samples' Jacobians are checked
    y, y_error, activation = ours.y[some], bounds.values[at.places.y][some], at.layer.activation
    rounding = activation.rounding.derivative(activation, y, y_error, at.eps)
    value = activation.derivative(y)
    formula = activation.formula
    if at.layer.batch_norm is not None:
        formula = formula.translate(_OF_Y)
    return _Step(symbol, formula, f"{at.layer.name}.da_dz", value, slopes, rounding)


_OF_Y = str.maketrans("zᶻ", "yʸ")
"""A translation table from formulas in z to formulas in y, the activation's input after a batch norm."""


_PRODUCTS = {
    "weight": ("∂L/∂w", "δᵀ a⁽ʰ⁾", ("δ", "∂z/∂w")),
    "bias": ("∂L/∂b", "Σₙ δₙ", ("δ",)),
    "gamma": ("∂L/∂γ", "Σₙ ∂L/∂yₙ ẑₙ", ("∂L/∂y",)),
    "beta": ("∂L/∂β", "Σₙ ∂L/∂yₙ", ("∂L/∂y",)),
}
"""For each kind of parameter: the symbol and the formula of its gradient, and the factors in the formula."""


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


def _differences(problem: Problem, site: int, how: CheckSpec) -> Estimate:
    """Return an estimate of ∂L/∂v, (N, *features), where v is array `site` of the forward pass."""
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
    """Return the dtype of lowest precision among the gradients."""
    return max(analytic.dtypes.values(), key=lambda dtype: float(np.finfo(dtype).eps))
