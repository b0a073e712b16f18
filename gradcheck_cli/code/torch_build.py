"""Turn the result of the user's build(), a module or function and a loss, into a `Graph`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from gradcheck_cli.code.drawn import drawn
from gradcheck_cli.code.load import Callee, a
from gradcheck_cli.code.returned import plain, takes
from gradcheck_cli.code.torch_graph import Graph
from gradcheck_cli.code.torch_leaf import Leaf, Tensor, widened
from gradcheck_cli.code.torch_loss import OwnLoss, RandomUpstream, outputs_of
from gradcheck_cli.code.torch_misbuilt import found, help_for, help_for_loss
from gradcheck_cli.code.torch_storage import is_sparse, storage_of

_Forward = Callable[..., Any]

LEFT_OUT: Any = object()
"""Stands for a loss that the user left out."""

_FORMS = (
    "expected (module, loss) or (function, loss, tensors), where tensors is a dict of tensors by name; "
    "the loss may be left out"
)


def build_graph(torch: Any, code: Callee, built: Any, x: Any, y: Any) -> Graph:
    """Return the graph for the result of the user's build().

    If the loss is left out, the graph gets L = Σ c · out, with c drawn at random. Raises `InputError` if
    `built` has another form.

    built: the result of build(), either (module, loss) or (function, loss, tensors).
    x, y: the data, as arrays or sparse tensors.
    """
    subject, loss, tensors = parts_of(torch, code, built)
    if tensors is None:
        forward, functional, named = _of_module(torch, code, subject)
    else:
        forward, functional, named = _of_function(torch, code, subject, tensors)
    shared = _first_names(named)
    named = {name: named[name] for name in shared.values()}
    leaves = [_with_padding(torch, subject, leaf) for leaf in _leaves(torch, code, named)]
    others = _tensors(torch, subject) + _tensors(torch, loss) + list(named.values())
    checked = {id(leaf.tensor) for leaf in leaves}
    held = {id(tensor): (tensor, tensor.detach().clone()) for tensor in others if id(tensor) not in checked}
    x, y = (_as_tensor(torch, array, leaves[0].tensor) for array in (x, y))
    made = _random_upstream(torch, code, forward, x) if loss is LEFT_OUT else _own_loss(torch, code, loss, y)
    return Graph(torch, code, forward, functional, made, leaves, tuple(held.values()), x, y, shared)


def parts_of(torch: Any, code: Callee, built: Any) -> tuple[Any, Any, Any]:
    """Return the module or function, its loss (or `LEFT_OUT`), and a function's tensors (or None)."""
    if isinstance(built, torch.nn.Module):
        return built, LEFT_OUT, None
    if not isinstance(built, tuple | list) or len(built) not in (2, 3):
        several = isinstance(built, tuple | list)
        what = f"{len(built)} values" if several else found(built)
        raise code.complain(f"returns {what}; {_FORMS}", None if several else help_for(torch, built))
    if len(built) == 3:
        return tuple(built)
    subject, second = built
    if _is_loss_first(torch, subject, second):
        message = f"returns {a(subject)} without parameters first, and then {a(second)} with parameters"
        raise code.complain(message, "return (module, loss), in this order")
    return (subject, LEFT_OUT, second) if isinstance(second, Mapping) else (subject, second, None)


def _is_loss_first(torch: Any, subject: Any, second: Any) -> bool:
    modules = isinstance(subject, torch.nn.Module) and isinstance(second, torch.nn.Module)
    return modules and not any(True for _ in subject.parameters()) and any(True for _ in second.parameters())


def _own_loss(torch: Any, code: Callee, loss: Any, y: Tensor | None) -> OwnLoss:
    if not callable(loss):
        message = f"returns {found(loss)} as the loss; a function of the output and y is needed"
        raise code.complain(message, help_for_loss(torch, loss))
    return OwnLoss(torch, code, _without_y(loss) if y is None else loss)


def _random_upstream(torch: Any, code: Callee, forward: _Forward, x: Tensor | None) -> RandomUpstream:
    """Draw weights c for the module's outputs. The module runs once to show the shapes of the outputs."""
    with torch.enable_grad():
        output = forward(*([] if x is None else [x]))
    outs, rng = outputs_of(torch, output), np.random.default_rng(0)
    if not outs:
        help = "return (module, loss), with a loss of the output"
        raise code.complain(f"has no loss, and its output, {a(output)}, holds no tensor of floats", help)
    weights = [torch.from_numpy(drawn(tuple(out.shape), rng)).to(out.device, out.dtype) for out in outs]
    return RandomUpstream(torch, code, weights)


