"""List the mistakes that a check of this network with these parameters and data cannot reveal."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gradcheck_cli.arrays.shapes import listed
from gradcheck_cli.network.graph import Graph, Node, Statement
from gradcheck_cli.network.steps.dense import Dense
from gradcheck_cli.network.steps.pointwise import Pointwise
from gradcheck_cli.problem.problem import Problem
from gradcheck_cli.types import Array


def unexercised(problem: Problem) -> tuple[str, ...]:
    """Return one short note for each property of the data, parameters or activations that hides mistakes."""
    return (*_data(problem), *_parameters(problem), *_activations(problem))


def unusual(problem: Problem) -> tuple[str, ...]:
    """Return one short note for each property of the output or the targets that is allowed but unusual."""
    return (*_output(problem), *_targets(problem))


def _output(problem: Problem) -> Iterator[str]:
    step, loss = problem.network.graph.nodes[-1].step, problem.network.loss
    if not isinstance(step, Pointwise):
        return
    if step.name == loss.applies:
        applied = f"the loss takes logits and applies {step.name} itself"
        yield f"{applied}, so the output layer applies it a second time"
    elif loss.unbounded and step.row.shares:
        yield f"the loss expects unbounded outputs, but {step.name} limits them to between 0 and 1"


_SUM_APART = 0.01
"""A sum of probabilities may differ from 1 by this much, since they are often rounded to two decimals."""


def _targets(problem: Problem) -> Iterator[str]:
    """Yield a note about targets that do not suit the loss. Smoothing and weighting are disregarded."""
    loss, target = problem.network.loss, problem.plain_target
    low, high = loss.limits
    beyond = (target < low) | (target > high)
    outside = int(beyond.reshape(len(target), -1).any(axis=1).sum())
    if outside:
        yield f"in {outside} of {len(target)} samples, the targets are not between {low:g} and {high:g}"
    off = np.abs(target.sum(axis=-1) - 1) > _SUM_APART
    given = loss.target == "distribution" and problem.y.ndim == target.ndim  # labels may be ignored
    apart = int(off.reshape(len(off), -1).any(axis=1).sum()) if given else 0
    if apart:
        yield f"in {apart} of {len(target)} samples, the targets do not add up to 1, as probabilities do"


def _data(problem: Problem) -> Iterator[str]:
    if len(problem.x) == 1:
        yield "the batch has one sample: a wrong mean or sum over the batch would not show"
    dead = int((problem.x == 0).all(axis=0).sum())
    node = problem.network.graph.nodes[0]
    if dead and problem.x.ndim == 2 and isinstance(node.step, Dense):
        first, inputs = node.names["weight"], problem.x.shape[1]
        are, columns, get = ("is", "its column", "gets") if dead == 1 else ("are", "their columns", "get")
        yield f"{dead} of {inputs} inputs {are} 0 in every sample: {columns} of {first} {get} no gradient"
    if not problem.network.loss.plain(problem.target).any() and problem.network.loss.target != "nothing":
        yield "all targets are 0: a wrong sign of the targets would not show"


def _parameters(problem: Problem) -> Iterator[str]:
    graph = problem.network.graph
    centres = {name: graph.nodes[i].step.centre(own) for name, ((i, own), *_) in graph.uses.items()}
    biases = [name for name, centre in centres.items() if centre == 0.0 and _has_weights(graph, name)]
    zero = [name for name in biases if not problem.parameters[name].any()]
    if zero:
        named = f"{listed(zero)} {'is' if len(zero) == 1 else 'are'} 0"
        which = "all biases are 0" if len(zero) == len(biases) else named
        yield f"{which}: a bias left out of the forward pass would not show"
    ones = [
        name for name, centre in centres.items() if centre == 1.0 and (problem.parameters[name] == 1).all()
    ]
    if ones:
        gamma = "gamma" if all(name.endswith(".gamma") for name in ones) else "scale"
        of = f"{listed(ones)} {'is' if len(ones) == 1 else 'are'} 1"
        yield f"{of}: a {gamma} left out of the forward pass or of backprop would not show"
    weights = [name for name, centre in centres.items() if centre is None]
    for name in weights[1:] if problem.network.is_chain else ():
        if not problem.parameters[name].any():
            yield f"{name} is 0: the layers below it get no gradient"
    for name in weights:
        shape = graph.shapes[name]
        if len(shape) == 2 and shape[0] == shape[1] > 1 and name in problem.checked:
            yield f"{name} is square: a transposed array would fit its shape"


def _has_weights(graph: Graph, name: str) -> bool:
    """Return whether the step that uses a bias also has weights. A normalisation with a β has no weights."""
    step = graph.nodes[graph.uses[name][0][0]].step
    return any(step.centre(own) is None for own in step.shapes)


def _activations(problem: Problem) -> Iterator[str]:
    for (layer, step), nodes in _with_kinks(problem).items():
        y = np.concatenate([_by_unit(problem, node) for node in nodes])
        for side, seen in (("negative", y < 0), ("positive", y > 0)):
            if not seen.any():
                yield f"no pre-activation of {layer} is {side}: that side of the kink is not exercised"
        off = int((y <= 0).all(axis=0).sum())
        if off and step == "relu":
            count = f"{off} of {y.shape[1]} units of {layer}"
            are, get = ("is", "it gets") if off == 1 else ("are", "they get")
            yield f"{count} {are} inactive in every sample: {get} no gradient"


def _with_kinks(problem: Problem) -> dict[Statement, list[Node]]:
    """Return the activations with kinks. A recurrent layer has one node for each time step."""
    found: dict[Statement, list[Node]] = {}
    for node in problem.network.graph.nodes:
        if node.step.is_activation and node.step.has_pieces:
            found.setdefault(node.statement, []).append(node)
    return found


def _by_unit(problem: Problem, node: Node) -> Array:
    """Return the input of the activation `node` as (rows, units)."""
    own = next(each.step for each in problem.network.graph.nodes if each.layer == node.layer)
    return own.by_row(problem.objective.values[node.inputs[0]])
