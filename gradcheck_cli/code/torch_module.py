"""Read a torch module or an autograd function, whose gradients its backward pass computes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import partial
from importlib import import_module
from typing import Any, ClassVar

import numpy as np

from gradcheck_cli.arrays.named_arrays import Dialect
from gradcheck_cli.code.findings import Attached, Finding
from gradcheck_cli.code.load import Callee, Load, UserCode, load
from gradcheck_cli.code.objective import Function, Inputs
from gradcheck_cli.code.returned import (
    Evaluation,
    hinted,
    own_array,
    read_stack,
    refuse_changed,
    refuse_mixed,
    samples,
)
from gradcheck_cli.code.sites import NO_SITES, Sites
from gradcheck_cli.code.torch_attached import attached
from gradcheck_cli.code.torch_build import build_graph
from gradcheck_cli.code.torch_forward import forward_gradients
from gradcheck_cli.code.torch_graph import Graph
from gradcheck_cli.code.torch_modules import Modules
from gradcheck_cli.code.torch_second import HOW_TO_DIFFERENTIATE, projected
from gradcheck_cli.code.torch_sites import find_sites
from gradcheck_cli.code.torch_storage import is_sparse
from gradcheck_cli.code.torch_trials import tried
from gradcheck_cli.code.torch_types import hinting_at_types
from gradcheck_cli.code.torch_upstream import AS_IT_IS, Upstream, plain_weights, random_weights
from gradcheck_cli.code.verified import verified
from gradcheck_cli.errors import Complaint, InputError, Location, bad_input, did_you_mean, shortened
from gradcheck_cli.spec.gradients import NetworkCode
from gradcheck_cli.types import Array

_WIDE = "in float64, which finite differences need"
_MOVED = "with slightly changed parameters"
_STACKED = "under torch.func.vmap, which `vectorized` asks for"


def read(source: NetworkCode, inputs: Inputs, load: Load = load) -> Function:
    """Read the result of build(): (module, loss), or (function, loss, tensors) for an autograd function.

    The loss may be left out, as in a module alone or (function, tensors); it is then L = Σ c · out, with c
    drawn at random. Otherwise, L is loss(module(x), y) or loss(function(x, *tensors), y), summed if it has
    one term per sample. If there are no data, x and y are left out. The parameters are the tensors of
    `named_parameters()` or `tensors` that require a gradient. If no entry of `tensors` requires one, the
    parameters are all its floating-point and complex entries. The source's `names` and `layout` translate the
    parameters' names and layout to those of the network section.

    The gradients come from backward, in the module's own dtype. The losses come from the same module at the
    same point, but in float64, and without autograd unless the forward pass needs it. The terms of the loss
    are weighted at random, since an upstream gradient of ones hides mistakes.

    Raises an `InputError` that points at the offending place in the spec if the code fails, changes its
    arguments, or returns different results for the same arguments.
    """
    torch = _torch(source.where)
    code, dialect = load(source.code, source.where), Dialect(source, "gradients")
    x, y = _samples(torch, inputs, code)
    with code.running():
        graph = build_graph(torch, code, code.value(), x, y).in_our_words(dialect)
        _refuse_unfit(dialect, graph, inputs)
        graph.begin_at(inputs, dialect)
    return checked(code, graph, inputs, source.vectorized)


def _samples(torch: Any, inputs: Inputs, code: UserCode) -> tuple[Any, Any]:
    """Return x and y. A sparse tensor in `data` of the code's module stays a tensor."""
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
    graph = _evaluable(code, graph, point)
    function = _observed(code, graph, point, vectorized)
    refuse_mixed(function, function.apart, code)
    weighted, remarks = _weighted(function) if graph.loss.is_own else (function.upstream, ())
    first = _tried(replace(function, remarks=(*function.remarks, *remarks)), weighted, inputs)
    if inputs.forward_mode:
        first = replace(first, in_forward_mode=(_in_forward_mode(first),))
    if inputs.order == 1:
        return first
    with hinted(HOW_TO_DIFFERENTIATE):
        second = projected(graph, weighted.weights)
        function = _observed(code, second, second.point(), vectorized=False)
        function = _tried(function, function.upstream, inputs)
    return replace(function, before=(first, *first.others))


