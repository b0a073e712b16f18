"""The parameters that the user's functions take."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gradcheck_cli.arrays.shapes import listed
from gradcheck_cli.code.load import Callee

_UNNAMED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def positional(function: Callable[..., Any]) -> tuple[tuple[str, ...], int] | None:
    """Return the names of a function's positional parameters, and how many of them have no default.

    Returns None if the function takes `*args`, or if its signature is unknown.
    """
    parameters = _parameters(function)
    if parameters is None or any(each.kind is each.VAR_POSITIONAL for each in parameters):
        return None
    named = [each for each in parameters if each.kind not in (each.KEYWORD_ONLY, each.VAR_KEYWORD)]
    return tuple(each.name for each in named), sum(each.default is each.empty for each in named)


def parameter_names(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of a function's parameters, without `*args` and `**options`.

    The result is empty if the function's signature is unknown.
    """
    return tuple(each.name for each in _parameters(function) or () if each.kind not in _UNNAMED)


def _parameters(function: Callable[..., Any]) -> Sequence[inspect.Parameter] | None:
    try:
        return tuple(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None


def takes_by_name(function: Callable[..., Any], before: int, given: Mapping[str, Any]) -> bool:
    """Return whether the function accepts these arguments by name, after `before` positional arguments."""
    try:
        inspect.signature(function).bind(*range(before), **given)
    except (TypeError, ValueError):
        return False
    return True


def called(function: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    """Call the function with these arguments by name or, if its parameters have other names, by position."""
    return function(**given) if takes_by_name(function, 0, given) else function(*given.values())


def in_order(function: Callee, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments in the order of the function's parameters.

    Raises `InputError` if the function does not take these arguments. Also raises it if the arguments must be
    passed by position although the name of one of them is the name of a parameter at another position.
    """
    names = parameter_names(function.value)
    if takes_by_name(function.value, 0, given):
        known = {name: given[name] for name in names if name in given}
        return {**known, **given}
    try:
        inspect.signature(function.value).bind(*given.values())
    except TypeError as error:
        raise _unfit(function, given, str(error)) from None
    except ValueError:  # the function has no signature to inspect
        return dict(given)
    misplaced = [name for i, name in enumerate(given) if name in names and names[i : i + 1] != (name,)]
    if misplaced:
        unknown = [name for name in given if name not in names]
        raise _unfit(function, given, f"it has no parameter {listed(unknown)}")
    return dict(given)


def _unfit(function: Callee, given: Mapping[str, Any], why: str) -> Exception:
    names = parameter_names(function.value)
    takes = f"it takes {listed(names)}" if names else "it takes no named arguments"
    help = f"{takes}; the inputs are {listed(given)}"
    return function.complain(f"cannot be called with these inputs: {why}", help)
