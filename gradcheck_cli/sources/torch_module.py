"""A torch module, or a bare autograd function, with the gradients that its backward computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from gradcheck_cli.errors import InputError, bad_input
from gradcheck_cli.model.arrays import match_shapes
from gradcheck_cli.model.special import Array
from gradcheck_cli.sources.evaluation import (
    Evaluation,
    as_point,
    plain,
    read_stack,
    real,
    refuse_changed,
    refuse_infinite,
    refuse_mixed,
    refuse_unrepeatable,
    samples,
)
from gradcheck_cli.sources.foreign import Function, Inputs
from gradcheck_cli.sources.user_code import UserCode, a, load
from gradcheck_cli.spec import TorchModule

_WHERE = ("gradients", "torch")
_WIDE = "in float64, which differences need"
_MOVED = "with parameters moved a little"
_STACKED = "under torch.func.vmap, which `vectorized` asks for"
_FORMS = "(module, loss), or (function, loss, tensors) with a dict of tensors by name, is needed"

Tensor = Any
"""A torch.Tensor; torch is imported only where it is asked for."""


def read(source: TorchModule, inputs: Inputs) -> Function:
    """What build() returns: (module, loss), or (function, loss, tensors) for a bare autograd function.

    L is the sum of loss(module(x), y), a number or one term per sample, or of loss(function(x, *tensors), y);
    x and y are left out where there are no data. The parameters are those of `named_parameters()`, or the
    `tensors`, that require a gradient (all floating-point ones if none of them does).

    The gradients are those of backward, in the module's own type; the losses are the same module's, widened
    to float64 at the very same point, without autograd. Raises `InputError` at the place in the spec where
    the code fails, changes its arguments, or does not return the same again.
    """
    torch = _torch()
    code = load(source.torch, _WHERE)
    x, y = samples(inputs, code)
    with code.running():
        graph = _graph(torch, code, code.value(), x, y)
        graph.begin_at(inputs.parameters)
        point = graph.point()
    first, remarks = _observe(code, graph, point)
    second, _ = _observe(code, graph, point)
    refuse_unrepeatable(first, second, code)
    function = _Function(code, graph, point, len(first.losses), remarks, source.vectorized)
    refuse_mixed(function, first.apart, code)
    return function


@dataclass(frozen=True)
class _Function:
    code: UserCode
    graph: _Graph
    parameters: Mapping[str, Array]
    terms: int
    remarks: tuple[str, ...]
    vectorized: bool = False

    @property
    def origin(self) -> str:
        return f"torch backward of {self.code}"

    def losses(self, parameters: Mapping[str, Array]) -> Array:
        with self.code.running(_MOVED):
            losses = self.graph.losses(parameters)
        if len(losses) != self.terms:
            message = f"gives {len(losses)} loss terms where it gave {self.terms} before"
            raise self.code.complain(message)
        return losses.astype(np.float64)

    def losses_at(self, points: Sequence[Mapping[str, Array]]) -> Array:
        if not self.vectorized:
            return np.stack([self.losses(point) for point in points])
        with self.code.running(_STACKED):
            losses = self.graph.losses_at(points)
        return read_stack(losses, (len(points), self.terms), self.code)

    def gradients(self, parameters: Mapping[str, Array]) -> Mapping[str, Array]:
        with self.code.running(_MOVED):
            return self.graph.gradients(parameters)

    def wide_gradients(self) -> Mapping[str, Array] | None:
        """Of backward in float64, if the module's own type is narrower and it can do that."""
        if all(str(dtype) == "torch.float64" for dtype in self.graph.types.values()):
            return None
        try:
            with self.code.running(_WIDE):
                return self.graph.gradients(self.parameters, wide=True)
        except InputError:  # a kernel for one type alone
            return None


def _observe(code: UserCode, graph: _Graph, point: Mapping[str, Array]) -> tuple[Evaluation, tuple[str, ...]]:
    """One run of each kind that is watched, and what is odd about it."""
    before = graph.arguments(point)
    with code.running():
        gradients = graph.gradients(point)
    refuse_changed(before, graph.arguments(), code)
    silent = [name for name, leaf in graph.leaves.items() if leaf.grad is None]
    with code.running(_WIDE):
        losses = graph.losses(point)
    refuse_changed(before, graph.arguments(), code)
    refuse_infinite(losses, code)
    remarks = [f"backward gives no gradient for '{name}': it counts as 0" for name in silent]
    if losses.dtype != np.float64:
        remarks.append(f"the loss is computed in {losses.dtype} even where everything is given in float64")
    return Evaluation(losses, gradients), tuple(remarks)


