"""Backprop through a network's graph with one wrong step, planted by changing one statement of its code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from gradcheck_cli.diagnose.loops import Repeated, statements
from gradcheck_cli.diagnose.steps import VARIANTS
from gradcheck_cli.diagnose.variant import Visit, pass_through
from gradcheck_cli.network.network import gradients
from gradcheck_cli.network.penalties import PENALTIES
from gradcheck_cli.problem.problem import Problem

Gradients = dict[str, np.ndarray]
Effect = Callable[[], Gradients]
"""A function that returns the change that a mistake makes in each gradient, in extended precision."""

_UNKNOWN = 0.7
"""The value of a mistake's unknown, such as a factor."""


def wrong_steps(
    problem: Problem, rng: np.random.Generator, most: int
) -> Iterator[tuple[str, Gradients, Effect]]:
    """Yield up to `most` mistakes that change the gradients: the name, the wrong gradients and their effect.

    Each mistake is a random row of the table of wrong steps, in a random place to which it applies.
    """
    nodes = problem.network.graph.nodes
    places = list(statements(nodes))
    pairs = [
        Repeated(variant, place, _UNKNOWN)
        for variant in VARIANTS
        for place in places
        if isinstance(nodes[min(place)].step, variant.step)
    ]
    found = 0
    for i in rng.permutation(len(pairs)):
        found_here = _backprop(problem, pairs[i])
        if found_here is not None:
            name = f"{pairs[i].variant.wrong.kind} in {nodes[max(pairs[i].nodes)].layer}"
            yield name, found_here, partial(_effect, problem, pairs[i])
            found += 1
        if found == most:
            return


def _effect(problem: Problem, wrong: Repeated) -> Gradients:
    """Return the change that the mistake makes in each gradient, in extended precision."""
    wide = replace(
        problem,
        parameters={name: value.astype(np.longdouble) for name, value in problem.parameters.items()},
        x=problem.x.astype(np.longdouble),
        target=problem.target.astype(np.longdouble),
    )
    right = gradients(wide.network, wide.parameters, wide.x, wide.target)
    found = _backprop(wide, wrong)
    return {name: found[name] - value for name, value in right.items()} if found is not None else {}


def _backprop(problem: Problem, wrong: Repeated) -> Gradients | None:
    """Return all gradients, penalties included; None if the mistake changes nothing."""
    network, parameters = problem.network, problem.parameters
    at = pass_through(problem, {})
    upstream = {
        len(at.values) - 1: network.coefficient * network.loss.gradient(at.values[-1], problem.target)
    }
    found: Gradients = {}
    arrived: dict[int, np.ndarray] = {}
    is_made = False
    for i in reversed(range(len(network.graph.nodes))):
        visit = Visit(at, i, upstream.pop(i + 1, np.zeros_like(at.values[i + 1])), dict(arrived))
        arrived[i] = visit.upstream
        handed = wrong.made(visit)
        is_made = is_made or handed is not None
        if i < min(wrong.nodes) and not is_made:
            return None
        shares, own = visit.right if handed is None else handed
        for k, share in zip(visit.node.inputs, shares, strict=True):
            upstream[k] = upstream[k] + share if k in upstream else share
        for name, gradient in own.items():
            full, value = visit.node.names[name], gradient.reshape(parameters[visit.node.names[name]].shape)
            found[full] = found[full] + value if full in found else value
    for name in found:
        for penalty, strength in network.penalties_on(name).items():
            found[name] = found[name] + PENALTIES[penalty].derivative(parameters[name], strength)
    return found if is_made else None
