"""Graphs that the author may have meant: the spec's graph with one option changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gradcheck_cli.diagnose.diagnosis import Answer, Cause
from gradcheck_cli.diagnose.other_networks import KIND
from gradcheck_cli.diagnose.rows import matrix
from gradcheck_cli.diagnose.site import penalty_on
from gradcheck_cli.diagnose.target import Target
from gradcheck_cli.network.graph import Graph
from gradcheck_cli.network.network import Network, gradients
from gradcheck_cli.network.step import Step
from gradcheck_cli.network.steps.normalise import Normalise
from gradcheck_cli.network.steps.softmax import Softmax
from gradcheck_cli.problem.problem import Problem


@dataclass(frozen=True)
class Change:
    """A change of one option in every step that has the option.

    has: the option in the author's network, in words.
    says: the option in the spec, in words.
    step: a function that returns the changed step, or None if a step does not have this option.
    """

    has: str
    says: str
    step: Callable[[Step], Step | None]


def _variance(unbiased: bool) -> Callable[[Step], Step | None]:
    def changed(step: Step) -> Step | None:
        if not isinstance(step, Normalise) or step.couples != "batch" or step.unbiased == unbiased:
            return None
        return replace(step, unbiased=unbiased)

    return changed


def _unmasked(step: Step) -> Step | None:
    return Softmax.plain() if type(step) is Softmax and not step.mask.all() else None


def _shifted(step: Step) -> Step | None:
    """Return the softmax with a causal mask that also keeps the next token; None if it has no causal mask."""
    mask = step.mask if type(step) is Softmax else np.ones(())
    causal = np.tri(len(mask), dtype=bool) if mask.ndim == 2 else None
    if causal is None or len(mask) < 3 or not np.array_equal(mask, causal):
        return None
    return Softmax(np.tri(len(mask), k=1, dtype=bool))


_CHANGES = (
    Change(
        "whose batch norm divides the variance by N",
        "unbiased: true, which divides by N − 1",
        _variance(False),
    ),
    Change(
        "whose batch norm divides the variance by N − 1, as torch.var does",
        "batch_norm, which divides by N",
        _variance(True),
    ),
    Change("whose attention is not causal", "causal: true", _unmasked),
    Change("whose causal mask is shifted by one: each token also sees the next", "causal: true", _shifted),
)


def explain_by_other_graphs(problem: Problem, targets: Mapping[str, Target]) -> list[Answer]:
    """Return an answer for each changed graph whose gradients equal the author's up to rounding."""
    return [answer for change in _CHANGES for answer in _answers(change, problem, targets)]


def _answers(change: Change, problem: Problem, targets: Mapping[str, Target]) -> Iterator[Answer]:
    nodes = problem.network.graph.nodes
    steps = [change.step(node.step) for node in nodes]
    layers = tuple(dict.fromkeys(n.layer for n, step in zip(nodes, steps, strict=True) if step is not None))
    if not layers:
        return
    other = _with_steps(problem.network, steps)
    found = gradients(other, problem.parameters, problem.x, problem.target)
    whole = {name: matrix(found[name]) + penalty_on(problem, name) for name in targets}
    if all(target.matches(whole[name]) for name, target in targets.items()):
        told = f"The gradients are those of a network {change.has}; the spec says {change.says}."
        apart = max(target.apart(whole[name]) for name, target in targets.items())
        yield Answer((Cause(KIND, KIND, layers, told, "", ""),), apart)


def _with_steps(network: Network, steps: Sequence[Step | None]) -> Network:
    nodes = zip(network.graph.nodes, steps, strict=True)
    changed = tuple(node if step is None else replace(node, step=step) for node, step in nodes)
    return replace(network, graph=Graph(changed, network.graph.features))
