"""Convert parameters in nested dicts, lists, tuples and dataclasses to arrays named by their paths."""

from __future__ import annotations

import copy
import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any

import numpy as np

from gradcheck_cli.code.returned import plain

ALONE = "parameters"
"""The name of the parameters if they are a single array."""

_MISSING = object()


@dataclass(frozen=True)
class Nested:
    """Parameters in the nesting that their author chose.

    example: a dict, list, tuple, dataclass or jax pytree of arrays, nested to any depth, or a single array.
        Entries that are not numbers, such as None or the name of an activation, are kept as they are.
    """

    example: Any

    @property
    def arrays(self) -> dict[str, Any]:
        """The arrays by path, such as ``layers.0.weight``. A single array is named ``parameters``."""
        return {path or ALONE: value for path, value in _leaves("", self.example)}

    def filled(self, arrays: Mapping[str, Any]) -> Any:
        """Return a copy of the example in which `arrays`, keyed by path, replace the example's own arrays."""
        return _filled("", self.example, arrays)

    def by_path(self, gradients: Any) -> Any:
        """Convert gradients nested like the example to a dict keyed by path. A gradient of None counts as 0.

        Gradients that are already keyed by path are left unchanged. If the gradients are a dict, entries that
        the example does not have are kept, too.
        """
        if gradients is None:
            return None
        if isinstance(gradients, Mapping):
            extra = set(map(str, gradients)) - {name for name, _ in _children(self.example) or ()}
            found = {str(name): value for name, value in gradients.items() if str(name) in extra}
        else:
            found = {}
        for path, value, gradient in _leaves_of_both("", self.example, gradients):
            if path not in found and gradient is not _MISSING:
                found[path or ALONE] = np.zeros(np.shape(plain(value))) if gradient is None else gradient
        return found or gradients

    def called_by_path(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that takes a dict of arrays by path and calls `function` with nested parameters.

        The new function also returns the gradients by path. A result that is not a pair is passed through, to
        be refused later.
        """

        @wraps(function)
        def by_path(parameters: dict[str, Any], x: Any, y: Any) -> Any:
            match function(self.filled(parameters), x, y):
                case (loss, gradients):
                    return loss, self.by_path(gradients)
                case other:
                    return other

        return by_path


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    children = _children(value)
    if children is None:
        yield path, value
        return
    for name, child in children:
        if _is_parameter(value, child):
            yield from _leaves(f"{path}.{name}" if path else name, child)


def _filled(path: str, value: Any, arrays: Mapping[str, Any]) -> Any:
    children = _children(value)
    if children is None:
        return arrays.get(path or ALONE, value)
    filled = [_filled(f"{path}.{name}" if path else name, child, arrays) for name, child in children]
    return _rebuilt(value, [name for name, _ in children], filled)


def _leaves_of_both(path: str, value: Any, gradients: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield the path of each array with its gradient, which is `_MISSING` if there is none.

    If a container of gradients is None, so are all gradients in it.
    """
    children = _children(value)
    if children is None:
        yield path, value, gradients
        return
    is_whole = gradients is None or gradients is _MISSING
    theirs = {} if is_whole else dict(_children(gradients) or ())
    for name, child in children:
        if _is_parameter(value, child):
            gradient = gradients if is_whole else theirs.get(name, _MISSING)
            yield from _leaves_of_both(f"{path}.{name}" if path else name, child, gradient)


def _is_parameter(parent: Any, child: Any) -> bool:
    """Return whether a child may be a parameter.

    In a dict, list or tuple, every child except None may be a parameter. In any other container, only
    floating-point and complex arrays and nested containers may be parameters.
    """
    if child is None:
        return False
    if isinstance(parent, dict):
        return True
    is_settings = dataclasses.is_dataclass(parent) or _is_pytree(parent)
    return not is_settings or _children(child) is not None or plain(child).dtype.kind in "fc"


def _children(value: Any) -> list[tuple[str, Any]] | None:
    """Return the named children of a container; None for any other value, such as a list of numbers."""
    if isinstance(value, Mapping):
        return [(str(name), child) for name, child in value.items()]
    if _is_pytree(value):
        return [
            (str(i), child) for i, child in enumerate(_pytree().tree_leaves(value, is_leaf=_is_below(value)))
        ]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(each.name, getattr(value, each.name)) for each in dataclasses.fields(value)]
    if isinstance(value, tuple | list) and not _is_array(value):
        return list(zip(getattr(value, "_fields", map(str, range(len(value)))), value, strict=True))
    return None


def _is_array(value: Any) -> bool:
    """Return whether a list or tuple is an array that is written out as numbers."""
    if any(hasattr(each, "shape") for each in value):
        return False
    try:
        return bool(np.asarray(value).dtype.kind in "buifc")
    except ValueError:  # lists of unequal lengths
        return False


def _rebuilt(value: Any, names: list[str], children: list[Any]) -> Any:
    if isinstance(value, Mapping):
        filled = dict(zip(value, children, strict=True))
        return filled if type(value) is dict else type(value)(filled)  # type: ignore[call-arg]
    if _is_pytree(value):
        return _pytree().tree_structure(value, is_leaf=_is_below(value)).unflatten(children)
    if dataclasses.is_dataclass(value):
        rebuilt = copy.copy(value)
        for name, child in zip(names, children, strict=True):
            object.__setattr__(rebuilt, name, child)
        return rebuilt
    return type(value)(*children) if hasattr(value, "_fields") else type(value)(children)


# --- classes that are registered with jax -------------------------------------------------------------------


def _pytree() -> Any:
    return sys.modules["jax.tree_util"]


def _is_below(value: Any) -> Callable[[Any], bool]:
    return lambda each: each is not value


def _is_pytree(value: Any) -> bool:
    """Return whether the value's class has been registered as a jax pytree."""
    if "jax.tree_util" not in sys.modules or value is None or isinstance(value, Mapping | tuple | list):
        return False
    return not _pytree().all_leaves([value])
