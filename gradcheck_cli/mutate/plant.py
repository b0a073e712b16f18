"""Plant mistakes: compute the gradients of a backprop that makes one particular mistake."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gradcheck_cli.diagnose.branches import owners
from gradcheck_cli.diagnose.mistake import Mistake, Wrong, WrongPenalty, WrongTensor
from gradcheck_cli.diagnose.rows import has_rows, in_rows, matrices
from gradcheck_cli.diagnose.site import RIGHT, TENSORS, Part, Site, penalty_on
from gradcheck_cli.diagnose.steps.conv2d import CONV2D
from gradcheck_cli.diagnose.table import PLANTABLE
from gradcheck_cli.diagnose.words import planted_formula
from gradcheck_cli.mutate.plant_in_graph import Planted, planted_in_graph, planted_in_steps
from gradcheck_cli.network.graph import INPUT
from gradcheck_cli.network.network import backprop, gradients
from gradcheck_cli.network.shifted import INPUTS
from gradcheck_cli.network.steps.convolution import Convolution
from gradcheck_cli.problem.problem import Problem
from gradcheck_cli.types import Array


@dataclass(frozen=True)
class Plant:
    """A mistake planted in one layer or in the whole network, and the gradients that result.

    wrong: the mistake.
    where: the layer's name; empty if the mistake concerns the whole network.
    gradients: the gradients of all parameters and, unless x holds tokens, of x, computed with the mistake.
    """

    wrong: Wrong
    where: str
    gradients: Mapping[str, Array]

    def formula(self, problem: Problem) -> str:
        """Return the wrong formula for the problem's network."""
        value = self.wrong.planted if isinstance(self.wrong, Mistake | WrongPenalty) else 0.0
        return planted_formula(self.wrong, problem, self.where, value)


@np.errstate(all="ignore")
def plants(problem: Problem) -> Iterator[Plant]:
    """Yield every known mistake that applies, planted once in every place to which it applies.

    A place is a layer or, in a network with layers other than dense layers and convolutions, a step. Mistakes
    in ∂L/∂x that the first layer of a chain makes are planted only if the check covers ∂L/∂x.
    """
    if has_rows(problem):
        yield from planted(problem, PLANTABLE)
        yield from _between(problem)
        yield from _in_convolutions(problem)
        if problem.checks_inputs:
            yield from _handed_to_inputs(problem)
    else:
        yield from _in_graph(problem)


def with_inputs(problem: Problem) -> Problem:
    """Return the problem with x as one more parameter. If x holds tokens, the problem stays as it is."""
    return problem if problem.network.tokens else problem.with_shifts({INPUTS: INPUT})


@np.errstate(all="ignore")
def planted_like(problem: Problem, plant: Plant) -> Iterator[Plant]:
    """Yield the mistake of `plant`, planted in the same layer of another problem."""
    known = any(plant.wrong is wrong for wrong in PLANTABLE)
    every = planted(problem, [plant.wrong]) if has_rows(problem) and known else plants(problem)
    yield from (each for each in every if each.wrong is plant.wrong and each.where == plant.where)


def _between(problem: Problem) -> Iterator[Plant]:
    """Yield every mistake in the steps between the layers of a chain, such as pooling."""
    kinds = {type(step) for layer in problem.network.layers for step in layer.before}
    whole = with_inputs(problem)
    for each in planted_in_steps(whole, kinds) if kinds else ():
        yield _with_penalties(whole, each)


def _in_convolutions(problem: Problem) -> Iterator[Plant]:
    """Yield the mistakes that only convolutions have, such as groups that are mixed up."""
    if not any(isinstance(layer.step, Convolution) for layer in problem.network.layers):
        return
    for plant, is_of_inputs in _planted_in(problem, Convolution):
        if not is_of_inputs and any(plant.wrong is variant.wrong for variant in CONV2D):
            yield plant


