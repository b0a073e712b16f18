"""The parts of a report about its subject that are known before the first difference is taken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from math import isfinite

from gradcheck_cli.gradients.analytic import Analytic
from gradcheck_cli.network.graph import Graph
from gradcheck_cli.network.losses import same_loss
from gradcheck_cli.problem.problem import Problem
from gradcheck_cli.types import precision_of


@dataclass(frozen=True)
class Said:
    """The description of a subject in a report.

    described, loss_name: short descriptions of the function and its loss.
    loss: the loss at the parameters.
    unexercised: short notes on mistakes that the data cannot show.
    unusual: short notes on anything that is seldom intended.
    weighted: a sentence or two on how the loss that is checked differs from the loss in the user's code;
        empty if it does not differ.
    """

    described: str
    loss_name: str
    loss: float
    unexercised: tuple[str, ...]
    unusual: tuple[str, ...]
    weighted: str = ""


def describe(problem: Problem) -> str:
    """Return a description of the network, such as ``64-50-10, 2 × sigmoid, 100 samples``."""
    parts = [_part(problem.network.graph, list(run)) for run in _runs(problem.network.graph)]
    inputs = "×".join(map(str, problem.network.features))
    sizes = "-".join([inputs, *(label for label, _ in parts if label)])
    names = (name for _, activations in parts for name in activations)
    runs = [(name, len(list(run))) for name, run in groupby(names)]
    activations = [name if times == 1 else f"{times} × {name}" for name, times in runs]
    return ", ".join([sizes, *activations, samples(len(problem.x))])


def _runs(graph: Graph) -> Iterator[Iterator[int]]:
    """Return an iterator over the runs of node indices that belong to the same layer.

    If a layer contains other layers, its own nodes come after the nodes of the inner layers.
    """
    return (run for _, run in groupby(range(len(graph.nodes)), lambda i: graph.nodes[i].layer))


def _part(graph: Graph, run: list[int]) -> tuple[str, list[str]]:
    """Return the label of a layer and the names of its activations.

    The label of a layer with many steps is its kind, and its activations are not listed.

    run: the indices of the layer's nodes.
    """
    nodes = [graph.nodes[i] for i in run]
    labels = [node.step.label for node in nodes if node.step.label]
    if len(labels) > 2:  # a normalisation next to the layer's own step does not count
        return f"{nodes[0].place[-1]}{graph.value_features[run[-1] + 1][-1]}", []
    return "".join(labels[:1]), [node.step.name for node in nodes if node.step.is_activation]


def samples(count: int) -> str:
    """Return a description of the number of samples, such as ``100 samples``."""
    return f"{count} sample" + ("s" if count != 1 else "")


def other_loss(problem: Problem, analytic: Analytic) -> tuple[str, ...]:
    """Return a note if the loss given with the gradients differs from the network's; otherwise, ()."""
    if analytic.loss is None:
        return ()
    eps = max(precision_of(dtype).eps for dtype in analytic.dtypes.values())
    return unlike(problem, analytic.loss, f"the loss in {analytic.origin}", "spec", eps)


def unlike(problem: Problem, loss: float, whose: str, described: str, eps: float = 0.0) -> tuple[str, ...]:
    """Return a note if `loss` differs from the loss of the network; otherwise, ().

    whose: the name of `loss` in the note.
    described: the description of the network in the note.
    eps: the machine epsilon of the arithmetic that computed `loss`.
    """
    ours = float(problem.objective.total)
    if same_loss(ours, loss, eps):
        return ()
    ratio = f", {ours / loss:.6g} times as large" if loss and isfinite(loss) else ""
    return (f"{whose} is {loss:.6g}, but the {described} gives {ours:.6g}{ratio}",)
