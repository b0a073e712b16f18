"""Read a torch module, a torch function or a jax function that a program passes to a check."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from gradcheck_cli.code.failures import failure, help_for
from gradcheck_cli.code.function import Function, Inputs
from gradcheck_cli.code.given_function import Given, given
from gradcheck_cli.code.jax_function import differentiated
from gradcheck_cli.code.jax_loss import imported
from gradcheck_cli.code.load import a
from gradcheck_cli.code.nested import Nested
from gradcheck_cli.code.returned import plain
from gradcheck_cli.code.signature import parameter_names
from gradcheck_cli.code.sources import refuse_modes_of_second_order
from gradcheck_cli.code.torch_build import build_graph
from gradcheck_cli.code.torch_module import checked
from gradcheck_cli.code.torch_reference import with_reference
from gradcheck_cli.code.torch_storage import is_sparse, put
from gradcheck_cli.errors import InputError, bad_input
from gradcheck_cli.spec.check import CheckSpec

Tensor = Any


@dataclass(frozen=True)
class Guarded(Given):
    """A function that the caller passed in. An exception that it raises becomes an `InputError`."""

    @contextmanager
    def running(self, circumstances: str = "") -> Iterator[None]:
        try:
            yield
        except InputError:
            raise
        except Exception as error:
            what = f"{circumstances}, {self}" if circumstances else str(self)
            told = failure(error, os.path.dirname(os.path.abspath(self.file)))
            raise bad_input(f"{what} {told}", help=help_for(error)) from error


def guarded(function: Any) -> Guarded:
    """Wrap a function or module that the caller passed in, and record its name for messages."""
    if not callable(function):
        raise bad_input(f"{a(function)} cannot be called; a module or a function is needed")
    return Guarded(**vars(given(function)))


def read_torch(
    module: Any,
    tensors: Any,
    x: Any,
    y: Any,
    loss: Callable[..., Any] | None,
    how: CheckSpec,
    reference: Any = None,
) -> tuple[Function, Inputs]:
    """Return a torch module or function and its inputs, in the form used for code that a spec names.

    Raises `InputError` if the module or function cannot be checked.

    tensors: the tensors that a function takes: a dict by name, or a sequence in order; None for a module.
    loss: the loss, a function of the output and y; None for Σ c · out, with c drawn at random.
    how: the settings of the check. Only the order and the mode matter here.
    reference: the same forward pass for float64, as a module or a function of tensors; None if there is none.
    """
    inputs = Inputs(None, None, None, order=how.order, forward_mode=how.forward_mode, batched=how.batched)
    refuse_modes_of_second_order(inputs)
    code = guarded(module)
    named = None if tensors is None else _by_name(module, tensors)
    if named is None and not hasattr(module, "named_parameters"):
        raise bad_input(f"{code} is not a module", help="give the tensors that the function takes")
    built = tuple(part for part in (module, loss, named) if part is not None)
    with code.running():
        torch = import_module("torch")
        x, y = (v if v is None or is_sparse(torch, v) else plain(v) for v in (x, y))
        graph = build_graph(torch, code, built[0] if len(built) == 1 else built, x, y)
    if reference is not None:
        graph = with_reference(graph, built[0] if len(built) == 1 else built, guarded(reference), x, y)
    return checked(code, graph, inputs), inputs


def read_jax(
    function: Callable[..., Any], parameters: Any, x: Any, y: Any, how: CheckSpec
) -> tuple[Function, Inputs]:
    """Return a jax function and its inputs, in the form used for functions that a spec names.

    Raises `InputError` if the function cannot be checked.

    parameters: a single array, or arrays in dicts, lists, tuples and pytrees, nested to any depth.
    """
    inputs = Inputs(None, None, None, order=how.order, forward_mode=how.forward_mode)
    refuse_modes_of_second_order(inputs)
    return differentiated(imported(()), guarded(function), Nested(parameters), inputs, (x, y)), inputs


def _by_name(function: Any, tensors: Any) -> dict[str, Tensor]:
    """Return the tensors by name. Tensors without names get the names of the function's arguments."""
    if isinstance(tensors, Mapping):
        return {str(name): tensor for name, tensor in tensors.items()}
    values = list(tensors) if isinstance(tensors, Sequence) else [tensors]
    forward = getattr(function, "forward", None)
    names = parameter_names(function) if forward is None else parameter_names(forward)[1:]  # without ctx
    return {names[i] if i < len(names) else f"arg{i}": value for i, value in enumerate(values)}


@contextmanager
def kept(*holders: Any) -> Iterator[None]:
    """Restore all tensors of these modules, dicts and sequences on exit, since a check changes them."""
    tensors = [tensor for holder in holders for tensor in _tensors(holder)]
    before = [(t, t.data, t.data.clone(), t.grad, t.requires_grad) for t in tensors]
    try:
        yield
    finally:
        for tensor, data, value, grad, requires in before:
            data.copy_(value)
            put(import_module("torch"), tensor, data)
            tensor.grad = grad
            tensor.requires_grad_(requires)


def _tensors(holder: Any) -> list[Tensor]:
    if hasattr(holder, "parameters") and hasattr(holder, "buffers"):
        return [*holder.parameters(), *holder.buffers()]
    values = holder.values() if isinstance(holder, Mapping) else holder
    values = values if isinstance(values, Sequence) or isinstance(holder, Mapping) else [holder]
    return [value for value in values if hasattr(value, "requires_grad_")]
