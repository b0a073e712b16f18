"""What build() returned instead of a module or a function, and what to return."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradcheck_cli.code.load import a

_MODULE = "return module, or (module, loss)"
_FUNCTION = 'return the function and its tensors by name, such as (function, {"x": x})'
_NO_TRAINING = "a check trains nothing: leave the optimizer out"


def found(built: object) -> str:
    """Describe what build() returned, in a phrase such as ``the class Net`` or ``a Tensor``."""
    return f"the class {built.__name__}" if isinstance(built, type) else a(built)


def help_for(torch: Any, built: object) -> str | None:
    """Return what build() should return instead of this single object; None if that is unknown."""
    if isinstance(built, type):
        return _help_for_class(torch, built)
    if isinstance(built, torch.autograd.Function):
        return _of_function(type(built).__name__)
    if isinstance(built, torch.optim.Optimizer):
        return _NO_TRAINING
    if isinstance(built, torch.Tensor):
        return f"a tensor has no forward pass: {_MODULE}"
    if isinstance(built, Mapping):
        return f"a dict of parameters has no forward pass: {_MODULE}"
    owner = getattr(built, "__self__", None)
    if isinstance(owner, type) and issubclass(owner, torch.autograd.Function):
        return _of_function(owner.__name__)
    if callable(built):
        return _FUNCTION
    return f"end build() with {_MODULE}" if built is None else None


def _help_for_class(torch: Any, built: type) -> str | None:
    if issubclass(built, torch.autograd.Function):
        return _of_function(built.__name__)
    if issubclass(built, torch.nn.Module):
        return f"return an object of the class: {built.__name__}(…)"
    return None


def _of_function(name: str) -> str:
    return f'return the function and the tensors that it takes: ({name}.apply, {{"x": x}})'


def help_for_loss(torch: Any, loss: object) -> str | None:
    """Return what to return for a loss that cannot be called; None if that is unknown."""
    if isinstance(loss, torch.optim.Optimizer):
        return _NO_TRAINING
    if isinstance(loss, torch.Tensor):
        return "return the function that computes the loss, such as nn.MSELoss(), not its value"
    if isinstance(loss, str):
        return "return the function itself, such as torch.nn.functional.mse_loss"
    return None