# --- the module, at any point and in both types ----------------------------------------------------------


@dataclass(frozen=True)
class _Graph:
    """The forward pass and the loss as a function of some tensors, which are assigned before each run.

    functional: the forward pass as a function of the parameters by name, and x.
    leaves: the parameters.  held: all other tensors of the module, with what they held at first.
    x, y: as given, in the module's type.
    """

    torch: Any
    code: UserCode
    forward: Callable[..., Tensor]
    functional: Callable[..., Tensor]
    loss: Callable[..., Tensor]
    leaves: Mapping[str, Tensor]
    held: tuple[tuple[Tensor, Tensor], ...]
    types: Mapping[str, Any]
    x: Tensor | None
    y: Tensor | None

    def begin_at(self, parameters: Mapping[str, Array] | None) -> None:
        """Copy the spec's parameters, if it has any, into the module."""
        if parameters is None:
            return
        shapes = {name: tuple(leaf.shape) for name, leaf in self.leaves.items()}
        match_shapes(parameters, shapes, "parameter", _WHERE, "name the layers as the module does")
        self._assign(as_point(parameters, ("parameters", "file")), wide=False)

    def point(self) -> dict[str, Array]:
        """The parameters as the module holds them, which float64 does exactly."""
        return as_point({name: plain(leaf.double().cpu()) for name, leaf in self.leaves.items()}, _WHERE)

    def losses(self, parameters: Mapping[str, Array]) -> Array:
        """(S,), of the forward pass in float64."""
        with self.torch.no_grad(), _one_thread(self.torch):
            self._assign(parameters, wide=True)
            return real(plain(self._terms(wide=True).cpu()))

    def losses_at(self, points: Sequence[Mapping[str, Array]]) -> Array:
        """(K, S): the same at K points, by vmap over the parameters."""
        self._assign(points[0], wide=True)
        stack = {n: self.torch.from_numpy(np.stack([point[n] for point in points])) for n in self.leaves}
        stack = {name: tensor.to(self.leaves[name].device) for name, tensor in stack.items()}
        with self.torch.no_grad(), _one_thread(self.torch):
            terms = self.torch.func.vmap(lambda leaves: self._terms(wide=True, leaves=leaves))(stack)
            return real(plain(terms.cpu()))

    def gradients(self, parameters: Mapping[str, Array], wide: bool = False) -> dict[str, Array]:
        """Of backward in the module's own type, or in float64; 0 for a parameter that gets none."""
        self._assign(parameters, wide)
        with self.torch.enable_grad():
            self._terms(wide).sum().backward()
        grads = {
            name: self.torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
            for name, leaf in self.leaves.items()
        }
        return {name: real(plain(grad.cpu())) for name, grad in grads.items()}

    def arguments(self, point: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Everything that the code is given and should leave as it is."""
        if point is not None:
            self._assign(point, wide=False)
        arrays = {f"parameter '{n}'": plain(leaf.double().cpu()).copy() for n, leaf in self.leaves.items()}
        given = (("x", self.x), ("y", self.y))
        return arrays | {name: plain(t.cpu()).copy() for name, t in given if t is not None}

    def _assign(self, parameters: Mapping[str, Array], wide: bool) -> None:
        """Put the module at a point; what else it holds is what it held at first."""
        for name, leaf in self.leaves.items():
            value = self.torch.tensor(parameters[name], dtype=self.torch.float64)
            leaf.data = value.to(leaf.device, value.dtype if wide else self.types[name])
            leaf.grad = None
        for tensor, first in self.held:
            tensor.data = self._widened(first.clone(), wide)

    def _terms(self, wide: bool, leaves: Mapping[str, Tensor] | None = None) -> Tensor:
        """The loss terms, with the tensors that are checked as they are or, in their place, `leaves`."""
        x, y = ([] if t is None else [self._widened(t, wide)] for t in (self.x, self.y))
        terms = self.loss(self.forward(*x) if leaves is None else self.functional(leaves, *x), *y)
        if not isinstance(terms, self.torch.Tensor):
            raise self.code.complain(f"returns {a(terms)} for a loss; a tensor is needed")
        if terms.ndim > 1 or not terms.numel():
            found = f"a loss of shape {list(terms.shape)}"
            raise self.code.complain(f"returns {found}; a number or one term per sample is needed")
        return terms.reshape(-1)

    def _widened(self, tensor: Tensor, wide: bool) -> Tensor:
        return tensor.double() if wide and tensor.is_floating_point() else tensor


def _graph(torch: Any, code: UserCode, built: Any, x: Array | None, y: Array | None) -> _Graph:
    if not isinstance(built, tuple | list) or len(built) not in (2, 3):
        found = f"{len(built)} values" if isinstance(built, tuple | list) else a(built)
        raise code.complain(f"returns {found}; {_FORMS}")
    loss = built[1]
    if not callable(loss):
        raise code.complain(f"returns {a(loss)} for a loss; a function of the output and y is needed")
    if len(built) == 2:
        forward, functional, named = _of_module(torch, code, built[0])
    else:
        forward, functional, named = _of_function(torch, code, built[0], built[2])
    leaves = {name: tensor for name, tensor in named.items() if tensor.requires_grad}
    if not leaves:
        raise code.complain("returns nothing that requires a gradient")
    others = _tensors(torch, built[0]) + _tensors(torch, loss) + list(named.values())
    checked = {id(leaf) for leaf in leaves.values()}
    held = {id(tensor): (tensor, tensor.detach().clone()) for tensor in others if id(tensor) not in checked}
    first = next(iter(leaves.values()))
    types = {name: leaf.dtype for name, leaf in leaves.items()}
    x, y = (_as_tensor(torch, array, first) for array in (x, y))
    return _Graph(torch, code, forward, functional, loss, leaves, tuple(held.values()), types, x, y)


_Forward = Callable[..., Tensor]


def _of_module(torch: Any, code: UserCode, module: Any) -> tuple[_Forward, _Forward, dict[str, Tensor]]:
    """Its forward pass, the same as a function of tensors in the place of its own, and its own by name."""
    if not isinstance(module, torch.nn.Module):
        raise code.complain(f"returns {a(module)} for a module; {_FORMS}")

    def functional(leaves: Mapping[str, Tensor], *x: Tensor) -> Tensor:
        return torch.func.functional_call(module, leaves, x)

    return module, functional, dict(module.named_parameters())


def _of_function(
    torch: Any, code: UserCode, function: Any, tensors: Any
) -> tuple[_Forward, _Forward, dict[str, Tensor]]:
    """The same of a function that takes its tensors after x; of a torch.autograd.Function, its `apply`."""
    is_function = isinstance(function, type) and issubclass(function, torch.autograd.Function)
    function = getattr(function, "apply", None) if is_function else function
    named = isinstance(tensors, Mapping) and all(isinstance(t, torch.Tensor) for t in tensors.values())
    if not named or not callable(function):
        raise code.complain(f"returns {a(function)} and {a(tensors)}; {_FORMS}")
    if not all(tensor.is_leaf for tensor in tensors.values()):
        raise code.complain("returns tensors that were computed from others", "detach() them")
    if not any(tensor.requires_grad for tensor in tensors.values()):
        for tensor in tensors.values():
            tensor.requires_grad_(tensor.is_floating_point())

    def functional(leaves: Mapping[str, Tensor], *x: Tensor) -> Tensor:
        return function(*x, *{**tensors, **leaves}.values())

    return lambda *x: functional({}, *x), functional, dict(tensors)


@contextmanager
def _one_thread(torch: Any) -> Iterator[None]:
    """Of a pass this short, threads do little but wait for each other: on a busy machine 20 times as long.

    Backward keeps its threads: what is wrong with it may be that they race.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _tensors(torch: Any, module: Any) -> list[Tensor]:
    """The parameters and buffers of what may be a module."""
    is_module = isinstance(module, torch.nn.Module)
    return [*module.parameters(), *module.buffers()] if is_module else []


def _as_tensor(torch: Any, array: Array | None, like: Tensor) -> Tensor | None:
    """Whole numbers as long, all others in the type of the module."""
    if array is None:
        return None
    whole = array.dtype.kind in "ui"
    tensor = torch.tensor(
        array.astype(np.int64 if whole else np.float64) if array.dtype.kind != "b" else array
    )
    return tensor.to(like.device, like.dtype if tensor.is_floating_point() else tensor.dtype)


def _torch() -> Any:
    try:
        return import_module("torch")
    except ImportError as error:
        help = "pip install 'gradcheck-cli[torch]'"
        raise bad_input(f"torch cannot be imported: {error}", *_WHERE, help=help) from None
