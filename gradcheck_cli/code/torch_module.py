"""Read a torch module or an autograd function, whose gradients its backward pass computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np

from gradcheck_cli.arrays.named_arrays import Dialect
from gradcheck_cli.code.evaluation import Evaluation
from gradcheck_cli.code.failures import RefusedError, may_fail
from gradcheck_cli.code.function import Function, Inputs
from gradcheck_cli.code.load import Callee, Load, UserCode, load, referred
from gradcheck_cli.code.returned import (
    hinted,
    own_array,
    refuse_mixed,
    samples,
)
from gradcheck_cli.code.torch_build import build_graph
from gradcheck_cli.code.torch_function import TorchFunction
from gradcheck_cli.code.torch_graph import Graph
from gradcheck_cli.code.torch_other_modes import other_modes
from gradcheck_cli.code.torch_reference import projected_with_reference, with_reference
from gradcheck_cli.code.torch_runs import evaluable, first_not_finite, is_wide, observe
from gradcheck_cli.code.torch_second import HOW_TO_DIFFERENTIATE
from gradcheck_cli.code.torch_storage import is_sparse
from gradcheck_cli.code.torch_trials import tried
from gradcheck_cli.code.torch_upstream import Upstream, plain_weights, random_weights
from gradcheck_cli.code.verified import verified
from gradcheck_cli.errors import Complaint, InputError, Location, bad_input, did_you_mean, shortened
from gradcheck_cli.spec.gradients import NetworkCode
from gradcheck_cli.types import Array


def read(source: NetworkCode, inputs: Inputs, load: Load = load) -> Function:
    """Read the result of build(): (module, loss), or (function, loss, tensors) for an autograd function.

    The loss may be left out, as in a module alone or (function, tensors). Then L = Σ c · out, with c drawn
    at random. Otherwise, L is loss(module(x), y) or loss(function(x, *tensors), y), summed if it has
    one term per sample. If there are no data, x and y are left out. The parameters are the tensors of
    `named_parameters()` or `tensors` that require a gradient. If no entry of `tensors` requires one, the
    parameters are all floating-point and complex entries of `tensors`. The source's `names` and `layout`
    translate the parameters' names and layout to those of the network section.

    The gradients come from backward, in the module's own dtype. The losses come from the same module at the
    same point, but in float64, and without autograd unless the forward pass needs it. The terms of the loss
    are weighted at random, since an upstream gradient of ones hides mistakes.

    Raises an `InputError` that points at the offending place in the spec if the code fails, changes its
    arguments, or returns different results for the same arguments.
    """
    torch = _torch(source.where)
    code, dialect = load(source.code, source.where), Dialect(source, "gradients")
    if isinstance(code.value, torch.nn.Module):
        raise code.complain(
            "is a module; a function that returns it is needed", "write def build(): return …"
        )
    x, y = _samples(torch, inputs, code)
    with code.running():
        built = code.value()
        graph = build_graph(torch, code, built, x, y).in_our_words(dialect)
        _refuse_unfit(dialect, graph, inputs)
        graph.begin_at(inputs, dialect)
    if source.reference:
        graph = with_reference(graph, built, referred(source, code, load), x, y)
    return checked(code, graph, inputs, source.vectorized)


def _samples(torch: Any, inputs: Inputs, code: UserCode) -> tuple[Any, Any]:
    """Return x and y. A sparse tensor in the `data` of the code's module remains a tensor."""
    data = code.own("data") if inputs.x is None and inputs.y is None else None
    if not isinstance(data, tuple | list) or len(data) != 2 or not any(is_sparse(torch, d) for d in data):
        return samples(inputs, code)
    x, y = (d if d is None or is_sparse(torch, d) else own_array(d, code, "'data'", "buifc") for d in data)
    return x, y


