"""A layer as its author writes it: a forward and a backward function, and the arguments of forward."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import Any

import numpy as np

from gradcheck_cli.arrays.shapes import listed
from gradcheck_cli.code.convention import Convention, as_results
from gradcheck_cli.code.load import Callee, a
from gradcheck_cli.code.returned import described, plain
from gradcheck_cli.code.signature import called, takes_by_name
from gradcheck_cli.code.tap import watching
from gradcheck_cli.code.tapped import Taps
from gradcheck_cli.types import Array

_GRADIENT_PREFIXES = ("", "d", "d_", "grad_")
"""The prefixes that an argument's name may have in a dict of gradients, such as ``dx`` for ``x``."""


@dataclass(frozen=True)
class Layer:
    """A forward and a backward function, with the arguments of forward.

    arguments: all arguments, by name, in forward's order. Arrays of floats are differentiated, and so are
        Python floats for which backward returns a gradient. Everything else, such as labels or a dict of
        options, is passed on as a copy.
    taps: the intermediate arrays whose gradients are checked as well.
    form: a function that turns an array of a point into the form in which forward takes it.
    """

    forward: Callee
    backward: Callee
    arguments: Mapping[str, Any]
    convention: Convention
    taps: Taps
    form: Form

    def passed(self, point: Mapping[str, Array]) -> Passed:
        """Call forward at a point, and return its outputs together with the values that backward needs.

        point: an array for every differentiated argument, and one for every tap that is perturbed.
        """
        own, watch = self.taps.split(point)
        with watching(watch):
            return self.untapped(own)

    def untapped(self, point: Mapping[str, Array]) -> Passed:
        """Call forward as `passed` does, but let the taps report to the current `Watch`, not to a new one."""
        given = given_to(self.arguments, point, self.form)
        result = called(self.forward.value, given)
        results, how = as_results(result), self.convention
        if len(results) != how.results:
            raise self.forward.complain(
                f"returns {len(results)} results, but returned {how.results} in an earlier call"
            )
        rest = results[how.outputs :] if how.takes_cache else ()
        inputs = {name: given[name] for name in how.inputs}
        return Passed(tuple(results[: how.outputs]), tuple(rest), inputs, given)

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
    def arrays(self) -> tuple[str, ...]:
        """The names of the arguments that are arrays of floats, in order."""
        return tuple(name for name in self.floats if not isinstance(self.arguments[name], float))

    @cached_property
    def floats(self) -> tuple[str, ...]:
        """The names of the arguments that are arrays of floats or finite Python floats, in order."""
        return floats(self.arguments)

    def _named(self, result: Any) -> Iterator[tuple[str, Any]]:
        """Yield the name and the gradient of every argument that can have one."""
        gradients = self._by_name(result) if isinstance(result, Mapping) else self._by_place(result)
        for name, each in gradients.items():
            if name in self.floats or name in self.taps.at:
                yield name, each
            elif each is not None and np.any(plain(each)):
                raise self._undifferentiable(name)

    def _by_place(self, result: Any) -> dict[str, Any]:
        """Return the gradients keyed by argument name, from one gradient for each argument in order.

        If there are fewer gradients than arguments, they belong to the arrays of floats.
        """
        results = result if isinstance(result, tuple | list) else (result,)
        for names in (tuple(self.arguments), self.arrays, self.floats):
            if len(results) == len(names):
                return dict(zip(names, results, strict=True))
        needed = f"forward takes {len(self.arrays)} array{'s' if len(self.arrays) != 1 else ''} of floats"
        found = f"{len(results)} gradient{'s' if len(results) != 1 else ''}"
        if result is None or (plain(result).dtype.kind == "O" and not isinstance(result, tuple | list)):
            found = a(result)
        help = (
            "return one gradient for each of these arrays, in this order; return None for an argument that "
            "has no gradient"
        )
        raise self.backward.complain(f"returns {found}, but {needed}: {listed(self.arrays)}", help)

    def _undifferentiable(self, name: str) -> Exception:
        found = f"returns a gradient for {name}, but {name} is {described(self.arguments[name])}"
        return self.backward.complain(found, f"pass {name} as an array of floats, or return None for it")

    def _by_name(self, result: Mapping[Any, Any]) -> dict[str, Any]:
        """Return the gradients keyed by argument name, without prefixes such as the d of ``dx``."""
        known = (*self.arguments, *self.taps.at)
        names = {prefix + name: name for prefix in _GRADIENT_PREFIXES[::-1] for name in known}
        unknown = [str(name) for name in result if name not in names]
        missing = [name for name in self.arrays if name not in {names.get(key) for key in result}]
        if unknown or missing:
            found = f"returns gradients of {listed(map(str, result))}"
            help = (
                "name each gradient after its argument (x or dx for x); return None for an argument that has "
                "no gradient"
            )
            raise self.backward.complain(f"{found}; gradients of {listed(self.arrays)} are needed", help)
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


@dataclass(frozen=True)
class Types:
    """The floating-point types of a layer's arguments and gradients, by name, and of its outputs."""

    arguments: Mapping[str, np.dtype[Any]]
    gradients: Mapping[str, np.dtype[Any]]
    outputs: tuple[np.dtype[Any], ...]


# --- arguments ---------------------------------------------------------------------------------------------


def floats(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the arguments that are arrays of floats or finite Python floats, in order."""
    return tuple(
        name
        for name, value in arguments.items()
        if (isfinite(value) if isinstance(value, float) else _is_array(value))
        and plain(value).dtype.kind == "f"
    )


def _is_array(value: Any) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape")


Form = Callable[[Any, Array], Any]
"""A function of an argument and an array. It returns the array in the form that the argument has."""


def given_to(arguments: Mapping[str, Any], point: Mapping[str, Array], form: Form) -> dict[str, Any]:
    """Return a copy of all arguments. Each array in `point` replaces the argument of the same name."""
    return {
        name: form(value, point[name].copy()) if name in point else _copy(value)
        for name, value in arguments.items()
    }


def _copy(value: Any) -> Any:
    with suppress(Exception):  # a user's class may raise anything
        return deepcopy(value)
    return value


def in_the_form_of(template: Any, array: Array) -> Any:
    """Return the array in the form of `template`: a torch tensor, a jax array or a Python float.

    The dtype of a tensor or an array stays the same.
    """
    if isinstance(template, float) and not hasattr(template, "dtype"):
        return float(array)
    if hasattr(template, "new_tensor"):
        return sys.modules["torch"].as_tensor(array).to(template.device)
    if type(template).__module__.startswith("jax"):
        return sys.modules["jax.numpy"].asarray(array)
    return array


def in_the_type_of(template: Any, array: Array) -> Any:
    """Return the array in the library and in the floating-point type of `template`."""
    given = in_the_form_of(template, array)
    if not hasattr(template, "dtype"):
        return given
    if hasattr(template, "new_tensor"):
        return given.to(template.dtype)
    return given.astype(template.dtype) if given.dtype != template.dtype else given