def _handed_to_inputs(problem: Problem) -> Iterator[Plant]:
    """Yield every mistake in the gradient that the first layer of a chain hands to x."""
    kind = type(problem.network.layers[0].step)
    yield from (plant for plant, is_of_inputs in _planted_in(problem, kind) if is_of_inputs)
    whole = with_inputs(problem)
    right = gradients(whole.network, whole.parameters, whole.x, whole.target)
    yield from _of_tensor(INPUTS, whole, right)


def _planted_in(problem: Problem, kind: type) -> Iterator[tuple[Plant, bool]]:
    """Yield every mistake in steps of this kind, and whether all parameters' gradients stay right."""
    whole = with_inputs(problem)
    right = gradients(whole.network, whole.parameters, whole.x, whole.target)
    for each in planted_in_steps(whole, {kind}):
        plant = _with_penalties(whole, each)
        yield plant, all(_equal(plant.gradients[name], right[name]) for name in problem.network.shapes)


def _equal(one: Array, other: Array) -> bool:
    """Return whether two arrays are equal up to rounding."""
    return bool(np.abs(one - other).max(initial=0.0) <= _ROUNDED * np.abs(other).max(initial=0.0))


_ROUNDED = 1e-12
"""A difference smaller than this fraction of the largest entry is only rounding error."""


def _of_tensor(name: str, problem: Problem, right: Mapping[str, Array]) -> Iterator[Plant]:
    """Yield every mistake in one finished gradient, made in tensor `name`."""
    owner, exact = owners(problem.network.graph)[name], matrices(right)
    for wrong in PLANTABLE:
        spoilt = wrong.plant(exact[name]) if isinstance(wrong, WrongTensor) and not wrong.of_units else None
        if spoilt is not None:
            yield _shaped(problem, Plant(wrong, owner, {**exact, name: spoilt}))


def _in_graph(problem: Problem) -> Iterator[Plant]:
    """Yield every mistake that applies to a network's graph: in the loss, a step, a penalty or a tensor."""
    whole = with_inputs(problem)
    for each in planted_in_graph(whole):
        yield _with_penalties(whole, each)
    right = matrices(gradients(whole.network, whole.parameters, whole.x, whole.target))
    for wrong in PLANTABLE:
        if isinstance(wrong, WrongPenalty | WrongTensor):
            spoilt = _PLANTERS[type(wrong)](problem, wrong, right)
            yield from (_shaped(whole, plant) for plant in spoilt)
    if problem.checks_inputs:
        yield from _of_tensor(INPUTS, whole, right)


def _with_penalties(problem: Problem, planted: Planted) -> Plant:
    values = {name: value + penalty_on(problem, name) for name, value in planted.gradients.items()}
    return _shaped(problem, Plant(planted.wrong, planted.where, values))


def _shaped(problem: Problem, plant: Plant) -> Plant:
    """Return a copy of `plant` whose gradients have the shapes of their parameters."""
    shapes = problem.network.shapes
    return replace(plant, gradients={name: v.reshape(shapes[name]) for name, v in plant.gradients.items()})


@np.errstate(all="ignore")
def planted(problem: Problem, mistakes: Sequence[Wrong]) -> Iterator[Plant]:
    """Yield each of `mistakes` that applies, planted once in every layer to which it applies."""
    right, whole = _backprop(problem), with_inputs(problem)
    assert right is not None
    for wrong in mistakes:
        yield from (_shaped(whole, plant) for plant in _PLANTERS[type(wrong)](problem, wrong, right))


def _steps(problem: Problem, mistake: Mistake, right: Mapping[str, Array]) -> Iterator[Plant]:
    layers = problem.network.layers
    rules = reversed(list(backprop(problem.network, problem.parameters, problem.x, problem.target)))
    deltas = tuple(rule.layer.step.by_row(rule.delta) for rule in rules)
    for i in [len(layers) - 1] if mistake.part is Part.LOSS else range(len(layers)):
        gradients = _backprop(problem, mistake, i, deltas)
        if gradients is not None and not (
            layers[i].activation.name == "identity"
            and _same(gradients, right)  # it has no derivative to get wrong
        ):
            yield Plant(mistake, layers[i].name, gradients)


