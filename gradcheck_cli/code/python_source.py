"""Read the user's Python function, which returns a loss and its gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from gradcheck_cli.arrays.named_arrays import Dialect
from gradcheck_cli.code.function import Function, Inputs
from gradcheck_cli.code.load import Callee, Load, UserCode, a, load, referred
from gradcheck_cli.code.nested import Nested
from gradcheck_cli.code.one_type import hinting_at_a_reference
from gradcheck_cli.code.own_inputs import own_nested, own_point
from gradcheck_cli.code.python_function import call, observed, stack
from gradcheck_cli.code.referenced_function import referenced
from gradcheck_cli.code.returned import as_point, first_of_two, plain, samples, taking_data
from gradcheck_cli.errors import InputError, bad_input
from gradcheck_cli.network.shifted import INPUTS
from gradcheck_cli.spec.gradients import NetworkCode
from gradcheck_cli.types import Array


def read(source: NetworkCode, inputs: Inputs, load: Load = load) -> Function:
    """Load a function f(parameters, x, y) → (loss, gradients), and call it repeatedly to verify it.

    If there are no data, the function may also take the parameters alone: f(parameters).

    The loss is a number, or an array of S terms, one per sample. The terms must **add up to L** (for a mean
    over N samples, divide each sample's loss by N); terms have 10 to 20 times less rounding noise than L. A
    vectorized function takes K points at once: every parameter gets a first axis of length K, (K, …), and the
    function returns losses of shape (K,) or (K, S) and gradients of shape (K, …).

    If the spec has no parameters, they come from `parameters` in the function's module: a dict of arrays by
    name, or a function that returns one. If the spec has no data, they come from a pair (x, y) named `data`
    in the function's module, if there is one. If the gradients include one named `input`, it is checked as
    ∂L/∂x.

    Raises an `InputError` that points at the offending place in the spec if the code fails, does not return a
    loss and gradients, changes its arguments, or returns different results for the same arguments.
    """
    code, dialect = load(source.code, source.where), Dialect(source, "gradients")
    nested = _nested(inputs, code)
    parameters, (x, y) = _point(inputs, code, nested, dialect), samples(inputs, code)
    dialect.refuse_unfit({**parameters, INPUTS: x} if inputs.checks_inputs else parameters)
    if nested is not None and nested.arrays.keys() != dialect.theirs(parameters).keys():
        nested = None

    def adapted(function: Callable[..., Any]) -> Callable[..., Any]:
        function = taking_data(function, x, y)
        function = function if nested is None else nested.called_by_path(function)
        function = _in_its_words(function, dialect, source.vectorized)
        return _of_inputs(function) if inputs.checks_inputs else function

    if inputs.checks_inputs:
        parameters = {**parameters, INPUTS: _differentiable(x, parameters, source.vectorized)}
    if source.reference:
        _refuse_stacked(source)
        templates = {**_templates(inputs, nested, dialect), INPUTS: x}
        reference = referred(source, code, load)
        code, reference = (each.calling(adapted(each.value)) for each in (code, reference))
        return referenced(code, reference, parameters, templates, x, y)
    code = code.calling(adapted(code.value))
    with hinting_at_a_reference(_templates(inputs, nested, dialect).values()):
        if source.vectorized:
            return observed(code.calling(_of_one(code)), parameters, x, y, stacked=code)
        return observed(code, parameters, x, y)


def _refuse_stacked(source: NetworkCode) -> None:
    if source.vectorized:
        message = "'reference' does not work with a vectorized function"
        raise bad_input(message, "gradients", "reference", help="leave 'vectorized' out")


def _templates(inputs: Inputs, nested: Nested | None, dialect: Dialect) -> Mapping[str, Any]:
    """Return the parameters by name, in the types in which a file, the network or the module has them."""
    if inputs.problem is not None:
        return dict.fromkeys(inputs.problem.parameters, np.zeros(0, inputs.problem.dtype))
    if inputs.parameters is not None:
        return inputs.parameters
    return {dialect.of(path): value for path, value in (nested.arrays if nested else {}).items()}


def _nested(inputs: Inputs, code: UserCode) -> Nested | None:
    """Return the parameters that the module defines, in the module's nesting; None if it defines none.

    If the spec names the parameters, the result is also None if the module's parameters are unusable.
    """
    if inputs.parameters is None:
        return own_nested(code)
    with suppress(InputError):  # the spec gives the parameters, so those of the module need not be usable
        return own_nested(code)
    return None


def _point(inputs: Inputs, code: UserCode, nested: Nested | None, dialect: Dialect) -> Mapping[str, Array]:
    if inputs.parameters is not None:
        return as_point(inputs.parameters, ("parameters", "file"))
    if nested is None:
        file = code.code.file.name
        help = (
            f"define 'parameters' in {file}, as a dict of arrays or a function that returns such a dict, or "
            "add a 'parameters' section to the spec"
        )
        raise code.complain(
            "has no parameters to start from: neither the spec nor the function's file defines any", help
        )
    return dialect.ours(own_point(nested, code))


def _differentiable(x: Any, parameters: Mapping[str, Array], vectorized: bool) -> Array:
    """Return x if it can have a gradient; otherwise raise an `InputError`."""
    if vectorized:
        problem = "does not work with a vectorized function, which takes one x for all points"
    elif not isinstance(x, np.ndarray) or x.dtype.kind != "f":
        problem = f"needs an x of real numbers, not {x.dtype if isinstance(x, np.ndarray) else a(x)}"
    elif INPUTS in parameters:
        problem = f"needs the name '{INPUTS}' for the gradient of x, but a parameter already has that name"
    else:
        return x
    raise bad_input(
        f"'inputs' {problem}", "check", "inputs", help="leave 'inputs' out to check the parameters alone"
    )


def _of_inputs(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn a function of parameters and x into one whose parameters include x, under the name `input`."""

    def with_inputs(parameters: dict[str, Array], x: Any, y: Any) -> Any:
        own = {name: array for name, array in parameters.items() if name != INPUTS}
        return function(own, parameters[INPUTS], y)

    return with_inputs


def _in_its_words(function: Callable[..., Any], dialect: Dialect, stacked: bool) -> Callable[..., Any]:
    """Return a version of `function` that uses gradcheck's names and layout for parameters and gradients.

    If `function` itself uses other names or another layout, the new version translates them.

    stacked: whether `function` takes a stack of points.
    """
    if not dialect.says_otherwise:
        return function
    to = dialect.stacks_of_theirs if stacked else dialect.theirs
    back = dialect.stacks_of_ours if stacked else dialect.ours

    def translated(parameters: dict[str, Array], x: Any, y: Any) -> Any:
        match function(to(parameters), x, y):
            case (loss, Mapping() as gradients):
                return loss, back({str(name): plain(gradient) for name, gradient in gradients.items()})
            case other:
                return other

    return translated


def _of_one(stacked: Callee) -> Callable[..., Any]:
    """Return a function of one point, which calls the function of K points with two copies of that point."""

    def function(parameters: dict[str, Array], x: Array | None, y: Array | None) -> tuple[Array, Any]:
        loss, gradients = call(stacked, stack([parameters, parameters]), x, y)
        if not isinstance(gradients, Mapping):
            return first_of_two(loss, "a loss", stacked), gradients
        firsts = {n: first_of_two(g, f"the gradient of '{n}'", stacked) for n, g in gradients.items()}
        return first_of_two(loss, "a loss", stacked), firsts

    return function
