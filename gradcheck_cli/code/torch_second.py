"""Turn the gradient of a torch module into a function to check: g = ⟨∇L, v⟩, with v drawn at random.

The gradient of g comes from double backward. It is compared with differences of g. The differences need
∇L itself but no second derivative.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from gradcheck_cli.code.drawn import drawn
from gradcheck_cli.code.torch_graph import Graph
from gradcheck_cli.code.torch_leaf import Leaf, Tensor
from gradcheck_cli.code.torch_loss import Loss, ProjectedGradient, RandomUpstream, in_real_parts
from gradcheck_cli.code.torch_upstream import Weights

HOW_TO_DIFFERENTIATE = (
    "with 'order: 2', gradcheck differentiates the backward function: write it with operations that torch "
    "can differentiate and without once_differentiable, or check only 'order: 1'"
)


def projected(graph: Graph, weights: Weights) -> Graph:
    """Return the graph of g = ⟨∇L, v⟩, where L is the weighted loss of `graph`.

    If gradcheck made the loss as L = Σ c · out, the gradient of g with respect to c is checked as well. That
    gradient is the part of double backward that goes through the upstream of the first backward.
    """
    torch, rng = graph.torch, np.random.default_rng(1)
    loss, upstreams = _with_leaves(graph)
    shapes = [
        tuple(in_real_parts(torch, leaf.storage.stored(leaf.tensor.detach())).shape) for leaf in graph.leaves
    ]
    directions = [torch.from_numpy(drawn(shape, rng)) for shape in shapes]

    def first(output: Any, *y: Tensor) -> Tensor:
        return weights.weigh(output, loss(output, *y))

    of = " ".join((*filter(None, [loss.told]), *weights.told))
    projection = ProjectedGradient(torch, first, of, graph.leaves, directions)
    return replace(graph, loss=projection, leaves=[*graph.leaves, *upstreams], differentiates=True)


def _with_leaves(graph: Graph) -> tuple[Loss, list[Leaf]]:
    """Return the loss, and the parameters to check in addition.

    If gradcheck drew the weights c of the loss, these parameters are copies of c. Otherwise, there are none.
    """
    if not isinstance(graph.loss, RandomUpstream):
        return graph.loss, []
    copies = [c.detach().clone().requires_grad_() for c in graph.loss.weights]
    names = ["upstream"] if len(copies) == 1 else [f"upstream.{i}" for i in range(len(copies))]
    taken = {leaf.called for leaf in graph.leaves}
    names = [f"_{name}" if name in taken else name for name in names]
    leaves = [Leaf(name, c, c.dtype, name) for name, c in zip(names, copies, strict=True)]
    return replace(graph.loss, weights=copies), leaves