def _same(gradients: Mapping[str, Array], right: Mapping[str, Array]) -> bool:
    return all(np.array_equal(gradients[name], right[name]) for name in right)


def _penalties(problem: Problem, wrong: WrongPenalty, right: Mapping[str, Array]) -> Iterator[Plant]:
    terms = {name: wrong.term(problem, name, wrong.planted) for name in problem.network.shapes}
    if any(term is not None for term in terms.values()):
        yield Plant(
            wrong,
            "",
            {
                name: value if (term := terms.get(name)) is None else value - penalty_on(problem, name) + term
                for name, value in right.items()
            },
        )


def _tensors(problem: Problem, wrong: WrongTensor, right: Mapping[str, Array]) -> Iterator[Plant]:
    """Yield, for each parameter that is a matrix, the mistake made in that parameter's gradient."""
    owner = owners(problem.network.graph)
    for name in (name for name in problem.network.shapes if right[name].ndim == 2):
        spoilt, bias = wrong.plant(right[name]), f"{name.rpartition('.')[0]}.bias"
        if spoilt is None:
            continue
        gradients = {**right, name: spoilt}
        if wrong.of_units:
            if bias not in right or right[bias].shape != (len(spoilt),):
                continue
            gradients[bias] = np.where((spoilt == 0).all(axis=1), 0.0, right[bias])
        yield Plant(wrong, owner[name], gradients)


_PLANTERS: Mapping[type, Callable[..., Iterator[Plant]]] = {
    Mistake: _steps,
    WrongPenalty: _penalties,
    WrongTensor: _tensors,
}


def _backprop(
    problem: Problem, mistake: Mistake | None = None, layer: int = -1, right_deltas: tuple[Array, ...] = ()
) -> dict[str, Array] | None:
    """Return all gradients, computed with the mistake in one layer and with correct penalties.

    Returns None if the mistake does not apply to the layer.

    mistake: the mistake to make; None to compute the correct gradients.
    layer: the index of the layer in which to make the mistake.
    right_deltas: the correct δ of every layer, by the layer's index.
    """
    activity, nothing = in_rows(problem), np.empty(0)
    gradients: dict[str, Array] = {}
    handed: Site | None = None
    above: tuple[Array, ...] = ()

    made = False

    def step(part: Part, site: Site, i: int) -> Array | None:
        nonlocal made
        if mistake is not None and mistake.part is part and i == layer:
            made = True
            return mistake.made(site, mistake.planted)
        return RIGHT[part](site)

    for i in reversed(range(len(problem.network.layers))):
        site = Site(problem, activity, i, gradients, nothing, nothing, nothing, above, right_deltas)
        entry = (Part.BELOW, handed, i + 1) if handed else (Part.LOSS, site, i)
        for part, name, at, of in (
            (entry[0], "dL_da", entry[1], entry[2]),
            (Part.SCALE, "dL_da", None, i),
            (Part.ACTIVATION, "dL_dy", None, i),
            (Part.NORM, "delta", None, i),
        ):
            result = step(part, at or site, of)
            if result is None:
                return None
            site = replace(site, **{name: result})  # type: ignore[arg-type]
        for part, tensor in _parameters(problem, i):
            result = step(part, site, i)
            if result is None:
                return None
            gradients[tensor] = result + penalty_on(problem, tensor)
        handed, above = site, (*above, site.delta)
    if handed is not None and not problem.network.tokens:
        gradients[INPUTS] = activity.handed_to_inputs(handed.delta)
    return gradients if made or mistake is None else None


def _parameters(problem: Problem, i: int) -> Sequence[tuple[Part, str]]:
    shapes, name = problem.network.layers[i].shapes, problem.network.layers[i].name
    return [(part, f"{name}.{kind}") for part, kind in TENSORS.items() if f"{name}.{kind}" in shapes]
