"""A torch module whose kernels know one type, with a reference whose losses are computed in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any

import numpy as np

from gradcheck_cli.arrays.shapes import listed
from gradcheck_cli.code.evaluation import Evaluation
from gradcheck_cli.code.kernel import Kernel
from gradcheck_cli.code.load import Callee, a
from gradcheck_cli.code.returned import type_named
from gradcheck_cli.code.torch_build import LEFT_OUT, build_graph, parts_of
from gradcheck_cli.code.torch_graph import Graph, Result
from gradcheck_cli.code.torch_leaf import Leaf
from gradcheck_cli.code.torch_second import projected
from gradcheck_cli.code.torch_upstream import Upstream, Weights
from gradcheck_cli.types import Array


@dataclass(frozen=True)
class ReferencedGraph(Graph):
    """A graph whose backward runs in its own types, and whose losses are those of another graph.

    reference: the graph of the reference, with the same parameters, data and loss.
    """

    reference: Graph = field(kw_only=True)

    @property
    def differenced(self) -> Graph:
        return replace(self.reference, differentiates=self.differentiates)

    def losses(self, parameters: Mapping[str, Array], weights: Weights) -> Array:
        return self.differenced.losses(parameters, weights)

    def losses_at(self, points: Sequence[Mapping[str, Array]], weights: Weights) -> Array:
        return self.differenced.losses_at(points, weights)

    def is_wide(self, parameters: Mapping[str, Array]) -> bool:
        return self.differenced.is_wide(parameters)

    def run_at(self, parameters: Mapping[str, Array], run: Callable[[], Result]) -> Result:
        return self.differenced.run_at(parameters, run)

    def kernels(self, parameters: Mapping[str, Array], upstream: Upstream) -> tuple[Kernel, ...]:
        types = {name: dtype for leaf in self.leaves for name, dtype in _types(leaf).items()}

        def run(graph: Graph, wide: bool, point: Mapping[str, Array]) -> Evaluation:
            return graph.run(point, upstream, wide)

        def terms(point: Mapping[str, Array]) -> Array:
            with self.reference.code.running("with slightly changed parameters"):
                return self.losses(point, upstream.weights).astype(np.float64)

        plain = partial(run, self.reference, False), partial(run, self.reference, True)
        name = str(self.reference.code)
        return (
            Kernel(self.code, name, parameters, types, types, partial(run, self, False), terms, (plain,)),
        )


def _types(leaf: Leaf) -> dict[str, np.dtype[Any]]:
    own = leaf.own.to_real() if leaf.own.is_complex else leaf.own
    return dict.fromkeys(leaf.values(), type_named(str(own)))


def with_reference(
    graph: Graph, built: Any, reference: Callee, x: Array | None, y: Array | None
) -> ReferencedGraph:
    """Return the graph with a reference for its losses.

    built: what the user's build() returned, from which the graph was made.
    reference: a module with the same parameters, or a function that returns one; for a function of tensors, a
        function of the same tensors.
    x, y: the data; None if there are none.
    Raises `InputError` if the parameters of the two differ.
    """
    with reference.running():
        wide = build_graph(graph.torch, reference, _rebuilt(graph, built, reference), x, y)
    _refuse_other_parameters(graph, wide, reference)
    tensors = {leaf.name: leaf.tensor for leaf in wide.leaves}
    leaves = [replace(leaf, tensor=tensors[leaf.name]) for leaf in graph.leaves]
    wide = replace(wide, leaves=leaves, x=graph.x, y=graph.y)
    return ReferencedGraph(**{each.name: getattr(graph, each.name) for each in fields(graph)}, reference=wide)


def projected_with_reference(graph: Graph, weights: Weights) -> Graph:
    """Return the graph of g = ⟨∇L, v⟩, as `projected` does; the ∇L of a reference is its own."""
    second = projected(graph, weights)
    if not isinstance(second, ReferencedGraph):
        return second
    return replace(second, reference=projected(second.reference, weights))


def _rebuilt(graph: Graph, built: Any, reference: Callee) -> Any:
    """Return what the user's build() returned, with the reference in place of the module or function."""
    torch, value = graph.torch, reference.value
    _, loss, tensors = parts_of(torch, graph.code, built)
    rest = () if loss is LEFT_OUT else (loss,)
    if tensors is not None:
        return value, *rest, {name: _copied(torch, tensor) for name, tensor in tensors.items()}
    module = value if isinstance(value, torch.nn.Module) else value()
    if not isinstance(module, torch.nn.Module):
        raise reference.complain(f"returns {a(module)}; a module is needed, like the one that is checked")
    return (module, *rest) if rest else module


def _copied(torch: Any, tensor: Any) -> Any:
    if not isinstance(tensor, torch.Tensor):
        return tensor
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)


def _refuse_other_parameters(graph: Graph, wide: Graph, reference: Callee) -> None:
    found, needed = ({leaf.name: tuple(leaf.tensor.shape) for leaf in each.leaves} for each in (wide, graph))
    if found != needed:
        names = [f"{name} {list(shape)}" for name, shape in found.items()]
        others = [f"{name} {list(shape)}" for name, shape in needed.items()]
        message = f"has the parameters {listed(names)}, but {graph.code} has {listed(others)}"
        raise reference.complain(message, "a reference needs parameters with the same names and shapes")
