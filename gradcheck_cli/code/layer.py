"""A layer as its author writes it: a forward and a backward function, and the arguments of forward."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gradcheck_cli.arrays.shapes import listed
from gradcheck_cli.code.load import Callee, a
from gradcheck_cli.code.returned import plain
from gradcheck_cli.code.tap import watching
from gradcheck_cli.code.tapped import Taps
from gradcheck_cli.types import Array

_GRADIENT_PREFIXES = ("", "d", "d_", "grad_")
"""The prefixes that an argument's name may have in a dict of gradients, such as ``dx`` for ``x``."""


@dataclass(frozen=True)
class Convention:
    """The convention that forward and backward follow: what forward returns, and what backward takes.

    Backward's first arguments are always the upstream gradients, one for each output.

    outputs: the number of forward's outputs.
    caches: whether forward returns a cache after its outputs.
    inputs: the names of forward's arguments that backward takes after the upstream gradients; empty if
        backward takes the cache or nothing else.
    """

    outputs: int
    caches: bool
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Layer:
    """A forward and a backward function, with the arguments of forward.

    arguments: all arguments, by name, in forward's order. Arrays of floats are differentiated; everything
        else, such as labels or a dict of options, is passed on as a copy.
    taps: the intermediate arrays whose gradients are checked as well.
    """

    forward: Callee
    backward: Callee
    arguments: Mapping[str, Any]
    convention: Convention
    taps: Taps

    def passed(self, point: Mapping[str, Array]) -> Passed:
        """Call forward at a point, and return its outputs together with the values that backward needs.

        point: an array for every differentiated argument, and one for every tap that is perturbed.
        """
        own, watch = self.taps.split(point)
        with watching(watch):
            return self.untapped(own)

    def untapped(self, point: Mapping[str, Array]) -> Passed:
        """Do the same as `passed`, but let the taps report to the current `Watch` instead of a new one."""
        given = given_to(self.arguments, point)
        result = called(self.forward.value, given)
        results = result if isinstance(result, tuple | list) else (result,)
        expected = self.convention.outputs + self.convention.caches
        if len(results) != expected:
            raise self.forward.complain(f"returns {len(results)} results, but it returned {expected} before")
        outputs = tuple(results[: self.convention.outputs])
        rest = results[self.convention.outputs :] if not self.convention.inputs else ()
        return Passed(outputs, tuple(rest), {name: given[name] for name in self.convention.inputs}, given)

    def gradients(self, passed: Passed, upstreams: Sequence[Any]) -> dict[str, Any]:
        """Call backward, and return its gradients, keyed by the names of forward's arguments.

        Arguments for which backward returns None are left out.
        """
        value = self.backward.value
        if takes_by_name(value, len(upstreams), passed.inputs):
            result = value(*upstreams, *passed.rest, **passed.inputs)
        else:
            result = value(*upstreams, *passed.rest, *passed.inputs.values())
        return {name: each for name, each in self._named(result) if each is not None}

    @cached_property
    def floats(self) -> tuple[str, ...]:
        """The names of the arguments that are arrays of floats, in order."""
        return floats(self.arguments)

    def _named(self, result: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(result, Mapping):
            return iter(self._by_name(result).items())
        results = result if isinstance(result, tuple | list) else (result,)
        names = tuple(self.arguments) if len(results) == len(self.arguments) else self.floats
        if len(results) != len(names):
            found = f"returns {len(results)} gradient{'s' if len(results) != 1 else ''}"
            needed = (
                f"forward takes {len(names)} array{'s' if len(names) != 1 else ''} of floats: {listed(names)}"
            )
            help = "return one gradient for each, in this order, and None for an argument that has none"
            raise self.backward.complain(f"{found}, but {needed}", help)
        return ((name, each) for name, each in zip(names, results, strict=True) if name in self.floats)

    def _by_name(self, result: Mapping[Any, Any]) -> dict[str, Any]:
        """Return the gradients keyed by argument name, without prefixes such as the d of ``dx``."""
        known = (*self.floats, *self.taps.at)
        names = {prefix + name: name for prefix in _GRADIENT_PREFIXES[::-1] for name in known}
        unknown = [str(name) for name in result if name not in names]
        missing = [name for name in self.floats if name not in {names.get(key) for key in result}]
        if unknown or missing:
            found = f"returns gradients of {listed(map(str, result))}"
            help = (
                "name each gradient after its argument (x or dx for x); return None if an argument has none"
            )
            raise self.backward.complain(f"{found}; gradients of {listed(self.floats)} are needed", help)
        return {names[key]: value for key, value in result.items()}


@dataclass(frozen=True)
class Passed:
    """The result of one call of forward, with the arguments of that call.

    outputs: forward's outputs.
    rest: the values, such as the cache, that backward takes by position after the upstreams.
    inputs: the values that backward takes by name.
    given: all arguments of the call, by name.
    """

    outputs: tuple[Any, ...]
    rest: tuple[Any, ...]
    inputs: Mapping[str, Any]
    given: Mapping[str, Any]


def convention_of(
    forward: Callee, backward: Callee, result: Any, arguments: Mapping[str, Any], outputs: int | None
) -> Convention:
    """Return the convention that forward and backward follow.

    Backward takes one upstream for each output. After these, it takes forward's cache, some of forward's
    arguments, or nothing. Raises `InputError` if the two functions do not fit together.

    result: the result of a call of forward.
    outputs: the number of forward's outputs; None to infer it.
    """
    results = result if isinstance(result, tuple | list) else (result,)
    names = _positional(backward.value)
    for count in _counts(len(results), outputs):
        caches = count < len(results)
        rest = None if names is None else names[count:]
        if caches and (rest is None or len(rest) == 1):
            return _usable(forward, results, Convention(count, True, ()))
        if rest is not None and len(names or ()) >= count and set(rest) <= set(arguments):
            return _usable(forward, results, Convention(count, caches, tuple(rest)))
        if not caches and rest is not None and len(rest) == len(arguments):
            return _usable(forward, results, Convention(count, False, tuple(arguments)))
    takes = f"backward takes {listed(names or ())}" if names else "backward takes nothing"
    found = f"forward returns {len(results)} result{'s' if len(results) != 1 else ''}, and {takes}"
    help = (
        "forward must return out or (out, cache); backward must take (dout, cache), or dout followed by "
        "arguments named as in forward"
    )
    raise backward.complain(f"does not fit {forward}: {found}", help)


def _counts(results: int, outputs: int | None) -> tuple[int, ...]:
    """Return the possible numbers of outputs of forward. The most common number comes first."""
    if outputs is not None:
        return (outputs,) if 1 <= outputs <= results else ()
    return (results - 1, results) if results > 1 else (1,)


def _usable(forward: Callee, results: Sequence[Any], convention: Convention) -> Convention:
    """Return the convention unchanged. Raises `InputError` unless the outputs are real numbers."""
    for each in results[: convention.outputs]:
        if plain(each).dtype.kind != "f":
            found = a(each) if plain(each).dtype.kind == "O" else f"numbers of type {plain(each).dtype}"
            raise forward.complain(f"returns {found} as an output; an array of floats is needed")
    return convention


def _positional(function: Callable[..., Any]) -> tuple[str, ...] | None:
    """Return the names of a function's positional parameters.

    Returns None if the function takes `*args`, or if its signature is unknown.
    """
    parameters = _parameters(function)
    if parameters is None or any(each.kind is each.VAR_POSITIONAL for each in parameters):
        return None
    return tuple(each.name for each in parameters if each.kind not in (each.KEYWORD_ONLY, each.VAR_KEYWORD))


def parameter_names(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of a function's parameters, without `*args` and `**options`.

    The result is empty if the function's signature is unknown.
    """
    parameters = _parameters(function) or ()
    unnamed = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return tuple(each.name for each in parameters if each.kind not in unnamed)


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


# --- arguments ---------------------------------------------------------------------------------------------


def floats(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the arguments that are arrays of floats.

    A plain Python number is left out: it counts as an option of the layer, which is not differentiated.
    """
    return tuple(
        name for name, value in arguments.items() if _is_array(value) and plain(value).dtype.kind == "f"
    )


def _is_array(value: Any) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape")


def given_to(arguments: Mapping[str, Any], point: Mapping[str, Array]) -> dict[str, Any]:
    """Return a copy of all arguments. Each array in `point` replaces the argument of the same name."""
    return {
        name: in_the_form_of(value, point[name].copy()) if name in point else _copy(value)
        for name, value in arguments.items()
    }


def _copy(value: Any) -> Any:
    with suppress(Exception):  # a user's class may raise anything
        return deepcopy(value)
    return value


def in_the_form_of(template: Any, array: Array) -> Any:
    """Return the array as a torch tensor or a jax array if `template` is one. The dtype stays the same."""
    if hasattr(template, "new_tensor"):
        return sys.modules["torch"].as_tensor(array).to(template.device)
    if type(template).__module__.startswith("jax"):
        return sys.modules["jax.numpy"].asarray(array)
    return array
