"""Diagnosis of a wrong ∂L/∂value, such as ∂L/∂x, if every parameter's gradient is right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from gradcheck_cli.comparison import Comparison
from gradcheck_cli.diagnose.arrays import diagnose_arrays
from gradcheck_cli.diagnose.diagnosis import Diagnosis
from gradcheck_cli.network.backprop import sweep
from gradcheck_cli.network.graph import INPUT, run
from gradcheck_cli.network.shifted import INPUTS
from gradcheck_cli.network.steps.dense import Dense
from gradcheck_cli.network.steps.pointwise import Pointwise
from gradcheck_cli.problem.problem import Problem
from gradcheck_cli.types import Array

_ALIKE = 1e-5
"""Two gradients count as equal if they differ by less than this fraction of the largest entry."""


@np.errstate(all="ignore")
def diagnose_values(comparisons: Sequence[Comparison], problem: Problem) -> Diagnosis:
    """Return a diagnosis of wrong gradients of values, such as ∂L/∂x.

    The gradients of all parameters must be right.
    """
    found = replace(diagnose_arrays(comparisons, len(problem.x)), basis="network")  # there is a network
    if found.answers:
        return found
    wrong = next((c for c in comparisons if c.name == INPUTS and c.wrong.any()), None)
    known = () if wrong is None else tuple(_of_inputs(wrong.analytic, problem))
    return replace(found, observations=(*known, *found.observations))


def _of_inputs(found: Array, problem: Problem) -> Iterator[str]:
    """Yield a sentence that names the mistake between the lowest layer's δ and ∂L/∂x, if any is found."""
    graph, own = problem.network.graph, problem.parameters
    values = run(graph, own, problem.x)
    above = problem.network.coefficient * problem.network.loss.gradient(values[-1], problem.target)
    upstream = {swept.node: swept.upstream for swept in sweep(graph, own, values, above)}
    for i in graph.readers[INPUT]:
        node = graph.nodes[i]
        if not isinstance(node.step, Dense) or len(graph.readers[INPUT]) > 1:
            continue
        delta, weight, layer = upstream[i], node.own(own)["weight"], node.layer
        activation = next(
            (k for k in graph.readers[i + 1] if isinstance(graph.nodes[k].step, Pointwise)), None
        )
        if _alike(found, delta):
            yield f"The gradient of 'input' is δ of layer {layer}: the step to x leaves out the weights."
        elif weight.shape[0] == weight.shape[1] and _alike(found, delta @ weight.T):
            yield f"The gradient of 'input' is δ wᵀ of layer {layer}: the step to x transposes the weights."
        elif activation is not None and _alike(found, upstream[activation] @ weight):
            yield f"The gradient of 'input' is ∂L/∂a w of layer {layer}: the step to x leaves out φ'."


def _alike(found: Array, other: Array) -> bool:
    if found.shape != other.shape:
        return False
    return bool(np.abs(found - other).max() <= _ALIKE * np.abs(other).max())