def _tried(function: _Function, weighted: Upstream, inputs: Inputs) -> _Function:
    """Run backward in other ways. Return the function with the findings, and with the upstreams to check.

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


@dataclass(frozen=True)
class _Function:
    """A module as a `Function`, with its loss weighted in one particular way.

    parameters: the point at which the gradients are checked.
    upstream: the weights in the loss, and the layout of the gradient that backward starts from.
    loss: the author's loss, without weights.
    apart: the largest difference allowed between the results of two runs, relative to the largest entry.
    is_wide: whether the losses are known to be computed in float64 throughout.
    findings: faults found by running backward in other ways.
    before: the function of the loss L, if this object is g = ⟨∇L, v⟩; empty otherwise.
    in_forward_mode: this function, with gradients from forward mode.
    others: this function with other upstreams.
    """

    code: Callee
    graph: Graph
    parameters: Mapping[str, Array]
    upstream: Upstream
    loss: float
    apart: float
    remarks: tuple[str, ...]
    is_wide: bool
    vectorized: bool = False
    findings: tuple[Finding, ...] = ()
    before: tuple[_Function, ...] = ()
    in_forward_mode: tuple[_Function, ...] = ()
    others: tuple[_Function, ...] = ()

    takes_taps: ClassVar[bool] = False

    @property
    def stands_alone(self) -> bool:
        return not self.graph.loss.is_own

    @property
    def loss_name(self) -> str:
        return self.graph.loss.name

    @property
    def origin(self) -> str:
        return f"torch {self.graph.loss.backward} of {self.code}"

    @property
    def weighted(self) -> str:
        return " ".join(filter(None, [self.graph.loss.told, str(self.upstream)]))

    @property
    def samples(self) -> int | None:
        return None if self.graph.x is None or not self.graph.x.ndim else len(self.graph.x)

    @property
    def terms(self) -> int:
        return len(self.upstream.weights.terms)

    def losses(self, parameters: Mapping[str, Array]) -> Array:
        with self.code.running(_MOVED):
            losses = self.graph.losses(parameters, self.upstream.weights)
        if len(losses) != self.terms:
            message = f"returns {len(losses)} loss terms, but it returned {self.terms} before"
            raise self.code.complain(message)
        return losses.astype(np.float64)

    def losses_at(self, points: Sequence[Mapping[str, Array]]) -> Array:
        if not self.vectorized:
            return np.stack([self.losses(point) for point in points])
        with self.code.running(_STACKED):
            losses = self.graph.losses_at(points, self.upstream.weights)
        return read_stack(losses, (len(points), self.terms), self.code)

    def gradients(self, parameters: Mapping[str, Array]) -> Mapping[str, Array]:
        with self.code.running(_MOVED):
            return self.graph.gradients(parameters, self.upstream)

    def sites(self, names: Sequence[str]) -> Sites:
        with suppress(InputError), self.code.running("with its modules watched"):
            return find_sites(self.graph, self.parameters, self.upstream.weights, names)
        return NO_SITES

    def places(self, wrong: Collection[str], right: Collection[str]) -> tuple[str, ...]:
        """Return a sentence for each module whose backward pass is wrong; empty if none is found."""
        root = self.graph.forward
        if not self.graph.loss.is_first or not isinstance(root, self.graph.torch.nn.Module):
            return ()
        modules = Modules(self.graph, root, self.parameters, self.upstream)
        with suppress(InputError), self.code.running("with its modules watched"):
            return tuple(modules.faults(wrong))
        return ()

    def wide_gradients(self) -> Mapping[str, Array] | None:
        """Return the gradients that backward computes in float64.

        Returns None if the module is in float64 anyway, or cannot compute in float64.
        """
        if all(str(dtype) in ("torch.float64", "torch.complex128") for dtype in self.graph.types):
            return None
        try:
            with self.code.running(_WIDE):
                return self.graph.gradients(self.parameters, self.upstream, wide=True)
        except InputError:  # a kernel that accepts only one type
            return None

    def attached(self) -> Iterable[Attached]:
        run = partial(self.graph.gradients, self.parameters, self.upstream)
        return attached(self.graph.torch, self.code, run)


@dataclass(frozen=True)
class _ForwardMode(_Function):
    """A module as a `Function` whose gradients come from forward mode, one pass for each entry."""

    @property
    def origin(self) -> str:
        return f"torch forward mode of {self.code}"

    def gradients(self, parameters: Mapping[str, Array]) -> Mapping[str, Array]:
        with hinted(_HOW_TO_JVP), self.code.running("in forward mode"):
            return forward_gradients(self.graph, parameters, self.upstream.weights)

    def places(self, wrong: Collection[str], right: Collection[str]) -> tuple[str, ...]:
        return ()

    def attached(self) -> tuple[Attached, ...]:
        """Return nothing: the reverse mode finds a detached branch."""
        return ()

    def wide_gradients(self) -> None:
        """Return None: reverse mode already shows how much the module's own dtype rounds."""