def _without_y(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the loss as a function of the output alone. If `loss` also requires y, y is None."""
    return loss if takes(loss, None) or not takes(loss, None, None) else lambda output: loss(output, None)


def _leaves(torch: Any, code: Callee, named: Mapping[str, Tensor]) -> list[Leaf]:
    leaves = [_leaf(torch, code, name, tensor) for name, tensor in named.items() if tensor.requires_grad]
    if not leaves:
        raise code.complain("returns nothing that requires a gradient")
    for leaf in leaves:
        for part in _part_names(leaf):
            if part in named:
                kind = "complex" if leaf.own.is_complex else "sparse"
                message = (
                    f"names a tensor '{part}', but that name stands for a part of the {kind} '{leaf.name}'"
                )
                raise code.complain(message)
    return leaves


def _leaf(torch: Any, code: Callee, name: str, tensor: Tensor) -> Leaf:
    storage = storage_of(torch, code, name, tensor)
    return Leaf(name, tensor, tensor.dtype, name + storage.suffix, storage=storage)


def _part_names(leaf: Leaf) -> list[str]:
    """Return the report's names for the parts of a parameter; empty if the parameter keeps its own name."""
    if leaf.own.is_complex:
        return [f"{leaf.called}.real", f"{leaf.called}.imag"]
    return [] if leaf.storage.is_dense else [leaf.called]


def _with_padding(torch: Any, module: Any, leaf: Leaf) -> Leaf:
    """Return the leaf, with `padding` filled in if it is the weight of an embedding with padding rows."""
    kinds = torch.nn.Embedding, torch.nn.EmbeddingBag
    modules = module.modules() if isinstance(module, torch.nn.Module) else ()
    rows = {
        each.padding_idx
        for each in modules
        if isinstance(each, kinds) and each.weight is leaf.tensor and each.padding_idx is not None
    }
    held = {row: plain(widened(leaf.tensor.detach()[row], True).cpu()).copy() for row in rows}
    return replace(leaf, padding=held)


def _of_module(torch: Any, code: Callee, module: Any) -> tuple[_Forward, _Forward, dict[str, Tensor]]:
    """Return two forms of the module's forward pass, and its parameters by name.

    The first form takes x. The second form takes a mapping of parameters by name, then x.
    """
    if not isinstance(module, torch.nn.Module):
        raise code.complain(f"returns {found(module)} for a module; {_FORMS}", help_for(torch, module))

    def functional(leaves: Mapping[str, Tensor], *x: Tensor) -> Any:
        return torch.func.functional_call(module, leaves, x)

    return module, functional, dict(module.named_parameters())


def _of_function(
    torch: Any, code: Callee, function: Any, tensors: Any
) -> tuple[_Forward, _Forward, dict[str, Tensor]]:
    """Return two forms of the forward pass, as `_of_module` does, and the tensors by name.

    function: a function of (x, *tensors), a subclass of torch.autograd.Function, or a module, whose own
        parameters are then among the tensors.
    """
    is_function = isinstance(function, type) and issubclass(function, torch.autograd.Function)
    if isinstance(function, torch.autograd.Function) or (isinstance(function, type) and not is_function):
        raise code.complain(f"returns {found(function)} for a function; {_FORMS}", help_for(torch, function))
    function = getattr(function, "apply", None) if is_function else function
    tensors = _with_tensors(torch, tensors) if isinstance(tensors, Mapping) else tensors
    named = isinstance(tensors, Mapping) and all(isinstance(t, torch.Tensor) for t in tensors.values())
    if not named or not callable(function):
        raise code.complain(f"returns {a(function)} and {a(tensors)}; {_FORMS}")
    if not all(tensor.is_leaf for tensor in tensors.values()):
        raise code.complain("returns tensors that were computed from other tensors", "detach() them")
    if not any(tensor.requires_grad for tensor in tensors.values()):
        for tensor in tensors.values():
            tensor.requires_grad_(tensor.is_floating_point() or tensor.is_complex())

    own = dict(function.named_parameters()) if isinstance(function, torch.nn.Module) else {}
    if taken := sorted(own.keys() & tensors.keys()):
        raise code.complain(f"names a tensor '{taken[0]}', as the module names one of its parameters")
    first_names = _first_names(tensors)

    def functional(leaves: Mapping[str, Tensor], *x: Tensor) -> Any:
        arguments = *x, *(leaves.get(first_names[name], tensor) for name, tensor in tensors.items())
        if not own:
            return function(*arguments)
        parameters = {name: leaf for name, leaf in leaves.items() if name in own}
        return torch.func.functional_call(function, parameters, arguments)

    return lambda *x: functional({}, *x), functional, {**tensors, **own}


def _with_tensors(torch: Any, named: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of the dict with every float and every array converted to a tensor."""
    floats = {name: np.array(value) for name, value in named.items() if isinstance(value, float | np.ndarray)}
    return {**named, **{name: torch.tensor(value) for name, value in floats.items()}}


def _first_names(named: Mapping[str, Tensor]) -> dict[str, str]:
    """Return a dict that maps every name to the first name of the same tensor."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in named.items()}


def _tensors(torch: Any, module: Any) -> list[Tensor]:
    """Return all parameters and buffers of a module; empty for anything that is not a module."""
    is_module = isinstance(module, torch.nn.Module)
    return [*module.parameters(), *module.buffers()] if is_module else []


def _as_tensor(torch: Any, array: Any, like: Tensor) -> Tensor | None:
    """Convert an array or a sparse tensor to a tensor on the device of `like`; None stays None.

    Integers become int64. Floats get the dtype of `like`, and complex numbers get the matching complex dtype.
    """
    if array is None:
        return None
    kinds = {"b": np.bool_, "u": np.int64, "i": np.int64, "f": np.float64, "c": np.complex128}
    if is_sparse(torch, array):
        tensor = array.detach().to(like.device)
    else:
        tensor = torch.tensor(array.astype(kinds[array.dtype.kind])).to(like.device)
    if tensor.is_complex():
        return tensor.to(torch.promote_types(like.dtype, torch.complex64))
    if tensor.is_floating_point():
        return tensor.to(like.real.dtype)
    return tensor
