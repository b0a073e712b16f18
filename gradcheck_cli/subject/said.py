"""What a report says of its subject before anything is differenced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import isfinite

import numpy as np

from gradcheck_cli.gradients.analytic import Analytic
from gradcheck_cli.network.graph import Node
from gradcheck_cli.network.losses import same_loss
from gradcheck_cli.problem.problem import Problem
from gradcheck_cli.types import Array


@dataclass(frozen=True)
class Said:
    """What a subject says about itself.

    described, loss_name: short descriptions of the function and its loss.
    loss: the loss at the parameters.
    unexercised, unusual: short notes on what the data cannot show, and on what is seldom intended.
    weighted: how the judged loss differs from the author's; empty if it does not.
    """

    described: str
    loss_name: str
    loss: float
    unexercised: tuple[str, ...]
    unusual: tuple[str, ...]
    weighted: str = ""


def describe(problem: Problem) -> str:
    """Describe the network, as in ``64-50-10, 2 × sigmoid, 100 samples``."""
    layers = [list(nodes) for _, nodes in groupby(problem.network.graph.nodes, key=lambda node: node.layer)]
    inputs = "×".join(map(str, problem.network.features))
    sizes = "-".join([inputs, *(label for nodes in layers for label in _labels(nodes))])
    steps = (node.step for nodes in layers if not _is_composed(nodes) for node in nodes)
    runs = [
        (name, len(list(run))) for name, run in groupby(step.name for step in steps if step.is_activation)
    ]
    activations = [name if times == 1 else f"{times} × {name}" for name, times in runs]
    return ", ".join([sizes, *activations, samples(problem.x)])


_PLAIN_STEPS = 4
"""The most steps of a layer that is described by its steps: its own, a normalisation's two, an activation."""


def _is_composed(nodes: Sequence[Node]) -> bool:
    return len(nodes) > _PLAIN_STEPS


def _labels(nodes: Sequence[Node]) -> list[str]:
    """Return the label of a layer's first step that has one, or the name of a layer with many steps."""
    if _is_composed(nodes):
        return [nodes[0].layer.rstrip("0123456789")]
    return [node.step.label for node in nodes if node.step.label][:1]


def samples(x: Array) -> str:
    """Describe the number of samples, as in ``100 samples``."""
    return f"{len(x)} sample" + ("s" if len(x) != 1 else "")


def other_loss(problem: Problem, analytic: Analytic) -> tuple[str, ...]:
    """Return a note if the loss given with the gradients differs from the network's; else nothing."""
    if analytic.loss is None:
        return ()
    eps = max(float(np.finfo(dtype).eps) for dtype in analytic.dtypes.values())
    return unlike(problem, analytic.loss, f"the loss in {analytic.origin}", "spec", eps)


def unlike(problem: Problem, loss: float, whose: str, described: str, eps: float = 0.0) -> tuple[str, ...]:
    """Return a note if this loss, computed with machine epsilon eps, differs from the network's."""
    ours = float(problem.objective.total)
    if same_loss(ours, loss, eps):
        return ()
    ratio = f", {ours / loss:.6g} times as large" if loss and isfinite(loss) else ""
    return (f"{whose} is {loss:.6g}, but the {described} gives {ours:.6g}{ratio}",)