def _in_forward_mode(function: _Function) -> _ForwardMode:
    fields_of = {each.name: getattr(function, each.name) for each in fields(function)}
    return _ForwardMode(**{**fields_of, "findings": (), "others": (), "in_forward_mode": ()})


_HOW_TO_JVP = "forward mode needs a jvp: give each autograd.Function a static method jvp(ctx, *tangents)"


# --- two runs that are watched -----------------------------------------------------------------------------


def _observed(code: Callee, graph: Graph, point: Mapping[str, Array], vectorized: bool) -> _Function:
    """Run the module several times to verify that its results are usable, and return it as a `Function`.

    The function's loss is the author's, without weights.
    """

    def observe() -> tuple[Evaluation, tuple[str, ...]]:
        return _observe(code, graph, point)

    first, remarks = verified(observe, code, lambda: _first_not_finite(code, graph, point))
    upstream = Upstream(plain_weights(len(first.losses)))
    loss = float(first.losses.astype(np.float64).sum())
    return _Function(
        code, graph, point, upstream, loss, first.apart, remarks, _is_wide(code, graph, point), vectorized
    )


def _first_not_finite(code: Callee, graph: Graph, point: Mapping[str, Array]) -> str | None:
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
    with code.running(_WIDE):
        graph.losses(point, AS_IT_IS)
    for hook in hooks:
        hook.remove()
    if found:
        return f"the first output that is not finite is that of {found[0]}"
    return "the output of every layer is finite, so the inf or NaN arises in the loss" if parts else None


def _is_wide(code: Callee, graph: Graph, point: Mapping[str, Array]) -> bool:
    """Return whether the losses of the graph at `point` are known to be computed in float64 throughout."""
    with suppress(InputError), code.running(_WIDE):  # compiled code may not run while it is watched
        return graph.is_wide(point)
    return False


def _evaluable(code: Callee, graph: Graph, point: Mapping[str, Array]) -> Graph:
    """Return the graph, or a copy that enables autograd if its losses cannot be computed without it."""
    for each in (graph, replace(graph, differentiates=True)):
        with suppress(InputError), code.running(_WIDE):
            each.losses(point, AS_IT_IS)
            return each
    return graph  # a later run reports the error


def _observe(code: Callee, graph: Graph, point: Mapping[str, Array]) -> tuple[Evaluation, tuple[str, ...]]:
    """Run backward once, and forward once in float64. Return the losses, the gradients and any remarks.

    Raises `InputError` if a run changes an argument.
    """
    before = graph.arguments(point)
    with code.running():
        gradients = graph.gradients(point, Upstream(AS_IT_IS))
    refuse_changed(before, graph.arguments(), code)
    silent = graph.silent
    with hinting_at_types(), code.running(_WIDE):
        losses = graph.losses(point, AS_IT_IS)
    refuse_changed(before, graph.arguments(), code)
    remarks = [
        f"{graph.loss.backward} computes no gradient for '{name}', so it counts as 0" for name in silent
    ]
    remarks += graph.remarks
    if losses.dtype != np.float64:
        remarks.append(f"the loss is computed in {losses.dtype} even if all its inputs are in float64")
    return Evaluation(losses, gradients), tuple(remarks)


# --- under another upstream --------------------------------------------------------------------------------


def _weighted(function: _Function) -> tuple[Upstream, tuple[str, ...]]:
    """Return an upstream with random weights, and remarks.

    If the module fails with these weights, the upstream is the function's own, and the remarks are the
    messages of the failure. Otherwise, there are no remarks.
    """
    graph, point = function.graph, function.parameters
    with function.code.running():
        arrived = graph.upstream_of_output(point)
    upstream = Upstream(random_weights(function.terms, arrived))
    try:
        with function.code.running("with its loss weighted at random"):
            graph.gradients(point, upstream)
            graph.losses(point, upstream.weights)
    except InputError as error:
        return function.upstream, tuple(complaint.message for complaint in error.complaints)
    return upstream, ()


def _torch(where: Location) -> Any:
    try:
        return import_module("torch")
    except ImportError as error:
        help = "pip install torch"
        raise bad_input(f"torch cannot be imported: {error}", *where, help=help) from None
