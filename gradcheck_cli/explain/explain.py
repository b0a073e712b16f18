"""Derive gradients by the chain rule, and check each factor against finite differences of its own step.

    ∂L/∂w = ∂L/∂a · ∂a/∂z · ∂z/∂w = δᵀ a⁽ʰ⁾          ∂L/∂b = ∂L/∂a · ∂a/∂z · ∂z/∂b = Σₙ δₙ

In the output layer, ∂L/∂a comes from the loss; in every other layer, it is δ w of the layer above. Layers of
other kinds have formulas of their own, from `Step.formulas`. The module `symbols` combines these formulas.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from gradcheck_cli.arrays.shapes import listed
from gradcheck_cli.comparison import compare
from gradcheck_cli.errors import bad_input, did_you_mean, shortened
from gradcheck_cli.explain.derivation import Definition, Derivation, Explanation, Factor, Link, Worked
from gradcheck_cli.explain.factors import Row, inputs_of, parameters_of, rows_of
from gradcheck_cli.explain.numbers import MOST, Numbers
from gradcheck_cli.explain.symbols import Writer
from gradcheck_cli.explain.worked import worked_input, worked_parameter
from gradcheck_cli.gradients.analytic import Analytic
from gradcheck_cli.gradients.array_file import factor_shapes
from gradcheck_cli.gradients.sources import read_gradients
from gradcheck_cli.network.graph import Graph
from gradcheck_cli.network.losses import LOSSES
from gradcheck_cli.network.steps.normalise import Normalise
from gradcheck_cli.network.steps.pointwise import Pointwise
from gradcheck_cli.numerical.estimate import Estimate, differentiate
from gradcheck_cli.problem.problem import Problem, build_problem
from gradcheck_cli.problem.unexercised import unusual
from gradcheck_cli.spec.gradients import Backprop
from gradcheck_cli.spec.network import NetworkSpec
from gradcheck_cli.spec.spec import Spec
from gradcheck_cli.subject.said import describe, other_loss
from gradcheck_cli.verdict import default_rtol


@np.errstate(all="ignore")  # numbers that are not finite are judged or refused later
def explain(spec: Spec, only: str = "") -> Explanation:
    """Derive the gradients of `spec` layer by layer, and check every factor.

    The gradients come from the source that the spec names, and so do the factors that a gradient file
    contains. All other factors are computed by gradcheck's own backprop. Raises an `InputError` if the spec
    does not fit its data, or if it has no layer named `only`.

    only: the name of the one layer to derive, with the layers inside it. By default, every layer with a
        checked parameter is derived or, if all parameters are checked, every layer.
    """
    problem, analytic, layers = _network_and_gradients(spec, only)
    given = not isinstance(spec.gradients, Backprop)
    numbers = Numbers(problem, analytic, spec.check)
    loss = f"c · {problem.network.loss.formula}"
    writers = [Writer(problem.network.graph, layer, loss) for layer in layers]
    return Explanation(
        describe(problem),
        problem.network.loss.name,
        problem.network.loss.has_weights,
        problem.network.coefficient,
        tuple(_notes(spec.network)) if spec.network else (),
        (*unusual(problem), *other_loss(problem, analytic), *_in_part(numbers, writers)),
        tuple(_derived(numbers, writer, given) for writer in writers),
        layers[0] if only or len(layers) == 1 else "",
    )


def _network_and_gradients(spec: Spec, only: str) -> tuple[Problem, Analytic, list[str]]:
    """Return the problem, the gradients that the spec names, and the layers to derive.

    The output layer comes first.

    only: the name of the one layer to derive; empty for every layer that the spec checks.
    """
    source = spec.code_source
    if source is None or spec.network is None:
        problem, layers = _narrowed(build_problem(spec), only)
        return problem, read_gradients(spec.gradients, problem), layers
    from gradcheck_cli.subject.code import analytic_of, read_function  # slow to import, needed only for code

    function, inputs = read_function(spec, source)
    assert inputs.problem is not None
    problem, layers = _narrowed(inputs.problem, only)
    return problem, analytic_of(function, function.gradients(function.parameters), problem.checked), layers


# --- which layers ------------------------------------------------------------------------------------------


def _narrowed(problem: Problem, only: str) -> tuple[Problem, list[str]]:
    """Return the problem narrowed to the layers to derive, and the names of these layers."""
    graph = problem.network.graph
    if not only:
        return problem, _checked_layers(problem)
    layers = _layers_in(graph, only)
    names = [name for node in graph.nodes if node.layer in layers for name in node.names.values()]
    checked = tuple(name for name in problem.network.shapes if name in names)
    return replace(problem, checked=checked), layers


def _checked_layers(problem: Problem) -> list[str]:
    nodes, all_checked = problem.network.graph.nodes, len(problem.checked) == len(problem.network.shapes)
    wanted = {node.layer for node in nodes if all_checked or set(problem.checked) & set(node.names.values())}
    return [layer for layer in _from_the_output(problem.network.graph) if layer in wanted]


def _from_the_output(graph: Graph) -> list[str]:
    """Return the names of all layers, from the output down. A layer comes before the layers inside it."""
    return list(dict.fromkeys(node.layer for node in reversed(graph.nodes)))


def _layers_in(graph: Graph, only: str) -> list[str]:
    """Return the layer with this name or path (residual1.attention1), and the layers inside it."""
    places = {node.layer: node.place for node in graph.nodes}
    paths = {layer: ".".join(_path(places, layer)) for layer in _from_the_output(graph)}
    for layer, path in paths.items():
        if only in (layer, path):
            inside = [each for each in paths if paths[each].startswith(f"{path}.")]
            return [layer, *inside]
    help = did_you_mean(only, [*paths, *paths.values()]) or f"the layers are {listed(list(paths))}"
    raise bad_input(f"--layer: there is no layer '{shortened(only)}'", "network", "layers", help=help)


def _path(places: Mapping[str, tuple[str | int, ...]], layer: str) -> Iterator[str]:
    """Yield the names of the layers around `layer`, from the outside in, then `layer` itself."""
    for other, place in places.items():
        if other != layer and place and places[layer][: len(place)] == place:
            yield other
    yield layer


# --- one layer ---------------------------------------------------------------------------------------------


def _notes(network: NetworkSpec) -> Iterator[str]:
    if network.loss.label_smoothing:
        yield f"y: the targets, smoothed by {network.loss.label_smoothing:g}"
    if network.loss.weight:
        yield "y: the targets times their class weights; softmax(a) is multiplied by the sum of y"
    if network.loss.sample_weight is not None:
        in_target = "y: the targets times the weights of their samples"
        proportional = LOSSES[network.loss.name].of_weighted_target
        yield in_target if proportional else "wₙ: the weight of sample n"
    terms = {"l2": "½ · {:g} · Σ w²", "l1": "{:g} · Σ |w|"}
    for name, strength in network.penalty.strengths.items():
        yield f"plus a penalty {terms[name].format(strength)} in L"


def _in_part(numbers: Numbers, writers: Sequence[Writer]) -> Iterator[str]:
    """Yield a note if only the first samples of some ∂L/∂value are checked."""
    values = {i + 1 for writer in writers for i in writer.nodes}.union(*(writer.inputs for writer in writers))
    if any(numbers.samples(value) < len(numbers.values[value]) for value in values):
        yield (
            f"if the gradient of an intermediate value has more than {MOST:,} elements, only its first "
            "samples are checked"
        )


def _derived(numbers: Numbers, writer: Writer, given: bool) -> Derivation:
    """Return the derivation of a layer.

    given: whether the gradients come from the user rather than from gradcheck's own backprop.
    """
    nodes = [writer.graph.nodes[i] for i in writer.nodes]
    activations = [node.step.name for node in nodes if isinstance(node.step, Pointwise)]
    norms = [node.step for node in nodes if isinstance(node.step, Normalise)]
    factors = [_factor(row, numbers, given) for row in rows_of(numbers, writer)]
    return Derivation(
        writer.layer,
        str(nodes[-1].place[-1]) if nodes[-1].place else "",
        activations[-1] if activations and not writer.is_composed else "",
        next(iter(writer.above), ""),
        any(norm.couples == "batch" for norm in norms),
        numbers.values[writer.inputs[0]].shape,
        numbers.values[writer.last + 1].shape,
        tuple(_definitions(writer)),
        tuple(_chain(numbers, writer)),
        tuple(factors),
        tuple(_worked(numbers, writer, factors)),
    )


def _definitions(writer: Writer) -> Iterator[Definition]:
    for i in writer.shown():
        where = "" if writer.is_composed else writer.graph.nodes[i].step.formulas.where
        yield Definition(writer.value(i + 1), writer.forward(i), where)


def _chain(numbers: Numbers, writer: Writer) -> Iterator[Link]:
    """Yield a line of the chain rule for each gradient of the layer."""
    for name in parameters_of(numbers, writer):
        i, own = writer.use(name)
        symbol = writer.parameter(i, own)
        local = writer.local(i, writer.graph.nodes[i].step.formulas.parameters[own])
        sums = "Σₜ " if writer.is_shared(name) else ""
        yield _link(writer, i, symbol, sums, writer.of_every_use(name), local)
    for value in inputs_of(writer):
        i = writer.readers(value)[0]
        node = writer.graph.nodes[i]
        local = writer.local(i, node.step.formulas.input(node.inputs.index(value)))
        yield _link(writer, i, writer.value(value), "", writer.formula(value), local)


def _link(writer: Writer, i: int, symbol: str, sums: str, formula: str, local: str) -> Link:
    """Return the line of the chain rule for an argument of node i.

    sums: the symbol of a sum over time steps, which precedes the product; empty if there is no sum.
    """
    factors = writer.through(i, symbol)
    return Link(f"∂L/∂{symbol}", sums + " · ".join(factors), formula, f"{factors[-1]} = {local}")


def _worked(numbers: Numbers, writer: Writer, factors: Sequence[Factor]) -> Iterator[Worked]:
    """Work out one gradient entry of the first parameter or, if the layer has no parameters, of the input."""
    names = parameters_of(numbers, writer)
    gradients = [factor for factor in factors if factor.is_gradient]
    if names:
        yield worked_parameter(numbers, writer, names[0], gradients[0])
    elif gradients:
        yield worked_input(numbers, writer, inputs_of(writer)[0], gradients[0])


def _factor(row: Row, numbers: Numbers, given: bool) -> Factor:
    analytic, how = numbers.analytic, numbers.how
    its_own = row.name in analytic.factors or row.name in analytic.values
    value = {**analytic.values, **analytic.factors}.get(row.name, row.value)[: len(row.value)]
    numerical = row.numerical
    if not isinstance(numerical, Estimate):
        flat = differentiate(numerical, numbers.scheme, how.step)
        numerical = Estimate(flat.value.reshape(value.shape), flat.error.reshape(value.shape))
    rtol = how.rtol or default_rtol(numbers.dtype)
    eps = float(np.finfo(numbers.dtype).eps)
    comparison = compare(row.name, value, numerical, row.rounding, rtol, eps)
    origin = analytic.origin if its_own else "backprop"
    can_be_given = row.name in factor_shapes(numbers.problem)
    return Factor(
        row.symbol,
        row.formula,
        comparison,
        origin,
        given and its_own,
        row.parts,
        row.is_gradient,
        can_be_given,
    )
