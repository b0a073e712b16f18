"""Run a torch module once, and find out in which types it computes and where inf or NaN arise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from gradcheck_cli.code.evaluation import Evaluation, WideGradients
from gradcheck_cli.code.failures import RefusedError, may_fail
from gradcheck_cli.code.load import Callee
from gradcheck_cli.code.returned import refuse_changed
from gradcheck_cli.code.torch_graph import Graph
from gradcheck_cli.code.torch_types import hinting_at_types
from gradcheck_cli.code.torch_upstream import AS_IT_IS, Upstream
from gradcheck_cli.types import Array

WIDE = "in float64, which finite differences need"
"""The words for a run in float64 in error messages."""


def first_not_finite(code: Callee, graph: Graph, point: Mapping[str, Array]) -> str | None:
    """Return a sentence that says where in the module the first inf or NaN arises; None if unknown."""
    torch, found = graph.torch, []

    def look_at(name: str) -> Any:
        def look(module: Any, _: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor) and not torch.isfinite(output).all():
                found.append(f"'{name}' ({type(module).__name__})")

        return look

    if not isinstance(graph.forward, torch.nn.Module):
        return None
    parts = [(name, part) for name, part in graph.forward.named_modules() if name]
    hooks = [part.register_forward_hook(look_at(name)) for name, part in parts]
    with code.running(WIDE):
        graph.losses(point, AS_IT_IS)
    for hook in hooks:
        hook.remove()
    if found:
        return f"the first output that is not finite is that of {found[0]}"
    return "the output of every layer is finite, so the inf or NaN arises in the loss" if parts else None


def is_wide(code: Callee, graph: Graph, point: Mapping[str, Array]) -> bool:
    """Return whether the losses of the graph at `point` are known to be computed in float64 throughout."""
    return _is_known_to(code, lambda: graph.is_wide(point))


def wide_gradients(
    code: Callee, graph: Graph, point: Mapping[str, Array], upstream: Upstream
) -> WideGradients | None:
    """Return the gradients that backward computes in float64; None if a kernel accepts only one type."""
    with suppress(RefusedError), may_fail(), code.running(WIDE):
        gradients = graph.gradients(point, upstream, wide=True)
        return WideGradients(gradients, _is_known_to(code, lambda: graph.is_wide_backward(point, upstream)))
    return None


def _is_known_to(code: Callee, run: Callable[[], bool]) -> bool:
    """Return the result of `run`; False if the code fails, since compiled code may not run while watched."""
    with suppress(RefusedError), may_fail(), code.running(WIDE):
        return run()
    return False


def evaluable(code: Callee, graph: Graph, point: Mapping[str, Array]) -> Graph:
    """Return the graph, or a copy that enables autograd if its losses cannot be computed without it."""
    for each in (graph, replace(graph, differentiates=True)):
        with suppress(RefusedError), may_fail(), code.running(WIDE):
            each.losses(point, AS_IT_IS)
            return each
    return graph  # a later run reports the error


def observe(code: Callee, graph: Graph, point: Mapping[str, Array]) -> tuple[Evaluation, tuple[str, ...]]:
    """Run backward once, and forward once in float64. Return the losses, the gradients and any remarks.

    Raises `InputError` if a run changes an argument.
    """
    before = graph.arguments(point)
    with code.running():
        gradients = graph.gradients(point, Upstream(AS_IT_IS))
    refuse_changed(before, graph.arguments(), code)
    silent = graph.silent
    with hinting_at_types(), code.running(WIDE):
        losses = graph.losses(point, AS_IT_IS)
    refuse_changed(before, graph.arguments(), code)
    remarks = [
        f"{graph.loss.backward} computes no gradient for '{name}', so this gradient counts as 0"
        for name in silent
    ]
    remarks += graph.remarks
    with code.running():
        remarks += [_UNCHECKED.format(list(tensor.shape)) for tensor in graph.unchecked(point)]
    if losses.dtype != np.float64:
        remarks.append(f"the loss is computed in {losses.dtype} even if all its inputs are in float64")
    return Evaluation(losses, gradients), tuple(remarks)


_UNCHECKED = (
    "the loss also depends on a tensor of shape {} that requires a gradient, which is not checked: add it to "
    "the dict of tensors"
)
