"""Compute the gradients of a torch module in forward mode: one pass for each entry."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any
from warnings import catch_warnings, simplefilter

from gradcheck_cli.code.returned import real
from gradcheck_cli.code.torch_graph import Graph
from gradcheck_cli.code.torch_leaf import Leaf, Tensor
from gradcheck_cli.code.torch_upstream import Weights
from gradcheck_cli.types import Array


def forward_gradients(graph: Graph, parameters: Mapping[str, Array], weights: Weights) -> dict[str, Array]:
    """Return the gradients by name, computed as one directional derivative for each entry.

    A complex entry has two directional derivatives, along its real and its imaginary part.
    """
    graph.assign(parameters)
    parts = (leaf.parts(_gradient(graph, leaf, weights)) for leaf in graph.leaves)
    return {name: real(part) for each in parts for name, part in each.items()}


def _gradient(graph: Graph, leaf: Leaf, weights: Weights) -> Tensor:
    if not leaf.storage.is_dense:
        message = f"has the sparse tensor '{leaf.name}', which torch does not accept in forward mode"
        raise graph.code.complain(message)
    gradient = graph.torch.zeros_like(leaf.tensor.detach(), memory_format=graph.torch.contiguous_format)
    flat = gradient.view(-1)
    for i in range(len(flat)):
        for unit in (1.0, 1.0j) if leaf.own.is_complex else (1.0,):
            flat[i] += unit * _slope(graph, leaf, weights, i, unit)
    return gradient.cpu()


def _slope(graph: Graph, leaf: Leaf, weights: Weights, entry: int, unit: Any) -> Tensor:
    """Return the derivative of the loss if one entry of a parameter moves along `unit`."""
    modes = import_module("torch.autograd.forward_ad")
    tangent = graph.torch.zeros_like(leaf.tensor.detach(), memory_format=graph.torch.contiguous_format)
    tangent.view(-1)[entry] = unit
    with graph.torch.enable_grad(), modes.dual_level():
        with catch_warnings():
            simplefilter("ignore")  # for the first dual tensor, torch itself loads something deprecated
            dual = modes.make_dual(leaf.tensor.detach(), tangent)
        slope = modes.unpack_dual(graph.terms(weights, {leaf.name: dual}).sum()).tangent
        return 0.0 if slope is None else slope.detach()