def checked(code: Callee, graph: Graph, inputs: Inputs, vectorized: bool = False) -> Function:
    """Run the module repeatedly to verify it, and return it as a `Function` of its current parameters.

    For order 2, the result is the function g = ⟨∇L, v⟩, and the module itself is checked `before` it.
    """
    with code.running():
        point = graph.point()
        graph = graph.keeping_padding(point)
    graph = evaluable(code, graph, point)
    function = _observed(code, graph, point, vectorized)
    refuse_mixed(function, function.apart, code)
    weighted, remarks = _weighted(function) if graph.loss.is_own else (function.upstream, ())
    first = _tried(replace(function, remarks=(*function.remarks, *remarks)), weighted, inputs)
    for kernel in first.kernels:
        kernel.refuse_another_forward()
    first = replace(first, other_modes=other_modes(first, inputs))
    if inputs.order == 1:
        return first
    with hinted(HOW_TO_DIFFERENTIATE):
        second = projected_with_reference(graph, weighted.weights)
        function = _observed(code, second, second.point(), vectorized=False)
        function = _tried(function, function.upstream, inputs)
    return replace(function, before=(first, *first.others))


def _tried(function: TorchFunction, weighted: Upstream, inputs: Inputs) -> TorchFunction:
    """Run the backward pass in further ways. Return the function with findings and the upstreams to check.

    weighted: the upstream with which the gradients are checked first.
    """
    trials = tried(function.code, function.graph, function.parameters, function.upstream, weighted)
    function = replace(
        function,
        remarks=(*function.remarks, *trials.remarks),
        findings=tuple(trial.finding for trial in trials.found),
    )
    upstreams = [weighted, *(trial.upstream for trial in trials.found)]
    if inputs.problem is not None:  # the network's loss has no weights
        upstreams.insert(0, function.upstream)
    first, *others = (replace(function, upstream=upstream) for upstream in upstreams)
    return replace(first, others=tuple(others))


def _refuse_unfit(dialect: Dialect, graph: Graph, inputs: Inputs) -> None:
    """Raise an `InputError` if the spec's `names` do not fit.

    Every name must be that of a parameter of the module. If the spec has a network, the name must also stand
    for a parameter of that network.
    """
    if inputs.problem is not None and not graph.loss.is_own:
        help = "return (module, loss), or leave the network section out"
        raise bad_input("a module without a loss does not work with a network section", "network", help=help)
    theirs = {leaf.name for leaf in graph.leaves}
    unknown = [
        Complaint(
            f"'{shortened(name)}' is not a parameter of the module",
            dialect.place(name),
            did_you_mean(name, theirs),
        )
        for name in dialect.source.names
        if name not in theirs
    ]
    if unknown:
        raise InputError(*unknown)
    ours = {leaf.called for leaf in graph.leaves}
    dialect.refuse_unfit(ours if inputs.problem is None else inputs.problem.network.shapes)


# --- two runs that are watched -----------------------------------------------------------------------------


def _observed(code: Callee, graph: Graph, point: Mapping[str, Array], vectorized: bool) -> TorchFunction:
    """Run the module several times to verify that its results are usable, and return it as a `Function`.

    The function's loss is the author's, without weights.
    """

    def run() -> tuple[Evaluation, tuple[str, ...]]:
        return observe(code, graph, point)

    first, remarks = verified(run, code, lambda: first_not_finite(code, graph, point))
    upstream = Upstream(plain_weights(len(first.losses)))
    loss = float(first.losses.astype(np.float64).sum())
    return TorchFunction(
        code, graph, point, upstream, loss, first.apart, remarks, is_wide(code, graph, point), vectorized
    )


# --- under another upstream --------------------------------------------------------------------------------


def _weighted(function: TorchFunction) -> tuple[Upstream, tuple[str, ...]]:
    """Return an upstream with random weights, and remarks.

    If the module fails with these weights, the upstream is the function's own, and the remarks are the
    messages of the failure. Otherwise, there are no remarks.
    """
    graph, point = function.graph, function.parameters
    with function.code.running():
        arrived = graph.upstream_of_output(point)
    upstream = Upstream(random_weights(function.terms, arrived))
    try:
        with may_fail(), function.code.running("with its loss weighted at random"):
            graph.gradients(point, upstream)
            graph.losses(point, upstream.weights)
    except RefusedError as refused:
        return function.upstream, (str(refused),)
    return upstream, ()


def _torch(where: Location) -> Any:
    try:
        return import_module("torch")
    except ImportError as error:
        help = "pip install torch"
        raise bad_input(f"torch cannot be imported: {error}", *where, help=help) from None
