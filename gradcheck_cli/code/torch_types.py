"""Find out whether a torch forward pass computes everything in float64, and help if it cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from typing import Any

from gradcheck_cli.code.torch_modes import operator_mode
from gradcheck_cli.errors import InputError

_LEAVES_TORCH = frozenset(
    ("__array__", "__dlpack__", "data_ptr", "item", "numpy", "storage", "tolist", "untyped_storage")
)
"""The names of functions that take a tensor's data out of torch, where the data cannot be watched."""

_TORCH_ITSELF = frozenset(("aten", "prim", "prims"))
"""The namespaces of torch's own operators, which compute in the dtype of their inputs."""


def is_wide(torch: Any, run: Callable[[], object]) -> bool:
    """Return whether a call of `run` computes everything in float64, as far as torch can tell.

    If so, a loss that changes in jumps is a staircase by design, such as a quantiser's, and not the result of
    rounding to half precision. The answer is False if data leave torch for numpy or a custom kernel.
    """
    calls: Any = import_module("torch.overrides").TorchFunctionMode
    operators: Any = operator_mode()
    narrow: list[str] = []

    class Calls(calls):  # type: ignore[misc]
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
        ) -> Any:
            name = getattr(function, "__name__", "")
            if name in _LEAVES_TORCH:
                narrow.append(name)
            return function(*args, **(kwargs or {}))

    class Results(operators):  # type: ignore[misc]
        def __torch_dispatch__(
            self, function: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
        ) -> Any:
            result = function(*args, **(kwargs or {}))
            leaves = torch.utils._pytree.tree_leaves(result)
            narrow.extend(str(leaf.dtype) for leaf in leaves if _is_narrow(torch, leaf))
            if function.namespace not in _TORCH_ITSELF:
                narrow.append(str(function))
            return result

    with Calls(), Results():
        run()
    return not narrow


def _is_narrow(torch: Any, value: Any) -> bool:
    """Return whether the object is a floating-point or complex tensor with less precision than float64."""
    if not isinstance(value, torch.Tensor) or not (value.is_floating_point() or value.is_complex()):
        return False
    return bool(value.real.dtype != torch.float64)


_ONE_TYPE = (
    "if a kernel takes only one type, name the same forward pass for float64 as its reference, as in "
    "reference: plain_forward; or give the kernel x.float() and convert its result with .to(x.dtype)"
)


@contextmanager
def hinting_at_types() -> Iterator[None]:
    """Add a hint to an error raised in the context if its message is about dtypes.

    Such an error may come from a kernel that accepts only one dtype.
    """
    try:
        yield
    except InputError as error:
        told = (replace(c, help=_ONE_TYPE) if _is_about_types(c.message) else c for c in error.complaints)
        raise InputError(*told) from None


def _is_about_types(message: str) -> bool:
    return any(word in message for word in ("Double", "double", "float64", "dtype", "scalar type"))
